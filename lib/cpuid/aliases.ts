/**
 * Finds a CPUID field by its name in Linux, QEMU, libvirt, the manuals or the database. names.ts compares names;
 * gen/facts/cpuid-aliases.csv lists them.
 */
import { describe, suggestion } from "../options.ts";
import { type CpuidField, field, unknownField } from "./field.ts";
import type { CpuidFieldName } from "./generated/fields.ts";
import {
  CPUID_NAME_SOURCES,
  type CpuidFieldAliases,
  type CpuidNameSource,
  lookUp,
  namesOf,
  suggest,
} from "./names.ts";

export { CPUID_NAME_SOURCES, type CpuidFieldAliases, type CpuidNameSource };

function toName(where: string, name: unknown): string {
  if (typeof name === "string") return name;
  throw new TypeError(`${where}: expected a name, got ${describe(name)}`);
}

/**
 * Finds a field by its name in any source; case, `-`, `_` and `.` do not matter. If two fields share a name, the
 * sources are searched in this order: the database, Linux, QEMU, libvirt, manuals, kernel constants. With the argument
 * `source`, only names of that source are searched, and not the database's names.
 *
 * @returns undefined for an unknown name.
 * @throws TypeError for anything but a string, and for an unknown source.
 *
 * @example
 * ```ts run
 * import { findField } from "node-kvm/cpuid";
 *
 * console.log(findField("SSE4.1")?.name, findField("invtsc")?.name, findField("lzcnt")?.name);
 * ```
 *
 * ```text output
 * sse4_1 constant_tsc abm
 * ```
 */
export function findField(name: string, source?: CpuidNameSource): CpuidField | undefined {
  if (source !== undefined && !CPUID_NAME_SOURCES.includes(source)) {
    const hint = typeof source === "string" ? suggestion(source, CPUID_NAME_SOURCES) : "";
    throw new TypeError(`findField(): unknown source ${describe(source)}${hint}`);
  }
  const found = lookUp(toName("findField()", name), source);
  return found === undefined ? undefined : field(found);
}

/**
 * Finds a field as {@link findField} does. An unknown name is `TypeError: unknown CPUID field "avx3"; did you mean avx,
 * avx2?`.
 */
export function resolveField(name: string): CpuidField {
  return findField(toName("resolveField()", name)) ?? unknownField(name);
}

/**
 * Suggests up to five fields for an unknown name, the best first: names at most two letters away and names that contain
 * the word, or aliases at most two letters away. If {@link findField} finds the name, it returns only the name of that
 * field.
 */
export function suggestFields(name: string): readonly CpuidFieldName[] {
  return suggest(toName("suggestFields()", name));
}

/**
 * Returns a field's names by source: `linux` as /proc/cpuinfo shows it, `qemu` as a property of -cpu, `libvirt` as in
 * cpu_map, `manual` as Intel's or AMD's manuals have it, `kernel` without X86_FEATURE_. The list is empty for a source
 * that does not name the field.
 *
 * @throws TypeError for an unknown field.
 *
 * @example
 * ```ts run
 * import { aliasesOf } from "node-kvm/cpuid";
 *
 * console.log(aliasesOf("pni").qemu, aliasesOf("guest_status").linux);
 * ```
 *
 * ```text output
 * [ 'pni', 'sse3' ] [ 'hypervisor' ]
 * ```
 */
export function aliasesOf(name: CpuidFieldName): CpuidFieldAliases {
  return namesOf(field(name).name);
}
