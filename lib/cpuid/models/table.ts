/**
 * Makes the CPUID table of a model: one CPU with one thread and the model's caches. topology.ts writes other
 * topologies.
 */
import { withCaches } from "../caches.ts";
import { CPUID_REGISTERS, type CpuidEntry2Input } from "../entry.ts";
import { withFeatures, withField } from "../feature-edits.ts";
import type { CpuidFieldName } from "../field.ts";
import { layoutOf, withSubleaf } from "../leaf.ts";
import { type CpuidFieldValuesInput, CpuidTable } from "../table.ts";
import { withTopology } from "../topology.ts";
import { withXsave } from "../xsave.ts";
import { findModel } from "./lookup.ts";
import type { CpuidModelCache, CpuidModelSignature } from "./model.ts";

/** The leaves that every table contains, up to its maxima, even if all registers of the leaf are 0. */
const LEAVES: readonly number[] = [
  ...[0, 1, 5, 6, 7, 0xa],
  ...[0x8000_0000, 0x8000_0001, 0x8000_0002, 0x8000_0003, 0x8000_0004, 0x8000_0007, 0x8000_0008],
];

/** Returns four characters of a text as a little-endian word; characters after the end of the text are NUL. */
function word(text: string, at: number): number {
  const codes = [3, 2, 1, 0].map((i) => text.charCodeAt(at + i) || 0);
  return codes.reduce((value, code) => ((value << 8) | (code & 0xff)) >>> 0, 0);
}

/** Packs family, model and stepping as in leaf 1 (SDM volume 2, CPUID, figure 3-6). */
function packSignature({ family, model, stepping }: CpuidModelSignature): number {
  const base = Math.min(family, 15);
  const extended = ((family - base) << 20) | ((model >> 4) << 16);
  return extended | (base << 8) | ((model & 15) << 4) | stepping;
}

/** The facts from which a table is made. */
export interface CpuidModelFacts {
  /** The vendor's twelve characters, as in leaf 0. */
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
  /** The brand string, at most 47 ASCII characters. */
  readonly brand: string;
  /** The width of physical addresses, 32 to 52. */
  readonly physicalBits: number;
  /** The caches, if they are known. */
  readonly caches?: readonly CpuidModelCache[] | undefined;
}

/** The width of virtual addresses without la57. */
const VIRTUAL_BITS = 48;

/** Whether AMD's rules apply: AMD and Hygon repeat leaves 0 and 1 in 0x80000000 and 0x80000001. */
const isAmd = (vendor: string): boolean => vendor === "AuthenticAMD" || vendor === "HygonGenuine";

/** Lists the entries that do not describe features: maxima, vendor, signature, brand and address sizes. */
function identity(facts: CpuidModelFacts): readonly CpuidEntry2Input[] {
  const { maxLeaf, maxExtended, features, brand, physicalBits } = facts;
  const [ebx, edx, ecx] = [0, 4, 8].map((at) => word(facts.vendor, at));
  const signature = packSignature(facts.signature);
  const vendor = { ebx: ebx ?? 0, ecx: ecx ?? 0, edx: edx ?? 0 };
  const lineSize = features.includes("clflush") ? 8 : 0;
  const extended = { function: 0x8000_0000, eax: maxExtended };
  return [
    { function: 0, eax: maxLeaf, ...vendor },
    { function: 1, eax: signature, ebx: lineSize << 8 },
    isAmd(facts.vendor) ? { ...extended, ...vendor } : extended,
    { function: 0x8000_0001, eax: isAmd(facts.vendor) ? signature : 0 },
    ...[0, 1, 2].map((i) => ({
      function: 0x8000_0002 + i,
      ...Object.fromEntries(CPUID_REGISTERS.map((r, j) => [r, word(brand, 16 * i + 4 * j)])),
    })),
    { function: 0x8000_0008, eax: (VIRTUAL_BITS << 8) | physicalBits },
  ];
}

/**
 * Makes a table without features: the leaves that every table contains, up to its maxima, with the model's other facts.
 */
function featureless(facts: CpuidModelFacts): CpuidTable {
  const { maxLeaf, maxExtended } = facts;
  const leaves = LEAVES.filter((fn) => fn <= maxLeaf || fn >= 0x8000_0000);
  const empty = [...leaves, maxLeaf, maxExtended].reduce(
    (table, fn) => withSubleaf(table, fn, 0),
    CpuidTable.from([]),
  );
  return identity(facts).reduce((table, e) => table.withEntry(e), empty);
}

/** Writes the caches. A model without known caches gets none; on AMD, the leaf of caches is then an empty list. */
function withKnownCaches(table: CpuidTable, caches: readonly CpuidModelCache[]): CpuidTable {
  if (caches.length === 0 && layoutOf(table) === "intel") return table;
  return withCaches(
    table,
    caches.map(({ level, type, kib, ways }) => ({ level, type, size: kib * 1024, ways })),
  );
}

/** Makes the table of a model's facts: one package with one core and one thread, and APIC id 0. */
export function tableOf(facts: CpuidModelFacts): CpuidTable {
  const { features, values = {}, caches = [] } = facts;
  const names = Object.keys(values) as CpuidFieldName[];
  const featured = withFeatures(featureless(facts), features, []);
  const whole = names.reduce((table, name) => withField(table, name, values[name] ?? 0), featured);
  const complete = whole.has("xsave") ? withXsave(whole) : whole;
  return withKnownCaches(withTopology(complete, {}), caches);
}

/**
 * Makes the table of a model or of a variant. The table describes one package with one core and one thread, with APIC
 * id 0 and the model's caches; {@link withTopology} writes another topology. The table has every leaf that the features
 * need, and no hypervisor leaves. The hypervisor bit and the bits that KVM writes itself (osxsave, ospke) are 0.
 *
 * @param name - the name, or an alias, as for {@link findModel}.
 * @throws TypeError for an unknown name, with suggestions.
 */
export function modelTable(name: string): CpuidTable {
  const { model, variant, features } = findModel(name);
  return tableOf({ ...model, maxExtended: variant?.maxExtended ?? model.maxExtended, features });
}
