/**
 * Creates arbitrary values of structs from their layouts, and lists the fields that a value contains. The tests define
 * the properties.
 */

import fc from "fast-check";
import {
  type Field,
  type FieldType,
  type Layout,
  scalars,
  sizeOfType,
} from "../../../lib/abi/layout.ts";
import type { Scalar } from "../../../lib/abi/struct.ts";

/** A value of a struct in which fields may be missing. */
export type Members = Readonly<Record<string, unknown>>;

/**
 * The path of a field, as a list of names such as `redirtbl`, `fields`, `mask`. All elements of an array have the same
 * path.
 */
export type Path = readonly string[];

const integers: Readonly<Record<Exclude<Scalar, "u64" | "s64">, readonly [number, number]>> = {
  u8: [0, 0xff],
  u16: [0, 0xffff],
  u32: [0, 0xffff_ffff],
  s8: [-0x80, 0x7f],
  s16: [-0x8000, 0x7fff],
  s32: [-0x8000_0000, 0x7fff_ffff],
};

function scalarOf(type: Scalar): fc.Arbitrary<number | bigint> {
  if (type === "u64") return fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  if (type === "s64") return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
  const [min, max] = integers[type];
  return fc.integer({ min, max });
}

/** Creates arbitrary values of a bit field, within the field's width. */
function bitsOf(type: Scalar, width: number): fc.Arbitrary<number | bigint> {
  const span = 2n ** BigInt(width);
  const min = type.startsWith("s") ? -span / 2n : 0n;
  const any = fc.bigInt({ min, max: min + span - 1n });
  return type.endsWith("64") ? any : any.map(Number);
}

/**
 * Larger arrays are derived from one number, because thousands of arbitrary elements are slow, especially when
 * fast-check shrinks them.
 */
const SMALL = 64;

/** Creates an arbitrary byte array of this length. */
export function bytesOf(length: number): fc.Arbitrary<Uint8Array> {
  if (length <= SMALL) return fc.uint8Array({ minLength: length, maxLength: length });
  return fc.nat().map((start) => {
    let state = start;
    return Uint8Array.from({ length }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
      return state >>> 24;
    });
  });
}

/** Creates an arbitrary array of a fixed size. */
function arrayOf(of: FieldType, count: number, path: Path): fc.Arbitrary<unknown> {
  if (of === "u8") return bytesOf(count);
  if (typeof of !== "string") return listOf(of, count, count, path);
  const { size, get } = scalars[of];
  return bytesOf(count * size).map((bytes) => {
    const view = new DataView(bytes.buffer);
    return Array.from({ length: count }, (_, i) => get(view, i * size));
  });
}

function listOf(of: FieldType, least: number, most: number, path: Path): fc.Arbitrary<unknown> {
  const range = { minLength: least, maxLength: most };
  return of === "u8" ? fc.uint8Array(range) : fc.array(anyOf(of, path), range);
}

function anyOf(type: FieldType, path: Path): fc.Arbitrary<unknown> {
  if (typeof type === "string") return scalarOf(type);
  return "of" in type ? arrayOf(type.of, type.count, path) : structValue(type, path);
}

/** Creates an arbitrary value of a field; if `path` leads through the field, the value contains the field at `path`. */
export function fieldValue({ type, bits }: Field, path: Path = []): fc.Arbitrary<unknown> {
  return bits && typeof type === "string" ? bitsOf(type, bits[1]) : anyOf(type, path);
}

/** Returns the position of a field's bits within its struct: the first bit, and the first bit after the field. */
function extent({ offset, type, bits }: Field): readonly [number, number] {
  const [shift, width] = bits ?? [0, 8 * sizeOfType(type)];
  return [8 * offset + shift, 8 * offset + shift + width];
}

/** Groups fields that overlap: the members of a union, even if the union is flattened into its struct. */
function overlapping(fields: readonly Field[]): readonly (readonly Field[])[] {
  const groups: Field[][] = [];
  let reached = 0;
  for (const field of fields.toSorted((a, b) => extent(a)[0] - extent(b)[0])) {
    const [first, end] = extent(field);
    const group = groups.at(-1);
    if (group && first < reached) group.push(field);
    else groups.push([field]);
    reached = Math.max(reached, end);
  }
  return groups;
}

/** Chooses one of the overlapping members: the member on the path if there is one, otherwise any member. */
function memberOf(group: readonly Field[], [name, ...rest]: Path) {
  const wanted = group.filter((field) => field.name === name);
  const choice = (wanted.length > 0 ? wanted : group).map((field) =>
    fieldValue(field, rest).map((value) => [field.name, value] as const),
  );
  return fc.oneof(...choice);
}

/** Adds the count of a tail to a value. */
function counted({ tail, fields }: Layout, members: Members): Members {
  const count = fields.find(({ name }) => name === tail?.count);
  if (!tail || !count) return members;
  const { length } = members[tail.name] as ArrayLike<unknown>;
  return { ...members, [count.name]: count.type === "u64" ? BigInt(length) : length };
}

/**
 * Creates an arbitrary value of a struct with every field. The value has only one of overlapping members, because
 * another member would overwrite it. The value contains the field at `path`.
 */
export function structValue(layout: Layout, path: Path = []): fc.Arbitrary<Members> {
  const { tail, fields } = layout;
  const groups = overlapping(fields.filter(({ name }) => name !== tail?.count));
  const members = groups.map((group) => memberOf(group, path));
  const [name, ...rest] = path;
  const least = tail?.name === name ? 1 : 0;
  const end = tail
    ? [listOf(tail.element, least, 5, rest).map((value) => [tail.name, value] as const)]
    : [];
  return fc.tuple(...members, ...end).map((named) => counted(layout, Object.fromEntries(named)));
}

const innerOf = (type: FieldType): Layout | undefined => {
  if (typeof type === "string") return undefined;
  return "of" in type ? innerOf(type.of) : type;
};

const isList = (value: unknown): value is ArrayLike<unknown> =>
  Array.isArray(value) || value instanceof Uint8Array;

function namedIn(type: FieldType, value: unknown): readonly Path[] {
  const inner = innerOf(type);
  if (isList(value)) {
    const elements = Array.from(value).slice(0, inner ? undefined : 1);
    return elements.flatMap((one) => namedIn(type, one));
  }
  return inner ? named(inner, value as Members) : [[]];
}

/** Lists the paths of the integers that a value contains, one path for each element of an array. */
export function named({ fields, tail }: Layout, members: Members): readonly Path[] {
  const all = [...fields, ...(tail ? [{ name: tail.name, type: tail.element }] : [])];
  return all
    .filter(({ name }) => members[name] !== undefined)
    .flatMap(({ name, type }) => namedIn(type, members[name]).map((rest) => [name, ...rest]));
}

/** Creates the same values of a struct in each run, enough of them to contain every path. */
export function covering(layout: Layout, paths: readonly Path[], seed: number): readonly Members[] {
  const values: Members[] = [];
  const seen = new Set<string>();
  for (const path of paths) {
    if (seen.has(path.join("."))) continue;
    const some = fc.sample(structValue(layout, path), { seed, numRuns: 1 });
    values.push(...some);
    for (const way of some.flatMap((value) => named(layout, value))) seen.add(way.join("."));
  }
  return values;
}

/** Returns the part of a read value that `members` contains. */
export function only(value: unknown, members: unknown): unknown {
  if (isList(members) && isList(value)) {
    return value instanceof Uint8Array
      ? value
      : Array.from(value, (element, i) => only(element, members[i]));
  }
  if (typeof members !== "object" || typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(members ?? {}).map(([name, member]) => [
      name,
      only((value as Members)[name], member),
    ]),
  );
}
