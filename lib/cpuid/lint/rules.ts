/** The list of all lint rules. */
import { FAMILY_RULES } from "./family.ts";
import { LEAF_RULES } from "./leaves.ts";
import type { CpuidLintRule } from "./rule.ts";
import { STRUCTURE_RULES } from "./structure.ts";
import { TOPOLOGY_RULES } from "./topology.ts";

/** Every rule of {@link lint}, by family. An id never changes its meaning. */
export const CPUID_LINT_RULES: readonly CpuidLintRule[] = Object.freeze([
  ...STRUCTURE_RULES,
  ...LEAF_RULES,
  ...FAMILY_RULES,
  ...TOPOLOGY_RULES,
]);
