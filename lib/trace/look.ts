/** Finds what has changed in memory since it was looked at last. Whose change it was, recorder.ts knows. */
import type { Range } from "./record.ts";

const PAGE = 4096;
/** Read at once. */
const PIECE = 64 * PAGE;
const ZEROS = new Uint8Array(PAGE);
const WORD = 8;

/** Bits of an entry of a page table. */
const PRESENT = 1n;
const ACCESSED_DIRTY = 0x60n;

/** Changes that lie this near to each other are one. */
const GAP = 16;

/** Memory to look at. */
interface Readable {
  readonly byteLength: number;
  read(offset: number, length: number): Uint8Array;
}

/** A copy of memory that was all zeros at first; pages of zeros take no room. */
export class Shadow {
  readonly #memory: Readable;
  readonly #pages = new Map<number, Uint8Array>();

  /** Begins with zeros, whatever the memory holds: the first look tells all of it. */
  constructor(memory: Readable) {
    this.#memory = memory;
  }

  /**
   * Lists what differs from the copy, in whole words of 8 bytes, and copies it. Takes time for each
   * byte of the memory.
   *
   * @param whose - of a guest's changes, the accessed and dirty bits of page tables are left out: a
   *   CPU may set them whenever it looks at an entry (Intel SDM Vol. 3A 5.8), so they vary.
   */
  look(whose: "guest" | "program"): readonly Range[] {
    const found: Range[] = [];
    for (let start = 0; start < this.#memory.byteLength; start += PIECE) {
      const length = Math.min(PIECE, this.#memory.byteLength - start);
      const piece = this.#memory.read(start, length);
      for (let at = 0; at < length; at += PAGE) {
        const page = piece.subarray(at, Math.min(at + PAGE, length));
        this.#lookAt(start + at, page, whose, found);
      }
    }
    return found;
  }

  #lookAt(offset: number, now: Uint8Array, whose: "guest" | "program", found: Range[]): void {
    const before = this.#pages.get(offset) ?? ZEROS.subarray(0, now.length);
    if (Buffer.compare(before, now) === 0) return;
    const shown = whose === "guest" ? withoutVisits(before, now) : now;
    for (const range of differences(before, shown, WORD)) {
      found.push({ offset: offset + range.offset, bytes: range.bytes });
    }
    this.#pages.set(offset, now.slice());
  }
}

/** The second array, with words as in the first where only accessed and dirty bits changed. */
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

/**
 * Lists where two equally long arrays differ, with the bytes of the second.
 *
 * @param unit - a range begins and ends at multiples of so many bytes, a power of two.
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
