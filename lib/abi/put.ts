/**
 * How generated/codecs.ts puts a struct's members in place: each function writes one that fits and
 * says so. What does not fit is only noticed here; saying what is wrong with it is struct.ts.
 */

/** What a value of a `T` may be, before it is looked at. */
export type Parts<T> = {
  readonly [K in keyof T]?: T[K] extends object ? Parts<T[K]> : unknown;
};

/** Puts what is named of `x`: gives 1, or 0 when there is no `x`, or less than 0 when it does not fit. */
export type Put = (view: DataView, at: number, x: object | undefined) => number;

/** A struct's own code. */
export interface Codec {
  /** Puts a whole struct in zeros; something may have been put when it does not fit. */
  readonly put: Put;
  /** Reads a struct; missing where a layout does it as fast. */
  readonly read?: (view: DataView, at: number) => unknown;
}

/** What does not fit counts so much less than nothing that no sum with it is a number of members. */
export const MISFIT = -1_000_000;

const LAST_U64 = 0xffff_ffff_ffff_ffffn;

const others = (x: unknown): number => (x === undefined ? 0 : MISFIT);

/** Puts a u8. */
export function u8(view: DataView, at: number, x: unknown): number {
  if (typeof x !== "number" || (x & 0xff) !== x) return others(x);
  view.setUint8(at, x);
  return 1;
}

/** Puts a u16. */
export function u16(view: DataView, at: number, x: unknown): number {
  if (typeof x !== "number" || (x & 0xffff) !== x) return others(x);
  view.setUint16(at, x, true);
  return 1;
}

/** Puts a u32. */
export function u32(view: DataView, at: number, x: unknown): number {
  if (typeof x !== "number" || x >>> 0 !== x) return others(x);
  view.setUint32(at, x, true);
  return 1;
}

/** Puts a u64. */
export function u64(view: DataView, at: number, x: unknown): number {
  // Not asUintN: what it gives has to be made a bigint again to be compared.
  if (typeof x !== "bigint" || x < 0n || x > LAST_U64) return u64Number(view, at, x);
  view.setBigUint64(at, x, true);
  return 1;
}

/** Puts a u64 that is given as a number, if that is a safe integer. */
function u64Number(view: DataView, at: number, x: unknown): number {
  if (typeof x !== "number" || !Number.isSafeInteger(x) || x < 0) return others(x);
  view.setUint32(at, x >>> 0, true);
  view.setUint32(at + 4, Math.floor(x / 2 ** 32), true);
  return 1;
}

/** Puts an array of u16; what is missing of it stays as it is. */
export function u16s(view: DataView, at: number, x: unknown, most: number): number {
  if (!Array.isArray(x) || x.length > most) return others(x);
  for (let i = 0; i < x.length; i += 1) if (u16(view, at + 2 * i, x[i]) !== 1) return MISFIT;
  return 1;
}

/** Three words of padding, as CPUID entries have them. V8 takes long to read a frozen array: this one is known. */
export const NO_PADDING: readonly number[] = Object.freeze([0, 0, 0]);

/** Puts an array of u32; what is missing of it stays as it is. */
export function u32s(view: DataView, at: number, x: unknown, most: number): number {
  if (!Array.isArray(x) || x.length > most) return others(x);
  if (x === NO_PADDING) return 1;
  for (let i = 0; i < x.length; i += 1) if (u32(view, at + 4 * i, x[i]) !== 1) return MISFIT;
  return 1;
}

/** Puts an array of u64; what is missing of it stays as it is. */
export function u64s(view: DataView, at: number, x: unknown, most: number): number {
  if (!Array.isArray(x) || x.length > most) return others(x);
  for (let i = 0; i < x.length; i += 1) if (u64(view, at + 8 * i, x[i]) !== 1) return MISFIT;
  return 1;
}

/** Puts a tail of structs of so many bytes each. */
export function tail(view: DataView, at: number, x: unknown, size: number, put: Put): number {
  if (!Array.isArray(x) || x.length * size > view.byteLength - at) return others(x);
  for (let i = 0; i < x.length; i += 1) if (put(view, at + size * i, x[i]) !== 1) return MISFIT;
  return 1;
}

/** Puts the count of a tail: the one that is given, right or wrong, else how long the tail is. */
export function count32(view: DataView, at: number, x: unknown, counted: unknown): number {
  if (x !== undefined || !Array.isArray(counted)) return u32(view, at, x);
  view.setUint32(at, counted.length, true);
  return 0;
}

/** Counts the names in an object: more than were put is one too many. */
export function namesIn(x: object): number {
  let names = 0;
  for (const _ in x) names += 1;
  return names;
}
