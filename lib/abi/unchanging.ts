/**
 * Lists of structs that never change, so that their bytes can be encoded once and kept. The class that makes such a
 * list registers it: no other code can determine that a list is immutable to any depth.
 */

const lists = new WeakSet<object>();

/** Registers a list whose elements, and everything in them, are frozen and have no getters. */
export function registerUnchanging(list: object): void {
  lists.add(list);
}

/** Whether a list was registered by {@link registerUnchanging}. */
export function isUnchanging(list: unknown): boolean {
  return typeof list === "object" && list !== null && lists.has(list);
}
