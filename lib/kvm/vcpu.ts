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
import { refuseMissing, refuseNonBooleans, refuseUnknown, toList, toU64 } from "../options.ts";
import type { StateDifference } from "../state/error.ts";
import type { VcpuState } from "../state/state.ts";
import { type CpuidEntry2Input, getCpuid2, KVM_MAX_CPUID_ENTRIES } from "./cpuid2.ts";
import { DirtyRing } from "./dirty-pages.ts";
import { evidenceOfVcpu, type VcpuHistory } from "./evidence.ts";
import type { Handle, IoctlArgument } from "./handle.ts";
import { msrDifferences } from "./vcpu-msrs.ts";
import { VcpuRuns } from "./vcpu-runs.ts";
import {
  type RestoreStateOptions,
  restoreVcpus,
  SAVE_OPTIONS,
  type SaveStateOptions,
  saveVcpus,
} from "./vcpu-state.ts";
import type { Vm } from "./vm.ts";

/** What an entry of a table cannot leave out. */
const FUNCTION: readonly string[] = ["function"];

/** What KVM_SET_CPUID2 may be told beyond the entries. */
export interface SetCpuid2Options {
  /**
   * The count to send, when it is to differ from the entries'. A count that reaches past them
   * meets an unmapped page there, so that the kernel can only refuse (E2BIG, EFAULT).
   */
  readonly nent?: number;
  /** False: a refusal gets no reason. */
  readonly explain?: false;
}

/** A virtual CPU of a {@link Vm}. */
export class Vcpu extends VcpuRuns {
  /** The number that KVM_CREATE_VCPU was given. */
  readonly id: number;
  /** The VM that it was made for. */
  readonly vm: Vm;
  /** The last table that KVM has taken or given, as bytes, and the ioctl that brought it. */
  readonly #table: { ioctl: string; bytes: Uint8Array } = { ioctl: "", bytes: new Uint8Array() };

  /** Takes over a vCPU's descriptor; {@link Vm.createVcpu} does. @internal */
  constructor(fd: NativeFd, id: number, vm: Vm) {
    super(fd, `vcpu ${id}`, vm);
    this.id = id;
    this.vm = vm;
  }

  /**
   * Gives the vCPU its CPUID table. Before the first run any number of times; afterwards KVM
   * compares, and takes the same table but no other.
   *
   * @ioctl KVM_SET_CPUID2 (api.rst 4.20; vcpu; KVM_CAP_EXT_CPUID)
   * @throws {@link KvmError} `EINVAL` when the table differs after the first run (the reason names
   *   the bits, by the table that was given last), or when 0x80000008.EAX[15:8] is not 0, 48 or 57;
   *   `E2BIG` above 256 entries; `EPERM` for AMX tiles without permission (arch_prctl).
   */
  setCpuid2(entries: Iterable<CpuidEntry2Input>, options: SetCpuid2Options = {}): void {
    const sent = toList("setCpuid2()", entries);
    refuseUnknown("setCpuid2()", options, ["nent", "explain"]);
    refuseNonBooleans("setCpuid2()", options, ["explain"]);
    for (let i = 0; i < sent.length; i += 1) {
      if (sent[i]?.function === undefined) refuseMissing(`setCpuid2(): [${i}]`, sent[i], FUNCTION);
    }
    const nent = options.nent ?? sent.length;
    const args = { nent, entries: sent };
    const { explain } = options;
    this.setStruct(KVM_SET_CPUID2, Cpuid2, args, [], {
      args,
      pastEnd: true,
      ...(explain === false ? { explain } : {}),
    });
  }

  /**
   * Gives the vCPU its CPUID table in the old form, without indices: KVM stores every entry with
   * index, flags and padding 0.
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
   * Maps the ring in which KVM enters the pages that this vCPU writes, of the size that
   * KVM_CAP_DIRTY_LOG_RING was told; `vm.resetDirtyRings()` takes back what was harvested.
   *
   * @throws {@link KvmError} `EINVAL` from mmap when the VM has no dirty rings.
   */
  dirtyRing(): DirtyRing {
    const buffer = this.fd.mapDirtyRing();
    if (typeof buffer !== "number") return new DirtyRing(buffer);
    throw this.refusal("mmap", -buffer, { facts: { what: "dirty ring" } });
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
    refuseUnknown("vcpu.saveState()", options, SAVE_OPTIONS);
    const [state] = saveVcpus([this], this.vm.kvm.origin, options);
    if (state === undefined) throw new StateError("ERR_CLOSED", this.label);
    return state;
  }

  /**
   * Puts a saved state into this vCPU: it goes on where the saved one stood. It may be fresh, or have
   * run with the same CPUID table; an exit that is pending is dropped. It is checked first whether the state fits
   * this vCPU, and in the end every part is read back ({@link Vm.checkState}, {@link Vm.restoreState}).
   *
   * @throws {@link KvmError} with the errno of the ioctl that KVM refused, and what it can mean; the parts before it
   *   are restored.
   * @throws {@link RestoreError} with `findings` when the state does not fit, and nothing was written; with
   *   `differences` when all was written, and some of it reads other than it was saved.
   */
  restoreState(state: VcpuState, options: RestoreStateOptions = {}): void {
    restoreVcpus([[this, state]], this.vm.kvm.origin, options);
  }

  /**
   * Reads MSRs that {@link setMsrs} was given, and names each that has another value: KVM takes some values and
   * loses them. Counters may read another value and are left out (COUNTING_MSRS of lib/state/msrs.ts); of an MSR
   * that is written several times the last value counts, and one that KVM does not let be read must be 0.
   *
   * It costs one KVM_GET_MSRS for 255 MSRs, and one more for each that cannot be read.
   *
   * @returns the differences; empty when every MSR has its value.
   * @ioctl KVM_GET_MSRS (api.rst 4.18; vcpu)
   */
  compareMsrs(
    entries: Iterable<StructWith<MsrEntry, "index" | "data">>,
  ): readonly StateDifference[] {
    return msrDifferences(
      this,
      toList("compareMsrs()", entries).map(({ index, data }, i) => ({
        index,
        reserved: 0,
        data: toU64(`compareMsrs(): [${i}].data`, data),
      })),
    );
  }

  /**
   * Keeps the table that KVM has taken, or that the program has read: a KVM_GET_CPUID2 of our own would change what
   * it explains. What was read is the better one: kvm_pvm stores another table than it is given.
   */
  protected override taken(ioctl: Ioctl, argument: IoctlArgument | undefined): void {
    if (!TABLES.includes(ioctl.name) || !isBytes(argument)) return;
    if (ioctl.name === "KVM_GET_CPUID2" && !hasCount(argument)) return;
    // A copy in place: a new array for each call costs half as much as encoding the table.
    if (this.#table.bytes.length === argument.length) this.#table.bytes.set(argument);
    else this.#table.bytes = copyOf(argument);
    this.#table.ioctl = ioctl.name;
  }

  /** The entries of the last table that KVM has taken, or that the program has read. */
  #known(): readonly CpuidEntry2[] {
    const { ioctl, bytes } = this.#table;
    if (ioctl === "") return [];
    return ioctl === "KVM_SET_CPUID" ? oldForm(bytes) : read(Cpuid2, bytes).entries;
  }

  /** The VM that it was made for. */
  protected override above(): Handle {
    return this.vm;
  }

  /** What this vCPU, its VM and its KVM can be asked about a refusal. */
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

/** The ioctls that bring a vCPU's table. */
const TABLES: readonly string[] = ["KVM_SET_CPUID2", "KVM_SET_CPUID", "KVM_GET_CPUID2"];

/** Whether KVM has written the count of its entries, which Linux 6.1 does not: it is the room then. */
function hasCount(bytes: Uint8Array): boolean {
  const nent = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  return sizeOf(Cpuid2, nent) < bytes.length;
}

/** The entries of KVM_SET_CPUID as KVM stores them. */
function oldForm(bytes: Uint8Array): readonly CpuidEntry2[] {
  const rest = { index: 0, flags: 0, padding: [0, 0, 0] };
  return read(Cpuid, bytes).entries.map((entry) => ({ ...entry, ...rest }));
}
