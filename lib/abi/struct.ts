/**
 * Reads and writes C structs by their layouts: fields, nested structs, unions, bit fields, arrays and flexible tails.
 * codec.ts compiles the functions for one layout; layout.ts defines layouts; generated/structs.ts has the list of
 * structs.
 */

import { isBytes } from "./bytes.ts";
import { compiled, Misfit } from "./codec.ts";
import { type Layout, sizeOf, tailedField } from "./layout.ts";

export type { ArrayType, Field, FieldType, Layout, Scalar, Tail } from "./layout.ts";
export { offsetOf, sizeOf } from "./layout.ts";

/**
 * The argument of `encode` and `write` for a `T`: fields may be omitted at any depth. The value of a 64-bit field is a
 * bigint, or a number that is a safe integer.
 */
export type StructInput<T> = T extends bigint
  ? bigint | number
  : T extends number | Uint8Array
    ? T
    : T extends readonly (infer E)[]
      ? readonly StructInput<E>[]
      : { readonly [K in keyof T]?: StructInput<T[K]> };

type Members = Readonly<Record<string, unknown>>;

/** Creates a view of `bytes` from `offset` to the end; throws if the view would have less than `size` bytes. */
function viewOf(layout: Layout, size: number, bytes: Uint8Array, offset: number): DataView {
  const left = bytes.byteLength - offset;
  if (!Number.isInteger(offset) || offset < 0 || left < size) {
    const got = `got ${bytes.byteLength} bytes`;
    throw new RangeError(`${layout.name}: takes ${size} bytes at offset ${offset}, ${got}`);
  }
  return new DataView(bytes.buffer, bytes.byteOffset + offset, left);
}

/** Returns the number of elements in the tail of a value. @internal */
export function tailLength(layout: Layout, value: unknown): number {
  const members = typeof value === "object" ? (value as Members | null) : null;
  if (layout.tail) {
    const tail = members?.[layout.tail.name];
    return Array.isArray(tail) || isBytes(tail) ? tail.length : 0;
  }
  const last = tailedField(layout);
  return last ? tailLength(last.inner, members?.[last.field.name]) : 0;
}

/**
 * Reads a struct from bytes. The value shares no memory with the bytes. For a union, every member is read.
 *
 * @param offset the struct's offset, in bytes
 * @returns an object with one property per field; the count determines the number of elements of a tail, and a tail
 *   without a count has as many elements as fit
 * @throws RangeError if there are too few bytes for the struct, or for as many elements as its count
 */
export function read<T>(layout: Layout<T>, bytes: Uint8Array, offset = 0): T {
  return readView(layout, viewOf(layout, layout.size, bytes, offset));
}

/** Reads a struct from the start of a view, as {@link read} does. @internal */
export function readView<T>(layout: Layout<T>, view: DataView): T {
  return compiled(layout).read(view, 0) as T;
}

/**
 * Writes the fields of `value` into bytes; all other fields stay unchanged. If members of a union overlap, the last
 * member of `value` overwrites the others. Missing elements of an array become zero. If `value` has a tail but not its
 * count, the count is set to the number of elements.
 *
 * @param offset the struct's offset, in bytes
 * @param where the start of error messages, such as the called method
 * @throws TypeError for a field that does not exist, or a value of a wrong type
 * @throws RangeError for a number or an array that does not fit, or too few bytes; earlier fields are already written
 */
export function write<T>(
  layout: Layout<T>,
  value: StructInput<T>,
  bytes: Uint8Array,
  offset = 0,
  where?: string,
): void {
  const size = sizeOf(layout, tailLength(layout, value));
  fill(layout, value, viewOf(layout, size, bytes, offset), where);
}

/**
 * Encodes a struct and its tail. Fields that `value` does not have are zero, as with C's designated initialisers; all
 * other fields are written as by `write`.
 *
 * @param where the start of error messages, such as the called method: `"irqfd()"`
 * @throws TypeError for a field that does not exist, or a value of the wrong type
 * @throws RangeError for a number or an array that does not fit
 */
export function encode<T>(layout: Layout<T>, value: StructInput<T>, where?: string): Uint8Array {
  const bytes = new Uint8Array(sizeOf(layout, tailLength(layout, value)));
  fill(layout, value, new DataView(bytes.buffer), where);
  return bytes;
}

/**
 * Writes a struct at the start of a view, as {@link write} does. The view must be large enough.
 *
 * @returns true if it found every field of the struct in `value`, at every depth; otherwise a field may be missing
 * @internal
 */
export function fill<T>(
  layout: Layout<T>,
  value: StructInput<T>,
  view: DataView,
  where?: string,
): boolean {
  const { write: writeAny, writePlain, writeOther = writeAny } = compiled(layout);
  try {
    if (writePlain?.(view, 0, value)) return true;
    writeOther(view, 0, value);
    return false;
  } catch (error) {
    if (!(error instanceof Misfit)) throw error;
    const start = where === undefined ? "" : `${where}: `;
    throw new error.Kind(`${start}${layout.name}${error.path}${error.text}`);
  }
}
