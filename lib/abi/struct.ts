/**
 * Reads and writes C structs by their layouts: fields, nested structs, unions, bit fields, arrays and flexible tails.
 * Layouts are layout.ts; the list of structs is generated/structs.ts.
 */

import { quoted, suggestion } from "../options.ts";
import { isBytes } from "./bytes.ts";
import { codecs } from "./generated/codecs.ts";
import {
  type Field,
  type FieldType,
  fieldOf,
  type Layout,
  nameOfType,
  type Scalar,
  scalars,
  sizeOf,
  sizeOfType,
  type Tail,
  tailedField,
} from "./layout.ts";

export type { ArrayType, Field, FieldType, Layout, Scalar, Tail } from "./layout.ts";
export { offsetOf, sizeOf } from "./layout.ts";

/**
 * The argument of `encode` and `write` for a `T`: any part of it, to any depth. A field of 64 bits takes a bigint, or a
 * number that is a safe integer.
 */
export type StructInput<T> = T extends bigint
  ? bigint | number
  : T extends number | Uint8Array
    ? T
    : T extends readonly (infer E)[]
      ? readonly StructInput<E>[]
      : { readonly [K in keyof T]?: StructInput<T[K]> };

type Members = Readonly<Record<string, unknown>>;

const bytesAt = (view: DataView, at: number, length: number): Uint8Array =>
  new Uint8Array(view.buffer, view.byteOffset + at, length);

function readType(type: FieldType, view: DataView, at: number): unknown {
  if (typeof type === "string") return scalars[type].get(view, at);
  if ("of" in type) return readArray(type.of, type.count, view, at);
  return readStruct(type, view, at);
}

function readArray(of: FieldType, count: number, view: DataView, at: number): unknown {
  if (of === "u8") return bytesAt(view, at, count).slice();
  const size = sizeOfType(of);
  const elements: unknown[] = [];
  for (let i = 0; i < count; i += 1) elements.push(readType(of, view, at + i * size));
  return elements;
}

type Bits = readonly [shift: number, width: number];

/** The bytes of a bit field only, because a whole integer may exceed the struct. */
const bytesOfBits = ([shift, width]: Bits): readonly [first: number, end: number] => [
  shift >> 3,
  (shift + width + 7) >> 3,
];

function readBits(type: FieldType, bits: Bits, view: DataView, at: number): number | bigint {
  const [first, end] = bytesOfBits(bits);
  let raw = 0n;
  for (let i = end - 1; i >= first; i--) raw = (raw << 8n) | BigInt(view.getUint8(at + i));
  const [shift, width] = bits;
  raw >>= BigInt(shift & 7);
  const name = nameOfType(type);
  const value = name.startsWith("s") ? BigInt.asIntN(width, raw) : BigInt.asUintN(width, raw);
  return name.endsWith("64") ? value : Number(value);
}

function writeBits(bits: Bits, value: number | bigint, view: DataView, at: number) {
  const [first, end] = bytesOfBits(bits);
  const [shift, width] = bits;
  const low = BigInt(shift & 7);
  let mask = ((1n << BigInt(width)) - 1n) << low;
  let raw = (BigInt(value) << low) & mask;
  for (let i = first; i < end; i++) {
    const others = view.getUint8(at + i) & ~Number(mask & 0xffn);
    view.setUint8(at + i, others | Number(raw & 0xffn));
    mask >>= 8n;
    raw >>= 8n;
  }
}

function readTail(layout: Layout, tail: Tail, view: DataView, at: number, header: Members) {
  const size = sizeOfType(tail.element);
  const start = at + tail.offset;
  const room = Math.max(0, Math.floor((view.byteLength - start) / size));
  const count = tail.count === undefined ? room : Number(header[tail.count]);
  if (count > room) {
    const there = `${size} bytes each, but there is room for ${room}`;
    throw new RangeError(`${layout.name}.${tail.count}: ${count} entries of ${there}`);
  }
  return readArray(tail.element, count, view, start);
}

function readStruct(layout: Layout, view: DataView, at: number): unknown {
  const codec = codecs.get(layout);
  if (codec?.read) return codec.read(view, at);
  const value: Record<string, unknown> = {};
  for (const field of layout.fields) {
    const start = at + field.offset;
    value[field.name] = field.bits
      ? readBits(field.type, field.bits, view, start)
      : readType(field.type, view, start);
  }
  if (layout.tail) value[layout.tail.name] = readTail(layout, layout.tail, view, at, value);
  return value;
}

/** Creates a view of the rest of `bytes`, if it has at least `size` bytes. */
function viewOf(layout: Layout, size: number, bytes: Uint8Array, offset: number): DataView {
  const left = bytes.byteLength - offset;
  if (!Number.isInteger(offset) || offset < 0 || left < size) {
    const got = `got ${bytes.byteLength} bytes`;
    throw new RangeError(`${layout.name}: takes ${size} bytes at offset ${offset}, ${got}`);
  }
  return new DataView(bytes.buffer, bytes.byteOffset + offset, left);
}

/** Describes a wrong value for an error: its type, and the value if it is short. */
function show(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === "bigint") return `bigint ${value}n`;
  if (typeof value === "number") return `number ${value}`;
  if (typeof value === "string") return `string ${JSON.stringify(value.slice(0, 40))}`;
  return typeof value === "object" ? (value.constructor?.name ?? "object") : typeof value;
}

/** Checks an integer of this many bits, and returns it: a bigint for 64 bits, else a number. */
function checkInteger(type: Scalar, width: number, value: unknown, path: string): never {
  const isWide = type.endsWith("64");
  if (typeof value !== "number" && !(isWide && typeof value === "bigint")) {
    const hint = typeof value === "bigint" ? `; write ${value}` : "";
    const wanted = `expected a ${isWide ? "bigint or a number" : "number"} (${type})`;
    throw new TypeError(`${path}: ${wanted}, got ${show(value)}${hint}`);
  }
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    const isInexact = Number.isInteger(value) && isWide;
    const why = isInexact
      ? "is above 2^53 and may have lost bits; write it as a bigint"
      : "is not an integer";
    if (isInexact || !Number.isInteger(value)) {
      throw new RangeError(`${path}: ${value} ${why} (${type})`);
    }
  }
  const exact = BigInt(value);
  const wrapped = type.startsWith("s") ? BigInt.asIntN(width, exact) : BigInt.asUintN(width, exact);
  if (wrapped !== exact) {
    const bits = width === scalars[type].size * 8 ? type : `${width} bits of ${type}`;
    throw new RangeError(`${path}: ${value} does not fit ${bits}`);
  }
  return (isWide ? exact : value) as never;
}

function writeType(type: FieldType, value: unknown, view: DataView, at: number, path: string) {
  if (typeof type === "string") {
    const { set, size } = scalars[type];
    set(view, at, checkInteger(type, size * 8, value, path));
  } else if ("of" in type) {
    const length = writeArray(type.of, type.count, value, view, at, path);
    const used = length * sizeOfType(type.of);
    bytesAt(view, at + used, sizeOfType(type) - used).fill(0);
  } else {
    writeStruct(type, value, view, at, path);
  }
}

function checkArray(of: FieldType, value: unknown, path: string): ArrayLike<unknown> {
  const isFit = of === "u8" ? isBytes(value) : Array.isArray(value);
  if (isFit) return value as ArrayLike<unknown>;
  const wanted = of === "u8" ? "a Uint8Array" : `an array of ${nameOfType(of)}`;
  throw new TypeError(`${path}: expected ${wanted}, got ${show(value)}`);
}

/** Writes at most `count` elements, and returns the number. */
function writeArray(
  of: FieldType,
  count: number,
  value: unknown,
  view: DataView,
  at: number,
  path: string,
): number {
  const elements = checkArray(of, value, path);
  if (elements.length > count) {
    const name = nameOfType({ of, count });
    throw new RangeError(`${path}: ${elements.length} elements do not fit ${name}`);
  }
  if (isBytes(elements)) {
    bytesAt(view, at, elements.length).set(elements);
    return elements.length;
  }
  const size = sizeOfType(of);
  for (let i = 0; i < elements.length; i++) {
    writeType(of, elements[i], view, at + i * size, `${path}[${i}]`);
  }
  return elements.length;
}

function writeField(field: Field, value: unknown, view: DataView, at: number, path: string) {
  if (!field.bits || typeof field.type !== "string") {
    writeType(field.type, value, view, at + field.offset, path);
    return;
  }
  const integer: number | bigint = checkInteger(field.type, field.bits[1], value, path);
  writeBits(field.bits, integer, view, at + field.offset);
}

function writeTail(
  layout: Layout,
  tail: Tail,
  value: Members,
  view: DataView,
  at: number,
  path: string,
) {
  const start = at + tail.offset;
  const room = Math.floor((view.byteLength - start) / sizeOfType(tail.element));
  const inner = `${path}.${tail.name}`;
  const length = writeArray(tail.element, room, value[tail.name], view, start, inner);
  const count = layout.fields.find(({ name }) => name === tail.count);
  // A given count is used unchanged, because tests must be able to pass a wrong count to the kernel.
  if (!count || value[count.name] !== undefined) return;
  const isWide = count.type === "u64";
  writeField(count, isWide ? BigInt(length) : length, view, at, `${path}.${count.name}`);
}

/** Rejects arrays, maps and tables: their content is not in properties, and would be lost. */
function checkMembers(value: unknown, path: string): Members {
  const isObject = typeof value === "object" && value !== null;
  if (isObject && !(Symbol.iterator in value)) return value as Members;
  throw new TypeError(`${path}: expected an object, got ${show(value)}`);
}

function writeStruct(layout: Layout, value: unknown, view: DataView, at: number, path: string) {
  const members = checkMembers(value, path);
  for (const [name, member] of Object.entries(members)) {
    const field = fieldOf(layout, name);
    if (!field && name !== layout.tail?.name) {
      const known = [...layout.fields, ...(layout.tail ? [layout.tail] : [])].map(
        (one) => one.name,
      );
      throw new TypeError(`${path} has no field ${quoted(name)}${suggestion(name, known)}`);
    }
    if (member === undefined) continue;
    if (field) writeField(field, member, view, at, `${path}.${name}`);
    else if (layout.tail) writeTail(layout, layout.tail, members, view, at, path);
  }
}

/** Returns the length of the tail of a value. @internal */
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
 * Reads a struct from bytes. The value shares no memory with them; of a union, every member is read.
 *
 * @param offset the struct's offset, in bytes
 * @returns one property per field; a tail has as many elements as its count or, without a count, as many as fit
 * @throws RangeError if there are too few bytes for the struct or for its count
 */
export function read<T>(layout: Layout<T>, bytes: Uint8Array, offset = 0): T {
  return readView(layout, viewOf(layout, layout.size, bytes, offset));
}

/** Same as {@link read}, from the start of a view. @internal */
export function readView<T>(layout: Layout<T>, view: DataView): T {
  return readStruct(layout, view, 0) as T;
}

/**
 * Writes the fields of `value` into bytes, and leaves the others unchanged. If members of a union overlap, the last one
 * wins. Missing elements of an array become zero. A tail sets its count, unless `value` has the count too.
 *
 * @param offset the struct's offset, in bytes
 * @param where the start of error messages, such as the called method
 * @throws TypeError for a field that does not exist, or a value of the wrong type
 * @throws RangeError for a number or an array that does not fit, or too few bytes; earlier fields are already written
 */
export function write<T>(
  layout: Layout<T>,
  value: StructInput<T>,
  bytes: Uint8Array,
  offset = 0,
  where?: string,
): void {
  writeAt(
    layout,
    value,
    bytes,
    offset,
    where === undefined ? layout.name : `${where}: ${layout.name}`,
  );
}

function writeAt(
  layout: Layout,
  value: unknown,
  bytes: Uint8Array,
  offset: number,
  path: string,
): void {
  const size = sizeOf(layout, tailLength(layout, value));
  writeStruct(layout, value, viewOf(layout, size, bytes, offset), 0, path);
}

/**
 * Encodes a struct and its tail. Fields that `value` does not have are zero, as with C's designated initialisers;
 * otherwise as `write`.
 *
 * @param where the start of error messages, such as the called method: `"irqfd()"`
 * @throws TypeError for a field that does not exist, or a value of the wrong type
 * @throws RangeError for a number or an array that does not fit
 */
export function encode<T>(layout: Layout<T>, value: StructInput<T>, where?: string): Uint8Array {
  const bytes = new Uint8Array(sizeOf(layout, tailLength(layout, value)));
  fill(layout, value, bytes, new DataView(bytes.buffer), where);
  return bytes;
}

/** Same as {@link encode}, into zeros of the right size. @internal */
export function fill<T>(
  layout: Layout<T>,
  value: StructInput<T>,
  bytes: Uint8Array,
  view: DataView,
  where?: string,
): void {
  // A value that the generated code rejects may be invalid or only unusual: the layout's interpreter decides.
  const isDone = codecs.get(layout)?.put(view, 0, value as object) === 1;
  if (!isDone) write(layout, value, bytes.fill(0), 0, where);
}
