/**
 * Lint rules about features that need other features, and about leaves that describe an absent feature.
 * lib/cpuid/dependencies.ts lists the pairs of features.
 */
import { type CpuidDependency, cpuidDependencies, dependentFeatures } from "../dependencies.ts";
import { CPUID_REGISTERS } from "../entry.ts";
import type { CpuidFieldName } from "../field.ts";
import { XSAVE_COMPONENTS } from "../xsave.ts";
import { LEAF_FEATURES } from "./leaves.ts";
import type { CpuidLintEdit, LintFault, LintRule } from "./rule.ts";
import { isZero, type LintTable, setBits } from "./table.ts";

/**
 * The groups of pairs, by the rule that reports them. Rule A01 reports all pairs that need amx_tile; each fault
 * therefore has only one finding.
 */
let groups: Map<string, CpuidDependency[]> | undefined;

function pairsOf(rule: CpuidDependency["rule"] | "A01"): readonly CpuidDependency[] {
  if (groups === undefined) {
    groups = new Map();
    for (const pair of cpuidDependencies()) {
      const own = groups.get(ruleOfPair(pair));
      if (own) own.push(pair);
      else groups.set(ruleOfPair(pair), [pair]);
    }
  }
  return groups.get(rule) ?? [];
}

/** Returns the rule that reports a pair. */
export function ruleOfPair(pair: CpuidDependency): CpuidDependency["rule"] | "A01" {
  const isTile = pair.needs === "amx_tile" && (pair.rule === "D01" || pair.rule === "D02");
  return isTile ? "A01" : pair.rule;
}

/**
 * Features whose removal changes other leaves: the XSAVE area, a leaf that describes the feature, or copies of its
 * bits. The lint offers no fix for these features; a person or the builder removes them.
 */
let coupled: ReadonlySet<CpuidFieldName> | undefined;

function isCoupled(name: CpuidFieldName): boolean {
  coupled ??= new Set<CpuidFieldName>([
    ...XSAVE_COMPONENTS.flatMap(({ features }) => features),
    ...LEAF_FEATURES,
    ...(["xsave", "xsavec", "xsaves", "xfd", "amx_bf16", "amx_int8", "amx_fp16"] as const),
    ...(["amx_complex", "la57", "clflush", "sev", "hv_hint_apic_msrs", "lm"] as const),
  ]);
  return coupled.has(name);
}

/** Returns edits that clear features and their copies in leaf 0x80000001. */
function clear(table: LintTable, names: readonly CpuidFieldName[]): readonly CpuidLintEdit[] {
  return names.flatMap((name): readonly CpuidLintEdit[] => {
    const { function: fn, bits } = table.place(name);
    const mirror = table.find(0x8000_0001);
    const hasMirror = table.isAmd && fn === 1 && bits.register === "edx" && mirror >= 0;
    const isMirrored = hasMirror && ((0x0183_f3ff >>> bits.low) & 1) === 1;
    const copy = isMirrored ? [setBits(mirror, "edx", bits.low, bits.high, 0)] : [];
    return [...table.set(name, 0), ...copy];
  });
}

function fixOf(table: LintTable, feature: CpuidFieldName): readonly CpuidLintEdit[] | undefined {
  const names = dependentFeatures([feature]).filter((name) => table.has(name));
  return names.some(isCoupled) ? undefined : clear(table, names);
}

/** Finds each pair of a rule for which the table has the feature but lacks the needed feature. */
export function pairFaults(
  table: LintTable,
  rule: CpuidDependency["rule"] | "A01",
): readonly LintFault[] {
  return pairsOf(rule).flatMap(({ feature, needs, severity }): readonly LintFault[] => {
    if (!table.has(feature) || table.has(needs)) return [];
    // A feature counts as clear if the table lacks its leaf, such as 0x8000001f for sev_es.
    const words = `needs ${needs}, which is clear`;
    return [{ place: table.place(feature), words, severity, fix: fixOf(table, feature) }];
  });
}

/**
 * Rule D05: leaves that describe a feature. Source: SDM volume 2A, CPUID; QEMU clears these leaves if the feature is
 * off.
 */
const DESCRIBED: readonly { readonly leaf: number; readonly feature: CpuidFieldName }[] = [
  { leaf: 0x14, feature: "intel_pt" },
  { leaf: 0x12, feature: "sgx" },
  { leaf: 0xf, feature: "cqm" },
  { leaf: 0x10, feature: "rdt_a" },
];

/** Returns edits that clear every register of a leaf. */
export function clearLeaf(table: LintTable, fn: number): readonly CpuidLintEdit[] {
  return table
    .positions(fn)
    .flatMap((position) =>
      CPUID_REGISTERS.map((register) => setBits(position, register, 0, 31, 0)),
    );
}

/** Finds the first entry with data of a leaf that describes an absent feature. */
export function describedFault(
  table: LintTable,
  fn: number,
  feature: string,
): readonly LintFault[] {
  const position = table.positions(fn).find((at) => {
    const e = table.entries[at];
    return e !== undefined && !isZero(e) && !table.isRedirected(at);
  });
  if (position === undefined) return [];
  const words = `has data, but ${feature} is clear`;
  return [{ place: table.entryPlace(position), words, fix: clearLeaf(table, fn) }];
}

/** The rules about features that need other features. */
export const DEPENDENCY_RULES: readonly LintRule[] = [
  {
    id: "D01",
    severity: "error",
    title: "A feature has the features that Linux requires for it",
    source:
      "cpuid_deps[] in arch/x86/kernel/cpu/cpuid-deps.c, Linux 7.2; Linux clears the feature otherwise",
    remedy: "Set the needed feature, or clear the feature that needs it",
    check: (table) => pairFaults(table, "D01"),
  },
  {
    id: "D02",
    severity: "error",
    title: "A feature has the features that the manuals require for it",
    source: "SDM volume 1, chapters 13 to 18; APM volume 3, appendix D",
    remedy: "Set the needed feature, or clear the feature that needs it",
    check: (table) => pairFaults(table, "D02"),
  },
  {
    id: "D03",
    severity: "info",
    title: "A feature occurs together with its usual companion",
    source:
      "tables of real CPUs and guests: invpcid without pcid, tsxldtrk without rtm; psABI: avx512f, avx2",
    remedy: "Clear the feature if guests must see a table without exceptions",
    check: (table) => pairFaults(table, "D03"),
  },
  {
    id: "D04",
    severity: "warning",
    title: "The features of SVM and of memory encryption need their parent feature",
    source: "APM volume 3, appendix E, leaves 0x8000000a and 0x8000001f",
    remedy: "Set the parent feature, or clear the leaf",
    check: (table) => {
      const pairs = pairFaults(table, "D04");
      const isParentless = !table.has("sme") && !table.has("sev") && pairs.length === 0;
      return isParentless ? describedFault(table, 0x8000_001f, "sme and sev") : pairs;
    },
  },
  {
    id: "D05",
    severity: "warning",
    title: "A leaf that describes a feature contains only zeros if the feature is clear",
    source: "SDM volume 2A, CPUID leaves 0xf, 0x10, 0x12 and 0x14",
    remedy: "Set the feature, or clear the leaf",
    check: (table) =>
      DESCRIBED.flatMap(({ leaf, feature }) =>
        table.has(feature) ? [] : describedFault(table, leaf, feature),
      ),
  },
];
