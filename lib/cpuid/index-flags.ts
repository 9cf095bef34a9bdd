/** Decides which entries need KVM_CPUID_FLAG_SIGNIFCANT_INDEX in a table that was read from a CPU or from a dump. */
import {
  type CpuidEntry2,
  type CpuidEntry2Input,
  isIndexed,
  KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
} from "./entry.ts";
import { baseOf, CPUID_SPACES, type CpuidSpace, hasSubleaves } from "./field.ts";

/** The spaces that a table has, with their bases. */
function spacesOf(entries: readonly CpuidEntry2[]): ReadonlyMap<number, CpuidSpace> {
  const spaces = new Map<number, CpuidSpace>();
  for (const space of CPUID_SPACES) {
    const base = baseOf(entries, space);
    if (base !== undefined && !spaces.has(base)) spaces.set(base, space);
  }
  return spaces;
}

/** Returns the leaves with sub-leaves ({@link hasSubleaves}) for which the table has a sub-leaf above 0. */
function leavesWithMore(entries: readonly CpuidEntry2[]): ReadonlySet<number> {
  const fns = new Set(entries.flatMap((e) => (e.index === 0 ? [] : [e.function])));
  const spaces = fns.size === 0 ? undefined : spacesOf(entries);
  const found = [...fns].filter((fn) => {
    const base = (fn & 0xffff_ff00) >>> 0;
    const space = spaces?.get(base) ?? "native";
    return hasSubleaves(space, space === "native" ? fn : fn - base);
  });
  return new Set(found);
}

/**
 * Adds flags to entries without flags, such as the entries of a dump or of a walk. KVM needs these flags to return the
 * CPU's results. The following entries get the flag KVM_CPUID_FLAG_SIGNIFCANT_INDEX:
 *
 * - Each entry of a function that KVM treats as indexed (cpuid_function_is_indexed); KVM_GET_SUPPORTED_CPUID sets the
 *   same flags.
 * - Each entry of a sub-leaf other than 0, because KVM ignores the index of an entry without the flag.
 * - Sub-leaf 0 of any other leaf with sub-leaves ({@link hasSubleaves}), if the table has further sub-leaves of the
 *   leaf. Examples are leaves 0x1b, 0x20, 0x23, 0x80000026, and Xen's 0x40000003. KVM_SET_CPUID2 accepts any flags, and
 *   cpuid_entry2_find returns the first match: without the flag, sub-leaf 0 would hide the others.
 *
 * A single sub-leaf 0 stays without the flag, because with the flag a guest with another value in ECX would read zeros.
 * The entry of a leaf without sub-leaves also stays without the flag, even if a log contains results for several values
 * of ECX. Rule S09 of the lint accepts all entries with these flags.
 */
export function withIndexFlags(entries: readonly CpuidEntry2[]): readonly CpuidEntry2Input[] {
  const several = leavesWithMore(entries);
  return entries.map((e) => {
    const isFlagged = isIndexed(e.function) || e.index !== 0 || several.has(e.function);
    return isFlagged ? { ...e, flags: e.flags | KVM_CPUID_FLAG_SIGNIFCANT_INDEX } : e;
  });
}
