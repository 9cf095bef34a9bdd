/**
 * The bits of a CPUID table that KVM sets itself, with the kernels that leave them as they were sent. The bits are
 * cpuid/runtime-owned.ts.
 */

import type { CpuidChange } from "../cpuid/diff.ts";
import { hasSubleaves } from "../cpuid/field.ts";
import { RUNTIME_OWNED, type RuntimeOwnedBits } from "../cpuid/runtime-owned.ts";
import type { Trait } from "./traits.ts";

/** Describes bits that KVM writes into a stored table itself, and the KVMs that do not. */
export interface KvmOwned extends RuntimeOwnedBits {
  /** The trait of a KVM that leaves the bits as they were sent. */
  readonly unless?: Trait;
}

/** The traits of KVMs that leave a field as it was sent, by the field's name. */
const UNLESS: ReadonlyMap<string | undefined, Trait> = new Map([
  ["osxsave", "leaves-osxsave"],
  ["ospke", "leaves-ospke"],
]);

/** Lists the bits that KVM sets, with the condition. A suite that knows its VM filters this list by its conditions. */
export const KVM_OWNED: readonly KvmOwned[] = RUNTIME_OWNED.map((owned) => {
  const unless = UNLESS.get(owned.field);
  return unless === undefined ? owned : { ...owned, unless };
});

/**
 * Whether KVM may make a change by itself: a field change whose bits are all in one item of `owned`. Pass a filtered
 * list to exclude changes that are impossible on a VM, such as MWAIT without the quirk.
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
