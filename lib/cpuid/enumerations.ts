/** The names of the values of CPUID fields, such as the type of a cache. The data is gen/facts/cpuid-values.csv. */
import { describe } from "../options.ts";
import { field } from "./field.ts";
import type { CpuidFieldName } from "./generated/fields.ts";
import { CPUID_DESCRIPTORS, CPUID_VALUES } from "./generated/values.ts";

/** The fields of leaf 2 that contain a descriptor (SDM volume 2, CPUID leaf 2): all bytes except the lowest of EAX. */
const DESCRIPTOR_FIELDS: readonly CpuidFieldName[] = [
  "desc1",
  "desc2",
  "desc3",
  "desc4",
  "desc5",
  "desc6",
  "desc7",
  "desc8",
  "desc9",
  "desc10",
  "desc11",
  "desc12",
  "desc13",
  "desc14",
  "desc15",
];

let named: ReadonlyMap<CpuidFieldName, ReadonlyMap<number, string>> | undefined;

/** Builds the maps at first use, to keep importing fast. */
function open(): ReadonlyMap<CpuidFieldName, ReadonlyMap<number, string>> {
  if (named) return named;
  const made = new Map<CpuidFieldName, ReadonlyMap<number, string>>();
  for (const [names, values] of CPUID_VALUES) {
    for (const name of names) made.set(name, new Map(values));
  }
  const descriptors = new Map(
    CPUID_DESCRIPTORS.map(([value, , , , , text]) => [value, text] as const),
  );
  for (const name of DESCRIPTOR_FIELDS) made.set(name, descriptors);
  named = made;
  return made;
}

/**
 * Returns the named values of a field, by value; the map is empty for a field whose values are numbers.
 *
 * @throws TypeError for an unknown field.
 */
export function valuesOf(name: CpuidFieldName): ReadonlyMap<number, string> {
  return new Map(open().get(field(name).name));
}

/**
 * Returns the name of a field's value, such as `unified` for `cache_type` 3.
 *
 * @returns undefined if the manuals have no name for the value, or the field's values are numbers.
 * @throws TypeError for an unknown field, and for a value that is not a number.
 *
 * @example
 * ```ts run
 * import { describeValue } from "node-kvm/cpuid";
 *
 * console.log(describeValue("cache_type", 3), describeValue("l2_assoc", 6));
 * ```
 *
 * ```text output
 * unified 8-way
 * ```
 */
export function describeValue(name: CpuidFieldName, value: number): string | undefined {
  if (typeof value !== "number") {
    throw new TypeError(`describeValue(): value: expected a number, got ${describe(value)}`);
  }
  return open().get(field(name).name)?.get(value);
}
