/**
 * Compares the features that two tables offer a guest: which table has more, or why neither can replace the other.
 * diff.ts lists all differences; baseline.ts computes a table that several hosts can run.
 */

import { describe, refuseMissing } from "../options.ts";
import { runs } from "./diff.ts";
import {
  CPUID_REGISTERS,
  type CpuidEntry2,
  type CpuidRegister,
  formatLeaf,
  locate,
  toEntries,
} from "./entry.ts";
import {
  baseOf,
  type CpuidFieldName,
  type CpuidSpace,
  fieldsOf,
  formatBits,
  formatValue,
  readField,
  spaceOf,
  writeField,
} from "./field.ts";
import { type CpuidFieldKind, type CpuidFieldOrder, natureAt } from "./kinds.ts";

/** One difference: a field, or a run of unnamed bits, and the table that has more. */
export interface CpuidDifference {
  /** The place, as `0x7.0:ebx[5]`. */
  readonly where: string;
  /** The field; undefined for bits that are not in the database. */
  readonly name: CpuidFieldName | undefined;
  readonly fieldKind: CpuidFieldKind;
  readonly order: CpuidFieldOrder;
  /** The space of the leaf. */
  readonly space: CpuidSpace;
  /** The leaf, absolute. */
  readonly function: number;
  /** The sub-leaf. */
  readonly index: number;
  readonly register: CpuidRegister;
  readonly low: number;
  readonly high: number;
  /** The value in the first table; 0 if the table lacks the entry. */
  readonly first: number;
  /** The value in the second table; 0 if the table lacks the entry. */
  readonly second: number;
  /**
   * The table that has more. `both`: the values exclude each other. `neither`: a guest runs with either value; examples
   * are ids, topology, and bits that KVM computes.
   */
  readonly more: "first" | "second" | "both" | "neither";
}

/**
 * The relation of the first table to the second. `identical`: a guest can use the same features with both tables.
 * `subset`: a guest that starts with the first table can continue with the second. `superset`: the reverse.
 * `incompatible`: neither.
 */
export type CpuidRelation = "identical" | "subset" | "superset" | "incompatible";

/** The result of {@link compare}. */
export interface CpuidComparison {
  readonly relation: CpuidRelation;
  /** The differences that determine the relation, in the order of the leaves; empty if the relation is `identical`. */
  readonly reasons: readonly CpuidDifference[];
  /** The differences that do not matter to a guest: ids, topology, frequencies, bits that KVM computes. */
  readonly notes: readonly CpuidDifference[];
  /**
   * The elements of `reasons` for bits that report, if they are 1, that the CPU lacks a function or a flaw. For a bit
   * about a function, the table with 0 has more; for a bit about a flaw, the table with 1 has more.
   */
  readonly negated: readonly CpuidDifference[];
}

const NO_ENTRY: CpuidEntry2 = Object.freeze({
  ...{ function: 0, index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 },
  padding: [0, 0, 0],
});

/** Returns the entry that a guest reads, or an entry of zeros if the leaf is absent. */
export function entryOrZeros(
  entries: readonly CpuidEntry2[],
  fn: number,
  index: number,
): CpuidEntry2 {
  return entries[locate(entries, fn, index)] ?? NO_ENTRY;
}

/** Whether all registers are 0, as in an absent entry. */
export function isEmpty(entry: CpuidEntry2): boolean {
  return CPUID_REGISTERS.every((register) => entry[register] === 0);
}

/** A leaf and sub-leaf. */
export interface LeafPlace {
  readonly function: number;
  readonly index: number;
}

/** Lists the leaves and sub-leaves of tables, each once, by function and index. */
export function placesOf(tables: readonly (readonly CpuidEntry2[])[]): readonly LeafPlace[] {
  const places = new Map<string, LeafPlace>();
  for (const { function: fn, index } of tables.flat()) {
    places.set(formatLeaf(fn, index), { function: fn, index });
  }
  return [...places.values()].sort((a, b) => a.function - b.function || a.index - b.index);
}

/** Bits of one register that are compared as one value: a field, or all bits without a name. */
export interface Part {
  readonly name: CpuidFieldName | undefined;
  readonly low: number;
  readonly high: number;
  /** Selects the bits in the register. */
  readonly mask: number;
}

/** Splits a register into its fields and its unnamed bits. */
export function partsOf(
  space: CpuidSpace,
  fn: number,
  index: number,
  register: CpuidRegister,
): readonly Part[] {
  const named = fieldsOf(space, fn, index, register).map(({ name, low, high }) => ({
    name,
    low,
    high,
    mask: writeField(0, low, high, 0xffffffff),
  }));
  const rest = named.reduce((mask, part) => (mask & ~part.mask) >>> 0, 0xffffffff);
  return rest === 0 ? named : [...named, { name: undefined, low: 0, high: 31, mask: rest }];
}

/** Whether 0 means that the CPU does not report the value; a one-bit field has a meaning with 0 and with 1. */
export function isNumber({ name, low, high }: Part): boolean {
  return name === undefined || low !== high;
}

/** The leaf of the PMU. If the table has no PMU, zeros in EBX of this leaf do not report that every event exists. */
const PMU = 0xa;

/** Decides which table has more, from two different values. */
export function moreOf(
  order: CpuidFieldOrder,
  part: Part,
  [a, b]: readonly [number, number],
  [first, second]: readonly [CpuidEntry2, CpuidEntry2],
): CpuidDifference["more"] {
  const isPmu = first.function === PMU || second.function === PMU;
  const subset = (x: number, y: number): boolean => (x & ~y) === 0;
  switch (order) {
    case "none":
      return "neither";
    case "number":
      return a > b ? "first" : "second";
    case "bits":
      return subset(b, a) ? "first" : subset(a, b) ? "second" : "both";
    case "inverted-bits":
      if (isPmu && (isEmpty(first) || isEmpty(second))) return "neither";
      return subset(a, b) ? "first" : subset(b, a) ? "second" : "both";
    case "equal": {
      // A number of 0, or an entry of zeros, means that the CPU does not report the value.
      if (isEmpty(second) || (isNumber(part) && b === 0)) return "first";
      if (isEmpty(first) || (isNumber(part) && a === 0)) return "second";
      return "both";
    }
    default:
      return order satisfies never;
  }
}

const BASIC_MAXIMUM = 0;
const EXTENDED_MAXIMUM = 0x8000_0000;

/**
 * Returns the first leaf of a leaf's range, whose EAX is the highest leaf of the range; undefined outside of the basic
 * and extended ranges.
 */
function maximumOf(fn: number): number | undefined {
  if (fn < 0x4000_0000) return BASIC_MAXIMUM;
  return fn >= EXTENDED_MAXIMUM && fn <= 0x8000_ffff ? EXTENDED_MAXIMUM : undefined;
}

/** Whether a leaf is above the maximum of its range in a table; software does not read such a leaf. */
export function isAboveMaximum(entries: readonly CpuidEntry2[], fn: number): boolean {
  const leaf = maximumOf(fn);
  const max = leaf === undefined ? undefined : entries[locate(entries, leaf)]?.eax;
  return max !== undefined && fn > max;
}

/**
 * Whether one table reports nothing about a leaf: it lacks the entry, and the leaf is above the maximum of the range.
 * If one table reports nothing about a leaf, a bit in the other table that reports the lack of a function proves
 * nothing: the CPU of the first table may only be older.
 */
function isUnreported(
  fn: number,
  [a, b]: readonly [readonly CpuidEntry2[], readonly CpuidEntry2[]],
  [first, second]: readonly [CpuidEntry2, CpuidEntry2],
): boolean {
  return (isEmpty(first) && isAboveMaximum(a, fn)) || (isEmpty(second) && isAboveMaximum(b, fn));
}

/** Lists the differences of two tables, by function, index and register. */
export function differences(
  a: readonly CpuidEntry2[],
  b: readonly CpuidEntry2[],
): readonly CpuidDifference[] {
  const found: CpuidDifference[] = [];
  for (const place of placesOf([a, b])) {
    const { function: fn, index } = place;
    const [first, second] = [entryOrZeros(a, fn, index), entryOrZeros(b, fn, index)];
    const differing = CPUID_REGISTERS.filter((register) => first[register] !== second[register]);
    if (differing.length === 0) continue;
    // The signatures of the first table name a hypervisor leaf. If the first table has no signature for the leaf, the
    // signatures of the second table name it.
    const judge = spaceOf(a, fn) === "native" ? b : a;
    const space = spaceOf(judge, fn);
    const relative = fn - (baseOf(judge, space) ?? 0);
    for (const register of differing) {
      const own: CpuidDifference[] = [];
      for (const part of partsOf(space, relative, index, register)) {
        const x = (first[register] & part.mask) >>> part.low;
        const y = (second[register] & part.mask) >>> part.low;
        if (x === y) continue;
        const { name } = part;
        const { kind, order } = natureAt({ space, function: relative, index, register, name });
        const isFree = order === "inverted-bits" && isUnreported(fn, [a, b], [first, second]);
        const judgeValues = (values: readonly [number, number]): CpuidDifference["more"] =>
          isFree ? "neither" : moreOf(order, part, values, [first, second]);
        const whole = judgeValues([x, y]);
        const areBits = order === "bits" || order === "inverted-bits";
        for (const { low, high } of name === undefined ? runs((x ^ y) >>> 0) : [part]) {
          const bits = { function: fn, index, register, low, high };
          const values = [first, second].map((e) => readField(e[register], low, high));
          const [before = 0, after = 0] = values;
          // Unnamed bits in a register of features are compared separately; in any other register, all unnamed bits are
          // one value.
          const more = areBits ? judgeValues([before, after]) : whole;
          const where = formatBits(bits);
          const nature = { fieldKind: kind, order, space };
          own.push({ where, name, ...nature, ...bits, first: before, second: after, more });
        }
      }
      found.push(...own.sort((p, q) => p.low - q.low));
    }
  }
  return found;
}

/** Derives the relation of the tables from their differences. */
function relationOf(reasons: readonly CpuidDifference[]): CpuidRelation {
  const has = (more: CpuidDifference["more"]): boolean => reasons.some((it) => it.more === more);
  if (has("both") || (has("first") && has("second"))) return "incompatible";
  return has("first") ? "superset" : has("second") ? "subset" : "identical";
}

/**
 * Compares the features that two tables offer a guest. Each leaf is read as a guest reads it, so order, flags and
 * entries that KVM never uses do not matter; an absent leaf reads as zeros. An unnamed bit in a register of features is
 * a feature; different values of other unnamed bits exclude each other. If a leaf is absent and above the maximum of
 * its table, its zeros do not report that a function exists.
 *
 * @param first - a table, or any entries.
 * @param second - the other table.
 */
export function compare(
  first: Iterable<CpuidEntry2>,
  second: Iterable<CpuidEntry2>,
): CpuidComparison {
  const all = differences(toEntries("compare()", first), toEntries("compare()", second));
  const reasons = all.filter(({ more }) => more !== "neither");
  return {
    relation: relationOf(reasons),
    reasons,
    notes: all.filter(({ more }) => more === "neither"),
    negated: reasons.filter(({ fieldKind }) => fieldKind === "negated"),
  };
}

/** The consequence of a difference, by the table that has more. */
const CONSEQUENCES: Readonly<Record<CpuidDifference["more"], string>> = {
  first: "the first has more",
  second: "the second has more",
  both: "they exclude each other",
  neither: "a guest runs with either",
};

/**
 * Formats a difference as `0x7.0:ebx[5] avx2: 1 and 0, the first has more`. A remark is added for a bit that reports
 * the lack of a function.
 */
export function formatDifference(difference: CpuidDifference): string {
  refuseMissing("formatDifference()", difference, ["where", "more", "low", "high", "order"]);
  const { where, name, low, high, first, second, more, order } = difference;
  if (!Object.hasOwn(CONSEQUENCES, more)) {
    throw new TypeError(`formatDifference(): more: unknown word ${describe(more)}`);
  }
  const values = `${formatValue(first, low, high)} and ${formatValue(second, low, high)}`;
  const remark = order === "inverted-bits" ? " (1 reports that the CPU lacks a function)" : "";
  return `${where} ${name ?? "reserved"}: ${values}, ${CONSEQUENCES[more]}${remark}`;
}
