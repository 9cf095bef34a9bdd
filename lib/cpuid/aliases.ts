/**
 * Finds a CPUID field by its name in Linux, QEMU, libvirt, the manuals or the database. names.ts compares names;
 * gen/facts/cpuid-aliases.csv lists the names.
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
 * `source`, only the names in that source are searched; the database's names are not searched.
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
 * Suggests up to five fields for an unknown name, the best first. A suggested name contains the unknown name or differs
 * from it in at most two letters; if there is no such name, aliases that differ in at most two letters are searched.
 * For a name that {@link findField} knows, the result is only the name of its field.
 */
export function suggestFields(name: string): readonly CpuidFieldName[] {
  return suggest(toName("suggestFields()", name));
}

/**
 * Returns a field's names by source: `linux` has the names in /proc/cpuinfo, `qemu` the properties of -cpu, `libvirt`
 * the names in cpu_map, `manual` the names in Intel's and AMD's manuals, and `kernel` the X86_FEATURE_ constants
 * without this prefix. The list is empty for a source that does not name the field.
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
