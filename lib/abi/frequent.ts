/**
 * Reads and writes members of a struct for generated/frequent.ts. A generated writer writes only a value that fits and
 * has all members in the struct's order. codec.ts writes all other values, and creates the error if a value does not
 * fit.
 */
import type { Layout } from "./layout.ts";

/**
 * Writes a value. If the function returns false, the members before the first one that does not fit were written.
 *
 * @returns whether the whole value was written
 */
export type Write = (view: DataView, at: number, x: unknown) => boolean;

/** The generated functions of a struct. */
export interface Frequent {
  readonly read: (view: DataView, at: number) => unknown;
  /** The generated writer; undefined if programs rarely write this struct. */
  readonly write?: Write;
}

/** Copies bytes. */
export function bytes(view: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, length).slice();
}

/** Lists the names of a struct's members in the order of the struct. */
export function namesOf<T>(layout: Layout<T>): readonly (keyof T & string)[] {
  return layout.fields.map(({ name }) => name as keyof T & string);
}

/**
 * An object with these members. If the object is also iterable, its properties may not describe its content; the writer
 * of the struct checks this.
 */
type Whole<K extends string> = Readonly<Record<K, unknown>> & Partial<Iterable<unknown>>;

/**
 * Returns whether the own enumerable properties of a value are exactly these names, in this order. No member is then
 * inherited, unknown or missing.
 */
export function isWhole<K extends string>(x: unknown, names: readonly K[]): x is Whole<K> {
  if (typeof x !== "object" || x === null) return false;
  const own = Object.keys(x);
  if (own.length !== names.length) return false;
  for (let i = 0; i < own.length; i += 1) if (own[i] !== names[i]) return false;
  return true;
}

/** Writes a u8. */
export function u8(view: DataView, at: number, x: unknown): boolean {
  if (typeof x !== "number" || (x & 0xff) !== x) return false;
  view.setUint8(at, x);
  return true;
}

/** Writes a u16. */
export function u16(view: DataView, at: number, x: unknown): boolean {
  if (typeof x !== "number" || (x & 0xffff) !== x) return false;
  view.setUint16(at, x, true);
  return true;
}

/** Writes a u32. */
export function u32(view: DataView, at: number, x: unknown): boolean {
  if (typeof x !== "number" || x >>> 0 !== x) return false;
  view.setUint32(at, x, true);
  return true;
}

const LAST_U64 = 0xffff_ffff_ffff_ffffn;

/** Writes a u64, if it is a bigint. */
export function u64(view: DataView, at: number, x: unknown): boolean {
  // BigInt.asUintN is not used, because the comparison would need another conversion to a bigint.
  if (typeof x !== "bigint" || x < 0n || x > LAST_U64) return false;
  view.setBigUint64(at, x, true);
  return true;
}

/** Writes an array of `count` u16. */
export function u16s(view: DataView, at: number, x: unknown, count: number): boolean {
  if (!Array.isArray(x) || x.length !== count) return false;
  for (let i = 0; i < count; i += 1) if (!u16(view, at + 2 * i, x[i])) return false;
  return true;
}

/** Writes an array of `count` u32. */
export function u32s(view: DataView, at: number, x: unknown, count: number): boolean {
  if (!Array.isArray(x) || x.length !== count) return false;
  for (let i = 0; i < count; i += 1) if (!u32(view, at + 4 * i, x[i])) return false;
  return true;
}

/** Writes an array of `count` u64. */
export function u64s(view: DataView, at: number, x: unknown, count: number): boolean {
  if (!Array.isArray(x) || x.length !== count) return false;
  for (let i = 0; i < count; i += 1) if (!u64(view, at + 8 * i, x[i])) return false;
  return true;
}
