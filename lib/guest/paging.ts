/**
 * Page tables that map every address to itself. modes.ts places the tables in guest memory, and their address in CR3.
 */
import { refuseUnknown } from "../options.ts";

/** The bit of a paging-structure entry that marks it present (Intel SDM Vol. 3A 5.5.4). */
export const PAGE_PRESENT = 1n;
/** The bit of a paging-structure entry that allows writes. */
export const PAGE_WRITE: bigint = 1n << 1n;
/** The bit of a paging-structure entry that allows access at CPL 3. */
export const PAGE_USER: bigint = 1n << 2n;
/** The bit of a paging-structure entry that maps a large page instead of referencing a table. */
export const PAGE_LARGE: bigint = 1n << 7n;

/** The range that {@link identityMap} maps. */
export interface IdentityMapOptions {
  /** The gpa of the tables; the first of them is the root. A multiple of 4096. */
  readonly gpa: number;
  /** The number of mapped bytes from address 0, at most 512 GiB; it is rounded up to whole last-level tables. */
  readonly size: number;
  /** The size of a page: 4 KiB or 2 MiB; 2 MiB if omitted. */
  readonly pageSize?: 0x1000 | 0x20_0000;
  /** The number of levels: 4, or 5 for CR4.LA57; 4 if omitted. */
  readonly levels?: 4 | 5;
  /** Whether CPL 3 may access the pages; false if omitted. */
  readonly user?: boolean;
}

const ENTRIES = 512;
const PAGE = 0x1000;

/**
 * Builds page tables that map each address from 0 to the same physical address, present and writable. The first table
 * is the root, so CR3 is `gpa`.
 *
 * @returns the tables in succession, a multiple of 4096 bytes
 * @throws RangeError if `gpa` is not a multiple of 4096, or `size` is not between 1 byte and 512 GiB
 */
export function identityMap(options: IdentityMapOptions): Uint8Array {
  refuseUnknown("identityMap()", options, ["gpa", "size", "pageSize", "levels", "user"]);
  const { gpa, size, pageSize = 0x20_0000, levels = 4, user = false } = options;
  if (gpa % PAGE !== 0)
    throw new RangeError(`page tables at 0x${gpa.toString(16)} are not aligned`);
  if (!(size > 0 && size <= 2 ** 39)) throw new RangeError(`cannot map ${size} bytes: 1 to 2^39`);
  const access = PAGE_PRESENT | PAGE_WRITE | (user ? PAGE_USER : 0n);

  // For each level, from the root down: the number of its tables, and the index of its first table.
  const counts = tableCounts(size, pageSize, levels);
  const starts = counts.map((_, level) => counts.slice(0, level).reduce((sum, n) => sum + n, 0));
  const total = counts.reduce((sum, n) => sum + n, 0);
  const entries = new BigUint64Array(total * ENTRIES);

  for (const [level, start] of starts.entries()) {
    const below = starts[level + 1];
    const children = counts[level + 1] ?? (counts[level] ?? 0) * ENTRIES;
    const large = pageSize === PAGE ? 0n : PAGE_LARGE;
    for (let i = 0; i < children; i += 1) {
      entries[start * ENTRIES + i] =
        below === undefined
          ? (BigInt(i) * BigInt(pageSize)) | access | large
          : BigInt(gpa + (below + i) * PAGE) | access;
    }
  }
  return new Uint8Array(entries.buffer);
}

function tableCounts(size: number, pageSize: number, levels: number): readonly number[] {
  const counts: number[] = [];
  let covered = pageSize;
  for (let level = pageSize === PAGE ? 1 : 2; level <= levels; level += 1) {
    covered *= ENTRIES;
    counts.unshift(Math.ceil(size / covered));
  }
  return counts;
}
