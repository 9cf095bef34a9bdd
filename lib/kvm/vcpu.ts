/** A virtual CPU: its state, its CPUID table, and running it. What an exit says is exit.ts. */
import {
  KVM_GET_CPUID2,
  KVM_GET_MP_STATE,
  KVM_GET_MSRS,
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KVM_GET_VCPU_EVENTS,
  KVM_GET_XCRS,
  KVM_SET_CPUID,
  KVM_SET_CPUID2,
  KVM_SET_MP_STATE,
  KVM_SET_MSRS,
  KVM_SET_REGS,
  KVM_SET_SREGS,
  KVM_SET_VCPU_EVENTS,
  KVM_SET_XCRS,
} from "../abi/generated/ioctls.ts";
import {
  Cpuid,
  Cpuid2,
  type CpuidEntry,
  type CpuidEntry2,
  MpState,
  type MsrEntry,
  Regs,
  Run,
  Sregs,
  VcpuEvents,
  Xcrs,
} from "../abi/generated/structs.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import { encode, type Layout, offsetOf, read, type StructInput, sizeOf } from "../abi/struct.ts";
import { KvmError, StateError } from "../errors.ts";
import { explainSetCpuid2 } from "../explain/set-cpuid2.ts";
import type { NativeFd, NativeRun } from "../native.ts";
import type { VcpuState } from "../state/state.ts";
import type { EnableCapInput } from "./capability.ts";
import { type CpuidEntry2Input, getCpuid2, KVM_MAX_CPUID_ENTRIES } from "./cpuid2.ts";
import type { Exit } from "./exit.ts";
import { decodeExit, isExitBesideErrno } from "./exit-decoder.ts";
import { Handle } from "./handle.ts";
import { getMsrs, setMsrs } from "./msrs.ts";
import { restoreVcpus, type SaveStateOptions, saveVcpus } from "./vcpu-state.ts";
import type { Vm } from "./vm.ts";

const IMMEDIATE_EXIT = offsetOf(Run, "immediateExit");
const EINTR = 4;

/** What KVM_SET_CPUID2 may be told beyond the entries. */
export interface SetCpuid2Options {
  /**
   * The count to send, when it is to differ from the entries'. A count that reaches past them
   * meets an unmapped page there, so that the kernel can only refuse (E2BIG, EFAULT).
   */
  readonly nent?: number;
}

/** A virtual CPU of a {@link Vm}. */
export class Vcpu extends Handle {
  /** The number that KVM_CREATE_VCPU was given. */
  readonly id: number;
  /** The VM that it was made for. */
  readonly vm: Vm;
  readonly #run: NativeRun;
  readonly #bytes: Uint8Array;
  #turn = 0;
  /** Whether KVM_RUN was called, and whether the guest surely was entered by it. */
  #ran: boolean = false;
  #entered: boolean = false;

  /** Takes over a vCPU's descriptor and maps its kvm_run; {@link Vm.createVcpu} does. @internal */
  constructor(fd: NativeFd, id: number, vm: Vm) {
    super(fd, `vcpu ${id}`);
    this.id = id;
    this.vm = vm;
    const run = fd.mapRun();
    if (typeof run === "number") {
      fd.close();
      throw new KvmError({ ioctl: "mmap", fd: this.label, errno: -run });
    }
    this.#run = run;
    this.#bytes = new Uint8Array(run.bytes);
  }

  /**
   * Runs the guest on this thread until it exits, which blocks the event loop for as long.
   *
   * A signal to this thread, or {@link immediateExit}, ends the run with `{ kind: "intr" }`.
   *
   * @ioctl KVM_RUN (api.rst 4.10; vcpu)
   * @throws {@link KvmError} with KVM_RUN's errno, `EINTR` excepted; `EFAULT` comes as an exit when
   *   KVM says which access it was (`memory_fault`).
   */
  runSync(): Exit {
    if (this.closed) throw new StateError("ERR_CLOSED", this.label);
    const turn = ++this.#turn;
    const answer = this.#run.run();
    this.#ran = true;
    if (answer === -EINTR) return { kind: "intr" };
    this.#entered = true;
    if (answer < 0 && !isExitBesideErrno(this.#bytes, -answer)) {
      throw this.refusal("KVM_RUN", -answer);
    }
    return decodeExit(this.#bytes, () => {
      if (turn !== this.#turn || this.closed) throw new StateError("ERR_ANSWERED", this.label);
    });
  }

  /**
   * Whether the next KVM_RUN returns at once, with `EINTR` and before the guest executes anything;
   * `kvm_run.immediate_exit` (KVM_CAP_IMMEDIATE_EXIT).
   */
  get immediateExit(): boolean {
    return this.#open()[IMMEDIATE_EXIT] !== 0;
  }

  /** Sets `kvm_run.immediate_exit`. */
  set immediateExit(value: boolean) {
    this.#open()[IMMEDIATE_EXIT] = value ? 1 : 0;
  }

  /**
   * Gives the vCPU its CPUID table. Before the first run any number of times; afterwards KVM
   * compares, and takes the same table but no other.
   *
   * @ioctl KVM_SET_CPUID2 (api.rst 4.20; vcpu; KVM_CAP_EXT_CPUID)
   * @throws {@link KvmError} `EINVAL` when the table differs after the first run (the reason names
   *   the bits: KVM_GET_CPUID2 is asked for them), or when 0x80000008.EAX[15:8] is not 0, 48 or 57;
   *   `E2BIG` above 256 entries; `EPERM` for AMX tiles without permission (arch_prctl).
   */
  setCpuid2(entries: Iterable<CpuidEntry2Input>, options: SetCpuid2Options = {}): void {
    const sent = Array.from(entries);
    const nent = options.nent ?? sent.length;
    this.ioctl(KVM_SET_CPUID2, encode(Cpuid2, { nent, entries: sent }), {
      args: { nent },
      pastEnd: true,
      explain: (errno) =>
        explainSetCpuid2({
          errno,
          nent,
          sent,
          isFrozen: this.#entered,
          stored: () => (this.#ran ? this.getCpuid2() : undefined),
        }),
    });
  }

  /**
   * Gives the vCPU its CPUID table in the old form, without indices: KVM stores every entry with
   * index, flags and padding 0.
   *
   * @ioctl KVM_SET_CPUID (api.rst 4.20; vcpu)
   * @throws {@link KvmError} as {@link setCpuid2}.
   */
  setCpuid(entries: Iterable<StructInput<CpuidEntry>>): void {
    const list = Array.from(entries);
    this.ioctl(KVM_SET_CPUID, encode(Cpuid, { entries: list }), { args: { nent: list.length } });
  }

  /**
   * Reads the vCPU's CPUID table, as KVM changed it.
   *
   * @param nent - room for how many entries; all of them when left out.
   * @ioctl KVM_GET_CPUID2 (vcpu; KVM_CAP_EXT_CPUID)
   * @throws {@link KvmError} `E2BIG` when `nent` is too small.
   */
  getCpuid2(nent: number = KVM_MAX_CPUID_ENTRIES): readonly CpuidEntry2[] {
    return getCpuid2(this, KVM_GET_CPUID2, nent);
  }

  /**
   * Reads the general registers.
   *
   * @ioctl KVM_GET_REGS (api.rst 4.11; vcpu)
   */
  getRegs(): Regs {
    return this.#get(KVM_GET_REGS, Regs);
  }

  /**
   * Writes all general registers; one that is left out becomes 0.
   *
   * @ioctl KVM_SET_REGS (api.rst 4.12; vcpu)
   */
  setRegs(regs: StructInput<Regs>): void {
    this.#set(KVM_SET_REGS, Regs, regs);
  }

  /**
   * Reads segments, control registers, EFER and APIC base.
   *
   * @ioctl KVM_GET_SREGS (api.rst 4.13; vcpu)
   */
  getSregs(): Sregs {
    return this.#get(KVM_GET_SREGS, Sregs);
  }

  /**
   * Writes segments, control registers, EFER and APIC base; all of them, so start from
   * {@link getSregs}.
   *
   * @ioctl KVM_SET_SREGS (api.rst 4.14; vcpu)
   * @throws {@link KvmError} `EINVAL` when CR0, CR4, EFER or the APIC base cannot be, or need a
   *   CPUID bit that this vCPU does not have.
   */
  setSregs(sregs: StructInput<Sregs>): void {
    this.#set(KVM_SET_SREGS, Sregs, sregs);
  }

  /**
   * Reads MSRs, as many as KVM lets be read before the first that it does not.
   *
   * @ioctl KVM_GET_MSRS (api.rst 4.18; vcpu)
   */
  getMsrs(indices: Iterable<number>): readonly MsrEntry[] {
    return getMsrs(this, KVM_GET_MSRS, indices);
  }

  /**
   * Writes MSRs in order and stops at the first that KVM refuses.
   *
   * @returns how many were written: `entries[result]` is the refused one, if there is one.
   * @ioctl KVM_SET_MSRS (api.rst 4.19; vcpu)
   */
  setMsrs(entries: Iterable<Pick<MsrEntry, "index" | "data">>): number {
    return setMsrs(this, KVM_SET_MSRS, entries);
  }

  /**
   * Reads the extended control registers (XCR0).
   *
   * @ioctl KVM_GET_XCRS (api.rst 4.44; vcpu; KVM_CAP_XCRS)
   */
  getXcrs(): Xcrs {
    return this.#get(KVM_GET_XCRS, Xcrs);
  }

  /**
   * Writes the extended control registers (XCR0).
   *
   * @ioctl KVM_SET_XCRS (api.rst 4.45; vcpu; KVM_CAP_XCRS)
   * @throws {@link KvmError} `EINVAL` when XCR0 has a bit that leaf 0xD of the table has not.
   */
  setXcrs(xcrs: StructInput<Xcrs>): void {
    this.#set(KVM_SET_XCRS, Xcrs, xcrs);
  }

  /**
   * Reads pending exceptions, interrupts, NMIs and SMIs.
   *
   * @ioctl KVM_GET_VCPU_EVENTS (api.rst 4.31; vcpu; KVM_CAP_VCPU_EVENTS)
   */
  getVcpuEvents(): VcpuEvents {
    return this.#get(KVM_GET_VCPU_EVENTS, VcpuEvents);
  }

  /**
   * Writes pending exceptions, interrupts, NMIs and SMIs.
   *
   * @ioctl KVM_SET_VCPU_EVENTS (api.rst 4.32; vcpu; KVM_CAP_VCPU_EVENTS)
   */
  setVcpuEvents(events: StructInput<VcpuEvents>): void {
    this.#set(KVM_SET_VCPU_EVENTS, VcpuEvents, events);
  }

  /**
   * Reads whether the vCPU can run, waits for an IPI or is halted: a `KVM_MP_STATE_*`.
   *
   * @ioctl KVM_GET_MP_STATE (api.rst 4.38; vcpu; KVM_CAP_MP_STATE)
   */
  getMpState(): number {
    return this.#get(KVM_GET_MP_STATE, MpState).mpState;
  }

  /**
   * Writes whether the vCPU can run, waits for an IPI or is halted: a `KVM_MP_STATE_*`.
   *
   * @ioctl KVM_SET_MP_STATE (api.rst 4.39; vcpu; KVM_CAP_MP_STATE)
   */
  setMpState(mpState: number): void {
    this.#set(KVM_SET_MP_STATE, MpState, { mpState });
  }

  /**
   * Switches on a capability of this vCPU.
   *
   * @ioctl KVM_ENABLE_CAP (api.rst 4.37 and 6; vcpu; KVM_CAP_ENABLE_CAP)
   * @throws {@link KvmError} `EINVAL` for an unknown capability or a wrong argument.
   */
  enableCap(input: EnableCapInput): void {
    this.callEnableCap(input);
  }

  /**
   * Reads the whole state of this vCPU, which must not run. {@link Vm.saveState} makes a document of it,
   * together with that of the VM and of other vCPUs.
   *
   * A pending exit is completed first ({@link completeExit}).
   *
   * @throws {@link KvmError} with the errno of the ioctl that KVM refused.
   * @throws {@link StateError} `ERR_UNANSWERED` when the pending exit is followed by another one;
   *   `ERR_CLOSED` when the {@link Kvm} was closed before anything was saved.
   */
  saveState(options: SaveStateOptions = {}): VcpuState {
    const [state] = saveVcpus([this], this.vm.origin, options);
    if (state === undefined) throw new StateError("ERR_CLOSED", this.label);
    return state;
  }

  /**
   * Puts a saved state into this vCPU: it goes on where the saved one stood. It may be fresh, or have
   * run with the same CPUID table; an exit that is pending is dropped. After an error some parts are
   * restored and others not.
   *
   * @throws {@link KvmError} with the errno of the ioctl that KVM refused, and what it can mean.
   * @throws {@link RestoreError} when the state is of a vCPU with another id, or an MSR does not take its
   *   value.
   */
  restoreState(state: VcpuState): void {
    restoreVcpus([[this, state]], this.vm.origin);
  }

  /** SWAP: a stand-in for completeExit() as the exits' branch has it. */
  completeExit(answer?: (exit: Exit) => void): void {
    for (let exit = this.#complete(); exit.kind !== "intr"; exit = this.#complete()) {
      if (answer === undefined) {
        throw new StateError("ERR_UNANSWERED", `${this.label}: ${exit.kind}`);
      }
      answer(exit);
    }
  }

  #complete(): Exit {
    const before = this.immediateExit;
    this.immediateExit = true;
    try {
      return this.runSync();
    } finally {
      this.immediateExit = before;
    }
  }

  #open(): Uint8Array {
    if (this.closed) throw new StateError("ERR_CLOSED", this.label);
    return this.#bytes;
  }

  #get<T>(ioctl: Ioctl, layout: Layout<T>): T {
    const bytes = new Uint8Array(sizeOf(layout));
    this.ioctl(ioctl, bytes);
    return read(layout, bytes);
  }

  #set<T>(ioctl: Ioctl, layout: Layout<T>, value: StructInput<T>): void {
    this.ioctl(ioctl, encode(layout, value), {
      args: value as Readonly<Record<string, unknown>>,
    });
  }
}
