/**
 * Computes the table with the most features that each of several hosts can run. compare.ts decides whether one table is
 * a subset of another.
 */
import { refuseMissing, toList } from "../options.ts";
import {
  type CpuidDifference,
  compare,
  entryOrZeros,
  isAboveMaximum,
  isEmpty,
  isNumber,
  type LeafPlace,
  type Part,
  partsOf,
  placesOf,
} from "./compare.ts";
import { dependentFeatures } from "./dependencies.ts";
import {
  CPUID_REGISTERS,
  type CpuidEntry2,
  formatLeaf,
  KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
  locate,
} from "./entry.ts";
import {
  baseOf,
  type CpuidFieldName,
  formatValue,
  readField,
  spaceOf,
  writeField,
} from "./field.ts";
import { type CpuidFieldOrder, natureAt } from "./kinds.ts";
import { CpuidTable } from "./table.ts";
import { XSAVE_COMPONENTS, xsaveOf, xsaveSize } from "./xsave.ts";

/** The result of {@link baseline}: a table, or the vendors if they differ. */
export type CpuidBaseline =
  | {
      readonly kind: "table";
      readonly table: CpuidTable;
      /**
       * For each given table, the values that the baseline reduces; `first` is the value in the baseline, `second` the
       * value in the table.
       */
      readonly losses: readonly (readonly CpuidDifference[])[];
      /**
       * Facts about the table, one sentence each: the source of its topology, and the omitted leaves with the reason.
       */
      readonly notes: readonly string[];
    }
  | {
      readonly kind: "vendors";
      /** The vendor of each table; undefined without leaf 0. */
      readonly vendors: readonly (string | undefined)[];
      readonly why: string;
    };

type Entries = readonly CpuidEntry2[];

const XSAVE_LEAF = 0xd;
const PMU_LEAF = 0xa;
const SIGNATURE_LEAVES: readonly number[] = [0x1, 0x8000_0001];

/**
 * Combines the values that all tables have for a field or for unnamed bits. Returns undefined if the values exclude
 * each other and 0 does not mean "not reported".
 */
function combine(
  order: CpuidFieldOrder,
  part: Part,
  values: readonly number[],
): number | undefined {
  const [first = 0] = values;
  switch (order) {
    case "none":
      return first;
    case "bits":
      return values.reduce((all, value) => (all & value) >>> 0);
    case "inverted-bits":
      return values.reduce((all, value) => (all | value) >>> 0);
    case "number":
      return Math.min(...values);
    case "equal": {
      if (values.every((value) => value === first)) return first;
      return isNumber(part) ? 0 : undefined;
    }
    default:
      return order satisfies never;
  }
}

/** One leaf of the baseline, before values that depend on other leaves are computed. */
interface Combined {
  readonly place: LeafPlace;
  readonly registers: Readonly<Record<"eax" | "ebx" | "ecx" | "edx", number>>;
  /** Whether every table has the entry. */
  readonly isInAll: boolean;
  readonly note: string | undefined;
}

const NOTHING = { eax: 0, ebx: 0, ecx: 0, edx: 0 } as const;

/** Combines one leaf of all tables. */
function combineLeaf(tables: readonly Entries[], place: LeafPlace): Combined {
  const { function: fn, index } = place;
  const isInAll = tables.every((entries) => locate(entries, fn, index) >= 0);
  const leaf = formatLeaf(fn, index);
  const left = (note: string): Combined => ({ place, registers: NOTHING, isInAll: false, note });
  const [first = []] = tables;
  const space = spaceOf(first, fn);
  if (tables.some((entries) => spaceOf(entries, fn) !== space)) {
    const isAnywhereAbsent = tables.some((entries) => locate(entries, fn, index) < 0);
    return left(
      isAnywhereAbsent
        ? `${leaf} is left out: not every table has it`
        : `${leaf} is left out: it belongs to different hypervisor interfaces`,
    );
  }
  const relative = fn - (baseOf(first, space) ?? 0);
  const found = tables.map((entries) => entryOrZeros(entries, fn, index));
  const isLacking = found.some(isEmpty);
  const registers = { ...NOTHING } as Record<keyof typeof NOTHING, number>;
  for (const register of CPUID_REGISTERS) {
    for (const part of partsOf(space, relative, index, register)) {
      const values = found.map((entry) => (entry[register] & part.mask) >>> part.low);
      const { name } = part;
      const { order } = natureAt({ space, function: relative, index, register, name });
      // If a table lacks the entry, all bits become 0 except the bits that report the lack of a function.
      if (isLacking && (order !== "inverted-bits" || fn === PMU_LEAF)) continue;
      const value = combine(order, part, values);
      const isComponent = fn === XSAVE_LEAF && index >= 2 && order === "equal";
      const differs = values.some((one) => one !== values[0]);
      if (value === undefined || (isComponent && differs)) {
        return left(`${leaf} is left out: the tables have different ${name ?? "reserved bits"}`);
      }
      registers[register] = (registers[register] | ((value << part.low) & part.mask)) >>> 0;
    }
  }
  return { place, registers, isInAll, note: undefined };
}

/** Returns family, model and stepping as one number that orders CPUs of a vendor (SDM volume 2A, CPUID). */
function signatureOrder(eax: number): number {
  const [stepping, model, family] = [
    readField(eax, 0, 3),
    readField(eax, 4, 7),
    readField(eax, 8, 11),
  ];
  const wholeFamily = family === 15 ? family + readField(eax, 20, 27) : family;
  const hasModel = family === 6 || family === 15;
  const wholeModel = model + (hasModel ? readField(eax, 16, 19) * 16 : 0);
  return wholeFamily * 0x10000 + wholeModel * 0x100 + stepping;
}

/** Returns the table with the lowest signature; if several tables have this signature, the first of these tables. */
function oldest(tables: readonly Entries[]): Entries {
  const signature = (entries: Entries): number =>
    signatureOrder(entries[locate(entries, 1)]?.eax ?? 0);
  return tables.reduce((low, table) => (signature(table) < signature(low) ? table : low));
}

const isAt = (entry: CpuidEntry2, { function: fn, index }: LeafPlace): boolean =>
  entry.function === fn && entry.index === index;

/** Changes registers of the entry of a leaf, if the entry exists. */
function patch(
  entries: Entries,
  place: LeafPlace,
  change: (entry: CpuidEntry2) => Partial<CpuidEntry2>,
): Entries {
  return entries.map((entry) => (isAt(entry, place) ? { ...entry, ...change(entry) } : entry));
}

/** The masks of XSAVE components: the place of each mask, and the number of the component at bit 0 of the mask. */
const COMPONENT_MASKS = [
  { index: 0, register: "eax", first: 0 },
  { index: 0, register: "edx", first: 32 },
  { index: 1, register: "ecx", first: 0 },
  { index: 1, register: "edx", first: 32 },
] as const;

/**
 * Returns the XSAVE components to remove: each component whose sub-leaf only some tables have, and the other components
 * of the same features.
 */
function lostComponents(table: CpuidTable, places: readonly LeafPlace[]): ReadonlySet<number> {
  const parts = new Set([...table].filter((e) => e.function === XSAVE_LEAF).map((e) => e.index));
  const lost = places
    .filter(({ function: fn, index }) => fn === XSAVE_LEAF && index >= 2 && !parts.has(index))
    .map(({ index }) => index);
  const features = featuresOf(lost);
  const siblings = XSAVE_COMPONENTS.filter((it) => it.features.some((f) => features.includes(f)));
  return new Set([...lost, ...siblings.map(({ number }) => number)]);
}

/** Lists the features that need at least one of the given components. */
function featuresOf(components: readonly number[]): readonly CpuidFieldName[] {
  return XSAVE_COMPONENTS.filter(
    ({ number, kind }) => kind === "user" && components.includes(number),
  ).flatMap(({ features }) => features);
}

/**
 * Removes the components without a sub-leaf, and the features that need these components. The largest size of the XSAVE
 * area is recomputed if the sub-leaves of all components are known.
 */
function settleXsave(table: CpuidTable, places: readonly LeafPlace[]): CpuidTable {
  const lost = lostComponents(table, places);
  let entries: Entries = [...table].filter(
    (e) => e.function !== XSAVE_LEAF || e.index < 2 || !lost.has(e.index),
  );
  for (const { index, register, first } of COMPONENT_MASKS) {
    const bits = [...lost].filter((i) => i >= first && i < first + 32);
    entries = patch(entries, { function: XSAVE_LEAF, index }, (entry) => ({
      [register]: bits.reduce(
        (mask, i) => writeField(mask, i - first, i - first, 0),
        entry[register],
      ),
    }));
  }
  const without = CpuidTable.from(entries);
  const off = dependentFeatures(featuresOf([...lost])).filter((name) => without.has(name));
  const settled = without.with(Object.fromEntries(off.map((name) => [name, 0])));
  const layout = xsaveOf(settled);
  if (layout === undefined) return settled;
  const known = layout.parts.reduce((mask, { number }) => mask | (1n << BigInt(number)), 3n);
  if ((layout.xcr0 & ~known) !== 0n) return settled;
  const size = xsaveSize(layout.parts, layout.xcr0);
  return settled.map((e) =>
    e.function === XSAVE_LEAF && e.index === 0 ? { ...e, ecx: Math.min(e.ecx, size) } : e,
  );
}

/** The leaf of the address sizes: EAX contains the physical bits, the linear bits and the guest's physical bits. */
const ADDRESS_LEAF = { function: 0x8000_0008, index: 0 } as const;

/**
 * Sets the guest's physical bits to the smallest value of all tables, or to 0 if this value equals the physical bits.
 */
function settleAddresses(entries: Entries, tables: readonly Entries[]): Entries {
  const all = tables.flatMap((table) => table[locate(table, ADDRESS_LEAF.function)]?.eax ?? []);
  const usable = all.map((eax) => readField(eax, 16, 23) || readField(eax, 0, 7));
  const least = Math.min(...usable);
  return patch(entries, ADDRESS_LEAF, ({ eax }) => ({
    eax: writeField(eax, 16, 23, least >= readField(eax, 0, 7) ? 0 : least),
  }));
}

/** The ranges of leaves; EAX of a range's first leaf is the highest leaf of the range. */
const RANGES = [
  { first: 0, last: 0x3fff_ffff },
  { first: 0x8000_0000, last: 0x8000_ffff },
] as const;

/** Lowers a maximum to the highest leaf of the baseline, if only some tables have the leaf at the maximum. */
function settleMaxima(entries: Entries, tables: readonly Entries[]): Entries {
  return RANGES.reduce((settled, { first, last }) => {
    const place = { function: first, index: 0 };
    const max = settled[locate(settled, first)]?.eax ?? 0;
    const isLost =
      first < max &&
      max <= last &&
      locate(settled, max) < 0 &&
      tables.some((table) => locate(table, max) >= 0);
    if (!isLost) return settled;
    const present = settled.map((e) => e.function).filter((fn) => first <= fn && fn <= last);
    const highest = present.reduce((high, fn) => (fn < max && fn > high ? fn : high), first);
    return patch(settled, place, () => ({ eax: highest }));
  }, entries);
}

const vendorOf = (table: CpuidTable): string | undefined => {
  const leaf = table.find(0);
  if (leaf === undefined) return undefined;
  const bytes = [leaf.ebx, leaf.edx, leaf.ecx].flatMap((word) =>
    [0, 8, 16, 24].map((shift) => (word >>> shift) & 0xff),
  );
  return String.fromCharCode(...bytes);
};

/**
 * Makes the table with the most features that every host of a list can run. The table has the features and mask bits of
 * all hosts, the lowest numbers and address sizes, and the XSAVE components with the same layout on all hosts. A bit
 * that reports the lack of a function is 1 if it is 1 on any host. Numbers that exclude each other become 0 ("not
 * reported"). Each maximum is a leaf that the table has. The signature is the lowest of all tables; topology, caches,
 * brand and ids come from the first table. {@link compare} returns `subset` or `identical` for the result and each
 * table.
 *
 * @param tables - one table for each host, and at least one table: the entries of KVM_GET_SUPPORTED_CPUID, or a dump.
 * @returns the table, and for each host the features and values that the host has and the table does not have. If the
 *   hosts have different vendors, the result contains only the vendors, because no guest runs unchanged on CPUs of two
 *   vendors.
 * @throws RangeError for an empty list.
 */
export function baseline(tables: Iterable<Iterable<CpuidEntry2>>): CpuidBaseline {
  const given = toList("baseline()", tables).map((table, i) =>
    CpuidTable.from(toList(`baseline(): [${i}]`, table)),
  );
  if (given.length === 0) throw new RangeError("baseline(): expected at least one table, got none");
  const vendors = given.map(vendorOf);
  if (new Set(vendors).size > 1) {
    const why = `the tables have different vendors: ${[...new Set(vendors)].map((it) => it ?? "none").join(", ")}`;
    return { kind: "vendors", vendors, why };
  }
  const all = given.map((table) => [...table]);
  const places = placesOf(all);
  const combined = places.map((place) => combineLeaf(all, place));
  const notes = combined.flatMap(({ note }) => note ?? []);
  const model = oldest(all);
  const kept = combined
    .filter(({ registers, isInAll }) => isInAll || !isEmpty({ ...EMPTY, ...registers }))
    .map(({ place, registers }): CpuidEntry2 => {
      const { function: fn, index } = place;
      const isAlone = places.filter((other) => other.function === fn).length === 1;
      // An entry without the flag answers every index, so one host with the flag is enough.
      const isFlagged = all.some(
        (table) => ((table[locate(table, fn, index)]?.flags ?? 0) & INDEXED) !== 0,
      );
      const flags = !isAlone || isFlagged ? INDEXED : 0;
      const signature = SIGNATURE_LEAVES.includes(fn) ? model[locate(model, fn)]?.eax : undefined;
      const eax = signature ?? registers.eax;
      return { ...EMPTY, ...registers, eax, function: fn, index, flags };
    });
  // If only some tables have a leaf, all bits of the leaf become 0, except the bits that report the lack of a function.
  // A guest does not read the bits of a leaf above the maximum.
  const partial = combined.filter(({ isInAll }) => !isInAll).map(({ place }) => place);
  const read = kept.filter(
    (e) => !isAboveMaximum(kept, e.function) || !partial.some((place) => isAt(e, place)),
  );
  const settled = settleMaxima([...settleXsave(CpuidTable.from(read), places)], all);
  const table = CpuidTable.from(settleAddresses(settled, all));
  if (given.length > 1) {
    notes.push("topology, caches, brand string and ids are those of the first table");
    notes.push("family, model and stepping are the lowest of the tables");
  }
  const losses = given.map((host) =>
    compare(table, host).reasons.filter(({ more }) => more === "second"),
  );
  return { kind: "table", table, losses, notes };
}

const INDEXED = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
const EMPTY: CpuidEntry2 = Object.freeze({
  ...{ function: 0, index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 },
  padding: [0, 0, 0],
});

/** Formats one loss of a host; `first` is the baseline's value and `second` the host's. */
export function formatLoss({
  where,
  name,
  low,
  high,
  first,
  second,
  order,
}: CpuidDifference): string {
  const [own, host] = [first, second].map((value) => formatValue(value, low, high));
  const remark = order === "inverted-bits" ? " (1 reports that the CPU lacks a function)" : "";
  return `${where} ${name ?? "reserved"}: the host has ${host}, the baseline ${own}${remark}`;
}

/**
 * Formats a baseline as lines: the notes, and then for each host a line such as `host 1` and one line for each loss,
 * such as `0x1.0:ecx[17] pcid: the host has 1, the baseline 0`.
 */
export function formatBaseline(result: CpuidBaseline): string {
  refuseMissing("formatBaseline()", result, ["kind"]);
  if (result.kind === "vendors") return result.why;
  const hosts = result.losses.flatMap((losses, i) => [
    `host ${i + 1} loses ${losses.length === 0 ? "nothing" : losses.length}`,
    ...losses.map((loss) => `  ${formatLoss(loss)}`),
  ]);
  return [...result.notes, ...hosts].join("\n");
}
