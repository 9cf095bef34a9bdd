/**
 * Replaces whole leaves of a table: decides which entries stay, and where new entries are placed. table.ts changes
 * fields of an entry.
 */
import { type CpuidEntry2Input, isIndexed, KVM_CPUID_FLAG_SIGNIFCANT_INDEX } from "./entry.ts";
import { readField, writeField } from "./field.ts";
import { CpuidTable } from "./table.ts";

/** The first leaf of Transmeta's range, which is inside of the extended leaves' numbers. */
const TRANSMETA = 0x80860000;

/**
 * Returns the first leaf of the range that one maximum covers: basic, hypervisor, extended, Transmeta, Centaur. EAX of
 * this leaf is the maximum.
 */
const rangeOf = (fn: number): number =>
  fn >>> 16 === TRANSMETA >>> 16 ? TRANSMETA : (fn & 0xf0000000) >>> 0;

type Placed = Pick<CpuidEntry2Input, "function" | "index">;

const isBefore = (a: Placed, b: Placed): boolean =>
  a.function < b.function || (a.function === b.function && (a.index ?? 0) < (b.index ?? 0));

/** Returns the position for a new entry: after the last lower entry of its range, or at the start of its range. */
function positionFor(entries: readonly Placed[], made: Placed): number {
  const isPeer = (e: Placed): boolean => rangeOf(e.function) === rangeOf(made.function);
  const lower = entries.findLastIndex((e) => isPeer(e) && isBefore(e, made));
  if (lower >= 0) return lower + 1;
  const first = entries.findIndex(isPeer);
  return first < 0 ? entries.length : first;
}

/**
 * Makes the wanted entries the only entries of a leaf. An existing entry with a wanted index stays at its position;
 * registers that the caller does not give stay unchanged. Duplicates of a wanted entry, and entries with other indexes,
 * are removed. New entries are placed after the last lower entry of their range. All other entries keep their order.
 * Entries of a leaf with sub-leaves get KVM_CPUID_FLAG_SIGNIFCANT_INDEX.
 */
export function withLeaf(
  table: CpuidTable,
  fn: number,
  wanted: readonly Omit<CpuidEntry2Input, "function">[],
): CpuidTable {
  const left = new Map(wanted.map((made) => [made.index ?? 0, made]));
  const isWalked = isIndexed(fn) || wanted.some(({ index = 0 }) => index > 0);
  const flags = isWalked ? { flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX } : {};
  const entries: CpuidEntry2Input[] = [];
  for (const e of table) {
    const made = e.function === fn ? left.get(e.index) : e;
    if (made === undefined) continue;
    entries.push(made === e ? e : { ...e, ...made, ...flags });
    if (made !== e) left.delete(e.index);
  }
  for (const made of left.values()) {
    const complete = { ...made, function: fn, ...flags };
    entries.splice(positionFor(entries, complete), 0, complete);
  }
  return CpuidTable.from(entries);
}

/** Lists the entries of a leaf in the order of the table; of entries with the same index, only the first. */
export function leafEntries(table: CpuidTable, fn: number): readonly CpuidEntry2Input[] {
  const first = new Map<number, CpuidEntry2Input>();
  for (const e of table) if (e.function === fn && !first.has(e.index)) first.set(e.index, e);
  return [...first.values()];
}

/** Whether a leaf is within the maximum of its range: eax of leaf 0, 0x40000000, 0x80000000 and so on. */
export function reaches(table: CpuidTable, fn: number): boolean {
  return (table.find(rangeOf(fn), 0)?.eax ?? 0) >= fn;
}

/**
 * Raises the maximum of a range, in eax of its first leaf, to at least `fn`. Adds an entry of zeros for `fn` if it is
 * absent: for a leaf above the maximum, KVM returns the leaf at the maximum.
 */
export function withMaximum(table: CpuidTable, fn: number): CpuidTable {
  if (reaches(table, fn)) return table;
  const raised = withLeaf(table, rangeOf(fn), [{ eax: fn }]);
  return withSubleaf(raised, fn, 0);
}

/** Adds an entry of zeros for a sub-leaf, if the table does not have it. */
export function withSubleaf(table: CpuidTable, fn: number, index: number): CpuidTable {
  const own = leafEntries(table, fn).map((e) => ({ index: e.index ?? 0 }));
  if (own.some((e) => e.index === index)) return table;
  return withLeaf(table, fn, [...own, { index }]);
}

/** The width of physical addresses without leaf 0x80000008 (SDM volume 2A; KVM's cpuid_query_maxphyaddr). */
const ASSUMED_PHYSICAL_BITS = 36;

/** Sets the widths that are 0 in leaf 0x80000008: a CPU with this leaf has both. */
export function withAddressSizes(table: CpuidTable): CpuidTable {
  const [physical, virtual] = [table.get("phys_addr_bits"), table.get("virt_addr_bits")];
  if (physical === undefined) return table;
  return table.with({
    phys_addr_bits: physical || ASSUMED_PHYSICAL_BITS,
    virt_addr_bits: virtual || (table.has("la57") ? 57 : 48),
  });
}

/** Returns the vendor whose rules a table follows: AMD for AMD and Hygon, Intel for all others. */
export function layoutOf(table: CpuidTable): "intel" | "amd" {
  const first = table.find(0, 0);
  const words = first ? [first.ebx, first.edx, first.ecx] : [];
  const bytes = words.flatMap((word) => [0, 8, 16, 24].map((low) => readField(word, low, low + 7)));
  const isAmd = ["AuthenticAMD", "HygonGenuine"].includes(String.fromCharCode(...bytes));
  return isAmd ? "amd" : "intel";
}

/**
 * Returns a register with the values of several bit ranges, `[high, low, value]`; values are truncated to their range.
 */
export function packed(
  fields: readonly (readonly [high: number, low: number, value: number])[],
  register = 0,
): number {
  return fields.reduce((word, [high, low, value]) => writeField(word, low, high, value), register);
}
