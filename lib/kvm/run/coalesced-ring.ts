/**
 * Reads a ring of coalesced writes: writes of the guest that are collected instead of causing exits.
 * vm.registerCoalescedMmio selects the writes. Other code may also fill a ring that has KVM's layout.
 */
import { isBytes } from "../../abi/bytes.ts";
import { KVM_COALESCED_MMIO_PAGE_OFFSET } from "../../abi/generated/constants.ts";
import { CoalescedMmio, CoalescedMmioRing } from "../../abi/generated/structs.ts";
import { offsetOf, read, sizeOf } from "../../abi/struct.ts";
import { inspectAs } from "../../inspect.ts";

/** A collected write. */
export interface CoalescedWrite {
  /** The guest physical address or the port of the write. */
  readonly physAddr: bigint;
  /** Whether the write was to a port. */
  readonly isPio: boolean;
  /** 1 to 8 bytes. */
  readonly data: Uint8Array;
}

/**
 * Processes one write, whose members are passed as numbers. `low` and `high` are the written bytes as two little-endian
 * u32; bytes beyond `len` (1 to 8) are 0. A guest physical address has at most 52 bits, so it fits a number.
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

// The whole ring is read as 32-bit words.
const FIRST = offsetOf(CoalescedMmioRing, "first") / 4;
const LAST = offsetOf(CoalescedMmioRing, "last") / 4;
const ENTRIES = offsetOf(CoalescedMmioRing, "coalescedMmio") / 4;
const ENTRY = sizeOf(CoalescedMmio) / 4;
const PHYS_ADDR = offsetOf(CoalescedMmio, "physAddr") / 4;
const LEN = offsetOf(CoalescedMmio, "len") / 4;
const PIO = offsetOf(CoalescedMmio, "pio") / 4;
const DATA = offsetOf(CoalescedMmio, "data") / 4;

/** The element n is the mask for the n low bytes of a word. */
const MASKS = Uint32Array.of(0, 0xff, 0xffff, 0xff_ffff, 0xffff_ffff);

/**
 * A ring with the layout of `struct kvm_coalesced_mmio_ring`. KVM or the exit filter adds writes and this class removes
 * writes, possibly at the same time. If the ring is full, the next write of the guest causes an exit. After the vCPU
 * was closed, the ring is always empty.
 */
export class CoalescedRing implements Iterable<CoalescedWrite> {
  /** The number of slots; one slot is always free. */
  readonly capacity: number;
  readonly #words: Uint32Array;
  /** The number of released slots, modulo 2^32. */
  #releases = 0;

  /**
   * Wraps the ring in these bytes, which determine the number of slots.
   *
   * @throws RangeError if the bytes are not aligned to 4 bytes, or are too few for two slots.
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
   * Calls `take` with each available write in order, without allocating an object per write. A write is removed before
   * `take` is called: if `take` throws, this write is removed and the next one is not.
   *
   * @returns the number of processed writes; writes that are added during the call remain for the next call.
   */
  drain(take: TakeWrite): number {
    const words = this.#words;
    const pending = this.#pending();
    if (pending === 0) return 0;
    let first = Atomics.load(words, FIRST);
    let releases = this.#releases;
    for (let taken = 0; taken < pending; taken += 1) {
      // `take` may have removed writes itself, or closed the ring's vCPU.
      if (this.#releases !== releases || words.length === 0) return taken;
      const at = ENTRIES + first * ENTRY;
      const physAddr = (words[at + PHYS_ADDR + 1] ?? 0) * 2 ** 32 + (words[at + PHYS_ADDR] ?? 0);
      const len = Math.min(words[at + LEN] ?? 0, 8);
      const isPio = words[at + PIO] !== 0;
      // KVM copies only `len` bytes; the following bytes belong to an older write.
      const low = ((words[at + DATA] ?? 0) & (MASKS[Math.min(len, 4)] ?? 0)) >>> 0;
      const high = ((words[at + DATA + 1] ?? 0) & (MASKS[Math.max(len - 4, 0)] ?? 0)) >>> 0;
      first = this.#release(first);
      releases = this.#releases;
      take(physAddr, low, high, len, isPio);
    }
    return pending;
  }

  /** Removes and yields the writes in order, including writes that are added during the loop. */
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

  /** Removes and yields the writes in order, as {@link writes} does. */
  [Symbol.iterator](): Generator<CoalescedWrite, void> {
    return this.writes();
  }

  /** The number of available writes. */
  #pending(): number {
    const words = this.#words;
    // The buffer was detached, because its vCPU is closed.
    if (words.length === 0) return 0;
    const first = Atomics.load(words, FIRST);
    const last = Atomics.load(words, LAST);
    // The code that fills the ring writes `last`, and this class writes `first`; the guest can write neither.
    // If one of the two indices is beyond the ring's end, the ring has no readable entries.
    if (first >= this.capacity || last >= this.capacity) return 0;
    return (last - first + this.capacity) % this.capacity;
  }

  /** Releases the first slot, whose write must have been read; the next slot becomes the first. */
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

/**
 * Returns the ring that KVM fills. In the mapping of a vCPU, the ring follows kvm_run. All vCPUs of a VM share one
 * coalesced ring.
 */
export function coalescedRing(run: Uint8Array): CoalescedRing {
  return new CoalescedRing(run.subarray(START, START + PAGE));
}
