/** Lint rules about leaves that a feature needs: the leaf must exist, and the maximum of its range must include it. */
import type { CpuidFieldName } from "../field.ts";
import type { CpuidLintEdit, LintFault, LintRule } from "./rule.ts";
import { isZero, type LintTable } from "./table.ts";

/** A feature, and the leaves that describe it. */
interface LeafNeed {
  readonly feature: CpuidFieldName;
  readonly leaves: readonly number[];
}

const need = (feature: CpuidFieldName, ...leaves: readonly number[]): LeafNeed => ({
  feature,
  leaves,
});

/** Rules L01 to L03: Linux or the CPU does not use the feature without its leaf. */
const MONITOR: readonly LeafNeed[] = [need("monitor", 5)];
const DCA: readonly LeafNeed[] = [need("dca", 9)];
const XSAVE: readonly LeafNeed[] = [need("xsave", 0xd)];

/** L05. Source: SDM volume 2A, CPUID. */
const BASIC: readonly LeafNeed[] = [
  need("cqm", 0xf),
  need("rdt_a", 0x10),
  need("sgx", 0x12),
  need("intel_pt", 0x14),
  need("key_locker", 0x19),
  need("hybrid_cpu", 0x1a),
  need("arch_lbr", 0x1c),
  need("amx_tile", 0x1d, 0x1e),
  need("hreset", 0x20),
  need("arch_perfmon_ext", 0x23),
  need("avx10", 0x24),
  need("apx_f", 0x29),
];

/** L06. Source: APM volume 3, appendix E. */
const EXTENDED: readonly LeafNeed[] = [
  need("svm", 0x8000_000a),
  need("topoext", 0x8000_001d, 0x8000_001e),
  need("ibs", 0x8000_001b),
  need("lwp", 0x8000_001c),
  need("sme", 0x8000_001f),
  need("sev", 0x8000_001f),
  need("perfmon_v2", 0x8000_0022),
];

/** Rule L07: without the leaf, KVM assumes 36 physical address bits. */
const LONG_MODE: readonly LeafNeed[] = [need("lm", 0x8000_0008)];

const ALL: readonly LeafNeed[] = [
  ...[...MONITOR, ...DCA, ...XSAVE, ...BASIC, ...EXTENDED, ...LONG_MODE],
];

/** The features that a leaf describes. */
export const LEAF_FEATURES: readonly CpuidFieldName[] = ALL.map(({ feature }) => feature);

/** The highest basic leaf that the manuals define (SDM volume 2A, APX). */
export const LAST_DEFINED_LEAF: number = 0x29;
/** The highest extended leaf that a maximum can name. */
const LAST_EXTENDED_LEAF = 0x8000_00ff;

const hex = (value: number): string => `0x${value.toString(16)}`;

const isExtended = (fn: number): boolean => fn >= 0x8000_0000;

function maxOf(table: LintTable, fn: number): number | undefined {
  return isExtended(fn) ? table.maxExtended : table.maxBasic;
}

/**
 * Returns the leaves above the maximum that a feature needs. The rules of this file report these leaves; rules S02 and
 * S04 do not.
 */
export function needyLeaves(table: LintTable): ReadonlySet<number> {
  return table.keep("needy leaves", () => {
    const found = new Set<number>();
    const below = (fn: number): boolean => (maxOf(table, fn) ?? fn) < fn;
    for (const { feature, leaves } of ALL) {
      const late = leaves.filter(below);
      if (late.length > 0 && table.has(feature)) for (const fn of late) found.add(fn);
    }
    if (below(7) && table.hasData(7)) found.add(7);
    return found;
  });
}

/**
 * Returns the highest leaf of a range that has data or that a feature needs. Every fix
 * of a maximum writes this leaf, so that the fixes of several findings agree.
 */
export function highestLeaf(
  table: LintTable,
  isInRange: (fn: number) => boolean,
): number | undefined {
  const needed = ALL.flatMap(({ feature, leaves }) => (table.has(feature) ? leaves : []));
  return table.functions.findLast(
    (fn) => isInRange(fn) && (table.hasData(fn) || needed.includes(fn)),
  );
}

/** Returns an edit that raises the maximum, if the table has the leaf. */
function raise(table: LintTable, fn: number): readonly CpuidLintEdit[] | undefined {
  if (table.positions(fn).length === 0) return undefined;
  const isPeer = (other: number): boolean =>
    isExtended(fn) ? isExtended(other) && other <= LAST_EXTENDED_LEAF : other <= LAST_DEFINED_LEAF;
  const highest = highestLeaf(table, isPeer) ?? fn;
  return table.set(isExtended(fn) ? "max_ext_leaf" : "max_std_leaf", Math.max(fn, highest));
}

function missing(table: LintTable, needs: readonly LeafNeed[]): readonly LintFault[] {
  return needs.flatMap(({ feature, leaves }) => {
    if (!table.has(feature)) return [];
    return leaves.flatMap((fn): readonly LintFault[] => {
      const max = maxOf(table, fn);
      if (max === undefined) return [];
      const place = table.place(feature);
      if (max < fn) {
        const words = `needs leaf ${hex(fn)}, but the highest leaf is ${hex(max)}`;
        const highest = leaves.at(-1) ?? fn;
        return [{ place, words, fix: raise(table, highest) }];
      }
      if (table.positions(fn).length > 0) return [];
      return [{ place, words: `needs leaf ${hex(fn)}, which the table lacks` }];
    });
  });
}

/** The rules about leaves that features need. */
export const LEAF_RULES: readonly LintRule[] = [
  {
    id: "L01",
    severity: "error",
    title: "MONITOR has leaf 5",
    source:
      "SDM volume 2A, CPUID leaf 5; Linux disables MWAIT without it (cpuid_dependent_features)",
    remedy: "Raise leaf 0's EAX to 5 or more and add leaf 5, or clear monitor",
    check: (table) => missing(table, MONITOR),
  },
  {
    id: "L02",
    severity: "error",
    title: "Direct cache access needs leaf 9",
    source: "SDM volume 2A, CPUID leaf 9; Linux disables DCA without it (cpuid_dependent_features)",
    remedy: "Raise leaf 0's EAX to 9 or more and add leaf 9, or clear dca",
    check: (table) => missing(table, DCA),
  },
  {
    id: "L03",
    severity: "error",
    title: "XSAVE has leaf 0xd",
    source: "SDM volume 1, 13.2; Linux disables XSAVE without it (cpuid_dependent_features)",
    remedy: "Raise leaf 0's EAX to 0xd or more and add leaf 0xd, or clear xsave",
    check: (table) => missing(table, XSAVE),
  },
  {
    id: "L04",
    severity: "error",
    title: "The maximum includes leaf 7 if leaf 7 has features",
    source: "SDM volume 2A, CPUID leaf 7; Linux reads it only if leaf 0's EAX is 7 or more",
    remedy: "Raise leaf 0's EAX to 7 or more, or clear leaf 7",
    check: (table) => {
      const max = table.maxBasic;
      if (max === undefined || max >= 7) return [];
      const position = table.positions(7).find((at) => {
        const e = table.entries[at];
        return e !== undefined && !isZero(e);
      });
      if (position === undefined) return [];
      const words = `has features, but the highest leaf is ${hex(max)}, so software never reads it`;
      return [{ place: table.entryPlace(position), words, fix: raise(table, 7) }];
    },
  },
  {
    id: "L05",
    severity: "warning",
    title: "A feature with its own basic leaf needs this leaf",
    source:
      "SDM volume 2A, CPUID leaves 0xf, 0x10, 0x12, 0x14, 0x19, 0x1a, 0x1c, 0x1d, 0x1e, 0x20, 0x23, 0x24, 0x29",
    remedy: "Add the leaf and raise leaf 0's EAX, or clear the feature",
    check: (table) => missing(table, BASIC),
  },
  {
    id: "L06",
    severity: "warning",
    title: "A feature with its own extended leaf needs this leaf",
    source: "APM volume 3, appendix E: leaves 0x8000000a, 0x8000001b to 0x8000001f, 0x80000022",
    remedy: "Add the leaf and raise leaf 0x80000000's EAX, or clear the feature",
    check: (table) => missing(table, EXTENDED),
  },
  {
    id: "L07",
    severity: "error",
    title: "Long mode needs leaf 0x80000008",
    source:
      "SDM and APM, CPUID leaf 0x80000008; without it KVM assumes 36 physical address bits (cpuid_query_maxphyaddr)",
    remedy: "Add leaf 0x80000008 with the address sizes and raise leaf 0x80000000's EAX to it",
    check: (table) => {
      const isAbsent = table.has("lm") && table.maxExtended === undefined;
      const words = "needs leaf 0x80000008, but the table has no leaf 0x80000000";
      return isAbsent ? [{ place: table.place("lm"), words }] : missing(table, LONG_MODE);
    },
  },
  {
    id: "L08",
    severity: "warning",
    title: "The TSC deadline timer and x2APIC are offered only if KVM emulates the local APIC",
    source: "api.rst, KVM_GET_SUPPORTED_CPUID: both depend on KVM_CREATE_IRQCHIP",
    remedy: "Clear tsc_deadline_timer and x2apic, or create the local APIC in KVM",
    needs: ["vm.hasKernelApic"],
    check: (table, { vm }) =>
      (["tsc_deadline_timer", "x2apic"] as const).flatMap((name): readonly LintFault[] =>
        table.has(name) && vm.hasKernelApic === false
          ? [
              {
                place: table.place(name),
                words: "needs a local APIC in KVM",
                fix: table.set(name, 0),
              },
            ]
          : [],
      ),
  },
];
