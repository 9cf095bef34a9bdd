/** The list of all lint rules. */
import { AMX_PMU_RULES } from "./amx-pmu.ts";
import { DEPENDENCY_RULES } from "./dependencies.ts";
import { FAMILY_RULES } from "./family.ts";
import { HYPERVISOR_RULES } from "./hypervisor.ts";
import { KVM_RULES } from "./kvm.ts";
import { LEAF_RULES } from "./leaves.ts";
import type { CpuidLintRule, LintRule } from "./rule.ts";
import { STRUCTURE_RULES } from "./structure.ts";
import { TOPOLOGY_RULES } from "./topology.ts";
import { XSAVE_RULES } from "./xsave.ts";

/** All rules with their checks, grouped by subject. */
export const LINT_RULES: readonly LintRule[] = Object.freeze([
  ...STRUCTURE_RULES,
  ...DEPENDENCY_RULES,
  ...LEAF_RULES,
  ...XSAVE_RULES,
  ...FAMILY_RULES,
  ...TOPOLOGY_RULES,
  ...AMX_PMU_RULES,
  ...KVM_RULES,
  ...HYPERVISOR_RULES,
]);

/** Lists the facts of every rule of {@link lint}, grouped by subject. An id never changes its meaning. */
export const CPUID_LINT_RULES: readonly CpuidLintRule[] = Object.freeze([...LINT_RULES]);
