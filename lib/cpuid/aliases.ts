/**
 * Finds a CPUID field by its name in Linux, QEMU, libvirt, the manuals or the database. names.ts compares names;
 * gen/facts/cpuid-aliases.csv lists the names.
 */
import { describe, suggestion } from "../options.ts";
import { CPUID_REGISTERS } from "./entry.ts";
import { type CpuidField, field, fieldsOf, unknownField } from "./field.ts";
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

/** A place as this package writes it: `0x7.0:ebx[5]`, `0x1.0:ebx[31:24]`. */
const PLACE = /^(0x[0-9a-f]{1,8})(?:\.(\d{1,9}))?:(e[abcd]x)\[(\d\d?)(?::(\d\d?))?\]$/i;
/** A name with its place as the manuals of Intel and AMD write it, without spaces, as `CPUID.07H.0:EBX.AVX2[bit5]`. */
const IN_MANUAL =
  /^CPUID\.?(?:\((?:EAX=)?([0-9A-F]{1,8})H?(?:,(?:ECX=)?([0-9A-F]{1,2})H?)?\)|([0-9A-F]{1,8})H(?:\.([0-9A-F]{1,2})H?)?):(E[ABCD]X)\.([\w.-]+)(?:\[.*\])?$/i;

/** The maximum length of a name with its place. */
const LONGEST_PLACE = 128;

/** Finds the native field that has exactly the bits of a place. */
function fieldAt(name: string): CpuidField | undefined {
  const [, fn = "", index = "0", word = "", high = "", low = high] = PLACE.exec(name) ?? [];
  const register = CPUID_REGISTERS.find((one) => one === word.toLowerCase());
  if (register === undefined) return undefined;
  return fieldsOf("native", Number(fn), Number(index), register).find(
    (one) => one.low === Number(low) && one.high === Number(high),
  );
}

/** Finds a field by a name with its place in the manuals; a name at another place finds nothing. */
function fieldInManual(name: string): CpuidField | undefined {
  const match = IN_MANUAL.exec(name.replaceAll(/\s/g, ""));
  if (match === null) return undefined;
  const [, first, firstIndex, second, secondIndex, word = "", short = ""] = match;
  const found = lookUp(short);
  const known = found === undefined ? undefined : field(found);
  const number = (text: string | undefined): number => Number.parseInt(text ?? "0", 16);
  const [fn, index] = [number(first ?? second), number(firstIndex ?? secondIndex)];
  const register = CPUID_REGISTERS.find((one) => one === word.toLowerCase());
  if (known === undefined || register === undefined) return undefined;
  return fieldsOf("native", fn, index, register).find((one) => one === known);
}

/**
 * Finds a field by its name in any source; case, `-`, `_` and `.` do not matter. If two fields share a name, the
 * sources are searched in this order: the database, Linux, QEMU, libvirt, manuals, kernel constants. With the argument
 * `source`, only the names in that source are searched; the database's names are not searched.
 *
 * Without a source, the function also finds the X86_FEATURE_ constants with their prefix, a place such as
 * `0x7.0:ebx[5]`, and a name with its place in the manuals, such as `CPUID.(EAX=07H,ECX=0):EBX.AVX2[bit 5]`.
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
  if (found !== undefined) return field(found);
  const isPlain = source !== undefined || name.length > LONGEST_PLACE;
  return isPlain ? undefined : (fieldAt(name) ?? fieldInManual(name));
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
