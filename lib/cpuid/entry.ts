/**
 * One entry of a CPUID table, and KVM's rule for finding an entry. field.ts names the bits of an entry; table.ts
 * contains tables.
 */

import type { CpuidEntry2Input } from "../abi/cpuid2.ts";
import { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } from "../abi/generated/constants.ts";
import type { CpuidEntry2 } from "../abi/generated/structs.ts";
import { describe, refuseMissing, refuseUnknown, toList } from "../options.ts";

export { type CpuidEntry2, type CpuidEntry2Input, KVM_CPUID_FLAG_SIGNIFCANT_INDEX };

/** The name of one of CPUID's four result registers. */
export type CpuidRegister = "eax" | "ebx" | "ecx" | "edx";

/** Lists the four registers in the order of `struct kvm_cpuid_entry2`. */
export const CPUID_REGISTERS: readonly CpuidRegister[] = ["eax", "ebx", "ecx", "edx"];

/** The cases of KVM 7.2's cpuid_function_is_indexed (arch/x86/kvm/cpuid.c). KVM does not list leaf 0x23. */
const INDEXED: ReadonlySet<number> = new Set([
  0x4, 0x7, 0xb, 0xd, 0xf, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1d, 0x1e, 0x1f, 0x24, 0x8000001d,
]);

/** Whether KVM treats the index of this function as significant (cpuid_function_is_indexed, 7.2). */
export function isIndexed(fn: number): boolean {
  return INDEXED.has(fn);
}

/** Formats a function and index as `0x7.0`: function in hexadecimal, index in decimal. */
export function formatLeaf(fn: number, index = 0): string {
  return `0x${fn.toString(16)}.${index}`;
}

/** Returns the reason why a value is not a u32, or undefined for a valid u32. */
function complaint(value: unknown): string | undefined {
  if (!Number.isInteger(value)) return "is not an integer";
  const number = Number(value);
  return number < 0 || number > 0xffffffff ? "does not fit 32 bits" : undefined;
}

/** The padding of an entry if the caller gives none: zeros. */
const NO_PADDING: readonly number[] = Object.freeze([0, 0, 0]);

const MEMBERS: readonly string[] = ["function", "index", "flags", ...CPUID_REGISTERS, "padding"];

/**
 * Creates a frozen entry. Each number must be an unsigned 32-bit integer, else `RangeError: cpuid entry 0x7.0: ebx
 * 4294967296 does not fit 32 bits`. `flags` stay unchanged: no flag is added, even if {@link isIndexed} returns true
 * for the function. `padding`, if present, must have three words. An unknown member is a TypeError.
 */
export function entry(input: CpuidEntry2Input): CpuidEntry2 {
  refuseUnknown("cpuid entry", input, MEMBERS, "member");
  refuseMissing("cpuid entry", input, ["function"]);
  const { function: fn, index = 0, flags = 0, eax = 0, ebx = 0, ecx = 0, edx = 0 } = input;
  if (input.padding === undefined && areWords(fn, index, flags, eax, ebx, ecx, edx)) {
    return Object.freeze({ function: fn, index, flags, eax, ebx, ecx, edx, padding: NO_PADDING });
  }
  const words = [...(input.padding ?? NO_PADDING)];
  const isNone = words.length === 3 && words.every((word) => word === 0);
  const padding = isNone ? NO_PADDING : Object.freeze(words);
  const numbers = { function: fn, index, flags, eax, ebx, ecx, edx };
  const wrong = (what: string): RangeError => {
    const named = complaint(fn) === undefined && complaint(index) === undefined;
    return new RangeError(`cpuid entry${named ? ` ${formatLeaf(fn, index)}` : ""}: ${what}`);
  };
  for (const [name, value] of Object.entries(numbers)) {
    const reason = complaint(value);
    if (reason) throw wrong(`${name} ${describe(value)} ${reason}`);
  }
  if (padding.length !== 3) throw wrong(`padding has ${padding.length} words, not 3`);
  for (const value of padding) {
    const reason = complaint(value);
    if (reason) throw wrong(`padding ${describe(value)} ${reason}`);
  }
  // The object is a literal, because V8 gives each object that is made by a spread its own hidden class.
  return Object.freeze({ function: fn, index, flags, eax, ebx, ecx, edx, padding });
}

/** Whether a value has all members of an entry, with valid numbers; such a value needs no further check. */
function isEntry(value: unknown): value is CpuidEntry2 {
  if (typeof value !== "object" || value === null) return false;
  const { function: fn, index, flags, eax, ebx, ecx, edx, padding } = value as CpuidEntry2;
  return Array.isArray(padding) && areWords(fn, index, flags, eax, ebx, ecx, edx);
}

/** Whether all values are unsigned 32-bit integers. */
function areWords(...values: readonly unknown[]): boolean {
  return values.every((value) => complaint(value) === undefined);
}

/**
 * Returns the entries of a table or of another iterable. An entry with all members is returned unchanged; {@link entry}
 * checks and completes any other entry.
 *
 * @param where - the start of the message for anything but an iterable.
 * @throws TypeError for anything but an iterable of entries; RangeError for a number that is not a u32.
 */
export function toEntries(where: string, table: Iterable<CpuidEntry2Input>): CpuidEntry2[] {
  return toList(where, table).map((given) => (isEntry(given) ? given : entry(given)));
}

/**
 * Compares two entries as KVM does when a vCPU that has run gets a table again (kvm_cpuid_check_equal). The padding is
 * not compared; function, index, flags and the four registers are.
 */
export function sameEntry(a: CpuidEntry2, b: CpuidEntry2): boolean {
  return (
    a.function === b.function &&
    a.index === b.index &&
    a.flags === b.flags &&
    CPUID_REGISTERS.every((register) => a[register] === b[register])
  );
}

/**
 * Finds the position of the entry that KVM's cpuid_entry2_find returns, or -1: the first match.
 *
 * With an index, the function works like the guest's CPUID instruction and kvm_find_cpuid_entry_index. An entry without
 * KVM_CPUID_FLAG_SIGNIFCANT_INDEX matches any index; an entry with this flag matches only its own index. Without an
 * index, the function works like kvm_find_cpuid_entry, which KVM uses internally. This lookup finds index 0 of a
 * function for which {@link isIndexed} is true; for any other function, the lookup ignores the index even if the entry
 * has the flag.
 */
export function locate(entries: readonly CpuidEntry2[], fn: number, index?: number): number {
  const wanted = index ?? (isIndexed(fn) ? 0 : undefined);
  return entries.findIndex(
    (e) =>
      e.function === fn &&
      (wanted === undefined ||
        e.index === wanted ||
        (e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) === 0),
  );
}
