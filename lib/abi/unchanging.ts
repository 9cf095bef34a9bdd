/**
 * Registers lists of structs that never change, so that the encoded bytes of a list can be cached. The class that
 * creates such a list registers it, because no other code can determine that a list is immutable at every depth.
 */

const lists = new WeakSet<object>();

/** Registers a list whose elements are frozen at every depth and have no getters. */
export function registerUnchanging(list: object): void {
  lists.add(list);
}

/** Whether a list was registered by {@link registerUnchanging}. */
export function isUnchanging(list: unknown): boolean {
  return typeof list === "object" && list !== null && lists.has(list);
}
