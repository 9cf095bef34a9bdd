/**
 * Finds changes of memory since the last comparison. recorder.ts determines whether the program or the guest made a
 * change.
 */
import type { Range } from "./record.ts";

/** The size in bytes of a piece of memory, which is compared and copied as a whole. */
const PIECE = 0x4_0000;
const PAGE = 4096;
/** The maximum size of memory that is accessible as one array. */
const LIVE = 2 ** 30;
const ZEROS = new Uint8Array(PIECE);
const WORD = 8;

/** The accessed and dirty bits of an entry of a page table. */
const PRESENT = 1n;
const ACCESSED_DIRTY = 0x60n;

/** The number of bytes that are compared at once. */
const BLOCK = 512;

/** Changes with a gap smaller than this number of bytes are joined. */
const GAP = 16;

/** The memory to compare. */
interface Readable {
  readonly byteLength: number;
  /** The whole memory as an array that shows later changes; only for memory up to {@link LIVE} bytes. */
  readonly bytes: Uint8Array;
  read(offset: number, length: number): Uint8Array;
}

/** A copy of the memory. The copy starts with zeros; pieces that contain only zeros are not stored. */
export class Shadow {
  readonly #memory: Readable;
  readonly #pieces = new Map<number, Uint8Array>();

  /**
   * Starts with a copy of zeros instead of the memory's content; the first comparison then returns all nonzero bytes.
   */
  constructor(memory: Readable) {
    this.#memory = memory;
  }

  /**
   * Lists the differences from the copy, in whole words of 8 bytes, and updates the copy. The comparison takes time
   * linear in the size of the memory.
   *
   * @param whose - the author of the changes. In a guest's changes, the accessed and dirty bits of page tables are
   *   ignored, because a CPU may set them at any read of an entry (Intel SDM Vol. 3A 5.8).
   */
  changes(whose: "guest" | "program"): readonly Range[] {
    const found: Range[] = [];
    for (let start = 0; start < this.#memory.byteLength; start += PIECE) {
      const length = Math.min(PIECE, this.#memory.byteLength - start);
      const now = this.#piece(start, length);
      const before = this.#pieces.get(start) ?? ZEROS.subarray(0, length);
      if (Buffer.compare(before, now) === 0) continue;
      this.#pieces.set(start, now.slice());
      for (let at = 0; at < length; at += PAGE) {
        const [old, page] = [before, now].map((piece) => piece.subarray(at, at + PAGE));
        if (old === undefined || page === undefined || Buffer.compare(old, page) === 0) continue;
        const shown = whose === "guest" ? withoutVisits(old, page) : page;
        for (const { offset, bytes } of differences(old, shown, WORD)) {
          found.push({ offset: start + at + offset, bytes });
        }
      }
    }
    return found;
  }

  /** Avoids a copy if possible, because allocating memory for each comparison would take longer than comparing. */
  #piece(start: number, length: number): Uint8Array {
    return this.#memory.byteLength <= LIVE
      ? this.#memory.bytes.subarray(start, start + length)
      : this.#memory.read(start, length);
  }
}

/** Returns the second array, with the first array's words where only accessed and dirty bits changed. */
function withoutVisits(before: Uint8Array, now: Uint8Array): Uint8Array {
  const shown = now.slice();
  const [old, view] = [before, shown].map((a) => new DataView(a.buffer, a.byteOffset, a.length));
  if (old === undefined || view === undefined) return shown;
  for (let at = 0; at + WORD <= shown.length; at += WORD) {
    const word = old.getBigUint64(at, true);
    const isVisit = ((word ^ view.getBigUint64(at, true)) & ~ACCESSED_DIRTY) === 0n;
    if (isVisit && (word & PRESENT) !== 0n) view.setBigUint64(at, word, true);
  }
  return shown;
}

/** Returns the first offset, from a multiple of {@link BLOCK}, at which a differing block begins, or the length. */
function firstDifferingBlock(before: Uint8Array, now: Uint8Array, from: number): number {
  const old = Buffer.from(before.buffer, before.byteOffset, before.length);
  let at = from;
  while (at < now.length) {
    const end = Math.min(at + BLOCK, now.length);
    if (old.compare(now, at, end, at, end) !== 0) return at;
    at = end;
  }
  return at;
}

/**
 * Lists the ranges in which two arrays of equal length differ, with the bytes of the second array.
 *
 * @param unit - a range begins and ends at multiples of this many bytes, a power of two.
 */
export function differences(before: Uint8Array, now: Uint8Array, unit = 1): readonly Range[] {
  const found: Range[] = [];
  let start = -1;
  let end = -1;
  const add = (): void => {
    const from = start & -unit;
    const bytes = now.slice(from, Math.min(now.length, (end + unit - 1) & -unit));
    found.push({ offset: from, bytes });
  };
  for (let i = 0; i < now.length; i += 1) {
    // Most blocks are equal, and one comparison in native code takes less time than a loop over the bytes.
    if (i % BLOCK === 0) i = firstDifferingBlock(before, now, i);
    if (before[i] === now[i]) continue;
    if (start !== -1 && i - end > GAP) {
      add();
      start = -1;
    }
    if (start === -1) start = i;
    end = i + 1;
  }
  if (start !== -1) add();
  return found;
}
