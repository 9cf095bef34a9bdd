/**
 * The class of a virtual CPU. calls/, run/ and state/ implement parts of the class; generated/vcpu-ioctls.ts has
 * further ioctls.
 */
import type { CpuidEntry2Input } from "../abi/cpuid2.ts";
import {
  KVM_GET_CPUID2,
  KVM_GET_MSRS,
  KVM_GET_STATS_FD,
  KVM_GET_SUPPORTED_HV_CPUID,
  KVM_RUN,
  KVM_SET_CPUID,
  KVM_SET_CPUID2,
  KVM_SET_MSRS,
} from "../abi/generated/ioctls.ts";
import {
  Cpuid,
  Cpuid2,
  type CpuidEntry,
  type CpuidEntry2,
  type MsrEntry,
  Run,
  type XenVcpuAttr,
} from "../abi/generated/structs.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import { KVM_MAX_CPUID_ENTRIES } from "../abi/limits.ts";
import { encode, read } from "../abi/struct.ts";
import { refuseIncomplete, type StructInputWith } from "../abi/whole.ts";
import { StateError } from "../errors.ts";
import { type Evidence, explainMsrs } from "../explain/index.ts";
import { inspectAs } from "../inspect.ts";
import type { NativeFd } from "../native.ts";
import {
  refuseMissing,
  refuseNonBooleans,
  refuseUnknown,
  toList,
  toU32,
  toU64,
} from "../options.ts";
import type { StateDifference } from "../state/error.ts";
import type { VcpuState } from "../state/state.ts";
import { type EnableCapInput, enableCap } from "./calls/capability.ts";
import { encodedOnce, getCpuid2, growCpuid2 } from "./calls/cpuid2.ts";
import {
  type DeviceAttrInput,
  getDeviceAttr,
  hasDeviceAttr,
  setDeviceAttr,
} from "./calls/device-attr.ts";
import { type MemoryEncryptOpInput, memoryEncryptOp } from "./calls/memory-encrypt.ts";
import { getMsrs, setMsrs } from "./calls/msrs.ts";
import { getOneReg, getRegList, setOneReg } from "./calls/one-reg.ts";
import { setSignalMask } from "./calls/signal-mask.ts";
import { getNestedState, getXsave2, setNestedState, setXsave } from "./calls/state-areas.ts";
import { xenVcpuGetAttr, xenVcpuSetAttr } from "./calls/xen.ts";
import { evidenceOfVcpu, type VcpuHistory } from "./evidence.ts";
import type { Exit } from "./exits/exit.ts";
import { VcpuIoctls } from "./generated/vcpu-ioctls.ts";
import type { Handle, IoctlArgument, IoctlOptions } from "./handle.ts";
import { CpuidHistory } from "./history.ts";
import type { MemoryLinkInput } from "./link.ts";
import { DirtyRing } from "./memory/dirty-pages.ts";
import type { AbortOptions } from "./run/abortable.ts";
import type { CoalescedRing } from "./run/coalesced-ring.ts";
import type { ExitRuleInput } from "./run/exit-filter.ts";
import type { RunPage } from "./run/run-page.ts";
import { Runner, type RunSyncOptions } from "./run/runner.ts";
import { msrDifferences } from "./state/vcpu-msrs.ts";
import {
  type RestoreStateOptions,
  restoreVcpus,
  SAVE_OPTIONS,
  type SaveStateOptions,
  saveVcpus,
} from "./state/vcpu-state.ts";
import { Stats } from "./stats.ts";
import type { Vm } from "./vm.ts";

/** The required fields of an entry of a CPUID table. */
const FUNCTION: readonly string[] = ["function"];

/** The options of {@link Vcpu.setCpuid2}. */
export interface SetCpuid2Options {
  /**
   * The count that is passed to the kernel instead of the number of entries. If the count exceeds the number of
   * entries, the kernel returns E2BIG, or EFAULT because an unmapped page follows the entries.
   */
  readonly nent?: number;
  /** Whether an error gets a reason; the default is the value of {@link Handle.explain}. */
  readonly explain?: false;
}

/** A virtual CPU of a {@link Vm}. */
export class Vcpu extends VcpuIoctls {
  /** The id that was passed to KVM_CREATE_VCPU. */
  readonly id: number;
  /** The VM to which the vCPU belongs. */
  readonly vm: Vm;
  readonly #runner: Runner;
  readonly #cpuid = new CpuidHistory();

  /** Wraps a vCPU's descriptor; use {@link Vm.createVcpu} to create a vCPU. @internal */
  constructor(fd: NativeFd, id: number, vm: Vm) {
    // `vm` is undefined if a program calls `new Vcpu()`; super() rejects this call before the gate is used.
    super(fd, `vcpu ${id}`);
    this.id = id;
    this.vm = vm;
    this.#runner = new Runner(fd, {
      label: this.label,
      traced: this.traced,
      gate: vm.gate,
      isClosed: () => this.closed,
      refusal: (call, errno, facts) => this.refusal(call, errno, { facts }),
    });
  }

  /**
   * Runs the guest on this thread until it exits. The event loop is blocked until the guest exits.
   *
   * A signal to this thread, {@link immediateExit} or a kick with {@link kickToken} makes the call return
   * `{ kind: "intr" }`. The call returns after a signal so that the signal's listener can run; signals of Node and V8
   * (for example of `--cpu-prof`) have the same effect. Set `throughSignals` to re-enter the guest after such a signal.
   *
   * The call also works after {@link Vm.close}, because the kernel keeps the VM while one of its vCPUs is open.
   *
   * @ioctl KVM_RUN (api.rst 4.10; vcpu)
   * @throws {@link KvmError} with KVM_RUN's errno, except `EINTR`. If KVM reports the faulting access together with
   *   `EFAULT`, the call returns the exit `memory_fault` instead of throwing an error.
   * @throws {@link StateError} `ERR_CLOSED`, `ERR_RUNNING`, `ERR_PAUSED`.
   */
  runSync(options?: RunSyncOptions): Exit {
    return this.#runner.runSync(options);
  }

  /**
   * Runs the guest until it exits, on the vCPU's own thread, while the event loop continues. Until the promise settles,
   * every other call on this vCPU except {@link kick} and {@link close} throws `ERR_RUNNING`. Answer an exit before the
   * next run. While the VM is paused ({@link Vm.pause}), the run is stopped, and the vCPU can be read and changed.
   *
   * Waking an idle CPU is slow. If exits occur within 200 microseconds and each thread has its own CPU, the vCPU's
   * thread and the event loop's thread therefore spin for at most 200 microseconds before they sleep. While the vCPU's
   * thread runs, the event loop serves other events.
   *
   * @returns the exit; `{ kind: "intr" }` if the run was interrupted by `signal`, {@link kick}, {@link close} or
   *   {@link immediateExit}.
   * @ioctl KVM_RUN (api.rst 4.10; vcpu)
   * @throws {@link StateError} `ERR_RUNNING`, `ERR_CLOSED`.
   * @throws {@link KvmError} as {@link runSync}, and pthread_create's; the promise is rejected with it.
   */
  run(options: AbortOptions = {}): Promise<Exit> {
    return this.#runner.run(options);
  }

  /**
   * Runs the guest repeatedly, as {@link run} does, and yields each exit: `for await (const exit of vcpu.exits())`. The
   * guest continues when the loop requests the next exit, so answer an exit in the loop's body. A kick yields
   * `{ kind: "intr" }`.
   *
   * The iteration ends when `signal` is aborted or the vCPU is closed, even before the first run. `return()` and
   * `throw()` kick the current run and wait for it; an exit that occurs first is still yielded.
   *
   * @throws {@link KvmError} as {@link run}.
   */
  exits(options: AbortOptions = {}): AsyncGenerator<Exit, void> {
    return this.#runner.exits(options);
  }

  /** Whether a {@link run} is in progress, or is stopped by a pause. */
  get running(): boolean {
    return this.#runner.running;
  }

  /** Interrupts the current {@link run}; the run returns `{ kind: "intr" }`. Later runs are not affected. */
  kick(): void {
    this.#runner.kick();
  }

  /**
   * The token with which another thread of this process (a worker) can call `kickVcpu(token)` to interrupt a run. A
   * kick between two runs interrupts the next run, because the other thread cannot know which run is current. The token
   * is a random number.
   */
  get kickToken(): bigint {
    return this.#runner.kickToken;
  }

  /**
   * Completes the instruction whose exit is pending and stops before the next instruction, so that the registers
   * contain the result and can be saved. Before this call, no register contains the value that the instruction reads.
   * The exit cannot be answered after this call; if it was not answered before, the guest gets the default of its
   * `reply`. If no exit is pending, the call is a no-op. {@link immediateExit} is unchanged.
   *
   * An instruction may cause several exits if it reads and writes (`add` to an address without memory), crosses a page,
   * moves more than 8 bytes, or is single-stepped (an exit `debug` at its end). A string instruction that reads
   * addresses without memory causes an exit for each element, up to 1024. `answer` is called with each further exit of
   * the instruction, and all exits are completed. `rep ins` and `rep outs` stop at the end of a chunk, where RIP still
   * points to the instruction and RCX has the remaining count. The state at this point can be saved.
   *
   * @param answer - a function that handles a further exit and replies to it.
   * @ioctl KVM_RUN (api.rst 4.10 and 5, `immediate_exit`; vcpu; KVM_CAP_IMMEDIATE_EXIT)
   * @throws {@link StateError} `ERR_UNANSWERED` if a further exit occurs and `answer` is omitted. The further exit is
   *   then pending, as an exit of {@link runSync} would be.
   * @throws {@link KvmError} as {@link runSync}.
   */
  completeExit(answer?: (exit: Exit) => void): void {
    this.#runner.completeExit(answer);
  }

  /**
   * Whether the next KVM_RUN returns immediately with `EINTR`, before the guest executes an instruction. The property
   * is the field `kvm_run.immediate_exit` (KVM_CAP_IMMEDIATE_EXIT).
   */
  get immediateExit(): boolean {
    return this.#runner.immediateExit;
  }

  /** Sets `kvm_run.immediate_exit`. */
  set immediateExit(value: boolean) {
    this.#runner.immediateExit = value;
  }

  /**
   * Sets the exit filter of this vCPU: native code handles the exits that match a rule, in all runs. Examples are port
   * writes that can be ignored, and the output of a serial port. The rules replace the previous ones.
   *
   * Collected writes are read from the ring in their order. To keep the order relative to other exits, drain the ring
   * before handling an exit. If the ring is full, the next write causes an exit. Traces and recordings do not contain
   * the filtered accesses.
   *
   * @returns the ring with 2730 slots, the same for all filters of this vCPU.
   * @throws TypeError or RangeError that names the invalid rule and its fault.
   * @throws {@link StateError} `ERR_RUNNING`, `ERR_CLOSED`.
   * @throws {@link KvmError} mmap's, for the first filter.
   */
  setExitFilter(rules: readonly ExitRuleInput[]): CoalescedRing {
    return this.#runner.setExitFilter(rules);
  }

  /** Returns the ring that KVM fills after `vm.registerCoalescedMmio()`. All vCPUs of a VM share one coalesced ring. */
  coalescedRing(): CoalescedRing {
    return this.#runner.coalescedRing();
  }

  /** Returns the low-level interface, which allocates no objects; {@link runSync} and {@link run} can still be used. */
  lowLevel(): RunPage {
    return this.#runner.lowLevel();
  }

  /**
   * Sets the vCPU's CPUID table. Before the first run, any number of calls is allowed. After the first run, KVM
   * compares the table with the current one, and accepts only an equal table.
   *
   * @ioctl KVM_SET_CPUID2 (api.rst 4.20; vcpu; KVM_CAP_EXT_CPUID)
   * @throws {@link KvmError} `EINVAL` if the table differs after the first run (the reason names the bits, compared
   *   with the table that was set or read last), or if 0x80000008.EAX[15:8] is not 0, 48 or 57; `E2BIG` above 256
   *   entries; `EPERM` for AMX tiles without permission (arch_prctl).
   */
  setCpuid2(entries: Iterable<CpuidEntry2Input>, options: SetCpuid2Options = {}): void {
    const kept = encodedOnce(entries, "setCpuid2()");
    const sent = kept?.entries ?? toList("setCpuid2()", entries);
    refuseUnknown("setCpuid2()", options, ["nent", "explain"]);
    refuseNonBooleans("setCpuid2()", options, ["explain"]);
    const { explain } = options;
    const nent = options.nent ?? sent.length;
    const args = { nent, entries: sent };
    const context = { args, pastEnd: true, ...(explain === false ? { explain } : {}) };
    if (kept !== undefined && options.nent === undefined) {
      this.ioctl(KVM_SET_CPUID2, kept.bytes, context);
      return;
    }
    for (let i = 0; i < sent.length; i += 1) {
      refuseIncomplete(`setCpuid2(): [${i}]`, sent[i], FUNCTION);
    }
    this.setStruct(KVM_SET_CPUID2, Cpuid2, args, [], context);
  }

  /**
   * Sets the vCPU's CPUID table in the old form without indices. KVM stores every entry with index, flags and padding
   * 0.
   *
   * @ioctl KVM_SET_CPUID (api.rst 4.20; vcpu)
   * @throws {@link KvmError} as {@link setCpuid2}.
   */
  setCpuid(entries: Iterable<StructInputWith<CpuidEntry, "function">>): void {
    const list = toList("setCpuid()", entries);
    for (const [i, entry] of list.entries())
      refuseIncomplete(`setCpuid(): [${i}]`, entry, FUNCTION);
    const bytes = encode(Cpuid, { entries: list }, "setCpuid()");
    this.ioctl(KVM_SET_CPUID, bytes, { args: { nent: list.length } });
  }

  /**
   * Reads the vCPU's CPUID table, including KVM's changes.
   *
   * @param nent - the number of entries in the buffer; the default is enough for every table.
   * @ioctl KVM_GET_CPUID2 (vcpu; KVM_CAP_EXT_CPUID)
   * @throws {@link KvmError} `E2BIG` if `nent` is too small.
   */
  getCpuid2(nent: number = KVM_MAX_CPUID_ENTRIES): readonly CpuidEntry2[] {
    return getCpuid2(this, KVM_GET_CPUID2, nent);
  }

  /**
   * Reads MSRs in order, and stops at the first MSR that KVM cannot read.
   *
   * @returns the entries that were read.
   * @ioctl KVM_GET_MSRS (api.rst 4.18; vcpu)
   */
  getMsrs(indices: Iterable<number>): readonly MsrEntry[] {
    return getMsrs(this, KVM_GET_MSRS, indices);
  }

  /**
   * Writes MSRs in order, and stops at the first MSR that KVM rejects.
   *
   * @returns the number of MSRs that were written. If KVM has rejected an MSR, this MSR is `entries[result]`.
   * @ioctl KVM_SET_MSRS (api.rst 4.19; vcpu)
   */
  setMsrs(entries: Iterable<StructInputWith<MsrEntry, "index" | "data">>): number {
    return setMsrs(this, KVM_SET_MSRS, entries);
  }

  /**
   * Explains why {@link setMsrs} or {@link getMsrs} stopped at an MSR, because KVM returns only the number of processed
   * entries. Returns `undefined` if KVM processed all entries.
   *
   * @param sent - the entries that were passed; an entry with `data` was passed to {@link setMsrs}.
   * @param taken - the number of entries that KVM processed.
   */
  explainMsrs(
    sent: readonly { readonly index: number; readonly data?: bigint }[],
    taken: number,
  ): string | undefined {
    const entries = toList("explainMsrs(): sent", sent);
    const at = toU32("explainMsrs(): taken", taken);
    if (at < entries.length) refuseMissing(`explainMsrs(): sent[${at}]`, entries[at], ["index"]);
    return explainMsrs(entries, at, this.evidence());
  }

  /**
   * Reads the MSRs of entries that were passed to {@link setMsrs}, and returns the MSRs whose value differs, because
   * KVM accepts some values without storing them. Counters (COUNTING_MSRS of lib/state/msrs.ts) are not compared. If an
   * MSR is listed several times, the last value is compared. The value of an MSR that KVM cannot read counts as 0.
   *
   * This method issues one KVM_GET_MSRS per 255 MSRs, and one more for each MSR that cannot be read.
   *
   * @returns the differences; the list is empty if every MSR has the value that was passed.
   * @ioctl KVM_GET_MSRS (api.rst 4.18; vcpu)
   */
  compareMsrs(
    entries: Iterable<StructInputWith<MsrEntry, "index" | "data">>,
  ): readonly StateDifference[] {
    return msrDifferences(
      this,
      toList("compareMsrs()", entries).map((entry, i) => {
        const where = `compareMsrs(): [${i}]`;
        refuseMissing(where, entry, ["index", "data"]);
        const { index, data } = entry;
        return {
          index: toU32(`${where}.index`, index),
          reserved: 0,
          data: toU64(`${where}.data`, data),
        };
      }),
    );
  }

  /**
   * Reads the whole XSAVE area in its standard format: 4096 bytes, or more with AMX.
   *
   * @ioctl KVM_GET_XSAVE2 (api.rst 4.134; vcpu; KVM_CAP_XSAVE2)
   * @throws {@link KvmError} `EINVAL`: this vCPU's registers are hidden (SEV-ES, TDX).
   */
  getXsave2(): Uint8Array {
    return getXsave2(this);
  }

  /**
   * Writes the XSAVE area in its standard format: 4096 bytes, or as many bytes as {@link getXsave2} returns.
   *
   * @ioctl KVM_SET_XSAVE (api.rst 4.43; vcpu; KVM_CAP_XSAVE)
   * @throws {@link KvmError} `EINVAL`: a component or a bit of MXCSR that the CPU does not have; `EFAULT`: fewer bytes
   *   than the XSAVE area of this VM's guests.
   */
  setXsave(bytes: Uint8Array): void {
    setXsave(this, bytes);
  }

  /**
   * Reads the state of nested guests: a `struct kvm_nested_state`, whose `size` field has its size in bytes.
   *
   * @ioctl KVM_GET_NESTED_STATE (api.rst 4.114; vcpu; KVM_CAP_NESTED_STATE)
   * @throws {@link KvmError} `EINVAL`: this KVM does not support nested guests.
   */
  getNestedState(): Uint8Array {
    return getNestedState(this);
  }

  /**
   * Writes a state of nested guests that {@link getNestedState} returned.
   *
   * @ioctl KVM_SET_NESTED_STATE (api.rst 4.115; vcpu; KVM_CAP_NESTED_STATE)
   * @throws {@link KvmError} `EINVAL`: the nested state is invalid for this vCPU's state; `EFAULT`: its `size` field
   *   exceeds the number of bytes.
   */
  setNestedState(state: Uint8Array): void {
    setNestedState(this, state);
  }

  /**
   * Lists the registers that have an id: MSRs and KVM's own registers, such as the shadow stack pointer.
   *
   * @ioctl KVM_GET_REG_LIST (api.rst 4.84; vcpu; Linux 7.2)
   */
  getRegList(): readonly bigint[] {
    return getRegList(this);
  }

  /**
   * Reads a register by its id.
   *
   * @param id - an id that {@link getRegList} returns, such as `KVM_X86_REG_MSR(index)`.
   * @ioctl KVM_GET_ONE_REG (api.rst 4.69; vcpu; KVM_CAP_ONE_REG; Linux 7.2)
   * @throws {@link KvmError} `EINVAL`: the id has an unknown type or size, or this vCPU does not have the register.
   */
  getOneReg(id: bigint | number): bigint {
    return getOneReg(this, id);
  }

  /**
   * Writes a register by its id.
   *
   * @ioctl KVM_SET_ONE_REG (api.rst 4.68; vcpu; KVM_CAP_ONE_REG; Linux 7.2)
   * @throws {@link KvmError} `EINVAL`: the id has an unknown type or size, this vCPU does not have the register, or the
   *   value is invalid.
   * @throws RangeError if the value does not fit the register.
   */
  setOneReg(id: bigint | number, value: bigint | number): void {
    setOneReg(this, id, value);
  }

  /**
   * Enables a capability of this vCPU.
   *
   * @returns the version of Hyper-V's VMCS for KVM_CAP_HYPERV_ENLIGHTENED_VMCS; 0 for every other capability.
   * @ioctl KVM_ENABLE_CAP (api.rst 4.37 and 6; vcpu; KVM_CAP_ENABLE_CAP)
   * @throws {@link KvmError} `EINVAL` for an unknown capability or a wrong argument.
   */
  enableCap(input: EnableCapInput): number {
    return enableCap(this, input);
  }

  /**
   * Lists the Hyper-V CPUID entries that KVM supports for this vCPU.
   *
   * @ioctl KVM_GET_SUPPORTED_HV_CPUID (api.rst 4.118; vcpu; KVM_CAP_HYPERV_CPUID)
   */
  getSupportedHvCpuid(): readonly CpuidEntry2[] {
    return growCpuid2(this, KVM_GET_SUPPORTED_HV_CPUID);
  }

  /**
   * Sets the signals that are blocked while this thread is in KVM_RUN; without an argument, the thread's own mask
   * applies. {@link immediateExit} works with any mask.
   *
   * @param signals - signal numbers, 1 to 64.
   * @ioctl KVM_SET_SIGNAL_MASK (api.rst 4.21; vcpu)
   * @throws RangeError for an invalid signal number.
   */
  setSignalMask(signals?: Iterable<number>): void {
    setSignalMask(this, signals);
  }

  /**
   * Opens the statistics of this vCPU.
   *
   * @ioctl KVM_GET_STATS_FD (api.rst 4.133; vcpu; KVM_CAP_BINARY_STATS_FD)
   */
  getStatsFd(): Stats {
    return new Stats(this.openFd(KVM_GET_STATS_FD), `${this.label} stats`);
  }

  /**
   * Reads an attribute of the vCPU, such as `KVM_VCPU_TSC_OFFSET` of the group `KVM_VCPU_TSC_CTRL`.
   *
   * @param length - the attribute's size in bytes; from 65536, KVM_HAS_DEVICE_ATTR is called first.
   * @ioctl KVM_GET_DEVICE_ATTR (api.rst 4.80; vcpu; KVM_CAP_VCPU_ATTRIBUTES)
   * @throws {@link KvmError} `ENXIO`: the attribute does not exist.
   */
  getDeviceAttr(attribute: DeviceAttrInput, length = 8): Uint8Array {
    return getDeviceAttr(this, attribute, length);
  }

  /**
   * Writes an attribute of the vCPU.
   *
   * @ioctl KVM_SET_DEVICE_ATTR (api.rst 4.80; vcpu; KVM_CAP_VCPU_ATTRIBUTES)
   * @throws {@link KvmError} `ENXIO`: the attribute does not exist.
   */
  setDeviceAttr(attribute: DeviceAttrInput, bytes?: Uint8Array): void {
    setDeviceAttr(this, attribute, bytes);
  }

  /**
   * Checks that the vCPU has an attribute, and throws if it does not.
   *
   * @ioctl KVM_HAS_DEVICE_ATTR (api.rst 4.81; vcpu; KVM_CAP_VCPU_ATTRIBUTES)
   * @throws {@link KvmError} `ENXIO`: the attribute does not exist.
   */
  hasDeviceAttr(attribute: DeviceAttrInput): void {
    hasDeviceAttr(this, attribute);
  }

  /**
   * Reads an attribute of the vCPU's Xen emulation: a `KVM_XEN_VCPU_ATTR_TYPE_*`. If the attribute is an address in
   * this process, the result is 0.
   *
   * @ioctl KVM_XEN_VCPU_GET_ATTR (api.rst 4.129; vcpu; KVM_CAP_XEN_HVM)
   * @throws {@link KvmError} `ENOENT`: the attribute does not exist.
   */
  xenVcpuGetAttr(type: number): XenVcpuAttr {
    return xenVcpuGetAttr(this, type);
  }

  /**
   * Writes an attribute of the vCPU's Xen emulation: a `KVM_XEN_VCPU_ATTR_TYPE_*`.
   *
   * @param vcpuInfo - the memory of vcpu_info, for the attribute type `_VCPU_INFO_HVA`.
   * @ioctl KVM_XEN_VCPU_SET_ATTR (api.rst 4.128; vcpu; KVM_CAP_XEN_HVM)
   * @throws {@link KvmError} `ENOENT`: the attribute does not exist; `EINVAL`: an invalid value.
   */
  xenVcpuSetAttr(attr: StructInputWith<XenVcpuAttr, "type">, vcpuInfo?: MemoryLinkInput): void {
    xenVcpuSetAttr(this, attr, vcpuInfo);
  }

  /**
   * Runs a TDX command for this vCPU.
   *
   * @returns the low 32 bits of the TDX module's error code; 0 on success.
   * @ioctl KVM_MEMORY_ENCRYPT_OP (api.rst 4.110; vcpu; Linux 7.2)
   * @throws {@link KvmError} `ENOTTY`: this VM is not a TDX VM; `EINVAL`: the command does not exist, or is not allowed
   *   in the current state; `EIO`: the TDX module returned an error.
   */
  memoryEncryptOp(command: MemoryEncryptOpInput): number {
    return memoryEncryptOp(this, command);
  }

  /**
   * Maps the ring in which KVM records the pages that this vCPU writes. KVM_CAP_DIRTY_LOG_RING sets the ring's size;
   * `vm.resetDirtyRings()` releases harvested entries.
   *
   * @throws {@link KvmError} `EINVAL` from mmap if the VM has no dirty rings.
   */
  dirtyRing(): DirtyRing {
    const buffer = this.fd.mapDirtyRing();
    if (typeof buffer !== "number") return new DirtyRing(buffer);
    throw this.refusal("mmap", -buffer, { facts: { what: "dirty ring" } });
  }

  /**
   * Reads the whole state of this vCPU. The vCPU must not run. {@link Vm.saveState} also reads the states of the VM and
   * of other vCPUs.
   *
   * The method first completes a pending exit ({@link completeExit}).
   *
   * @throws {@link KvmError} with the errno of the failed ioctl.
   * @throws {@link StateError} `ERR_UNANSWERED` if completing the pending exit causes another one; `ERR_CLOSED` if the
   *   {@link Kvm} was closed before the first save.
   */
  saveState(options: SaveStateOptions = {}): VcpuState {
    refuseUnknown("vcpu.saveState()", options, SAVE_OPTIONS);
    const [state] = saveVcpus([this], this.vm.kvm.origin, options);
    if (state === undefined) throw new StateError("ERR_CLOSED", this.label);
    return state;
  }

  /**
   * Writes a saved state to this vCPU. This vCPU then continues where the saved vCPU stopped. The vCPU may be new, or
   * may have run with the same CPUID table; a pending exit is dropped. The state is checked first, and every part is
   * read back at the end ({@link Vm.checkState}, {@link Vm.restoreState}).
   *
   * @throws {@link KvmError} with the errno of the failed ioctl, and what the part requires; the parts before it are
   *   restored.
   * @throws {@link RestoreError} with `findings` if the state does not fit and nothing was written; with `differences`
   *   if all was written and some values read back differently.
   */
  restoreState(state: VcpuState, options: RestoreStateOptions = {}): void {
    refuseMissing("vcpu.restoreState(): state", state, []);
    restoreVcpus([[this, state]], this.vm.kvm.origin, options);
  }

  /** Interrupts the current run, whose promise resolves to `{ kind: "intr" }`, and closes the vCPU. */
  override close(): void {
    super.close();
    this.#runner.close();
  }

  /** The descriptor. Throws while the vCPU runs on its own thread, because the ioctl would block. @internal */
  protected override get fd(): NativeFd {
    this.#runner.expectOpen();
    return super.fd;
  }

  /** Issues KVM_RUN so that a kick can interrupt it, also for calls through {@link ioctl}. @internal */
  protected override call(
    ioctl: Ioctl,
    argument: IoctlArgument | undefined,
    context: IoctlOptions = {},
  ): number | NativeFd {
    const isRun = ioctl.request === KVM_RUN.request && !argument;
    if (!isRun) return super.call(ioctl, argument, context);
    const answer = this.#runner.runOnce();
    if (answer < 0) throw this.refusal(ioctl.name, -answer, context);
    return answer;
  }

  /** Records the CPUID table, which explains later errors. @internal */
  protected override accepted(ioctl: Ioctl, argument: IoctlArgument | undefined): void {
    this.#cpuid.record(ioctl, argument);
  }

  /** The VM to which the vCPU belongs. @internal */
  protected override parent(): Handle {
    return this.vm;
  }

  /** Returns the evidence that this vCPU, its VM and its KVM can provide after an error. @internal */
  protected override evidence(): Evidence {
    const history = (): VcpuHistory => {
      const { run, ...rest } = this.#runner.history();
      return { ...rest, run: read(Run, run), cpuid: this.#cpuid.entries() };
    };
    const above = this.vm.evidence();
    return { ...above, vcpu: evidenceOfVcpu(this, above.vm, history) };
  }

  static {
    inspectAs(Vcpu, (it) => ({
      id: it.id,
      running: it.running,
      closed: it.closed,
    }));
  }
}
