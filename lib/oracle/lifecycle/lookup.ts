/** Lookups in a table as the rules of the model define them. cpuid/entry.ts has KVM's lookup. */
import { type CpuidEntry2, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, locate } from "../../cpuid/entry.ts";
import { type CpuidFieldName, field, readField } from "../../cpuid/field.ts";
import type { LifecycleRules } from "./rules.ts";

type MatchRules = Pick<LifecycleRules, "match" | "unflagged">;

const flagged = (e: CpuidEntry2): CpuidEntry2 => ({
  ...e,
  flags: (e.flags | KVM_CPUID_FLAG_SIGNIFCANT_INDEX) >>> 0,
});

/** Finds the position of an entry, or -1; without an index, the index of an unindexed leaf is ignored. */
export function positionOf(
  rules: MatchRules,
  entries: readonly CpuidEntry2[],
  fn: number,
  index?: number,
): number {
  const own = rules.unflagged === "any-index" ? entries : entries.map(flagged);
  if (rules.match === "first") return locate(own, fn, index);
  const fromEnd = locate(own.toReversed(), fn, index);
  return fromEnd < 0 ? -1 : own.length - 1 - fromEnd;
}

/** Whether a table has a feature, as guest_cpuid_has() finds it: by the feature's index, also for leaf 1. */
export function hasFeature(
  rules: MatchRules & Pick<LifecycleRules, "featureLookup">,
  entries: readonly CpuidEntry2[],
  name: CpuidFieldName,
): boolean {
  const { function: fn, index, register, low, high } = field(name);
  const first = typeof index === "number" ? index : index.first;
  const wanted = rules.featureLookup === "index-0" ? first : undefined;
  const found = entries[positionOf(rules, entries, fn, wanted)];
  return found !== undefined && readField(found[register], low, high) !== 0;
}
