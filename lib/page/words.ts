/** Words that the engine and the views share: counted nouns, and the search for a field. */
import type { FieldView } from "./protocol.ts";

/** Formats a number with its noun: `1 fault`, `2 faults`. */
export const counted = (count: number, one: string): string =>
  `${count} ${one}${count === 1 ? "" : "s"}`;

/** Whether a field has a text, in lower case, in one of its names, its place or its description. */
export const matchesField = (
  { name, place, description, aliases }: FieldView,
  wanted: string,
): boolean =>
  [name, place, description, ...aliases].some((text) => text.toLowerCase().includes(wanted));
