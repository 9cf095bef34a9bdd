/** A virtual CPU: its CPUID table, its dirty ring, its state. Running it is vcpu-runs.ts, registers vcpu-registers.ts. */
import { copyOf, isBytes } from "../abi/bytes.ts";
import { KVM_GET_CPUID2, KVM_SET_CPUID, KVM_SET_CPUID2 } from "../abi/generated/ioctls.ts";
import {
  Cpuid,
  Cpuid2,
  type CpuidEntry,
  type CpuidEntry2,
  type MsrEntry,
  Run,
} from "../abi/generated/structs.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import { encode, read, sizeOf } from "../abi/struct.ts";
import type { StructWith } from "../abi/whole.ts";
import { StateError } from "../errors.ts";
import type { Evidence } from "../explain/index.ts";
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
import { type CpuidEntry2Input, encodedOnce, getCpuid2, KVM_MAX_CPUID_ENTRIES } from "./cpuid2.ts";
import { evidenceOfVcpu, type VcpuHistory } from "./evidence.ts";
import type { Handle, IoctlArgument } from "./handle.ts";
import { DirtyRing } from "./memory/dirty-pages.ts";
import { msrDifferences } from "./state/vcpu-msrs.ts";
import {
  type RestoreStateOptions,
  restoreVcpus,
  SAVE_OPTIONS,
  type SaveStateOptions,
  saveVcpus,
} from "./state/vcpu-state.ts";
import { VcpuRuns } from "./vcpu-runs.ts";
import type { Vm } from "./vm.ts";

/** The required fields of a table's entry. */
const FUNCTION: readonly string[] = ["function"];

/** The options of {@link Vcpu.setCpuid2}. */
export interface SetCpuid2Options {
  /**
   * The count to pass instead of the number of entries. If it exceeds the entries, the kernel reads up to an unmapped
   * page, and can only return E2BIG or EFAULT.
   */
  readonly nent?: number;
  /** False: an error has no reason. */
  readonly explain?: false;
}

/** A virtual CPU of a {@link Vm}. */
export class Vcpu extends VcpuRuns {
  /** The id that was passed to KVM_CREATE_VCPU. */
  readonly id: number;
  /** The VM that it belongs to. */
  readonly vm: Vm;
  /** The last table that KVM accepted or returned, as bytes, and the ioctl that passed it. */
  readonly #table: { ioctl: string; bytes: Uint8Array } = { ioctl: "", bytes: new Uint8Array() };

  /** Takes a vCPU's descriptor; use {@link Vm.createVcpu}. @internal */
  constructor(fd: NativeFd, id: number, vm: Vm) {
    super(fd, `vcpu ${id}`, vm);
    this.id = id;
    this.vm = vm;
  }

  /**
   * Sets the vCPU's CPUID table. Before the first run, any number of calls is allowed. Afterwards KVM compares the
   * table, and accepts only an equal one.
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
      if (sent[i]?.function === undefined) refuseMissing(`setCpuid2(): [${i}]`, sent[i], FUNCTION);
    }
    this.setStruct(KVM_SET_CPUID2, Cpuid2, args, [], context);
  }

  /**
   * Sets the vCPU's CPUID table in the old form, without indices: KVM stores every entry with index, flags and padding
   * 0.
   *
   * @ioctl KVM_SET_CPUID (api.rst 4.20; vcpu)
   * @throws {@link KvmError} as {@link setCpuid2}.
   */
  setCpuid(entries: Iterable<StructWith<CpuidEntry, "function">>): void {
    const list = toList("setCpuid()", entries);
    for (const [i, entry] of list.entries()) refuseMissing(`setCpuid(): [${i}]`, entry, FUNCTION);
    const bytes = encode(Cpuid, { entries: list }, "setCpuid()");
    this.ioctl(KVM_SET_CPUID, bytes, { args: { nent: list.length } });
  }

  /**
   * Reads the vCPU's CPUID table, including KVM's changes.
   *
   * @param nent - the number of entries in the buffer; the default is enough for all.
   * @ioctl KVM_GET_CPUID2 (vcpu; KVM_CAP_EXT_CPUID)
   * @throws {@link KvmError} `E2BIG` if `nent` is too small.
   */
  getCpuid2(nent: number = KVM_MAX_CPUID_ENTRIES): readonly CpuidEntry2[] {
    return getCpuid2(this, KVM_GET_CPUID2, nent);
  }

  /**
   * Maps the ring in which KVM records the pages that this vCPU writes. Its size was set with KVM_CAP_DIRTY_LOG_RING;
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
   * Reads the whole state of this vCPU, which must not run. {@link Vm.saveState} combines it with the state of the VM
   * and of other vCPUs.
   *
   * A pending exit is completed first ({@link completeExit}).
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
   * Writes a saved state to this vCPU, which then continues where the saved one stopped. The vCPU may be new, or may
   * have run with the same CPUID table; a pending exit is dropped. The state is checked first, and every part is read
   * back at the end ({@link Vm.checkState}, {@link Vm.restoreState}).
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

  /**
   * Reads the MSRs of {@link setMsrs}'s entries, and returns those with another value, because KVM accepts some values
   * without storing them. Counters are left out (COUNTING_MSRS of lib/state/msrs.ts). If an MSR is listed several
   * times, its last value is compared; an MSR that KVM cannot read must be 0.
   *
   * It makes one KVM_GET_MSRS per 255 MSRs, and one more for each that cannot be read.
   *
   * @returns the differences; empty if every MSR has its value.
   * @ioctl KVM_GET_MSRS (api.rst 4.18; vcpu)
   */
  compareMsrs(
    entries: Iterable<StructWith<MsrEntry, "index" | "data">>,
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
   * Keeps the table that KVM accepted, or that the program has read, because an additional KVM_GET_CPUID2 would change
   * the state that it explains. A table that was read takes precedence: kvm_pvm stores a different table than it is
   * passed.
   */
  protected override taken(ioctl: Ioctl, argument: IoctlArgument | undefined): void {
    if (!TABLES.includes(ioctl.name) || !isBytes(argument)) return;
    if (ioctl.name === "KVM_GET_CPUID2" && !hasCount(argument)) return;
    // Copies in place, because a new array for each call costs half as much as encoding the table.
    if (this.#table.bytes.length === argument.length) this.#table.bytes.set(argument);
    else this.#table.bytes = copyOf(argument);
    this.#table.ioctl = ioctl.name;
  }

  /** Returns the entries of the last table that KVM accepted, or that the program has read. */
  #known(): readonly CpuidEntry2[] {
    const { ioctl, bytes } = this.#table;
    if (ioctl === "") return [];
    return ioctl === "KVM_SET_CPUID" ? oldForm(bytes) : read(Cpuid2, bytes).entries;
  }

  /** The VM that it belongs to. */
  protected override above(): Handle {
    return this.vm;
  }

  /** Returns the evidence that this vCPU, its VM and its KVM can provide after an error. */
  protected override evidence(): Evidence {
    const history = (): VcpuHistory => {
      const { run, ...rest } = this.history();
      return { ...rest, run: read(Run, run), cpuid: this.#known() };
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

/** The ioctls that pass a vCPU's table. */
const TABLES: readonly string[] = ["KVM_SET_CPUID2", "KVM_SET_CPUID", "KVM_GET_CPUID2"];

/** Whether KVM has written the number of entries. Linux 6.1 does not, and leaves the size of the buffer there. */
function hasCount(bytes: Uint8Array): boolean {
  const nent = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  return sizeOf(Cpuid2, nent) < bytes.length;
}

/** Returns the entries of KVM_SET_CPUID as KVM stores them. */
function oldForm(bytes: Uint8Array): readonly CpuidEntry2[] {
  const rest = { index: 0, flags: 0, padding: [0, 0, 0] };
  return read(Cpuid, bytes).entries.map((entry) => ({ ...entry, ...rest }));
}
