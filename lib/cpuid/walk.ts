/**
 * Reads a whole table through a function that executes CPUID: on a CPU, in a guest, or on a recorded table. Each walk
 * ends after a limited number of calls, regardless of the returned values.
 */
import { describe, refuseMissing } from "../options.ts";
import {
  CPUID_REGISTERS,
  type CpuidEntry2,
  type CpuidRegister,
  entry,
  formatLeaf,
} from "./entry.ts";
import { withIndexFlags } from "./index-flags.ts";
import { CpuidTable } from "./table.ts";

/** The four result registers of CPUID. */
export type CpuidRegisters = { readonly [register in CpuidRegister]: number };

/** A function that executes CPUID with eax = `fn` and ecx = `index`. */
export type CpuidReader = (fn: number, index: number) => CpuidRegisters;

/** The first leaf of each range, and the maximum number of leaves that follow it. */
const RANGES: readonly { readonly first: number; readonly most: number }[] = [
  { first: 0, most: 0x100 },
  { first: 0x4000_0000, most: 0x100 },
  { first: 0x8000_0000, most: 0x100 },
  { first: 0x8086_0000, most: 0x10 },
  { first: 0xc000_0000, most: 0x10 },
];

/** The maximum number of hypervisor interfaces that a walk reads, at 0x40000000, 0x40000100 and so on. */
const MOST_INTERFACES = 4;

/** The maximum number of sub-leaves of a leaf; leaf 0xD has 64. */
const MOST_INDEXES = 64;

/** The rule that determines the sub-leaves of a leaf. */
type Extent =
  /** A register of sub-leaf 0 contains the number of the highest sub-leaf. */
  | { readonly by: "count"; readonly register: CpuidRegister }
  /** A register of sub-leaf 0 has a bit for each sub-leaf. */
  | { readonly by: "bitmap"; readonly register: CpuidRegister }
  /**
   * The first sub-leaf with 0 in the masked register is the last sub-leaf; the sub-leaves below `from` always exist.
   */
  | {
      readonly by: "type";
      readonly register: CpuidRegister;
      readonly mask: number;
      readonly from: number;
    }
  /** The number of the last sub-leaf is fixed. */
  | { readonly by: "number"; readonly last: number };

const CACHES: Extent = { by: "type", register: "eax", mask: 0x1f, from: 0 };
const DOMAINS: Extent = { by: "type", register: "ecx", mask: 0xff00, from: 0 };
const COUNT: Extent = { by: "count", register: "eax" };

/** The leaves with sub-leaves, each with its rule. Source: SDM volume 2, CPUID; APM volume 3, appendix E. */
const EXTENTS: ReadonlyMap<number, Extent> = new Map<number, Extent>([
  [0x4, CACHES],
  [0x7, COUNT],
  [0xb, DOMAINS],
  [0xd, { by: "number", last: MOST_INDEXES - 1 }],
  [0xf, { by: "number", last: 1 }],
  [0x10, { by: "number", last: 5 }],
  [0x12, { by: "type", register: "eax", mask: 0xf, from: 2 }],
  [0x14, COUNT],
  [0x17, COUNT],
  [0x18, COUNT],
  [0x1d, COUNT],
  [0x1e, COUNT],
  [0x1f, DOMAINS],
  [0x20, COUNT],
  [0x23, { by: "bitmap", register: "eax" }],
  [0x24, COUNT],
  [0x8000001d, CACHES],
  [0x80000020, { by: "number", last: 3 }],
  [0x80000026, DOMAINS],
]);

/** Whether a leaf has a sub-leaf after `index`, according to sub-leaf 0 and the sub-leaf that was read last. */
function hasNext(
  extent: Extent,
  index: number,
  first: CpuidRegisters,
  latest: CpuidRegisters,
): boolean {
  switch (extent.by) {
    case "count":
      return index < first[extent.register];
    case "bitmap":
      return index < 31 && first[extent.register] >>> (index + 1) !== 0;
    case "type":
      return index < extent.from || (latest[extent.register] & extent.mask) !== 0;
    case "number":
      return index < extent.last;
    default:
      return extent satisfies never;
  }
}

/** Sub-leaves of 0xD without a component are omitted; the walk of 0xD ends after the 64th sub-leaf. */
const SPARSE = 0xd;

const isZero = ({ eax, ebx, ecx, edx }: CpuidRegisters): boolean =>
  eax === 0 && ebx === 0 && ecx === 0 && edx === 0;

function entryOf(fn: number, index: number, { eax, ebx, ecx, edx }: CpuidRegisters): CpuidEntry2 {
  return entry({ function: fn, index, eax, ebx, ecx, edx });
}

function leaf(read: CpuidReader, fn: number): readonly CpuidEntry2[] {
  const first = read(fn, 0);
  const made = [entryOf(fn, 0, first)];
  const extent = EXTENTS.get(fn);
  if (extent === undefined) return made;
  let latest = first;
  for (let i = 0; i + 1 < MOST_INDEXES && hasNext(extent, i, first, latest); i += 1) {
    latest = read(fn, i + 1);
    if (fn !== SPARSE || !isZero(latest)) made.push(entryOf(fn, i + 1, latest));
  }
  return made;
}

function range(
  read: CpuidReader,
  { first, most }: (typeof RANGES)[number],
): readonly CpuidEntry2[] {
  const last = read(first, 0).eax;
  // For a leaf outside of the CPU's ranges, CPUID returns the data of the highest basic leaf, or zeros.
  if (first !== 0 && (last < first || last - first >= most)) return [];
  const made: CpuidEntry2[] = [];
  for (let fn = first; fn <= last && fn - first < most; fn += 1) made.push(...leaf(read, fn));
  return made;
}

/**
 * Reads all leaves that a CPU has: the basic, hypervisor, extended, Transmeta and Centaur ranges. Each range is read up
 * to the maximum in its first leaf, with all sub-leaves up to and including the terminator. Sub-leaves of 0xD without a
 * component are omitted. KVM_CPUID_FLAG_SIGNIFCANT_INDEX is set for the entries of a leaf whose index is significant in
 * KVM, and of a leaf of which several sub-leaves were read.
 *
 * @throws TypeError if `read` is not a function; errors of `read` are passed on.
 */
export function walkCpuid(read: CpuidReader): CpuidTable {
  if (typeof read !== "function") {
    throw new TypeError(`walkCpuid(): expected a function, got ${describe(read)}`);
  }
  const checked: CpuidReader = (fn, index) => {
    const registers = read(fn, index);
    refuseMissing(`walkCpuid(): ${formatLeaf(fn, index)}`, registers, CPUID_REGISTERS);
    return registers;
  };
  const interfaces = Array.from({ length: MOST_INTERFACES }, (_, i) => ({
    first: 0x4000_0000 + i * 0x100,
    most: 0x100,
  }));
  const ranges = RANGES.flatMap((one) => (one.first === 0x4000_0000 ? interfaces : [one]));
  return CpuidTable.from(withIndexFlags(ranges.flatMap((one) => range(checked, one))));
}
