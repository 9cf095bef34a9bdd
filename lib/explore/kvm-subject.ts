/**
 * KVM as the subject of an exploration, by the public API. Errors get no reasons: to find a reason, node-kvm would read
 * the table, and this read applies a deferred update.
 */
import { constants } from "node:os";
import {
  KVM_EXIT_INTERNAL_ERROR,
  KVM_EXIT_IO,
  KVM_EXIT_SHUTDOWN,
  KVM_GET_CPUID2,
  KVM_MP_STATE_RUNNABLE,
  KVM_SET_CPUID,
  KVM_SET_CPUID2,
  KVM_SET_MSRS,
  KVM_SET_REGS,
  KVM_SET_XCRS,
  KVM_SYNC_X86_SREGS,
  KVM_VCPUEVENT_VALID_TRIPLE_FAULT,
  KVM_X86_DISABLE_EXITS_HLT,
  KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT,
  MSRS,
  type VcpuEvents,
} from "../abi/index.ts";
import {
  type Capability,
  errnoName,
  type Kvm,
  KvmError,
  type RunPage,
  type Vcpu,
  type Vm,
} from "../index.ts";
import type {
  Cr4BitName,
  LifecycleAnswer,
  LifecycleOperation,
  LifecycleVmOptions,
} from "../oracle/index.ts";
import {
  cpuid2Bytes,
  cpuidBytes,
  msrBytes,
  readTable,
  regsBytes,
  roomFor,
  SpecialRegisters,
  xcrsBytes,
} from "./arguments.ts";
import { type GuestPages, guestPages, mapGuest, PORTS, SNIPPETS } from "./guest-code.ts";
import type { Subject, SubjectVm } from "./subject.ts";

/** Interrupts a run that does not end; the run then returns EINTR. */
export interface Watchdog {
  /** Is called before each run, with the token for `kickVcpu()`. */
  arm(kickToken: bigint): void;
  /** Is called after each run; returns whether the run was interrupted because it took too long. */
  disarm(): boolean;
}

/** The exit of a run that the watchdog has interrupted. */
export const HANGS = "none: the run did not end in time";

/** The most vCPUs of a VM: the memory of closed vCPUs is freed together with their VM. */
const MOST_VCPUS = 200;

const CR4_BITS: Readonly<Record<Cr4BitName, bigint>> = { osxsave: 1n << 18n, pke: 1n << 22n };
const APIC_ENABLE = 1n << 11n;
const MISC_MWAIT = 1n << 18n;
const LOW = 0xffff_ffffn;

const OK: LifecycleAnswer = { kind: "result", result: "ok" };

/** Makes a call; returns `ok`, or the name of the errno. */
function attempt(call: () => void): LifecycleAnswer {
  try {
    call();
    return OK;
  } catch (error) {
    if (error instanceof KvmError) return { kind: "result", result: error.code };
    throw error;
  }
}

const isOk = (answer: LifecycleAnswer): boolean =>
  answer.kind === "result" && answer.result === "ok";

/** A vCPU, and the registers that the operations toggle. */
class ProbedVcpu {
  readonly vcpu: Vcpu;
  readonly #page: RunPage;
  readonly #watchdog: Watchdog | undefined;
  readonly #sregs: SpecialRegisters;
  #misc: bigint;

  constructor(vcpu: Vcpu, watchdog: Watchdog | undefined) {
    this.vcpu = vcpu;
    this.#watchdog = watchdog;
    this.#page = vcpu.lowLevel();
    this.#sregs = new SpecialRegisters(vcpu);
    this.#misc = vcpu.getMsrs([MSRS.MSR_IA32_MISC_ENABLE])[0]?.data ?? 0n;
  }

  ask(operation: Extract<LifecycleOperation, { vcpu: number }>): LifecycleAnswer {
    const { vcpu } = this;
    switch (operation.call) {
      case "setCpuid2":
        return attempt(() => vcpu.ioctl(KVM_SET_CPUID2, cpuid2Bytes(operation.entries)));
      case "setCpuid":
        return attempt(() => vcpu.ioctl(KVM_SET_CPUID, cpuidBytes(operation.entries)));
      case "getCpuid2":
        return this.#get(operation.room);
      case "run":
        return this.#run(operation.how);
      case "guestCpuid":
        return this.#guestCpuid(operation.function, operation.index);
      case "cr4":
        return this.#cr4(operation.by, operation.bit);
      case "xcr0":
        return attempt(() => vcpu.ioctl(KVM_SET_XCRS, xcrsBytes(operation.value)));
      case "apicBase":
        return this.#apicBase(operation.by);
      case "miscEnable":
        return this.#miscEnable(operation.by);
      case "xss":
        return this.#write(MSRS.MSR_IA32_XSS, operation.value);
      default:
        return operation satisfies never;
    }
  }

  #get(room: number): LifecycleAnswer {
    const bytes = roomFor(room);
    const answer = attempt(() => this.vcpu.ioctl(KVM_GET_CPUID2, bytes));
    return isOk(answer) ? readTable(bytes, room) : answer;
  }

  #run(how: Extract<LifecycleOperation, { call: "run" }>["how"]): LifecycleAnswer {
    const { vcpu } = this;
    switch (how) {
      case "io":
        return this.#enter(SNIPPETS.io);
      case "internalError":
        return this.#enter(SNIPPETS.nothing);
      case "tripleFault":
        vcpu.setVcpuEvents(withTripleFault(vcpu.getVcpuEvents()));
        return this.#continue();
      case "immediateExit":
        vcpu.immediateExit = true;
        try {
          return this.#continue();
        } finally {
          vcpu.immediateExit = false;
        }
      default:
        return how satisfies never;
    }
  }

  #enter(rip: bigint, rax = 0n, rcx = 0n, rdx = 0n): LifecycleAnswer {
    this.vcpu.ioctl(KVM_SET_REGS, regsBytes(rip, rax, rcx, rdx));
    return this.#continue();
  }

  /** Runs the guest. A signal, for example of a profiler, may interrupt the run, which then continues. */
  #continue(): LifecycleAnswer {
    const page = this.#page;
    for (;;) {
      this.#watchdog?.arm(this.vcpu.kickToken);
      const answer = page.enter();
      const isHung = this.#watchdog?.disarm() ?? false;
      if (isHung) return { kind: "exit", exit: HANGS };
      if (answer === -constants.errno.EINTR && !this.vcpu.immediateExit) continue;
      return { kind: "exit", exit: answer < 0 ? errnoName(-answer) : exitOf(page) };
    }
  }

  #guestCpuid(fn: number, index: number): LifecycleAnswer {
    const answer = this.#enter(SNIPPETS.cpuid, BigInt(fn), BigInt(index));
    if (answer.kind !== "exit" || answer.exit !== "io") return answer;
    const { rax, rbx, rcx, rdx } = this.vcpu.getRegs();
    return { kind: "registers", registers: [rax, rbx, rcx, rdx].map((r) => Number(r & LOW)) };
  }

  #cr4(by: "sregs" | "sregs2" | "syncRegs" | "guest", bit: Cr4BitName): LifecycleAnswer {
    const cr4 = this.#sregs.cr4 ^ CR4_BITS[bit];
    return this.#toggle(by, "cr4", cr4, () => this.#enter(SNIPPETS.movCr4, cr4));
  }

  #apicBase(by: "sregs" | "sregs2" | "syncRegs" | "msrs" | "guest"): LifecycleAnswer {
    const base = this.#sregs.apicBase ^ APIC_ENABLE;
    const index = MSRS.MSR_IA32_APICBASE;
    return this.#toggle(by, "apicBase", base, () =>
      by === "msrs" ? this.#write(index, base) : this.#wrmsr(index, base),
    );
  }

  /** Writes a special register by KVM_SET_SREGS or KVM_SET_SREGS2, or otherwise. */
  #toggle(
    by: "sregs" | "sregs2" | "syncRegs" | "msrs" | "guest",
    name: "cr4" | "apicBase",
    value: bigint,
    otherwise: () => LifecycleAnswer,
  ): LifecycleAnswer {
    const old = this.#sregs[name];
    this.#sregs[name] = value;
    const isSregs = by === "sregs" || by === "sregs2";
    const inRun = by === "syncRegs" ? () => this.#syncRegs() : otherwise;
    const answer = isSregs ? attempt(() => this.#sregs.set(by)) : inRun();
    const isInterrupted = answer.kind === "exit" && answer.exit === "EINTR";
    const isDone = isOk(answer) || isIo(answer) || isWritten(answer) || isInterrupted;
    if (!isDone) this.#sregs[name] = old;
    return answer;
  }

  /** Writes the special registers by KVM_RUN, which ends before it enters the guest. */
  #syncRegs(): LifecycleAnswer {
    this.#page.setSyncRegs({ sregs: this.#sregs.toSregs() });
    this.#page.kvmDirtyRegs = KVM_SYNC_X86_SREGS;
    try {
      return this.#run("immediateExit");
    } finally {
      // KVM leaves the bit after registers that it refuses.
      this.#page.kvmDirtyRegs = 0;
    }
  }

  #miscEnable(by: "msrs" | "guest"): LifecycleAnswer {
    const misc = this.#misc ^ MISC_MWAIT;
    const index = MSRS.MSR_IA32_MISC_ENABLE;
    const answer = by === "guest" ? this.#wrmsr(index, misc) : this.#write(index, misc);
    if (isWritten(answer) || isIo(answer)) this.#misc = misc;
    return answer;
  }

  #wrmsr(index: number, data: bigint): LifecycleAnswer {
    return this.#enter(SNIPPETS.wrmsr, data & LOW, BigInt(index), data >> 32n);
  }

  #write(index: number, data: bigint): LifecycleAnswer {
    return { kind: "written", count: this.vcpu.ioctl(KVM_SET_MSRS, msrBytes(index, data)) };
  }
}

const isIo = (answer: LifecycleAnswer): boolean => answer.kind === "exit" && answer.exit === "io";
const isWritten = (answer: LifecycleAnswer): boolean =>
  answer.kind === "written" && answer.count === 1;

/**
 * Adds a pending triple fault. After an internal error, KVM has a queued exception, and events that are sent back as
 * they were read would inject it at the next entry.
 */
function withTripleFault(events: VcpuEvents): VcpuEvents {
  const { exception } = events;
  return {
    ...events,
    exception: { ...exception, injected: 0, nr: 0, hasErrorCode: 0, pending: 0, errorCode: 0 },
    flags: KVM_VCPUEVENT_VALID_TRIPLE_FAULT,
    tripleFault: { pending: 1 },
  };
}

function exitOf(page: RunPage): string {
  switch (page.exitReason) {
    case KVM_EXIT_IO:
      if (page.ioPort === PORTS.done) return "io";
      return page.ioPort === PORTS.gp ? "#GP" : "another exception";
    case KVM_EXIT_INTERNAL_ERROR:
      return "internalError";
    case KVM_EXIT_SHUTDOWN:
      return "shutdown";
    default:
      return `exit reason ${page.exitReason}`;
  }
}

/** The options of a VM that an operation changes after the vCPUs were created. */
type LateOption = "disableHltExits" | "disableMwaitQuirk";

const isLateOption = (
  operation: LifecycleOperation,
): operation is Extract<LifecycleOperation, { call: LateOption }> =>
  operation.call === "disableHltExits" || operation.call === "disableMwaitQuirk";

/** A VM that several sequences use, each with its own vCPUs. */
interface SharedVm {
  readonly vm: Vm;
  vcpus: number;
  /** Whether an option was changed, so that no other sequence may use the VM. */
  isChanged: boolean;
}

/** Makes VMs on a host's KVM. */
export class KvmSubject implements Subject {
  readonly #kvm: Kvm;
  readonly #watchdog: Watchdog | undefined;
  readonly #pages: GuestPages = guestPages();
  readonly #shared = new Map<string, SharedVm>();

  constructor(kvm: Kvm, watchdog?: Watchdog) {
    this.#kvm = kvm;
    this.#watchdog = watchdog;
  }

  capability(name: Capability): number {
    return this.#kvm.checkExtension(name);
  }

  begin(options: LifecycleVmOptions): SubjectVm {
    const key = JSON.stringify([options.hltExitsOff, options.mwaitQuirkOff, options.irqchip]);
    const shared = this.#vmOf(key, options);
    const vcpus = new Map<number, ProbedVcpu>();
    const vcpuOf = (number: number): ProbedVcpu => {
      const known = vcpus.get(number);
      if (known !== undefined) return known;
      const vcpu = shared.vm.createVcpu(shared.vcpus);
      shared.vcpus += 1;
      try {
        if (options.irqchip) vcpu.setMpState(KVM_MP_STATE_RUNNABLE);
        const made = new ProbedVcpu(vcpu, this.#watchdog);
        vcpus.set(number, made);
        return made;
      } catch (error) {
        vcpu.close();
        throw error;
      }
    };
    // The late options of a VM require that it has a vCPU.
    vcpuOf(0);
    return {
      ask: (operation) => {
        if (!isLateOption(operation)) return vcpuOf(operation.vcpu).ask(operation);
        shared.isChanged = true;
        return attempt(() => this.#enable(shared.vm, operation.call));
      },
      close: () => {
        for (const { vcpu } of vcpus.values()) vcpu.close();
        if (shared.isChanged || shared.vcpus >= MOST_VCPUS) {
          shared.vm.close();
          this.#shared.delete(key);
        }
      },
    };
  }

  /** Closes all VMs, and releases the memory of the guests. */
  [Symbol.dispose](): void {
    for (const { vm } of this.#shared.values()) vm.close();
    this.#shared.clear();
    for (const page of Object.values(this.#pages)) page.close();
  }

  #vmOf(key: string, options: LifecycleVmOptions): SharedVm {
    const known = this.#shared.get(key);
    if (known !== undefined) return known;
    const vm = this.#kvm.createVm();
    const made = { vm, vcpus: 0, isChanged: false };
    this.#shared.set(key, made);
    // To find the reason of an error, node-kvm would read the table, and this read applies a deferred update.
    vm.explain = false;
    mapGuest(vm, this.#pages);
    // Linux before 6.0 has no such event; the probes of rows do not use it.
    if (this.capability("KVM_CAP_X86_TRIPLE_FAULT_EVENT") !== 0) {
      vm.enableCap({ cap: "KVM_CAP_X86_TRIPLE_FAULT_EVENT", args: [1n] });
    }
    if (options.irqchip) vm.createIrqchip();
    if (options.mwaitQuirkOff) this.#enable(vm, "disableMwaitQuirk");
    if (options.hltExitsOff) this.#enable(vm, "disableHltExits");
    return made;
  }

  #enable(vm: Vm, option: LateOption): void {
    if (option === "disableHltExits") {
      vm.enableCap({ cap: "KVM_CAP_X86_DISABLE_EXITS", args: [BigInt(KVM_X86_DISABLE_EXITS_HLT)] });
      return;
    }
    // Linux before 5.19 has only the older capability, which ignores unknown bits.
    const hasMask = this.capability("KVM_CAP_DISABLE_QUIRKS2") !== 0;
    const cap = hasMask ? "KVM_CAP_DISABLE_QUIRKS2" : "KVM_CAP_DISABLE_QUIRKS";
    vm.enableCap({ cap, args: [BigInt(KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT)] });
  }
}
