/**
 * Finds the missing fields of a value, for methods that replace a whole struct or require some fields. struct.ts
 * encodes structs.
 */
import { refuseMissing } from "../options.ts";
import type { IoapicStateRedirtbl, IrqchipChip } from "./generated/structs.ts";
import { type Field, type FieldType, type Layout, sizeOfType } from "./layout.ts";
import { encode, read, type StructInput } from "./struct.ts";

type Members = Readonly<Record<string, unknown>>;

/** The names of padding and reserved fields, which may be omitted. */
type PaddingName = `pad${string}` | `reserved${string}` | "dummy";
const PADDING = /^(pad|reserved|dummy)/;

/** The argument of a method that requires the fields `K` of a `T`; other fields are 0 if omitted. */
export type StructInputWith<T, K extends keyof T> = StructInput<T> & {
  readonly [N in K]: StructInput<T[N]>;
};

/** The structs that are unions: their members are different interpretations of the same bytes. */
type UnionStruct = IrqchipChip | IoapicStateRedirtbl;

/** The value of a union, which must have at least one member. */
type OneOf<T> = {
  readonly [K in Exclude<keyof T, PaddingName>]: { readonly [N in K]: WholeStructInput<T[K]> };
}[Exclude<keyof T, PaddingName>];

/** The argument of a method that replaces a whole `T`: every field except padding is required, at every depth. */
export type WholeStructInput<T> = T extends bigint
  ? bigint | number
  : T extends number | Uint8Array
    ? T
    : T extends readonly (infer E)[]
      ? readonly WholeStructInput<E>[]
      : T extends UnionStruct
        ? OneOf<T>
        : {
            readonly [K in keyof T as K extends PaddingName ? never : K]: WholeStructInput<T[K]>;
          } & { readonly [K in keyof T as K extends PaddingName ? K : never]?: StructInput<T[K]> };

const flat = new WeakMap<Layout, boolean>();

/** Returns whether all fields are integers that do not overlap. */
function isFlat(layout: Layout): boolean {
  const known = flat.get(layout);
  if (known !== undefined) return known;
  const isSimple = layout.fields.every(({ type, bits }) => typeof type === "string" && !bits);
  const sum = layout.fields.reduce((total, { type }) => total + sizeOfType(type), 0);
  const isFound = isSimple && sum <= layout.size && layout.tail === undefined;
  flat.set(layout, isFound);
  return isFound;
}

/** Returns the first bit of a field in its struct, and the first bit after the field. */
function bitsOf({ offset, type, bits }: Field): readonly [first: number, end: number] {
  const first = 8 * offset + (bits?.[0] ?? 0);
  return [first, first + (bits?.[1] ?? 8 * sizeOfType(type))];
}

function overlaps(a: Field, b: Field): boolean {
  const [[first, end], [otherFirst, otherEnd]] = [bitsOf(a), bitsOf(b)];
  return first < otherEnd && otherFirst < end;
}

/** Returns the number of elements that an array must have, from a field such as `nrXcrs` for the array `xcrs`. */
function countOf(value: Members, name: string): number | undefined {
  const count = value[`nr${name[0]?.toUpperCase()}${name.slice(1)}`];
  return typeof count === "number" ? count : undefined;
}

/**
 * Returns the members that the encoder writes: the own enumerable ones. Inherited members of a class or of a changed
 * `Object.prototype` count as missing.
 */
function ownMembers(value: object): Members {
  return Object.assign(Object.create(null) as object, value) as Members;
}

/** Rejects a value that is not an object, or whose encoder would not find the fields of `needs`. @throws TypeError */
export function refuseIncomplete(where: string, value: unknown, needs: readonly string[]): void {
  if (typeof value !== "object" || value === null) {
    refuseMissing(where, value, needs);
    return;
  }
  // Tables have many entries, and an entry is copied only for the error.
  const own = Object.keys(value);
  if (needs.every((name) => own.includes(name) && (value as Members)[name] !== undefined)) return;
  refuseMissing(where, ownMembers(value), needs);
}

class Search {
  readonly missing: string[] = [];
  readonly #isPatch: boolean;

  /** Starts a search for missing fields; in a patch, only missing elements of arrays are reported. */
  constructor(isPatch: boolean) {
    this.#isPatch = isPatch;
  }

  /** Searches for missing fields in a value that is valid for `encode`. */
  struct(layout: Layout, given: object, path: string): void {
    const value = ownMembers(given);
    if (isFlat(layout) && namesIn(value) === layout.fields.length && !hasUndefined(value)) return;
    const named = layout.fields.filter(({ name }) => value[name] !== undefined);
    for (const field of layout.fields) {
      const { name, type } = field;
      const member = value[name];
      if (member !== undefined) {
        this.#type(type, member, `${path}${name}`, countOf(value, name));
      } else if (
        !this.#isPatch &&
        !PADDING.test(name) &&
        !named.some((other) => overlaps(other, field))
      ) {
        this.missing.push(`${path}${name}`);
      }
    }
  }

  #type(type: FieldType, value: unknown, path: string, told?: number): void {
    if (typeof type === "string") return;
    if (!("of" in type)) {
      this.struct(type, value as object, `${path}.`);
      return;
    }
    const elements = value as readonly unknown[];
    const { of } = type;
    const count = Math.min(told ?? type.count, type.count);
    if (elements.length < count) this.missing.push(`${path}[${elements.length}] to [${count - 1}]`);
    if (typeof of === "string") return;
    for (let i = 0; i < elements.length; i += 1) this.#type(of, elements[i], `${path}[${i}]`);
  }
}

const unions = new WeakMap<Layout, boolean>();

/** Returns whether a struct, or a struct inside it, has members that overlap. */
export function hasUnion(layout: Layout): boolean {
  const known = unions.get(layout);
  if (known !== undefined) return known;
  const isFound = layout.fields.some(
    (field, i) =>
      layout.fields.slice(0, i).some((other) => overlaps(other, field)) ||
      structOf(field.type, hasUnion),
  );
  unions.set(layout, isFound);
  return isFound;
}

function structOf(type: FieldType, visit: (layout: Layout) => boolean): boolean {
  if (typeof type === "string") return false;
  return "of" in type ? structOf(type.of, visit) : visit(type);
}

/** Rejects a value with two overlapping members of a union if their bytes differ. */
function refuseConflicts(where: string, layout: Layout, given: object, path: string): void {
  if (!hasUnion(layout)) return;
  const value = ownMembers(given);
  const named = layout.fields.filter(({ name }) => value[name] !== undefined);
  const written = read(layout, encode(layout, value)) as Members;
  for (const field of named) {
    const { name } = field;
    refuseConflictsWithin(where, field.type, value[name], `${path}${name}`);
    const rival = named.find((other) => other !== field && overlaps(other, field));
    if (rival === undefined) continue;
    const alone = encode(layout, { [name]: value[name] });
    const again = encode(layout, { [name]: written[name] });
    if (alone.every((byte, i) => byte === again[i])) continue;
    throw new TypeError(
      `${where}: ${layout.name}: ${path}${name} and ${path}${rival.name} have the same bytes ` +
        "and differ; name only one of them",
    );
  }
}

function refuseConflictsWithin(where: string, type: FieldType, value: unknown, path: string): void {
  if (typeof type === "string") return;
  if (!("of" in type)) {
    refuseConflicts(where, type, value as object, `${path}.`);
    return;
  }
  for (const [i, element] of (value as readonly unknown[]).entries()) {
    refuseConflictsWithin(where, type.of, element, `${path}[${i}]`);
  }
}

function namesIn(value: Members): number {
  return Object.keys(value).length;
}

function hasUndefined(value: Members): boolean {
  for (const name in value) if (value[name] === undefined) return true;
  return false;
}

function complain(where: string, layout: Layout, missing: readonly string[], remedy: string): void {
  if (missing.length === 0) return;
  const shown =
    missing.length > 8 ? [...missing.slice(0, 8), `${missing.length - 8} more`] : missing;
  const noun = missing.length === 1 ? "member" : "members";
  throw new TypeError(`${where}: ${layout.name}: missing ${noun} ${shown.join(", ")}${remedy}`);
}

/** Lists the missing fields of a struct's value at every depth, except padding. */
export function missingFields(layout: Layout, value: object): readonly string[] {
  const search = new Search(false);
  search.struct(layout, value, "");
  return search.missing;
}

/**
 * Rejects a value if a field of its struct is missing, at any depth. Padding may be omitted, and a member of a union
 * may be omitted if another member with the same bytes is present. Arrays must have all their elements.
 *
 * @param value the value, which must be valid for `encode`
 * @param remedy the end of the message, which explains how to get the missing fields
 * @throws TypeError that names the missing fields
 * @throws TypeError that names two members of a union if their bytes differ, because one of the values would be lost
 */
export function refusePartial(where: string, layout: Layout, value: object, remedy = ""): void {
  const search = new Search(false);
  search.struct(layout, value, "");
  complain(where, layout, search.missing, remedy);
  refuseConflicts(where, layout, value, "");
}

/**
 * Rejects a patch with an incomplete array, because the missing elements would become 0.
 *
 * @throws TypeError that names the missing elements
 */
export function refuseShortArrays(where: string, layout: Layout, patch: object): void {
  const search = new Search(true);
  search.struct(layout, patch, "");
  complain(where, layout, search.missing, "");
}

/** Rejects a value if one of the required fields is missing. @throws TypeError that names the missing fields */
export function refuseWithout(
  where: string,
  layout: Layout,
  value: object,
  needs: readonly string[],
): void {
  if (needs.length === 0) return;
  const own = ownMembers(value);
  complain(
    where,
    layout,
    needs.filter((name) => own[name] === undefined),
    "",
  );
}
