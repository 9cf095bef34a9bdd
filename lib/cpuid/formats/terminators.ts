/** Decides whether a table has all sub-leaves of each leaf with sub-leaves, up to the end of the list. */
import type { CpuidEntry2 } from "../entry.ts";
import { readField } from "../field.ts";

/** The sub-leaves of one leaf, by index; of duplicates, the first. */
type Subleaves = ReadonlyMap<number, CpuidEntry2>;

/** The rule for leaves whose last sub-leaf has 0 in a field. */
const endsWithZero =
  (register: "eax" | "ecx", low: number, high: number) =>
  (subleaves: Subleaves): boolean => {
    for (let index = 0; ; index += 1) {
      const found = subleaves.get(index);
      if (found === undefined) return false;
      if (readField(found[register], low, high) === 0) return true;
    }
  };

/** The rule for leaves whose sub-leaf 0 contains the number of the last sub-leaf in EAX. */
const countsInEax = (subleaves: Subleaves): boolean => {
  const last = subleaves.get(0)?.eax;
  if (last === undefined || last >= subleaves.size) return false;
  for (let index = 1; index <= last; index += 1) if (!subleaves.has(index)) return false;
  return true;
};

/** Whether each set bit of a 64-bit map, starting at `first`, has a sub-leaf with the bit's number. */
function hasBits(subleaves: Subleaves, low: number, high: number, first: number): boolean {
  for (let bit = first; bit < 64; bit += 1) {
    const word = bit < 32 ? low : high;
    if (readField(word, bit % 32, bit % 32) === 1 && !subleaves.has(bit)) return false;
  }
  return true;
}

/** The rule for leaf 0xd: sub-leaf 0 contains the bits of XCR0, and sub-leaf 1 contains the bits of IA32_XSS. */
const hasComponents = (subleaves: Subleaves): boolean => {
  const [user, more] = [subleaves.get(0), subleaves.get(1)];
  if (user === undefined || more === undefined) return false;
  const [low, high] = [(user.eax | more.ecx) >>> 0, (user.edx | more.edx) >>> 0];
  return hasBits(subleaves, low, high, 2);
};

/** The rule for leaves whose sub-leaf 0 contains a bitmap of the other sub-leaves in a register. */
const hasMap =
  (register: "eax" | "ebx" | "edx") =>
  (subleaves: Subleaves): boolean => {
    const map = subleaves.get(0)?.[register];
    return map !== undefined && hasBits(subleaves, map, 0, 1);
  };

/**
 * The leaves with several sub-leaves, each with the rule that determines the last sub-leaf (SDM volume 2 and APM volume
 * 3, CPUID).
 */
const RULES: ReadonlyMap<number, (subleaves: Subleaves) => boolean> = new Map([
  [0x4, endsWithZero("eax", 0, 4)],
  [0x7, countsInEax],
  [0xb, endsWithZero("ecx", 8, 15)],
  [0xd, hasComponents],
  [0xf, hasMap("edx")],
  [0x10, hasMap("ebx")],
  [0x14, countsInEax],
  [0x17, countsInEax],
  [0x18, countsInEax],
  [0x1d, countsInEax],
  [0x1f, endsWithZero("ecx", 8, 15)],
  [0x20, countsInEax],
  [0x23, hasMap("eax")],
  [0x24, countsInEax],
  [0x8000001d, endsWithZero("eax", 0, 4)],
  [0x80000026, endsWithZero("ecx", 8, 15)],
]);

/** Whether all registers of an entry are 0; the CPU does not support a leaf whose only sub-leaf is zeros. */
const isZero = ({ eax, ebx, ecx, edx }: CpuidEntry2): boolean => (eax | ebx | ecx | edx) === 0;

/**
 * Whether a table has all sub-leaves of each of its leaves, up to the leaf's terminator or count. Returns false for a
 * table without entries.
 */
export function hasTerminators(entries: Iterable<CpuidEntry2>): boolean {
  const leaves = new Map<number, Map<number, CpuidEntry2>>();
  let isEmpty = true;
  for (const e of entries) {
    isEmpty = false;
    if (!RULES.has(e.function)) continue;
    const subleaves = leaves.get(e.function) ?? new Map<number, CpuidEntry2>();
    if (!subleaves.has(e.index)) subleaves.set(e.index, e);
    leaves.set(e.function, subleaves);
  }
  if (isEmpty) return false;
  for (const [fn, subleaves] of leaves) {
    const [first] = subleaves.values();
    if (subleaves.size === 1 && first !== undefined && first.index === 0 && isZero(first)) continue;
    if (RULES.get(fn)?.(subleaves) === false) return false;
  }
  return true;
}
