/**
 * Writes and reads a struct in the simplest way: one field after the other, by its layout, without a compiled form. The
 * interpreter is the reference for lib/abi/codec.ts, and shares only the layouts and their sizes with it. It throws an
 * arbitrary error for a value that does not fit; refusal.test.ts tests the messages.
 */
import {
  type Field,
  type FieldType,
  fieldOf,
  type Layout,
  scalars,
  sizeOfType,
} from "../../../lib/abi/layout.ts";
import { sizeOf } from "../../../lib/abi/struct.ts";

type Members = Readonly<Record<string, unknown>>;

/** Returns the bits of an integer as little-endian bytes. */
function toBytes(value: bigint, length: number): number[] {
  return Array.from({ length }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

function fromBytes(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

const isWide = (type: string): boolean => type.endsWith("64");
const wrap = (type: string, width: number, value: bigint): bigint =>
  type.startsWith("s") ? BigInt.asIntN(width, value) : BigInt.asUintN(width, value);

function integer(type: string, width: number, value: unknown): bigint {
  if (typeof value !== "number" && !(typeof value === "bigint" && isWide(type))) {
    throw new TypeError("no integer");
  }
  if (typeof value === "number" && !Number.isSafeInteger(value)) throw new RangeError("inexact");
  const exact = BigInt(value);
  if (wrap(type, width, exact) !== exact) throw new RangeError("too large");
  return exact;
}

function writeField({ type, offset, bits }: Field, value: unknown, bytes: Uint8Array): void {
  if (!bits || typeof type !== "string") {
    writeType(type, value, bytes.subarray(offset));
    return;
  }
  const [shift, width] = bits;
  const length = (shift + width + 7) >> 3;
  const place = bytes.subarray(offset, offset + length);
  const mask = ((1n << BigInt(width)) - 1n) << BigInt(shift);
  const own = (integer(type, width, value) << BigInt(shift)) & mask;
  place.set(toBytes((fromBytes(place) & ~mask) | own, length));
}

function writeList(of: FieldType, value: unknown, bytes: Uint8Array, most: number): number {
  const isFit = of === "u8" ? value instanceof Uint8Array : Array.isArray(value);
  if (!isFit) throw new TypeError("no array");
  const elements: readonly unknown[] = Array.from(value as ArrayLike<unknown>);
  if (elements.length > most) throw new RangeError("too long");
  const size = sizeOfType(of);
  for (const [i, element] of elements.entries()) writeType(of, element, bytes.subarray(i * size));
  return elements.length;
}

function writeType(type: FieldType, value: unknown, bytes: Uint8Array): void {
  if (typeof type === "string") {
    const { size } = scalars[type];
    bytes.set(toBytes(wrap(`u${8 * size}`, 8 * size, integer(type, 8 * size, value)), size));
  } else if ("of" in type) {
    const length = writeList(type.of, value, bytes, type.count);
    bytes.fill(0, length * sizeOfType(type.of), sizeOfType(type));
  } else {
    writeStruct(type, value, bytes);
  }
}

function writeStruct(layout: Layout, value: unknown, bytes: Uint8Array): void {
  if (typeof value !== "object" || value === null || Symbol.iterator in value) {
    throw new TypeError("no object");
  }
  const { tail } = layout;
  for (const [name, member] of Object.entries(value)) {
    const field = fieldOf(layout, name);
    if (field === undefined && name !== tail?.name) throw new TypeError("no field");
    if (member === undefined) continue;
    if (field !== undefined) {
      writeField(field, member, bytes);
    } else if (tail !== undefined) {
      const place = bytes.subarray(tail.offset);
      const room = Math.floor(place.length / sizeOfType(tail.element));
      const length = writeList(tail.element, member, place, room);
      const count = fieldOf(layout, tail.count ?? "");
      const given = (value as Members)[count?.name ?? ""];
      if (count !== undefined && given === undefined) writeField(count, length, bytes);
    }
  }
}

/** Reads a value. */
function readType(type: FieldType, bytes: Uint8Array): unknown {
  if (typeof type === "string") {
    const { size } = scalars[type];
    const value = wrap(type, 8 * size, fromBytes(bytes.subarray(0, size)));
    return isWide(type) ? value : Number(value);
  }
  return "of" in type ? readList(type.of, bytes, type.count) : interpretedRead(type, bytes);
}

function readList(of: FieldType, bytes: Uint8Array, count: number): unknown {
  if (of === "u8") return bytes.slice(0, count);
  const size = sizeOfType(of);
  return Array.from({ length: count }, (_, i) => readType(of, bytes.subarray(i * size)));
}

function readField({ type, offset, bits }: Field, bytes: Uint8Array): unknown {
  if (!bits || typeof type !== "string") return readType(type, bytes.subarray(offset));
  const [shift, width] = bits;
  const raw = fromBytes(bytes.subarray(offset, offset + ((shift + width + 7) >> 3)));
  const value = wrap(type, width, raw >> BigInt(shift));
  return isWide(type) ? value : Number(value);
}

/** Reads a struct from the start of bytes that end with the struct. */
export function interpretedRead(layout: Layout, bytes: Uint8Array): Members {
  const { fields, tail } = layout;
  const members = fields.map((field) => [field.name, readField(field, bytes)] as const);
  const value: Members = Object.fromEntries(members);
  if (tail === undefined) return value;
  const place = bytes.subarray(tail.offset);
  const room = Math.floor(place.length / sizeOfType(tail.element));
  const count = tail.count === undefined ? room : Number(value[tail.count]);
  return { ...value, [tail.name]: readList(tail.element, place, count) };
}

/** Encodes a value with `tailLength` elements in its tail, into bytes that are preset to `fill`. */
export function interpretedEncode(
  layout: Layout,
  value: unknown,
  tailLength: number,
  fill = 0,
): Uint8Array {
  const bytes = new Uint8Array(sizeOf(layout, tailLength)).fill(fill);
  writeStruct(layout, value, bytes);
  return bytes;
}
