/**
 * The bits of a stored CPUID table that KVM changes itself. Some kernels store some of these bits unchanged; a trait
 * (traits.ts) identifies such kernels. cpuid/runtime-owned.ts has the list of bits.
 */

import type { CpuidChange } from "../cpuid/diff.ts";
import { hasSubleaves } from "../cpuid/field.ts";
import { RUNTIME_OWNED, type RuntimeOwnedBits } from "../cpuid/runtime-owned.ts";
import type { Trait } from "./traits.ts";

/** Bits of a stored table that KVM changes itself, and the trait of kernels that store these bits unchanged. */
export interface KvmOwned extends RuntimeOwnedBits {
  /** The trait of a KVM that stores the bits unchanged. */
  readonly unless?: Trait;
}

/** The trait of a KVM that stores a CPUID field unchanged, by the field's name. */
const UNLESS: ReadonlyMap<string | undefined, Trait> = new Map([
  ["osxsave", "leaves-osxsave"],
  ["ospke", "leaves-ospke"],
]);

/**
 * Lists the bits that KVM changes itself, each with its condition. A caller that knows the VM can filter this list by
 * the conditions.
 */
export const KVM_OWNED: readonly KvmOwned[] = RUNTIME_OWNED.map((owned) => {
  const unless = UNLESS.get(owned.field);
  return unless === undefined ? owned : { ...owned, unless };
});

/**
 * Returns whether KVM may make a change to a table itself: all changed bits of the field are in one item of `owned`.
 * Pass a filtered list to exclude changes that cannot occur on a VM, such as MWAIT without the quirk.
 */
export function isOwned(change: CpuidChange, owned: Iterable<KvmOwned> = KVM_OWNED): boolean {
  if (change.kind !== "field") return false;
  const relative = change.space === "native" ? change.function : change.function & 0xff;
  return [...owned].some(
    (item) =>
      item.space === change.space &&
      item.function === relative &&
      (item.index === change.index || !hasSubleaves(item.space, item.function)) &&
      item.register === change.register &&
      item.low <= change.low &&
      change.high <= item.high,
  );
}
