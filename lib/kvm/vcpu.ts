/** A virtual CPU: running it, its CPUID table, its devices. Its other state is vcpu-registers.ts, exits exit.ts. */
import {
  KVM_GET_CPUID2,
  KVM_GET_STATS_FD,
  KVM_GET_SUPPORTED_HV_CPUID,
  KVM_SET_CPUID,
  KVM_SET_CPUID2,
  KVM_SET_SIGNAL_MASK,
  KVM_XEN_VCPU_GET_ATTR,
  KVM_XEN_VCPU_SET_ATTR,
} from "../abi/generated/ioctls.ts";
import {
  Cpuid,
  Cpuid2,
  type CpuidEntry,
  type CpuidEntry2,
  Run,
  SignalMask,
  XenVcpuAttr,
} from "../abi/generated/structs.ts";
import { encode, offsetOf, read, type StructInput } from "../abi/struct.ts";
import { KvmError, StateError } from "../errors.ts";
import { explainSetCpuid2 } from "../explain/set-cpuid2.ts";
import type { NativeFd, NativeRun } from "../native.ts";
import { traceExit, traceRun } from "../trace/sink.ts";
import { type EnableCapInput, enableCap } from "./capability.ts";
import { type CoalescedWrite, coalescedWrites } from "./coalesced-mmio.ts";
import { type CpuidEntry2Input, getCpuid2, growCpuid2, KVM_MAX_CPUID_ENTRIES } from "./cpuid2.ts";
import { type Attribute, getDeviceAttr, hasDeviceAttr, setDeviceAttr } from "./device-attr.ts";
import { DirtyRing } from "./dirty-pages.ts";
import type { Exit } from "./exit.ts";
import { decodeExit, isExitBesideErrno } from "./exit-decoder.ts";
import type { MemoryLink } from "./link.ts";
import { type MemoryEncryptCommand, memoryEncryptOp } from "./memory-encrypt.ts";
import { Stats } from "./stats.ts";
import { VcpuRegisters } from "./vcpu-registers.ts";
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
export class Vcpu extends VcpuRegisters {
  /** The number that KVM_CREATE_VCPU was given. */
  readonly id: number;
  /** The VM that it was made for. */
  readonly vm: Vm;
  readonly #run: NativeRun;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
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
    this.#words = new Int32Array(run.bytes);
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
    const replies = traceRun(this.traced, this.#bytes);
    const answer = this.#run.run();
    traceExit(this.traced, this.#words, answer, replies);
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
   * Switches on a capability of this vCPU.
   *
   * @returns 0; with KVM_CAP_HYPERV_ENLIGHTENED_VMCS the version of Hyper-V's VMCS.
   * @ioctl KVM_ENABLE_CAP (api.rst 4.37 and 6; vcpu; KVM_CAP_ENABLE_CAP)
   * @throws {@link KvmError} `EINVAL` for an unknown capability or a wrong argument.
   */
  enableCap(input: EnableCapInput): number {
    return enableCap(this, input);
  }

  /**
   * Lists the Hyper-V CPUID entries that KVM can give a guest, as this vCPU has them.
   *
   * @ioctl KVM_GET_SUPPORTED_HV_CPUID (api.rst 4.118; vcpu; KVM_CAP_HYPERV_CPUID)
   */
  getSupportedHvCpuid(): readonly CpuidEntry2[] {
    return growCpuid2(this, KVM_GET_SUPPORTED_HV_CPUID);
  }

  /**
   * Says which signals are blocked while this thread is in KVM_RUN; without any argument those that
   * the thread itself blocks. The kick of {@link immediateExit} needs none.
   *
   * @param signals - their numbers, 1 to 64.
   * @ioctl KVM_SET_SIGNAL_MASK (api.rst 4.21; vcpu)
   * @throws RangeError for a number that is no signal's.
   */
  setSignalMask(signals?: Iterable<number>): void {
    if (signals === undefined) {
      this.ioctl(KVM_SET_SIGNAL_MASK);
      return;
    }
    const all = Array.from(signals);
    this.ioctl(KVM_SET_SIGNAL_MASK, encode(SignalMask, { sigset: sigsetOf(all) }), {
      args: { signals: all },
    });
  }

  /**
   * Maps the ring in which KVM enters the pages that this vCPU writes, of the size that
   * KVM_CAP_DIRTY_LOG_RING was told; `vm.resetDirtyRings()` takes back what was harvested.
   *
   * @throws {@link KvmError} `EINVAL` from mmap when the VM has no dirty rings.
   */
  dirtyRing(): DirtyRing {
    const buffer = this.fd.mapDirtyRing();
    if (typeof buffer !== "number") return new DirtyRing(buffer);
    throw new KvmError({ ioctl: "mmap", fd: this.label, errno: -buffer });
  }

  /**
   * Takes the writes out of the ring that `vm.registerCoalescedMmio()` made KVM fill, in their order.
   * All vCPUs of a VM share one ring.
   */
  coalescedMmio(): Generator<CoalescedWrite, void> {
    return coalescedWrites(this.#open());
  }

  /**
   * Opens what KVM counts for this vCPU.
   *
   * @ioctl KVM_GET_STATS_FD (api.rst 4.133; vcpu; KVM_CAP_BINARY_STATS_FD)
   */
  getStatsFd(): Stats {
    return new Stats(this.openFd(KVM_GET_STATS_FD), `${this.label} stats`);
  }

  /**
   * Reads an attribute of the vCPU, such as `KVM_VCPU_TSC_OFFSET` of the group `KVM_VCPU_TSC_CTRL`.
   *
   * @ioctl KVM_GET_DEVICE_ATTR (api.rst 4.80; vcpu; KVM_CAP_VCPU_ATTRIBUTES)
   * @throws {@link KvmError} `ENXIO`: there is no such attribute.
   */
  getDeviceAttr(attribute: Attribute, length = 8): Uint8Array {
    return getDeviceAttr(this, attribute, length);
  }

  /**
   * Writes an attribute of the vCPU.
   *
   * @ioctl KVM_SET_DEVICE_ATTR (api.rst 4.80; vcpu; KVM_CAP_VCPU_ATTRIBUTES)
   * @throws {@link KvmError} `ENXIO`: there is no such attribute.
   */
  setDeviceAttr(attribute: Attribute, bytes?: Uint8Array): void {
    setDeviceAttr(this, attribute, bytes);
  }

  /**
   * Asks whether the vCPU has an attribute; returns when it has.
   *
   * @ioctl KVM_HAS_DEVICE_ATTR (api.rst 4.81; vcpu; KVM_CAP_VCPU_ATTRIBUTES)
   * @throws {@link KvmError} `ENXIO`: it has none such.
   */
  hasDeviceAttr(attribute: Attribute): void {
    hasDeviceAttr(this, attribute);
  }

  /**
   * Reads an attribute of the vCPU's Xen emulation: a `KVM_XEN_VCPU_ATTR_TYPE_*`. An address in this
   * process reads as 0.
   *
   * @ioctl KVM_XEN_VCPU_GET_ATTR (api.rst 4.129; vcpu; KVM_CAP_XEN_HVM)
   * @throws {@link KvmError} `ENOENT`: there is no such attribute.
   */
  xenVcpuGetAttr(type: number): XenVcpuAttr {
    const bytes = encode(XenVcpuAttr, { type });
    this.ioctl(KVM_XEN_VCPU_GET_ATTR, bytes, { args: { type } });
    return read(XenVcpuAttr, bytes);
  }

  /**
   * Writes an attribute of the vCPU's Xen emulation: a `KVM_XEN_VCPU_ATTR_TYPE_*`.
   *
   * @param vcpuInfo - with `_VCPU_INFO_HVA`: where its vcpu_info is.
   * @ioctl KVM_XEN_VCPU_SET_ATTR (api.rst 4.128; vcpu; KVM_CAP_XEN_HVM)
   * @throws {@link KvmError} `ENOENT`: there is no such attribute; `EINVAL`: a value that it cannot
   *   have.
   */
  xenVcpuSetAttr(attr: StructInput<XenVcpuAttr>, vcpuInfo?: MemoryLink): void {
    this.ioctl(KVM_XEN_VCPU_SET_ATTR, encode(XenVcpuAttr, attr), {
      args: attr as Readonly<Record<string, unknown>>,
      links: [vcpuInfo ?? null],
    });
  }

  /**
   * Sends a command of Intel's TDX for this vCPU.
   *
   * @returns the module's error, its lower word; 0 when all is well.
   * @ioctl KVM_MEMORY_ENCRYPT_OP (api.rst 4.110; vcpu; Linux 7.2)
   * @throws {@link KvmError} `ENOTTY`: this VM is of no such type; `EINVAL`: no such command, or too
   *   early; `EIO`: the module refused.
   */
  memoryEncryptOp(command: MemoryEncryptCommand): number {
    return memoryEncryptOp(this, command);
  }

  #open(): Uint8Array {
    if (this.closed) throw new StateError("ERR_CLOSED", this.label);
    return this.#bytes;
  }
}

/** The bytes of a kernel sigset_t. */
function sigsetOf(signals: readonly number[]): Uint8Array {
  let set = 0n;
  for (const signal of signals) {
    if (!(Number.isInteger(signal) && signal >= 1 && signal <= 64)) {
      throw new RangeError(`there is no signal ${signal}`);
    }
    set |= 1n << BigInt(signal - 1);
  }
  return new Uint8Array(BigUint64Array.of(set).buffer);
}
