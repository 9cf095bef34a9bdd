/** KVM_RUN and its exit without an object for each: numbers, read from kvm_run in place. Exits as values are exit.ts. */
import { Regs, Run, RunIo, RunMmio, SyncRegs } from "../abi/generated/structs.ts";
import { encode, offsetOf, read, type StructInput, sizeOf } from "../abi/struct.ts";
import { refusePartial, type WholeStruct } from "../abi/whole.ts";
import { inspectAs } from "../inspect.ts";
import { exitName } from "../trace/exit-fields.ts";
import type { ExitSource } from "./exit-source.ts";

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

/** What a vCPU gives its page. */
export interface PageOfVcpu {
  /** KVM_RUN: its result or `-errno`. */
  readonly enter: () => number;
  readonly source: ExitSource;
}

/**
 * The low-level form of running, for loops in which an object for each exit is too much: nothing here
 * makes garbage but {@link getSyncRegs}, {@link setSyncRegs} and {@link regs}. A property means something
 * only after an exit of its kind; when the vCPU is closed all are 0.
 */
export class RunPage {
  readonly #enter: () => number;
  readonly #source: ExitSource;
  readonly #bytes: Uint8Array;
  readonly #halves: Uint16Array;
  readonly #words: Uint32Array;
  /**
   * The general registers as KVM_SYNC_X86_REGS copies them, in the order of `struct kvm_regs`
   * ({@link RunPage.REGS} has the places). A look at one makes a bigint; {@link regWords} does not.
   */
  readonly regs: BigUint64Array;
  /** The same as two words each, the low one first. */
  readonly regWords: Uint32Array;

  /** Where {@link regs} has which register. */
  static readonly REGS: Readonly<Record<keyof Regs, number>> = Object.fromEntries(
    Regs.fields.map(({ name, offset }) => [name, offset / 8]),
  ) as Record<keyof Regs, number>;

  /** Looks at a vCPU's kvm_run; {@link Vcpu.lowLevel} makes one. @internal */
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
   * Runs the guest on this thread until it exits. An exit of `runSync()` cannot be answered afterwards.
   *
   * @returns 0, or `-errno`: `-EINTR` (-4) after a signal, a kick or with `immediateExit`; `-EBUSY` (-16)
   *   while it runs beside the event loop, or its VM is paused; `-EBADF` (-9) once it is closed. With
   *   `-EFAULT` (-14) and `-EHWPOISON` (-133) {@link exitReason} may say KVM_EXIT_MEMORY_FAULT.
   * @ioctl KVM_RUN (api.rst 4.10; vcpu)
   */
  enter(): number {
    this.#source.expire();
    return this.#enter();
  }

  /** `exit_reason`, one of the constants KVM_EXIT_ of `node-kvm/abi`. */
  get exitReason(): number {
    return this.#words[EXIT_REASON] ?? 0;
  }

  /** `io.direction`: KVM_EXIT_IO_IN or KVM_EXIT_IO_OUT. */
  get ioDirection(): number {
    return this.#bytes[DIRECTION] ?? 0;
  }

  /** `io.size` of an element in bytes: 1, 2 or 4. */
  get ioSize(): number {
    return this.#bytes[SIZE] ?? 0;
  }

  /** `io.port`. */
  get ioPort(): number {
    return this.#halves[PORT] ?? 0;
  }

  /** `io.count`: more than 1 for a string instruction; {@link ioValue} is the first of these elements. */
  get ioCount(): number {
    return this.#words[COUNT] ?? 0;
  }

  /** What the guest wrote, or is to read: the first element, `size` bytes. */
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

  /** Answers a read with the low `size` bytes. */
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

  /** `mmio.phys_addr`; a number holds it, for it has 52 bits at most. */
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

  /** The first four bytes of `mmio.data`, little-endian; those beyond `len` mean nothing. */
  get mmioLow(): number {
    return this.#words[DATA] ?? 0;
  }

  /** Answers a read: its first four bytes. */
  set mmioLow(value: number) {
    this.#words[DATA] = value;
  }

  /** The last four bytes of `mmio.data`. */
  get mmioHigh(): number {
    return this.#words[DATA + 1] ?? 0;
  }

  /** Answers a read: its last four bytes. */
  set mmioHigh(value: number) {
    this.#words[DATA + 1] = value;
  }

  /**
   * `kvm_valid_regs`: which registers KVM copies into kvm_run at each exit, of KVM_SYNC_X86_REGS (1),
   * _SREGS (2) and _EVENTS (4). KVM_RUN is `EINVAL` with any other bit (KVM_CAP_SYNC_REGS).
   */
  get kvmValidRegs(): number {
    return this.#words[VALID] ?? 0;
  }

  /** Says which registers KVM is to copy. */
  set kvmValidRegs(value: number) {
    this.#words[VALID] = value;
  }

  /** `kvm_dirty_regs`: which of them KVM takes over from kvm_run at the next entry; it sets it to 0 then. */
  get kvmDirtyRegs(): number {
    return this.#words[DIRTY] ?? 0;
  }

  /** Says which registers KVM is to take over. */
  set kvmDirtyRegs(value: number) {
    this.#words[DIRTY] = value;
  }

  /** Reads all that KVM copied, as values. */
  getSyncRegs(): SyncRegs {
    return read(SyncRegs, this.#bytes, SYNC);
  }

  /**
   * Writes what KVM is to take over. Of `regs`, `sregs` and `events`, those that are left out stay as
   * they are, and those that are given have all their fields, as in `vcpu.setRegs()`.
   *
   * @throws TypeError that names the missing fields.
   */
  setSyncRegs(value: Partial<WholeStruct<SyncRegs>>): void {
    const where = "setSyncRegs()";
    const encoded = encode(SyncRegs, value as StructInput<SyncRegs>, where);
    for (const { name, type, offset } of SyncRegs.fields) {
      const part = (value as Readonly<Record<string, object | undefined>>)[name];
      if (part === undefined || typeof type !== "object" || "of" in type) continue;
      refusePartial(`${where}: ${name}`, type, part, "; read getSyncRegs() first and change that");
      this.#bytes.set(encoded.subarray(offset, offset + type.size), SYNC + offset);
    }
  }

  static {
    inspectAs(RunPage, (it) => ({ exitReason: exitName(it.exitReason) }));
  }
}
