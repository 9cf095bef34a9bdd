/**
 * Compares two tables field by field, and formats the differences. compare.ts decides which table has more features;
 * apply.ts applies differences to a table.
 */
import {
  describe,
  nearestName,
  refuseMisfit,
  refuseMissing,
  refuseUnknown,
  toList,
} from "../options.ts";
import { apicIdPlace } from "./apic-id.ts";
import {
  CPUID_REGISTERS,
  type CpuidEntry2,
  type CpuidRegister,
  formatLeaf,
  toEntries,
} from "./entry.ts";
import {
  baseOf,
  type CpuidFieldName,
  type CpuidSpace,
  fields,
  fieldsOf,
  formatBits,
  formatValue,
  isFieldName,
  readField,
  spaceOf,
} from "./field.ts";
import { type CpuidFieldKind, natureAt, PER_CPU_FIELDS } from "./kinds.ts";

/** Reports a field, or a run of unnamed bits, whose value differs in an entry that both tables have. */
export interface CpuidFieldChange {
  /** The kind of change. */
  readonly kind: "field";
  /** The kind of the field; for bits that are not in the database, the kind of their register. */
  readonly fieldKind: CpuidFieldKind;
  /** The field's name; undefined for bits that are not in the database. */
  readonly name: CpuidFieldName | undefined;
  /**
   * The place, such as `0x7.0:ebx[5]`; for a duplicate entry, the place includes the number of the duplicate, as in
   * `0x7.0#2:ebx[5]`.
   */
  readonly where: string;
  /** The space of the leaf. */
  readonly space: CpuidSpace;
  /** The leaf, absolute. */
  readonly function: number;
  /** The sub-leaf in the first table. */
  readonly index: number;
  /** The position of the entry in the first table. */
  readonly position: number;
  readonly register: CpuidRegister;
  readonly low: number;
  readonly high: number;
  /** The value in the first table. */
  readonly before: number;
  /** The value in the second table. */
  readonly after: number;
}

/** Reports an entry that only one table has. */
export interface CpuidEntryChange {
  /** The table that has the entry: "added" for the second, "removed" for the first. */
  readonly kind: "added" | "removed";
  /** The leaf and index, such as `0x7.0`; for a duplicate, its number follows, as in `0x7.0#2`. */
  readonly where: string;
  /** The leaf. */
  readonly function: number;
  /** The sub-leaf. */
  readonly index: number;
  /** The number of earlier entries in the same table with the same function and index. */
  readonly copy: number;
  /** The position of the entry in the table that has the entry. */
  readonly position: number;
  /** The space of the leaf, by the signatures in the table that has the entry. */
  readonly space: CpuidSpace;
  readonly entry: CpuidEntry2;
}

/**
 * Reports a changed number outside of the registers: an entry's flags, index or position, or the count of entries.
 * Positions are reported for the fewest entries that must move to turn one order into the other. For the count,
 * function and index are undefined.
 */
export interface CpuidShapeChange {
  /** The kind of number. */
  readonly kind: "flags" | "index" | "order" | "count";
  /** The leaf and index in the first table, such as `0x7.0` or, for a duplicate, `0x7.0#2`; `table` for the count. */
  readonly where: string;
  /** The leaf. */
  readonly function: number | undefined;
  /** The sub-leaf in the first table. */
  readonly index: number | undefined;
  /** The position of the entry in the first table; undefined for the count. */
  readonly position: number | undefined;
  /** The number in the first table. */
  readonly before: number;
  /** The number in the second table. */
  readonly after: number;
}

/** Reports one difference between two tables. */
export type CpuidChange = CpuidFieldChange | CpuidEntryChange | CpuidShapeChange;

interface Pair {
  readonly before: CpuidEntry2;
  readonly after: CpuidEntry2;
  readonly from: number;
  readonly to: number;
}

/**
 * Returns a key for each entry: function, index, and the number of earlier entries with the same function and index.
 */
function keyed(entries: readonly CpuidEntry2[], withIndex: boolean): Map<string, number> {
  const seen = new Map<string, number>();
  const keys = new Map<string, number>();
  for (const [i, e] of entries.entries()) {
    const key = withIndex ? formatLeaf(e.function, e.index) : `${e.function}`;
    const copy = seen.get(key) ?? 0;
    seen.set(key, copy + 1);
    keys.set(`${key} ${copy}`, i);
  }
  return keys;
}

/** Counts for each entry the earlier entries with the same function and index. */
function copiesIn(entries: readonly CpuidEntry2[]): readonly number[] {
  const seen = new Map<string, number>();
  return entries.map((e) => {
    const key = formatLeaf(e.function, e.index);
    const copy = seen.get(key) ?? 0;
    seen.set(key, copy + 1);
    return copy;
  });
}

/** Formats a function and index as `0x7.0`; the second entry with the same function and index is `0x7.0#2`. */
function formatCopy({ function: fn, index }: CpuidEntry2, copy: number): string {
  return copy === 0 ? formatLeaf(fn, index) : `${formatLeaf(fn, index)}#${copy + 1}`;
}

/** Pairs the positions that have the same key in both lists, and removes the paired positions from the lists. */
function match(
  a: readonly CpuidEntry2[],
  b: readonly CpuidEntry2[],
  left: readonly number[],
  right: readonly number[],
  withIndex: boolean,
): { pairs: Pair[]; left: number[]; right: number[] } {
  const pick = (all: readonly CpuidEntry2[], at: readonly number[]): CpuidEntry2[] =>
    at.flatMap((i) => all[i] ?? []);
  const keysOfB = keyed(pick(b, right), withIndex);
  const pairs: Pair[] = [];
  for (const [key, i] of keyed(pick(a, left), withIndex)) {
    const from = left[i] ?? -1;
    const to = right[keysOfB.get(key) ?? -1] ?? -1;
    const [before, after] = [a[from], b[to]];
    if (before && after) pairs.push({ before, after, from, to });
  }
  const [used, usedOfB] = [new Set(pairs.map((p) => p.from)), new Set(pairs.map((p) => p.to))];
  return {
    pairs,
    left: left.filter((i) => !used.has(i)),
    right: right.filter((i) => !usedOfB.has(i)),
  };
}

/** Returns the pairs that must move: all except a longest run of pairs whose positions rise in both tables. */
function moved(pairs: readonly Pair[]): readonly Pair[] {
  // For each pair, the length of the longest run that ends with this pair, and the previous pair of that run.
  // If several runs are equally long, the first run is used.
  const lengths: number[] = [];
  const previous: number[] = [];
  let last = -1;
  for (const [i, { to }] of pairs.entries()) {
    let best = -1;
    for (let j = 0; j < i; j += 1) {
      const isBefore = (pairs[j]?.to ?? 0) < to;
      if (isBefore && (best < 0 || (lengths[j] ?? 0) > (lengths[best] ?? 0))) best = j;
    }
    lengths.push((lengths[best] ?? 0) + 1);
    previous.push(best);
    if (last < 0 || (lengths[i] ?? 0) > (lengths[last] ?? 0)) last = i;
  }
  const stay = new Set<number>();
  for (; last >= 0; last = previous[last] ?? -1) stay.add(last);
  return pairs.filter((_, i) => !stay.has(i));
}

/** Splits the set bits of a mask into maximal runs, lowest first. */
export function runs(mask: number): readonly { readonly low: number; readonly high: number }[] {
  const found: { low: number; high: number }[] = [];
  for (let bit = 0; bit < 32; bit += 1) {
    if (readField(mask, bit, bit) === 0) continue;
    const last = found.at(-1);
    if (last && last.high === bit - 1) last.high = bit;
    else found.push({ low: bit, high: bit });
  }
  return found;
}

/** Names the differing bits of one register. */
function registerChanges(
  pair: Pair,
  register: CpuidRegister,
  space: CpuidSpace,
  base: number,
  copy: number,
): CpuidFieldChange[] {
  const { function: fn, index } = pair.before;
  const leaf = formatLeaf(fn, index);
  const [a, b] = [pair.before[register], pair.after[register]];
  let unnamed = (a ^ b) >>> 0;
  const change = (
    name: CpuidFieldName | undefined,
    low: number,
    high: number,
  ): CpuidFieldChange => {
    const place = { function: fn, index, register, low, high };
    const [before, after] = [readField(a, low, high), readField(b, low, high)];
    const where = `${formatCopy(pair.before, copy)}${formatBits(place).slice(leaf.length)}`;
    const nature = natureAt({ space, function: fn - base, index, register, name });
    const common = { kind: "field", fieldKind: nature.kind, name, where, space } as const;
    return { ...common, ...place, position: pair.from, before, after };
  };
  const changes: CpuidFieldChange[] = [];
  for (const { name, low, high } of fieldsOf(space, fn - base, index, register)) {
    if (readField(a, low, high) !== readField(b, low, high)) changes.push(change(name, low, high));
    for (let bit = low; bit <= high; bit += 1) unnamed = (unnamed & ~(1 << bit)) >>> 0;
  }
  changes.push(...runs(unnamed).map(({ low, high }) => change(undefined, low, high)));
  return changes.sort((x, y) => x.low - y.low);
}

/**
 * A group of differences that {@link diff} omits. `apic-id`: the ids that differ between the CPUs of a machine ({@link
 * PER_CPU_FIELDS}). `runtime-owned`: fields that KVM computes. `order`: positions of entries. If the list contains the
 * name of a field, this field is omitted.
 */
export type CpuidIgnore = "apic-id" | "runtime-owned" | "order" | CpuidFieldName;

/** The options of {@link diff}. */
export interface DiffOptions {
  /** The differences to omit; none by default. */
  readonly ignore?: Iterable<CpuidIgnore>;
}

/** The groups of {@link CpuidIgnore}. */
export const IGNORED_GROUPS: readonly string[] = ["apic-id", "runtime-owned", "order"];

/**
 * Returns the field's name for unnamed bits of the APIC id. The database names the id only in the sub-leaves of the known
 * levels, but EDX of every sub-leaf of 0xB and 0x1F is the x2APIC id.
 */
function apicIdName(change: CpuidFieldChange): CpuidFieldName | undefined {
  const { space, function: fn, register, low, high } = change;
  if (space !== "native" || apicIdPlace(change)?.register !== register) return undefined;
  return fieldsOf(space, fn, 0, register).find((one) => one.low <= low && one.high >= high)?.name;
}

/** Returns whether a change is ignored. */
function ignores(names: ReadonlySet<string>): (change: CpuidChange) => boolean {
  return (change) => {
    if (change.kind === "order") return names.has("order");
    if (change.kind !== "field") return false;
    const { fieldKind } = change;
    const name = change.name ?? apicIdName(change);
    return (
      (fieldKind === "runtime-owned" && names.has("runtime-owned")) ||
      (name !== undefined && names.has(name)) ||
      (name !== undefined && names.has("apic-id") && PER_CPU_FIELDS.includes(name))
    );
  };
}

/** Checks a list of differences to omit, and returns its names. */
function toIgnored(where: string, options: DiffOptions): ReadonlySet<string> {
  refuseUnknown(where, options, ["ignore"]);
  const names = options.ignore === undefined ? [] : toList(`${where}: ignore`, options.ignore);
  for (const name of names) {
    if (typeof name !== "string") {
      throw new TypeError(`${where}: ignore: expected names, got ${describe(name)}`);
    }
    if (!IGNORED_GROUPS.includes(name) && !isFieldName(name)) {
      const groups = IGNORED_GROUPS.join(", ");
      const near = nearestName(name, [...IGNORED_GROUPS, ...fields().map((one) => one.name)]);
      const hint = near === undefined ? "" : `; did you mean ${near}?`;
      throw new TypeError(
        `${where}: ignore: ${describe(name)} is neither one of ${groups} nor a field's name${hint}`,
      );
    }
  }
  return new Set(names);
}

/**
 * Compares two tables and names the differences. Without `ignore`, the list is empty if and only if KVM treats the tables
 * as equal after KVM_RUN. Entries are paired by function and index; duplicates are paired in their order and named with
 * their number (`0x7.0#2`). The remaining entries of one function are paired as a change of index.
 *
 * @throws TypeError for an unknown option, and for an ignored name that is not a group or a field.
 */
export function diff(
  before: Iterable<CpuidEntry2>,
  after: Iterable<CpuidEntry2>,
  options: DiffOptions = {},
): readonly CpuidChange[] {
  const ignored = ignores(toIgnored("diff()", options));
  return allChanges(toEntries("diff()", before), toEntries("diff()", after)).filter(
    (change) => !ignored(change),
  );
}

/** Lists every difference. */
function allChanges(a: readonly CpuidEntry2[], b: readonly CpuidEntry2[]): readonly CpuidChange[] {
  const exact = match(a, b, [...a.keys()], [...b.keys()], true);
  const loose = match(a, b, exact.left, exact.right, false);
  const pairs = [...exact.pairs, ...loose.pairs].sort((x, y) => x.from - y.from);
  const [copies, copiesOfB] = [copiesIn(a), copiesIn(b)];
  const changes: CpuidChange[] = [];
  const shape = (kind: CpuidShapeChange["kind"], pair: Pair, x: number, y: number): void => {
    const { function: fn, index } = pair.before;
    const where = formatCopy(pair.before, copies[pair.from] ?? 0);
    changes.push({ kind, where, function: fn, index, position: pair.from, before: x, after: y });
  };
  const lone = (
    kind: "added" | "removed",
    e: CpuidEntry2 | undefined,
    position: number,
    copy = 0,
  ): void => {
    if (!e) return;
    const { function: fn, index } = e;
    const where = formatCopy(e, copy);
    const space = spaceOf(kind === "added" ? b : a, fn);
    changes.push({ kind, where, function: fn, index, copy, position, space, entry: e });
  };
  if (a.length !== b.length) {
    const nowhere = { function: undefined, index: undefined, position: undefined };
    changes.push({ kind: "count", where: "table", ...nowhere, before: a.length, after: b.length });
  }
  for (const i of loose.left) lone("removed", a[i], i, copies[i]);
  for (const i of loose.right) lone("added", b[i], i, copiesOfB[i]);
  for (const pair of moved(pairs)) shape("order", pair, pair.from, pair.to);
  for (const pair of pairs) {
    const { before: x, after: y } = pair;
    if (x.index !== y.index) shape("index", pair, x.index, y.index);
    if (x.flags !== y.flags) shape("flags", pair, x.flags, y.flags);
    const differing = CPUID_REGISTERS.filter((register) => x[register] !== y[register]);
    if (differing.length === 0) continue;
    // The signatures of the first table name a hypervisor leaf. If the first table has no signature for the leaf, the
    // signatures of the second table name it.
    const judge = spaceOf(a, x.function) === "native" ? b : a;
    const space = spaceOf(judge, x.function);
    const base = baseOf(judge, space) ?? 0;
    const copy = copies[pair.from] ?? 0;
    for (const register of differing) {
      changes.push(...registerChanges(pair, register, space, base, copy));
    }
  }
  return changes;
}

/** The phrases before the two values of a change. */
export interface CpuidPhrase {
  /** The phrase before the first value, as "ran with". */
  readonly before: string;
  /** The phrase before the second value, as "got". */
  readonly after: string;
}

/** Rejects a phrase with unknown or missing members. */
export function checkPhrase(where: string, phrase: CpuidPhrase): void {
  refuseMisfit(where, phrase, ["before", "after"]);
}

const WORDS = { flags: "flags", index: "index", order: "position", count: "entries" } as const;

/** Marks a duplicate entry: KVM uses only the first entry that matches. */
const entryWords = ({ copy }: CpuidEntryChange): string =>
  copy === 0 ? "entry" : "duplicate entry";

/** The maximum number of an entry's fields that a change names. */
const MOST_NAMES = 12;

/** Lists the fields of an entry that are not 0 as ` (avx2, bmi1)`; returns an empty text if all are 0. */
function fieldWords({ entry: e, space = "native" }: CpuidEntryChange): string {
  // The leaves of an interface are relative to its base, which is a multiple of 0x100.
  const relative = space === "native" ? e.function : e.function & 0xff;
  const names = CPUID_REGISTERS.flatMap((register) =>
    fieldsOf(space, relative, e.index, register)
      .filter(({ low, high }) => readField(e[register], low, high) !== 0)
      .map(({ name }) => name),
  );
  if (names.length === 0) return "";
  const more = names.length - MOST_NAMES;
  return ` (${names.slice(0, MOST_NAMES).join(", ")}${more > 0 ? ` and ${more} more` : ""})`;
}

function parts(change: CpuidChange): readonly [subject: string, before: string, after: string] {
  switch (change.kind) {
    case "field": {
      const { where, name, low, high, before, after } = change;
      const subject = `${where} ${name ?? "reserved"}`;
      return [subject, formatValue(before, low, high), formatValue(after, low, high)];
    }
    case "added":
      return [`${change.where} ${entryWords(change)}`, "absent", `present${fieldWords(change)}`];
    case "removed":
      return [`${change.where} ${entryWords(change)}`, `present${fieldWords(change)}`, "absent"];
    case "flags":
    case "index":
    case "order":
    case "count":
      return [`${change.where} ${WORDS[change.kind]}`, `${change.before}`, `${change.after}`];
    default:
      return change satisfies never;
  }
}

/**
 * Formats a change as `0x7.0:ebx[5] avx2: 1 -> 0`, or with a phrase as `0x7.0:ebx[5] avx2: ran with 1, got 0`. Unnamed
 * bits are called reserved; values of 16 or more bits are hexadecimal. For an entry that one table lacks, the text
 * names the first 12 fields that are not 0: `0x7.1 entry: absent -> present (avx512_bf16)`.
 *
 * For a list, write `changes.map((change) => formatChange(change))`: map() alone passes the position as the phrase.
 *
 * @throws TypeError for a phrase that is not such an object.
 */
export function formatChange(change: CpuidChange, phrase?: CpuidPhrase): string {
  refuseMissing("formatChange()", change, ["kind"]);
  if (change.kind === "added" || change.kind === "removed") {
    refuseMissing(`formatChange(): ${change.kind}`, change, ["entry"]);
    refuseMissing("formatChange(): entry", change.entry, ["function", "index", ...CPUID_REGISTERS]);
  }
  const [subject, before, after] = parts(change);
  if (typeof phrase === "number") {
    throw new TypeError(
      `formatChange(): phrase: expected an object, got ${phrase}; in map(), write (change) => formatChange(change)`,
    );
  }
  if (phrase) checkPhrase("formatChange()", phrase);
  if (!phrase) return `${subject}: ${before} -> ${after}`;
  return `${subject}: ${phrase.before} ${before}, ${phrase.after} ${after}`;
}
