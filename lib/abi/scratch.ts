/**
 * Reusable buffers for structs that are passed to the kernel or returned by it. struct.ts allocates the bytes that a
 * caller keeps.
 */
import { type Layout, sizeOf } from "./layout.ts";
import { fill, type StructInput, tailLength } from "./struct.ts";

/** A buffer for one struct; the borrower sets `isFree` when it no longer uses the buffer. */
export interface Scratch {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  isFree: boolean;
  /** Whether the encoded value is known to have every field of the struct. */
  isWhole: boolean;
}

/** The maximum size of a buffer that is kept for reuse, in bytes. */
const MOST_BYTES = 16_384;

const kept = new WeakMap<Layout, Scratch>();

/** Lends a zeroed buffer. A buffer that an outer caller still uses is not lent again. */
export function borrow(layout: Layout, size: number = sizeOf(layout)): Scratch {
  const found = kept.get(layout);
  if (found?.isFree && found.bytes.length === size) {
    found.isFree = false;
    found.bytes.fill(0);
    return found;
  }
  const bytes = new Uint8Array(size);
  const made = { bytes, view: new DataView(bytes.buffer), isFree: false, isWhole: false };
  if (found?.isFree !== false && size <= MOST_BYTES) kept.set(layout, made);
  return made;
}

/** Lends a buffer with the encoded struct, as `encode` would return it; error messages begin with `where`. */
export function borrowEncoded<T>(
  layout: Layout<T>,
  value: StructInput<T>,
  where?: string,
): Scratch {
  const scratch = borrow(layout, sizeOf(layout, tailLength(layout, value)));
  try {
    scratch.isWhole = fill(layout, value, scratch.view, where);
  } catch (error) {
    scratch.isFree = true;
    throw error;
  }
  return scratch;
}
