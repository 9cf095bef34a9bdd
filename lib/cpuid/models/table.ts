/** The CPUID table of a model: one CPU with one thread, as a guest may get it before a topology is chosen. */
import {
  CPUID_REGISTERS,
  type CpuidEntry2Input,
  isIndexed,
  KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
} from "../entry.ts";
import { type CpuidFieldName, type CpuidWideName, field } from "../field.ts";
import { type CpuidFieldValuesInput, CpuidTable } from "../table.ts";
import { withXsave } from "../xsave.ts";
import { findModel } from "./lookup.ts";
import type { CpuidModelSignature } from "./model.ts";

/** The leaves that every table has up to its maxima, even if all of their registers are 0. */
const LEAVES: readonly number[] = [
  ...[0, 1, 5, 6, 7, 0xa],
  ...[0x8000_0000, 0x8000_0001, 0x8000_0002, 0x8000_0003, 0x8000_0004, 0x8000_0007, 0x8000_0008],
];

/** The bits of 1.edx that AMD repeats in 0x80000001.edx (APM volume 3, appendix E.4.2). */
const AMD_REPEATS = 0x0183_f3ff;

/** The wide fields that belong to AMX, the same on each CPU so far (SDM volume 1, 18.2; volume 2, leaves 0x1D, 0x1E). */
const TILES: CpuidFieldValuesInput = {
  amx_max_palette: 1,
  amx_palette_size: 8192,
  amx_tile_size: 1024,
  amx_tile_row_size: 64,
  amx_palette_nr_tiles: 8,
  amx_tile_nr_rows: 16,
  tmul_maxk: 16,
  tmul_maxn: 64,
};

/** The fields that hold the highest sub-leaf of a leaf. */
const LAST_SUBLEAF: ReadonlyMap<number, CpuidWideName> = new Map([
  [0x7, "leaf7_n_subleaves"],
  [0x1e, "tmul_max_subleaf"],
  [0x24, "avx10_max_subleaf"],
]);

/** Leaves that a feature promises although none of their bits is a feature (APM volume 3, 0x80000001.ecx[22]). */
const NEEDED_LEAVES: readonly (readonly [CpuidFieldName, number])[] = [
  ["topoext", 0x8000_001d],
  ["topoext", 0x8000_001e],
];

/** Returns four characters of a text as a little-endian word; those after its end are NUL. */
function word(text: string, at: number): number {
  const codes = [3, 2, 1, 0].map((i) => text.charCodeAt(at + i) || 0);
  return codes.reduce((value, code) => ((value << 8) | (code & 0xff)) >>> 0, 0);
}

/** Packs family, model and stepping as leaf 1 has them (SDM volume 2, CPUID, figure 3-6). */
function packSignature({ family, model, stepping }: CpuidModelSignature): number {
  const base = Math.min(family, 15);
  const extended = ((family - base) << 20) | ((model >> 4) << 16);
  return extended | (base << 8) | ((model & 15) << 4) | stepping;
}

/** The facts from which a table is made. */
export interface CpuidModelFacts {
  /** Twelve characters, as leaf 0 has them. */
  readonly vendor: string;
  readonly signature: CpuidModelSignature;
  /** The maximum basic leaf. */
  readonly maxLeaf: number;
  /** The maximum extended leaf, 0x80000008 or more. */
  readonly maxExtended: number;
  /** The one-bit fields that are 1. */
  readonly features: readonly CpuidFieldName[];
  /** Fields wider than one bit. */
  readonly values?: CpuidFieldValuesInput | undefined;
  /** At most 47 characters of ASCII. */
  readonly brand: string;
  /** The width of physical addresses, 32 to 52. */
  readonly physicalBits: number;
}

/** Whether AMD's rules apply: its vendors repeat leaves 0 and 1 in 0x80000000 and 0x80000001. */
const isAmd = (vendor: string): boolean => vendor === "AuthenticAMD" || vendor === "HygonGenuine";

/** Lists the entries that are not 0 and no feature: maxima, vendor, signature, brand and address sizes. */
function identity(facts: CpuidModelFacts): readonly CpuidEntry2Input[] {
  const { maxLeaf, maxExtended, features, brand, physicalBits } = facts;
  const [ebx, edx, ecx] = [0, 4, 8].map((at) => word(facts.vendor, at));
  const signature = packSignature(facts.signature);
  const vendor = { ebx: ebx ?? 0, ecx: ecx ?? 0, edx: edx ?? 0 };
  const lineSize = features.includes("clflush") ? 8 : 0;
  const virtualBits = features.includes("la57") ? 57 : 48;
  const extended = { function: 0x8000_0000, eax: maxExtended };
  return [
    { function: 0, eax: maxLeaf, ...vendor },
    { function: 1, eax: signature, ebx: (1 << 16) | (lineSize << 8) },
    isAmd(facts.vendor) ? { ...extended, ...vendor } : extended,
    { function: 0x8000_0001, eax: isAmd(facts.vendor) ? signature : 0 },
    ...[0, 1, 2].map((i) => ({
      function: 0x8000_0002 + i,
      ...Object.fromEntries(CPUID_REGISTERS.map((r, j) => [r, word(brand, 16 * i + 4 * j)])),
    })),
    { function: 0x8000_0008, eax: (virtualBits << 8) | physicalBits },
  ];
}

/** A place as text, for a Map. */
const key = (fn: number, index: number): string => `${fn}.${index}`;

/** Makes the entries, all zero, that hold the fields, and those that every table has; ordered by leaf and sub-leaf. */
function emptyEntries(
  maxima: readonly [basic: number, extended: number],
  names: Iterable<CpuidFieldName>,
): readonly CpuidEntry2Input[] {
  const wanted = new Set(names);
  const places = new Map<string, readonly [fn: number, index: number]>();
  const add = (fn: number, index: number): void => {
    if (index > 0) add(fn, index - 1);
    places.set(key(fn, index), [fn, index]);
  };
  const [basic, extended] = maxima;
  for (const fn of [...LEAVES, basic]) if (fn <= basic || fn >= 0x8000_0000) add(fn, 0);
  for (const name of wanted) {
    const { function: fn, index } = field(name);
    add(fn, typeof index === "number" ? index : index.first);
  }
  if (extended > 0x8000_0008) add(extended, 0);
  for (const [feature, fn] of NEEDED_LEAVES) if (wanted.has(feature)) add(fn, 0);
  return [...places.values()]
    .sort(([a, i], [b, j]) => a - b || i - j)
    .map(([fn, index]) => ({
      function: fn,
      index,
      flags: isIndexed(fn) ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
    }));
}

/** Sets the maximum of each leaf whose sub-leaves are counted to the highest that the table has. */
function withLastSubleaves(table: CpuidTable): CpuidTable {
  const values: Partial<Record<CpuidWideName, number>> = {};
  for (const { function: fn, index } of table) {
    const name = LAST_SUBLEAF.get(fn);
    if (name !== undefined) values[name] = Math.max(values[name] ?? 0, index);
  }
  return table.with(values);
}

/** Repeats the bits of leaf 1 that AMD has in leaf 0x80000001 too. */
function withRepeats(table: CpuidTable): CpuidTable {
  const edx = (table.find(1)?.edx ?? 0) & AMD_REPEATS;
  return table.map((e) => (e.function === 0x8000_0001 ? { ...e, edx: (e.edx | edx) >>> 0 } : e));
}

/** Makes a table of facts: one CPU with one thread and APIC id 0. */
export function tableOf(facts: CpuidModelFacts): CpuidTable {
  const { maxLeaf, maxExtended, features, vendor } = facts;
  const values = { ...(features.includes("amx_tile") ? TILES : {}), ...facts.values };
  const names = [...features, ...(Object.keys(values) as CpuidFieldName[])];
  const empty = CpuidTable.from(emptyEntries([maxLeaf, maxExtended], names));
  const named = identity(facts).reduce((table, e) => table.withEntry(e), empty);
  const ones = Object.fromEntries(features.map((feature) => [feature, 1]));
  const whole = withLastSubleaves(named.with({ ...ones, ...values }));
  const repeated = isAmd(vendor) ? withRepeats(whole) : whole;
  return repeated.has("xsave") ? withXsave(repeated) : repeated;
}

/**
 * Makes the table of a model or of a variant. It describes one CPU with one thread and APIC id 0, it has every leaf
 * that the features need, and no hypervisor leaves. The hypervisor bit, the bits of the topology (htt, cmp_legacy) and
 * the bits that KVM writes itself (osxsave, ospke) are 0.
 *
 * @param name - the name, or an alias, as for {@link findModel}.
 * @throws TypeError for an unknown name, with suggestions.
 */
export function modelTable(name: string): CpuidTable {
  const { model, variant, features } = findModel(name);
  return tableOf({ ...model, maxExtended: variant?.maxExtended ?? model.maxExtended, features });
}
