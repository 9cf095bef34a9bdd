/**
 * Writes of a guest that were collected in a ring instead of leaving it for each. Which those are,
 * vm.registerCoalescedMmio says; the ring may also be another's that has the layout of KVM's.
 */
import { isBytes } from "../abi/bytes.ts";
import { KVM_COALESCED_MMIO_PAGE_OFFSET } from "../abi/generated/constants.ts";
import { CoalescedMmio, CoalescedMmioRing } from "../abi/generated/structs.ts";
import { offsetOf, read, sizeOf } from "../abi/struct.ts";
import { inspectAs } from "../inspect.ts";

/** A write that was collected. */
export interface CoalescedWrite {
  /** The guest physical address, or the port. */
  readonly physAddr: bigint;
  /** Whether it was to a port. */
  readonly isPio: boolean;
  /** 1 to 8 bytes. */
  readonly data: Uint8Array;
}

/**
 * Takes one write, as numbers: `low` and `high` are its bytes as two little-endian u32, of which those
 * beyond `len` (1 to 8) are 0. A guest physical address has 52 bits at most, so a number holds it.
 */
export type TakeWrite = (
  physAddr: number,
  low: number,
  high: number,
  len: number,
  isPio: boolean,
) => void;

const PAGE = 4096;
const START = KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE;

// All of the ring is read as words.
const FIRST = offsetOf(CoalescedMmioRing, "first") / 4;
const LAST = offsetOf(CoalescedMmioRing, "last") / 4;
const ENTRIES = offsetOf(CoalescedMmioRing, "coalescedMmio") / 4;
const ENTRY = sizeOf(CoalescedMmio) / 4;
const PHYS_ADDR = offsetOf(CoalescedMmio, "physAddr") / 4;
const LEN = offsetOf(CoalescedMmio, "len") / 4;
const PIO = offsetOf(CoalescedMmio, "pio") / 4;
const DATA = offsetOf(CoalescedMmio, "data") / 4;

/** What keeps the first bytes of a word, by their number. */
const MASKS = Uint32Array.of(0, 0xff, 0xffff, 0xff_ffff, 0xffff_ffff);

/**
 * A ring with the layout of `struct kvm_coalesced_mmio_ring`, which its owner fills and we empty; both
 * may be at work at once. When it is full, a guest's write is an exit again. It stays empty when the vCPU
 * whose mapping it lies in is closed.
 */
export class CoalescedRing implements Iterable<CoalescedWrite> {
  /** How many slots it has; one is always free. */
  readonly capacity: number;
  readonly #words: Uint32Array;
  /** How many slots were given back, modulo 2^32. */
  #releases = 0;

  /**
   * Reads a ring in these bytes; as many slots as fit are its.
   *
   * @throws RangeError when they are not aligned to 4 bytes, or have no room for two slots.
   */
  constructor(bytes: Uint8Array) {
    if (!isBytes(bytes)) {
      const use = "use a Uint8Array, vcpu.coalescedRing() or vcpu.setExitFilter()";
      throw new TypeError(`new CoalescedRing(): ${use}`);
    }
    this.capacity = Math.floor((bytes.length / 4 - ENTRIES) / ENTRY);
    if (this.capacity < 2) throw new RangeError(`no coalesced ring has ${bytes.length} bytes`);
    const words = ENTRIES + this.capacity * ENTRY;
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, words);
  }

  /**
   * Hands the writes that are there to `take`, in their order, and makes no object for a write. A write
   * is out of the ring before `take` has it: when that throws, this one is taken and the next is not.
   *
   * @returns how many it were; those that are added meanwhile stay for the next time.
   */
  drain(take: TakeWrite): number {
    const words = this.#words;
    const pending = this.#pending();
    if (pending === 0) return 0;
    let first = Atomics.load(words, FIRST);
    let releases = this.#releases;
    for (let taken = 0; taken < pending; taken += 1) {
      // `take` may have taken writes out itself, or closed the ring's vCPU.
      if (this.#releases !== releases || words.length === 0) return taken;
      const at = ENTRIES + first * ENTRY;
      const physAddr = (words[at + PHYS_ADDR + 1] ?? 0) * 2 ** 32 + (words[at + PHYS_ADDR] ?? 0);
      const len = Math.min(words[at + LEN] ?? 0, 8);
      const isPio = words[at + PIO] !== 0;
      // KVM copies `len` bytes; those behind them are of an older write.
      const low = ((words[at + DATA] ?? 0) & (MASKS[Math.min(len, 4)] ?? 0)) >>> 0;
      const high = ((words[at + DATA + 1] ?? 0) & (MASKS[Math.max(len - 4, 0)] ?? 0)) >>> 0;
      first = this.#release(first);
      releases = this.#releases;
      take(physAddr, low, high, len, isPio);
    }
    return pending;
  }

  /** Takes the writes out one by one, in their order, those too that are added meanwhile. */
  *writes(): Generator<CoalescedWrite, void> {
    while (this.#pending() > 0) {
      const first = Atomics.load(this.#words, FIRST);
      const words = this.#words.slice(ENTRIES + first * ENTRY, ENTRIES + (first + 1) * ENTRY);
      const entry = read(CoalescedMmio, new Uint8Array(words.buffer));
      this.#release(first);
      const data = entry.data.slice(0, Math.min(entry.len, 8));
      yield { physAddr: entry.physAddr, isPio: entry.pio !== 0, data };
    }
  }

  /** Takes the writes out one by one, as {@link writes}. */
  [Symbol.iterator](): Generator<CoalescedWrite, void> {
    return this.writes();
  }

  /** How many writes are there. */
  #pending(): number {
    const words = this.#words;
    // The buffer was taken away: its vCPU is closed.
    if (words.length === 0) return 0;
    const first = Atomics.load(words, FIRST);
    const last = Atomics.load(words, LAST);
    // `last` is its owner's and `first` ours, and neither is the guest's; a ring in which they are
    // beyond its end has no entries that could be read.
    if (first >= this.capacity || last >= this.capacity) return 0;
    return (last - first + this.capacity) % this.capacity;
  }

  /** Gives a slot back, whose write must have been read; the next one is the first then. */
  #release(first: number): number {
    this.#releases = (this.#releases + 1) | 0;
    const next = first + 1 === this.capacity ? 0 : first + 1;
    Atomics.store(this.#words, FIRST, next);
    return next;
  }

  static {
    inspectAs(CoalescedRing, (it) => ({ capacity: it.capacity, pending: it.#pending() }));
  }
}

/** The ring that KVM fills, which follows a vCPU's kvm_run. All vCPUs of a VM share one. */
export function coalescedRing(run: Uint8Array): CoalescedRing {
  return new CoalescedRing(run.subarray(START, START + PAGE));
}
