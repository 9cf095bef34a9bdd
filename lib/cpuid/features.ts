/** Finds the fields for the names of a feature list. formats/ reads the lists; aliases.ts finds one name. */
import { describe, refuseMissing, toList } from "../options.ts";
import { type CpuidNameSource, findField, suggestFields } from "./aliases.ts";
import type { CpuidField } from "./field.ts";
import { type CpuidFeatureList, refuseDump } from "./formats/dump.ts";
import type { CpuidFieldName } from "./generated/fields.ts";

/**
 * A name in a feature list that has no field: a feature without a CPUID bit, a synthetic flag of Linux, or a
 * misspelling.
 */
export interface UnknownFeature {
  /** The name, as the list spells it. */
  readonly name: string;
  /** Whether the list turns the feature on or off. */
  readonly state: "on" | "off";
  /** Up to five fields with similar names, the best first; for the first 50 unknown names only. */
  readonly suggestions: readonly CpuidFieldName[];
}

/** The result of {@link resolveFeatures}. */
export interface ResolvedFeatures {
  /** The fields that the list turns on, each once, in the order of the list. */
  readonly on: readonly CpuidField[];
  /** The fields that the list turns off, each once, in the order of the list. */
  readonly off: readonly CpuidField[];
  /** The fields that are in both `on` and `off`, because the list has two names of the field. */
  readonly both: readonly CpuidField[];
  /**
   * The names without a field: first the names that are turned on, then the names that are turned off, in the order of
   * the list.
   */
  readonly unknown: readonly UnknownFeature[];
}

/** The maximum number of unknown names with suggestions, because each is compared with every known name. */
const MOST_SUGGESTED = 50;
/** The maximum length of a name that is looked up. */
const LONGEST_NAME = 64;

/**
 * Finds the fields for the names of a feature list. If the caller gives a source, its names are searched first: `qemu`
 * for the formats qemu-cpu and qemu-qmp, `libvirt` for libvirt-cpu, and `linux` for cpuinfo.
 *
 * @throws TypeError for anything but a feature list with strings, and for an unknown source.
 *
 * @example
 * ```ts run
 * import { readCpuid, resolveFeatures } from "node-kvm/cpuid";
 *
 * const dump = readCpuid("EPYC,+sse4.1,-tsc-deadline,+avx3");
 * if (dump.kind === "features") {
 *   const { on, off, unknown } = resolveFeatures(dump.features, "qemu");
 *   console.log(on[0]?.name, off[0]?.name, unknown[0]?.name);
 * }
 * ```
 *
 * ```text output
 * sse4_1 tsc_deadline_timer avx3
 * ```
 */
export function resolveFeatures(
  features: Pick<CpuidFeatureList, "on" | "off">,
  source?: CpuidNameSource,
): ResolvedFeatures {
  const where = "resolveFeatures()";
  refuseDump(where, features);
  refuseMissing(where, features, ["on", "off"]);
  // An unknown source is an error even if the list is empty.
  if (source !== undefined) findField("", source);
  const unknown: UnknownFeature[] = [];
  const find = (state: "on" | "off"): ReadonlySet<CpuidField> => {
    const found = new Set<CpuidField>();
    for (const name of toList(`${where}: ${state}`, features[state])) {
      if (typeof name !== "string") {
        throw new TypeError(`${where}: ${state}: expected a string, got ${describe(name)}`);
      }
      const isShort = name.length <= LONGEST_NAME;
      const known = isShort ? ((source && findField(name, source)) ?? findField(name)) : undefined;
      if (known) {
        found.add(known);
      } else {
        const isSuggested = isShort && unknown.length < MOST_SUGGESTED;
        unknown.push({ name, state, suggestions: isSuggested ? suggestFields(name) : [] });
      }
    }
    return found;
  };
  const [on, off] = [find("on"), find("off")];
  const both = [...on].filter((known) => off.has(known));
  return { on: [...on], off: [...off], both, unknown };
}
