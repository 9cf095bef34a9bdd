/**
 * The functions with which generated/codecs.ts writes the members of a struct: each writes one valid member and returns
 * whether it did. They only detect an invalid value; struct.ts creates the error.
 */

/** A value for a `T` before it is checked. */
export type Parts<T> = {
  readonly [K in keyof T]?: T[K] extends object ? Parts<T[K]> : unknown;
};

/** Writes a member of `x`: returns 1, 0 if `x` does not have it, or a negative number if its value is invalid. */
export type Put = (view: DataView, at: number, x: object | undefined) => number;

/** The generated code of a struct. */
export interface Codec {
  /** Writes a whole struct into zeros; a part may have been written if the struct is invalid. */
  readonly put: Put;
  /** Reads a struct; undefined if the layout's interpreter is as fast. */
  readonly read?: (view: DataView, at: number) => unknown;
}

/** A negative number so large that no sum with it equals a number of members. */
export const MISFIT = -1_000_000;

const LAST_U64 = 0xffff_ffff_ffff_ffffn;

const others = (x: unknown): number => (x === undefined ? 0 : MISFIT);

/** Writes a u8. */
export function u8(view: DataView, at: number, x: unknown): number {
  if (typeof x !== "number" || (x & 0xff) !== x) return others(x);
  view.setUint8(at, x);
  return 1;
}

/** Writes a u16. */
export function u16(view: DataView, at: number, x: unknown): number {
  if (typeof x !== "number" || (x & 0xffff) !== x) return others(x);
  view.setUint16(at, x, true);
  return 1;
}

/** Writes a u32. */
export function u32(view: DataView, at: number, x: unknown): number {
  if (typeof x !== "number" || x >>> 0 !== x) return others(x);
  view.setUint32(at, x, true);
  return 1;
}

/** Writes a u64. */
export function u64(view: DataView, at: number, x: unknown): number {
  // Not asUintN: comparing its result would need another conversion to a bigint.
  if (typeof x !== "bigint" || x < 0n || x > LAST_U64) return u64Number(view, at, x);
  view.setBigUint64(at, x, true);
  return 1;
}

/** Writes a u64 from a number, if that is a safe integer. */
function u64Number(view: DataView, at: number, x: unknown): number {
  if (typeof x !== "number" || !Number.isSafeInteger(x) || x < 0) return others(x);
  view.setUint32(at, x >>> 0, true);
  view.setUint32(at + 4, Math.floor(x / 2 ** 32), true);
  return 1;
}

/** Writes an array of u16; missing elements stay unchanged. */
export function u16s(view: DataView, at: number, x: unknown, most: number): number {
  if (!Array.isArray(x) || x.length > most) return others(x);
  for (let i = 0; i < x.length; i += 1) if (u16(view, at + 2 * i, x[i]) !== 1) return MISFIT;
  return 1;
}

/** Three words of padding, as in CPUID entries. V8 reads a frozen array slowly, so this one is recognised. */
export const NO_PADDING: readonly number[] = Object.freeze([0, 0, 0]);

/** Writes an array of u32; missing elements stay unchanged. */
export function u32s(view: DataView, at: number, x: unknown, most: number): number {
  if (!Array.isArray(x) || x.length > most) return others(x);
  if (x === NO_PADDING) return 1;
  for (let i = 0; i < x.length; i += 1) if (u32(view, at + 4 * i, x[i]) !== 1) return MISFIT;
  return 1;
}

/** Writes an array of u64; missing elements stay unchanged. */
export function u64s(view: DataView, at: number, x: unknown, most: number): number {
  if (!Array.isArray(x) || x.length > most) return others(x);
  for (let i = 0; i < x.length; i += 1) if (u64(view, at + 8 * i, x[i]) !== 1) return MISFIT;
  return 1;
}

/** Writes a tail of structs of this many bytes each. */
export function tail(view: DataView, at: number, x: unknown, size: number, put: Put): number {
  if (!Array.isArray(x) || x.length * size > view.byteLength - at) return others(x);
  for (let i = 0; i < x.length; i += 1) if (put(view, at + size * i, x[i]) !== 1) return MISFIT;
  return 1;
}

/** Writes the count of a tail: the given count, right or wrong, or else the tail's length. */
export function count32(view: DataView, at: number, x: unknown, counted: unknown): number {
  if (x !== undefined || !Array.isArray(counted)) return u32(view, at, x);
  view.setUint32(at, counted.length, true);
  return 0;
}

/** Counts the names in an object: more than were written means an unknown member. */
export function namesIn(x: object): number {
  let names = 0;
  for (const _ in x) names += 1;
  return names;
}
