/**
 * Layouts of C structs in memory, and the sizes and offsets that follow from them. generated/structs.ts has the layouts
 * of KVM's structs; struct.ts reads and writes structs by their layouts.
 */

import { describe, quoted } from "../options.ts";

declare const shape: unique symbol;

/**
 * A C integer: sign and width in bits. The value of a 64-bit integer is a bigint, and the value of any other integer is
 * a number.
 */
export type Scalar = "u8" | "u16" | "u32" | "u64" | "s8" | "s16" | "s32" | "s64";

/** A C array of one type. An array of `u8` (or `char`) is a `Uint8Array`. */
export interface ArrayType {
  readonly of: FieldType;
  readonly count: number;
}

/** The type of a field. */
export type FieldType = Scalar | ArrayType | Layout;

/** A member of a struct. `offset` is in bytes; all members of a union have the same offset. */
export interface Field {
  readonly name: string;
  readonly offset: number;
  readonly type: FieldType;
  /**
   * The number of a bit field's lowest bit, counted from bit 0 of the byte at `offset`, and the field's width in bits.
   */
  readonly bits?: readonly [shift: number, width: number];
}

/** A flexible array at the end of a struct: `count` names the field with the number of elements. */
export interface Tail {
  readonly name: string;
  readonly offset: number;
  readonly element: Scalar | Layout;
  /**
   * The name of the field with the number of elements. The name is undefined if another struct or a capability defines
   * the number; the tail then has all remaining bytes.
   */
  readonly count: string | undefined;
}

/** The layout of a C struct or union whose value is a `T`. `size` is C's `sizeof`, in bytes. */
export interface Layout<T = unknown> {
  /** The C name without `struct`; for an anonymous struct, the path of the field that contains it. */
  readonly name: string;
  readonly size: number;
  readonly fields: readonly Field[];
  readonly tail?: Tail;
  /** This member exists only in the type: it connects a layout to the type of its values. */
  readonly [shape]?: T;
}

/** The size of a C integer, and the functions that read and write it. */
export interface Access {
  readonly size: number;
  get(view: DataView, at: number): number | bigint;
  set(view: DataView, at: number, value: never): void;
}

/** The access functions of each C integer. The integers of all structs are little endian, as on x86. */
export const scalars: Readonly<Record<Scalar, Access>> = {
  u8: { size: 1, get: (v, at) => v.getUint8(at), set: (v, at, x) => v.setUint8(at, x) },
  u16: {
    size: 2,
    get: (v, at) => v.getUint16(at, true),
    set: (v, at, x) => v.setUint16(at, x, true),
  },
  u32: {
    size: 4,
    get: (v, at) => v.getUint32(at, true),
    set: (v, at, x) => v.setUint32(at, x, true),
  },
  u64: {
    size: 8,
    get: (v, at) => v.getBigUint64(at, true),
    set: (v, at, x) => v.setBigUint64(at, x, true),
  },
  s8: { size: 1, get: (v, at) => v.getInt8(at), set: (v, at, x) => v.setInt8(at, x) },
  s16: {
    size: 2,
    get: (v, at) => v.getInt16(at, true),
    set: (v, at, x) => v.setInt16(at, x, true),
  },
  s32: {
    size: 4,
    get: (v, at) => v.getInt32(at, true),
    set: (v, at, x) => v.setInt32(at, x, true),
  },
  s64: {
    size: 8,
    get: (v, at) => v.getBigInt64(at, true),
    set: (v, at, x) => v.setBigInt64(at, x, true),
  },
};

/** Reads a field of the text that {@link layoutOf} takes. */
function fieldOfText(text: string, layouts: readonly Layout[]): Field {
  const [name = "", offset, type = "", ...bits] = text.split(" ");
  const [element = "", ...counts] = type.split(/\[|\]\[?/).slice(0, type.includes("[") ? -1 : 1);
  const one = element.startsWith("#") ? layouts[Number(element.slice(1))] : (element as Scalar);
  const [shift, width] = bits.map(Number);
  return {
    name,
    offset: Number(offset),
    type: counts.reduceRight<FieldType>(
      (of, count) => ({ of, count: Number(count) }),
      one as FieldType,
    ),
    ...(shift === undefined || width === undefined ? {} : { bits: [shift, width] as const }),
  };
}

/**
 * Makes a layout whose fields are text until their first use. A program uses few of the layouts, and V8 reads a text
 * much faster than nested objects.
 *
 * @param text the fields, separated by commas: name, offset, type and, for a bit field, lowest bit and width. `u64[4]` is
 *   an array, `#0` the first of `layouts`
 * @internal
 */
/* @__NO_SIDE_EFFECTS__ */
export function layoutOf<T>(
  name: string,
  size: number,
  text: string,
  layouts: readonly Layout[] = [],
  tail?: Tail,
): Layout<T> {
  let value: readonly Field[] | undefined;
  return {
    name,
    size,
    get fields() {
      if (value) return value;
      const fields = text.trim();
      value = fields === "" ? [] : fields.split(/,\s+/).map((one) => fieldOfText(one, layouts));
      // A frozen layout keeps the getter. The descriptor inherits nothing from a changed Object.prototype.
      Reflect.defineProperty(
        this,
        "fields",
        Object.assign(Object.create(null), { value, enumerable: true }),
      );
      return value;
    },
    ...(tail && { tail }),
  };
}

/** Returns the size of a type in bytes. */
export function sizeOfType(type: FieldType): number {
  if (typeof type === "string") return scalars[type].size;
  return "of" in type ? type.count * sizeOfType(type.of) : type.size;
}

/** Formats a type in C syntax: `u64[4]`. */
export function nameOfType(type: FieldType): string {
  if (typeof type === "string") return type;
  if (!("of" in type)) return type.name;
  const [, element = "", dimensions = ""] = /^(.*?)((?:\[\d+\])*)$/.exec(nameOfType(type.of)) ?? [];
  return `${element}[${type.count}]${dimensions}`;
}

const fieldsByName = new WeakMap<Layout, ReadonlyMap<string, Field>>();

/** Finds a field by its name. */
export function fieldOf(layout: Layout, name: string): Field | undefined {
  let fields = fieldsByName.get(layout);
  if (!fields) {
    fields = new Map(layout.fields.map((field) => [field.name, field]));
    fieldsByName.set(layout, fields);
  }
  return fields.get(name);
}

/** Returns the last field if it is a struct with a tail. */
export function tailedField(layout: Layout): { field: Field; inner: Layout } | undefined {
  const field = layout.fields.at(-1);
  if (typeof field?.type !== "object" || "of" in field.type) return undefined;
  const inner = field.type;
  return inner.tail ? { field, inner } : undefined;
}

/**
 * Returns the size of a struct in bytes, with this many elements in its tail.
 *
 * @throws TypeError if `tailLength` is not a number
 * @throws RangeError if `tailLength` is not an integer of at least 0, or if the struct has no tail and elements are
 *   requested
 */
export function sizeOf(layout: Layout, tailLength = 0): number {
  if (typeof tailLength !== "number") {
    throw new TypeError(`sizeOf(): tailLength: expected a number, got ${describe(tailLength)}`);
  }
  if (!Number.isSafeInteger(tailLength) || tailLength < 0) {
    throw new RangeError(`sizeOf(): tailLength: ${tailLength} is not an integer of at least 0`);
  }
  const last = tailedField(layout);
  if (last) return last.field.offset + sizeOf(last.inner, tailLength);
  if (layout.tail) {
    const end = layout.tail.offset + tailLength * sizeOfType(layout.tail.element);
    return Math.max(layout.size, end);
  }
  if (tailLength !== 0) throw new RangeError(`${layout.name} has no tail`);
  return layout.size;
}

/** A path: names separated by dots, each with any number of indexes. */
const PATH = /^[^.[\]]+(?:\[\d+\])*(?:\.[^.[\]]+(?:\[\d+\])*)*$/;

/**
 * Returns the offset of a field in bytes, like C's `offsetof`: `"cs.base"`, `"entries[2].eax"`. For a bit field, the
 * result is the field's `offset` in the layout.
 *
 * @throws TypeError if `path` is not a path, or if the struct has no field with this path
 * @throws RangeError if an index is outside of its array
 */
export function offsetOf(layout: Layout, path: string): number {
  if (typeof path !== "string") {
    throw new TypeError(`offsetOf(): path: expected a string, got ${describe(path)}`);
  }
  const direct = fieldOf(layout, path);
  if (direct) return direct.offset;
  if (!PATH.test(path)) {
    throw new TypeError(`offsetOf(): path: ${quoted(path)} is not a path such as "entries[2].eax"`);
  }
  let offset = 0;
  let type: FieldType = layout;
  let most = 0;
  for (const [, name, index] of path.matchAll(/([^.[\]]+)|\[(\d+)\]/g)) {
    if (typeof type === "string" || "of" in type === (name !== undefined)) {
      const part =
        name === undefined ? `is no array and has no [${index}]` : `has no field "${name}"`;
      throw new TypeError(`offsetOf(): path: ${quoted(path)}: ${nameOfType(type)} ${part}`);
    }
    if ("of" in type) {
      if (Number(index) >= most) {
        throw new RangeError(
          `offsetOf(): path: ${quoted(path)}: no element has the index ${index}`,
        );
      }
      offset += Number(index) * sizeOfType(type.of);
      type = type.of;
    } else {
      const isTail: boolean = type.tail?.name === name;
      const field: Field | Tail | undefined = isTail ? type.tail : fieldOf(type, name ?? "");
      if (!field) throw new TypeError(`${type.name} has no field "${name}"`);
      offset += field.offset;
      type = "type" in field ? field.type : { of: field.element, count: 0 };
      if (isTail) {
        most = Number.MAX_SAFE_INTEGER;
        continue;
      }
    }
    if (typeof type !== "string" && "of" in type) most = type.count;
  }
  return offset;
}
