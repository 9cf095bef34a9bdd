/** Writes numbers, structs and bytes in C. calls.ts and tables.ts use these functions. */
import type { Field, FieldType, Layout, Scalar } from "../../abi/layout.ts";
import { scalars, sizeOfType } from "../../abi/layout.ts";
import { errnoName } from "../../errors.ts";
import { cName } from "../leaf.ts";
import { hasField, hasStruct, isPointer } from "./headers.ts";

/** The maximum length of a line of a declaration. */
const LINE = 90;

/** The minimum number of adjacent zeros that are omitted in an array. */
const SKIPPED = 16;

/** Writes an integer, in decimal if it is small. */
export function number(value: bigint | number): string {
  const exact = BigInt(value);
  if (exact >= 0n) return exact < 10n ? String(exact) : `0x${exact.toString(16)}`;
  return exact === -(2n ** 63n) ? "(-0x7fffffffffffffff - 1)" : `-${number(-exact)}`;
}

/** Writes the result of a call: zero or more, or an errno by name. */
export function result(value: number): string {
  if (value >= 0) return String(value);
  const name = errnoName(-value);
  return name.startsWith("errno") ? String(value) : `-${name}`;
}

/** Writes text as a C string, with "?" for each character that is not printable ASCII, and without trigraphs. */
export function text(value: string): string {
  return escaped(value.replaceAll(/[^\x20-\x7e]/g, "?"));
}

/** Writes text as a C string with the same bytes, in UTF-8. */
export function exactText(value: string): string {
  if (!/[^\x20-\x7e]/.test(value)) return escaped(value);
  const octal = (byte: number): string => `\\${byte.toString(8).padStart(3, "0")}`;
  return `"${Array.from(new TextEncoder().encode(value), octal).join("")}"`;
}

function escaped(value: string): string {
  return JSON.stringify(value).replaceAll(/\?(?=\?)/g, "?\\");
}

/**
 * Makes text safe for one line of a comment: the result cannot end or begin a comment, and contains no newline, no
 * trigraph and no backslash at its end.
 */
export function comment(value: string): string {
  return value
    .replaceAll(/[^\x20-\x7e]/g, "?")
    .replaceAll(/\?(?=\?)/g, "? ")
    .replaceAll(/\*(?=\/)/g, "* ")
    .replaceAll(/\/(?=\*)/g, "/ ")
    .replaceAll(/\\(?=\s*$)/g, "?");
}

const byteText = (byte: number): string => `0x${byte.toString(16).padStart(2, "0")}`;

/** Writes bytes as elements of an array, sixteen per line, without long runs of zeros. */
export function bytesLines(bytes: Uint8Array, perLine = 16): readonly string[] {
  const lines: string[] = [];
  let isNext = true;
  for (let at = 0; at < bytes.length; at += perLine) {
    const row = bytes.subarray(at, at + perLine);
    if (row.every((byte) => byte === 0) && row.length >= Math.min(SKIPPED, perLine)) {
      isNext = false;
      continue;
    }
    const place = isNext ? "" : `[${number(at)}] = `;
    lines.push(`${place}${Array.from(row, byteText).join(", ")},`);
    isNext = true;
  }
  return lines;
}

/** Groups the members of a struct that overlap. Bit fields that share bytes do not overlap. */
function overlapping(fields: readonly Field[]): readonly (readonly Field[])[] {
  const groups: Field[][] = [];
  let end = -1;
  for (const field of fields) {
    const last = groups.at(-1);
    if (field.bits === undefined && last !== undefined && field.offset < end) last.push(field);
    else groups.push([field]);
    const size = field.bits === undefined ? sizeOfType(field.type) : 0;
    end = Math.max(end, field.offset + size);
  }
  return groups;
}

/** A nonzero member of a struct: its C name, and its value in C. */
export interface Member {
  readonly name: string;
  readonly value: string;
}

/**
 * Lists the nonzero members of a struct; of a union, the smallest member that contains all nonzero bytes.
 *
 * @returns `undefined` if no initialiser produces these bytes with all supported headers: some bytes are in a hole, or
 *   in a field or struct that an old header lacks.
 */
export function members(
  layout: Layout,
  bytes: Uint8Array,
  base = 0,
): readonly Member[] | undefined {
  if (!hasStruct(layout.name)) return undefined;
  const written = new Uint8Array(layout.size);
  const found = overlapping(layout.fields).flatMap(
    (group) => member(layout, group, bytes, base, written) ?? [],
  );
  const isWhole = written.every((seen, i) => seen !== 0 || (bytes[base + i] ?? 0) === 0);
  return isWhole ? found : undefined;
}

/**
 * Writes a struct as an initialiser, `{ .rip = 0x1000, .rflags = 2 }`, on one line.
 *
 * @returns `undefined` if {@link members} returns `undefined`.
 */
export function initialiser(layout: Layout, bytes: Uint8Array, base = 0): string | undefined {
  const found = members(layout, bytes, base);
  if (found === undefined) return undefined;
  const parts = found.map(({ name, value }) => `.${name} = ${value}`);
  return parts.length === 0 ? "{ 0 }" : `{ ${parts.join(", ")} }`;
}

/** Returns one member of a struct; `undefined` if it is zero, or if no member contains all nonzero bytes. */
function member(
  layout: Layout,
  group: readonly Field[],
  bytes: Uint8Array,
  base: number,
  written: Uint8Array,
): Member | undefined {
  const from = Math.min(...group.map(({ offset }) => offset));
  const to = Math.max(...group.map(({ offset, type }) => offset + sizeOfType(type)));
  const used = Array.from({ length: to - from }, (_, i) => from + i).filter(
    (at) => (bytes[base + at] ?? 0) !== 0,
  );
  if (used.length === 0) return undefined;
  const holders = group
    .filter(({ offset, type }) =>
      used.every((at) => at >= offset && at < offset + sizeOfType(type)),
    )
    .filter(({ name }) => hasField(layout.name, cName(name)))
    .sort((a, b) => sizeOfType(a.type) - sizeOfType(b.type));
  for (const field of holders) {
    const value = fieldValue(field, bytes, base + field.offset);
    if (value === undefined) continue;
    written.fill(1, field.offset, field.offset + sizeOfType(field.type));
    return value === "" ? undefined : { name: cName(field.name), value };
  }
  return undefined;
}

function fieldValue(field: Field, bytes: Uint8Array, at: number): string | undefined {
  if (field.bits === undefined || typeof field.type !== "string") {
    const value = typeValue(field.type, bytes, at);
    return value !== undefined && isPointer(cName(field.name)) ? `(void *)${value}` : value;
  }
  const [shift, width] = field.bits;
  const bits = (scalar(field.type, bytes, at) >> BigInt(shift)) & ((1n << BigInt(width)) - 1n);
  return bits === 0n ? "" : number(bits);
}

function typeValue(type: FieldType, bytes: Uint8Array, at: number): string | undefined {
  if (typeof type === "string") return number(scalar(type, bytes, at));
  if (!("of" in type)) return initialiser(type, bytes, at);
  return list(type.of, type.count, bytes, at);
}

/** Writes an array; elements that are zero are omitted, and the next element has an index. */
function list(of: FieldType, count: number, bytes: Uint8Array, at: number): string | undefined {
  const size = sizeOfType(of);
  const parts: string[] = [];
  let next = 0;
  for (let i = 0; i < count; i += 1) {
    const start = at + i * size;
    if (bytes.subarray(start, start + size).every((byte) => byte === 0)) continue;
    const value = typeValue(of, bytes, start);
    if (value === undefined) return undefined;
    parts.push(i === next ? value : `[${i}] = ${value}`);
    next = i + 1;
  }
  return `{ ${parts.join(", ")} }`;
}

/** Reads an integer with a type of C from bytes. */
export function scalar(type: Scalar, bytes: Uint8Array, at: number): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return BigInt(scalars[type].get(view, at));
}

/** Declares a variable with its initialiser, on one line if it fits, otherwise with one line per member. */
export function declaration(
  head: string,
  layout: Layout,
  bytes: Uint8Array,
): readonly string[] | undefined {
  const found = members(layout, bytes);
  if (found === undefined) return undefined;
  const parts = found.map(({ name, value }) => `.${name} = ${value}`);
  const line = `${head} = ${parts.length === 0 ? "{ 0 }" : `{ ${parts.join(", ")} }`};`;
  if (line.length <= LINE) return [line];
  return [`${head} = {`, ...rows(parts).map((row) => `\t${row}`), "};"];
}

/** Joins short pieces of text to lines of C. */
function rows(parts: readonly string[]): readonly string[] {
  const lines: string[] = [];
  for (const part of parts) {
    const last = lines.at(-1);
    const isNested = part.endsWith("}") || last?.endsWith("},") === true;
    if (last === undefined || isNested || last.length + part.length > LINE) lines.push(`${part},`);
    else lines[lines.length - 1] = `${last} ${part},`;
  }
  return lines;
}
