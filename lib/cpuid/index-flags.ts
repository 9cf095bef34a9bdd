/** Which entries need KVM_CPUID_FLAG_SIGNIFCANT_INDEX in a table that was read from a CPU or from a dump. */
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

/** The leaves with sub-leaves ({@link hasSubleaves}) that have one other than 0. */
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
 * Flags entries without flags, as those of a dump or of a walk, as KVM needs them to answer as the CPU did:
 *
 * - Each entry of a function that KVM treats as indexed (cpuid_function_is_indexed), as KVM_GET_SUPPORTED_CPUID does.
 * - Each entry of a sub-leaf other than 0. KVM ignores the index of an entry without the flag.
 * - Sub-leaf 0 of any other leaf with sub-leaves ({@link hasSubleaves}), if there are more of them, as leaves 0x1b,
 *   0x20, 0x23, 0x80000026, or Xen's 0x40000003. KVM_SET_CPUID2 takes any flags, and cpuid_entry2_find returns the
 *   first match: without the flag, sub-leaf 0 would hide the others.
 *
 * Sub-leaf 0 alone stays without the flag: with it, a guest with another value in ECX would read zeros. So does
 * sub-leaf 0 of a leaf that has no sub-leaves, even if a log has answers for several values of ECX. Rule S09 of the
 * lint accepts each of these entries.
 */
export function withIndexFlags(entries: readonly CpuidEntry2[]): readonly CpuidEntry2Input[] {
  const several = leavesWithMore(entries);
  return entries.map((e) => {
    const isFlagged = isIndexed(e.function) || e.index !== 0 || several.has(e.function);
    return isFlagged ? { ...e, flags: e.flags | KVM_CPUID_FLAG_SIGNIFCANT_INDEX } : e;
  });
}
