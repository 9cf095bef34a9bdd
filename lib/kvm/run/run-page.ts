/**
 * Calls KVM_RUN, and provides the exit's fields as numbers that are read directly from kvm_run, without an object per
 * exit. exits/exit.ts decodes exits into objects.
 */
import { exitName } from "../../abi/exits.ts";
import { Regs, Run, RunIo, RunMmio, SyncRegs } from "../../abi/generated/structs.ts";
import { encode, offsetOf, read, type StructInput, sizeOf } from "../../abi/struct.ts";
import { refusePartial, type WholeStructInput } from "../../abi/whole.ts";
import { inspectAs } from "../../inspect.ts";
import type { ExitSource } from "../exits/source.ts";

const EXIT_REASON = offsetOf(Run, "exitReason") / 4;
const VALID = offsetOf(Run, "kvmValidRegs") / 4;
const DIRTY = offsetOf(Run, "kvmDirtyRegs") / 4;
const SYNC = offsetOf(Run, "s");

const IO = offsetOf(Run, "io");
const DIRECTION = IO + offsetOf(RunIo, "direction");
const SIZE = IO + offsetOf(RunIo, "size");
const PORT = (IO + offsetOf(RunIo, "port")) / 2;
const COUNT = (IO + offsetOf(RunIo, "count")) / 4;
const DATA_OFFSET = (IO + offsetOf(RunIo, "dataOffset")) / 4;

const MMIO = offsetOf(Run, "mmio");
const PHYS_ADDR = (MMIO + offsetOf(RunMmio, "physAddr")) / 4;
const DATA = (MMIO + offsetOf(RunMmio, "data")) / 4;
const LEN = (MMIO + offsetOf(RunMmio, "len")) / 4;
const IS_WRITE = MMIO + offsetOf(RunMmio, "isWrite");

/** The interface to a vCPU that a RunPage requires. */
export interface PageOfVcpu {
  /** Calls KVM_RUN; returns its result or `-errno`. */
  readonly enter: () => number;
  readonly source: ExitSource;
}

/**
 * Runs a vCPU without allocating an object per exit, for fast loops. Only {@link getSyncRegs}, {@link setSyncRegs} and
 * {@link regs} allocate memory. The properties of an exit kind are valid only after an exit of this kind; after the
 * vCPU was closed, all properties are 0.
 */
export class RunPage {
  readonly #enter: () => number;
  readonly #source: ExitSource;
  readonly #bytes: Uint8Array;
  readonly #halves: Uint16Array;
  readonly #words: Uint32Array;
  /**
   * The general registers that KVM_SYNC_X86_REGS copies, in the order of `struct kvm_regs` ({@link RunPage.REGS} has
   * the indices). Reading a register allocates a bigint; reading {@link regWords} does not.
   */
  readonly regs: BigUint64Array;
  /** The general registers, each as two 32-bit words, the low word first. */
  readonly regWords: Uint32Array;

  /** The index of each register in {@link regs}. */
  static readonly REGS: Readonly<Record<keyof Regs, number>> = Object.fromEntries(
    Regs.fields.map(({ name, offset }) => [name, offset / 8]),
  ) as Record<keyof Regs, number>;

  /** Wraps a vCPU's kvm_run; use {@link Vcpu.lowLevel} to get this object. @internal */
  constructor(page: PageOfVcpu) {
    if (typeof page?.enter !== "function")
      throw new TypeError("new RunPage(): use vcpu.lowLevel()");
    const { enter, source } = page;
    const { buffer, byteLength } = source.bytes;
    this.#enter = enter;
    this.#source = source;
    this.#bytes = source.bytes;
    this.#halves = new Uint16Array(buffer, 0, byteLength / 2);
    this.#words = new Uint32Array(buffer, 0, byteLength / 4);
    this.regs = new BigUint64Array(buffer, SYNC, sizeOf(Regs) / 8);
    this.regWords = new Uint32Array(buffer, SYNC, sizeOf(Regs) / 4);
  }

  /**
   * Runs the guest on this thread until it exits. After the run, an earlier exit of `runSync()` cannot be answered.
   *
   * @returns 0, or `-errno`: `-EINTR` (-4) after a signal, a kick or with `immediateExit`; `-EBUSY` (-16) while the
   *   vCPU runs on its own thread, or its VM is paused; `-EBADF` (-9) after the vCPU was closed. With `-EFAULT` (-14)
   *   and `-EHWPOISON` (-133), {@link exitReason} may be KVM_EXIT_MEMORY_FAULT.
   * @ioctl KVM_RUN (api.rst 4.10; vcpu)
   */
  enter(): number {
    this.#source.expire();
    return this.#enter();
  }

  /** The field `exit_reason`: one of the constants `KVM_EXIT_*` of `node-kvm/abi`. */
  get exitReason(): number {
    return this.#words[EXIT_REASON] ?? 0;
  }

  /** The field `io.direction`: KVM_EXIT_IO_IN or KVM_EXIT_IO_OUT. */
  get ioDirection(): number {
    return this.#bytes[DIRECTION] ?? 0;
  }

  /** The field `io.size`: the size of an element in bytes, 1, 2 or 4. */
  get ioSize(): number {
    return this.#bytes[SIZE] ?? 0;
  }

  /** `io.port`. */
  get ioPort(): number {
    return this.#halves[PORT] ?? 0;
  }

  /**
   * The field `io.count`: the number of elements, which is greater than 1 for a string instruction. {@link ioValue} is
   * the first element.
   */
  get ioCount(): number {
    return this.#words[COUNT] ?? 0;
  }

  /** The first element that the guest wrote: an integer of `size` bytes. */
  get ioValue(): number {
    const at = this.#words[DATA_OFFSET] ?? 0;
    switch (this.ioSize) {
      case 1:
        return this.#bytes[at] ?? 0;
      case 2:
        return this.#halves[at >>> 1] ?? 0;
      default:
        return this.#words[at >>> 2] ?? 0;
    }
  }

  /** Answers a port read with the low `size` bytes of the value. */
  set ioValue(value: number) {
    const at = this.#words[DATA_OFFSET] ?? 0;
    switch (this.ioSize) {
      case 1:
        this.#bytes[at] = value;
        break;
      case 2:
        this.#halves[at >>> 1] = value;
        break;
      default:
        this.#words[at >>> 2] = value;
    }
  }

  /** The field `mmio.phys_addr`, which has at most 52 bits and therefore fits a number. */
  get mmioPhysAddr(): number {
    return (this.#words[PHYS_ADDR + 1] ?? 0) * 2 ** 32 + (this.#words[PHYS_ADDR] ?? 0);
  }

  /** `mmio.len`: 1 to 8 bytes. */
  get mmioLen(): number {
    return this.#words[LEN] ?? 0;
  }

  /** `mmio.is_write`. */
  get mmioIsWrite(): boolean {
    return this.#bytes[IS_WRITE] === 1;
  }

  /** The first four bytes of `mmio.data`, little-endian; bytes beyond `len` are undefined. */
  get mmioLow(): number {
    return this.#words[DATA] ?? 0;
  }

  /** Sets the first four bytes of the answer to an MMIO read, little-endian. */
  set mmioLow(value: number) {
    this.#words[DATA] = value;
  }

  /** The last four bytes of `mmio.data`, little-endian; bytes beyond `len` are undefined. */
  get mmioHigh(): number {
    return this.#words[DATA + 1] ?? 0;
  }

  /** Sets the last four bytes of the answer to an MMIO read of eight bytes, little-endian. */
  set mmioHigh(value: number) {
    this.#words[DATA + 1] = value;
  }

  /**
   * The field `kvm_valid_regs`, which selects the registers that KVM copies into kvm_run at each exit:
   * KVM_SYNC_X86_REGS (1), _SREGS (2) and _EVENTS (4). With any other bit, KVM_RUN fails with `EINVAL`
   * (KVM_CAP_SYNC_REGS).
   */
  get kvmValidRegs(): number {
    return this.#words[VALID] ?? 0;
  }

  /** Selects the registers that KVM copies into kvm_run at each exit. */
  set kvmValidRegs(value: number) {
    this.#words[VALID] = value;
  }

  /**
   * The field `kvm_dirty_regs`, which selects the registers that KVM loads from kvm_run at the next entry. The entry
   * sets the field to 0.
   */
  get kvmDirtyRegs(): number {
    return this.#words[DIRTY] ?? 0;
  }

  /** Selects the registers that KVM loads from kvm_run at the next entry. */
  set kvmDirtyRegs(value: number) {
    this.#words[DIRTY] = value;
  }

  /** Returns all registers that KVM has copied into kvm_run, as objects. */
  getSyncRegs(): SyncRegs {
    return read(SyncRegs, this.#bytes, SYNC);
  }

  /**
   * Writes registers into kvm_run, from which KVM loads them at the next entry. If `regs`, `sregs` or `events` is
   * omitted, these registers stay unchanged. A member that is present needs all its fields, as in `vcpu.setRegs()`.
   *
   * @throws TypeError that names the missing fields.
   */
  setSyncRegs(value: Partial<WholeStructInput<SyncRegs>>): void {
    const where = "setSyncRegs()";
    const encoded = encode(SyncRegs, value as StructInput<SyncRegs>, where);
    for (const { name, type, offset } of SyncRegs.fields) {
      const part = (value as Readonly<Record<string, object | undefined>>)[name];
      if (part === undefined || typeof type !== "object" || "of" in type) continue;
      refusePartial(
        `${where}: ${name}`,
        type,
        part,
        "; read getSyncRegs() first and change the result",
      );
      this.#bytes.set(encoded.subarray(offset, offset + type.size), SYNC + offset);
    }
  }

  static {
    inspectAs(RunPage, (it) => ({ exitReason: exitName(it.exitReason) }));
  }
}
