/**
 * Reusable bytes for structs on their way to the kernel or back. Bytes that a caller keeps are allocated by struct.ts.
 */
import { type Layout, sizeOf } from "./layout.ts";
import { fill, type StructInput, tailLength } from "./struct.ts";

/** The bytes of one struct; the borrower sets `isFree` when it has finished. */
export interface Scratch {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  isFree: boolean;
}

/** The maximal size that is kept. */
const MOST_BYTES = 16_384;

const kept = new WeakMap<Layout, Scratch>();

/** Lends zeroed bytes. Bytes that an outer caller has borrowed are not lent again. */
export function borrow(layout: Layout, size: number = sizeOf(layout)): Scratch {
  const found = kept.get(layout);
  if (found?.isFree && found.bytes.length === size) {
    found.isFree = false;
    found.bytes.fill(0);
    return found;
  }
  const bytes = new Uint8Array(size);
  const made = { bytes, view: new DataView(bytes.buffer), isFree: false };
  if (found?.isFree !== false && size <= MOST_BYTES) kept.set(layout, made);
  return made;
}

/** Lends the bytes of a struct, with the content that `encode` would produce; `where` begins its error messages. */
export function borrowEncoded<T>(
  layout: Layout<T>,
  value: StructInput<T>,
  where?: string,
): Scratch {
  const scratch = borrow(layout, sizeOf(layout, tailLength(layout, value)));
  try {
    fill(layout, value, scratch.view, where);
  } catch (error) {
    scratch.isFree = true;
    throw error;
  }
  return scratch;
}
