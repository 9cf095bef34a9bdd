/**
 * Registers lists of structs that never change, so that the encoded bytes of a list can be cached. Only the class that
 * creates a list can know that the list never changes at any depth, so this class registers the list.
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
