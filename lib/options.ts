/**
 * Checks of the objects that callers pass: unknown members are rejected by name. Structs of the kernel have a layout
 * and are checked by abi/struct.ts.
 */

/** Returns the number of edits (a change, an insertion, a removal or a swap of neighbours) that turn `a` into `b`. */
function distance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      const above = rows[i - 1]?.[j] ?? i;
      const diagonal = rows[i - 1]?.[j - 1] ?? i;
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swapped = isSwap ? (rows[i - 2]?.[j - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY;
      row.push(Math.min(above + 1, (row[j - 1] ?? j) + 1, diagonal + cost, swapped));
    }
    rows.push(row);
  }
  return rows.at(-1)?.at(-1) ?? 0;
}

/** The maximum length of a name that is compared with the known names. No name in this package is longer. */
const LONGEST_NAME = 64;

/** Returns the number of letters of `a` after the leading words that `a` and `b` share (for example, `KVM_CAP_`). */
function ownLetters(a: string, b: string): number {
  let shared = 0;
  while (shared < a.length && a[shared] === b[shared]) shared += 1;
  return a.length - (a.lastIndexOf("_", shared - 1) + 1);
}

/**
 * Finds the known name that the caller probably meant by `unknown`.
 *
 * @returns undefined if more than a third of the letters differ from every known name. Leading words that both names
 *   share do not count.
 */
export function nearestName(unknown: string, known: Iterable<string>): string | undefined {
  if (unknown.length > LONGEST_NAME) return undefined;
  const lower = unknown.toLowerCase();
  let best: string | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const name of known) {
    const edits = distance(lower, name.toLowerCase());
    const most = Math.max(1, Math.floor(ownLetters(lower, name.toLowerCase()) / 3));
    if (edits <= most && edits < least) [best, least] = [name, edits];
  }
  return best;
}

/** The maximum length of a printed list of known names. */
const MOST_NAMES = 24;

/** Formats the end of a message about an unknown name: the most similar known name, or all known names. */
export function suggestion(
  unknown: string,
  known: Iterable<string>,
  most: number = MOST_NAMES,
): string {
  const names = Array.from(known);
  const nearest = nearestName(unknown, names);
  if (nearest !== undefined) return `; did you mean "${nearest}"?`;
  return names.length === 0 || names.length > most ? "" : `; known are ${names.join(", ")}`;
}

/**
 * The characters that a terminal does not print or that change the order of others: control, format, private and
 * unassigned characters, lone surrogates, line and paragraph separators. JSON.stringify() escapes only those below
 * U+0020 and lone surrogates.
 */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/gu;

/**
 * Quotes a text as JSON, in which characters that cannot be printed are escaped. A text of more than `most` characters
 * is shortened.
 */
export function quoted(name: string, most: number = LONGEST_NAME): string {
  const text = JSON.stringify(name.length > most ? `${name.slice(0, most)}…` : name);
  const escaped = (unit: string): string =>
    `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return text.replaceAll(UNPRINTABLE, (found) => found.split("").map(escaped).join(""));
}

/** Describes a value for the end of a message: `null`, `an array`, `5n`, `"rip"`. */
export function describe(value: unknown): string {
  if (value === null || value === undefined || typeof value === "boolean") return String(value);
  if (typeof value === "number") return String(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "string") return quoted(value);
  if (typeof value === "function") return "a function";
  if (typeof value === "symbol") return "a symbol";
  if (Array.isArray(value)) return "an array";
  const tag: unknown = Reflect.get(value as object, Symbol.toStringTag);
  return typeof tag === "string"
    ? `an object of the class ${tag.slice(0, LONGEST_NAME)}`
    : "an object";
}

/** A 64-bit field, an address or a size: a bigint, or a number that is a safe integer. */
export type WideInteger = bigint | number;

/**
 * Converts a 64-bit value of the caller into a bigint. All such values follow this rule: a bigint is returned
 * unchanged, and a number is accepted if it is a safe integer, so no bits are lost.
 *
 * @param where - the start of the error's message.
 * @throws TypeError for a value that is neither a bigint nor a number.
 * @throws RangeError for a number that is not a safe integer.
 */
export function toBigInt(where: string, value: unknown): bigint {
  if (typeof value === "bigint") return value;
  if (typeof value !== "number") {
    throw new TypeError(`${where}: expected a bigint or an integer, got ${describe(value)}`);
  }
  if (Number.isSafeInteger(value)) return BigInt(value);
  const why = Number.isInteger(value)
    ? "is above 2^53 and may have lost bits; write it as a bigint"
    : "is not an integer";
  throw new RangeError(`${where}: ${value} ${why}`);
}

/**
 * Converts an unsigned 64-bit value of the caller into a bigint, as {@link toBigInt} does.
 *
 * @throws RangeError also for a value below 0 or above 2^64 - 1.
 */
export function toU64(where: string, value: unknown): bigint {
  const wide = toBigInt(where, value);
  if (wide === BigInt.asUintN(64, wide)) return wide;
  throw new RangeError(`${where}: ${wide} does not fit u64`);
}

/**
 * Returns an unsigned 32-bit value of the caller as a number.
 *
 * @throws TypeError for a value that is neither a bigint nor an integer number.
 * @throws RangeError for a value below 0 or above 2^32 - 1.
 */
export function toU32(where: string, value: unknown): number {
  const wide = toBigInt(where, value);
  if (wide === BigInt.asUintN(32, wide)) return Number(wide);
  throw new RangeError(`${where}: ${wide} does not fit u32`);
}

/**
 * Rejects members that are present but neither `true` nor `false`.
 *
 * @throws TypeError `GuestMemory.allocate(): populate: expected true or false, got "yes"`
 */
export function refuseNonBooleans(where: string, options: object, names: readonly string[]): void {
  for (const name of names) {
    const value: unknown = Reflect.get(options, name);
    if (value === undefined || typeof value === "boolean") continue;
    throw new TypeError(`${where}: ${name}: expected true or false, got ${describe(value)}`);
  }
}

/**
 * Returns a path that can be passed to a system call.
 *
 * @throws TypeError for a value that is not a string, for an empty string, and for a string with a NUL character.
 */
export function toPath(where: string, path: unknown): string {
  if (typeof path !== "string") {
    throw new TypeError(`${where}: path: expected a string, got ${describe(path)}`);
  }
  if (!path.includes("\0")) return path;
  throw new TypeError(`${where}: path: ${quoted(path)} contains a NUL character`);
}

/**
 * Returns the bytes of an array with any element type and of any realm. The result and the array share their memory.
 *
 * @throws TypeError for a value that is not a typed array, a Buffer or a DataView.
 */
export function toBytes(where: string, data: unknown): Uint8Array {
  if (ArrayBuffer.isView(data))
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw new TypeError(`${where}: expected a Uint8Array or another view, got ${describe(data)}`);
}

/** Whether a value is an instance of a built-in class: an array, a Map, an AbortSignal. */
const isTagged = (value: object): boolean =>
  Array.isArray(value) || typeof Reflect.get(value, Symbol.toStringTag) === "string";

/**
 * The maximum number of elements of an iterable: 2^24. An iterable with more elements is rejected, because it may be
 * endless.
 */
const MOST_ELEMENTS = 0x100_0000;

/**
 * Returns the elements of an iterable.
 *
 * @throws TypeError for a value that is not iterable, and for a string; RangeError for more than 2^24 elements.
 */
export function toList<T>(where: string, elements: Iterable<T>): T[] {
  const given: unknown = elements;
  const isObject = typeof given === "object" && given !== null;
  if (isObject && typeof Reflect.get(given, Symbol.iterator) === "function") {
    // A loop is used, because Array.from() takes twice as long for an iterable that is not an array, such as a CPUID
    // table.
    const list: T[] = [];
    for (const element of elements) {
      if (list.length === MOST_ELEMENTS) {
        throw new RangeError(`${where}: more than ${MOST_ELEMENTS} elements`);
      }
      list.push(element);
    }
    return list;
  }
  throw new TypeError(`${where}: expected an array or another iterable, got ${describe(elements)}`);
}

/**
 * Rejects a value that is not an object, and an object with an own enumerable member that is not in `known`.
 *
 * @param where - the start of the message, which is the called method: `"vm.createVcpu()"`.
 * @param known - the names of all members.
 * @param noun - the name for a member in the message.
 * @throws TypeError `createVm(): unknown option "machinType"; did you mean "machineType"?`
 */
export function refuseUnknown(
  where: string,
  options: unknown,
  known: readonly string[],
  noun = "option",
): void {
  if (typeof options !== "object" || options === null || isTagged(options)) {
    throw new TypeError(
      `${where}: expected an object with the ${noun}s ${known.join(", ")}, got ${describe(options)}`,
    );
  }
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    throw new TypeError(`${where}: unknown ${noun} ${quoted(name)}${suggestion(name, known)}`);
  }
}

/**
 * Rejects a value that is not an object, an object that lacks a member of `required`, and an object with a member that
 * is in neither list. A member with the value `undefined` counts as missing.
 *
 * @throws TypeError that names the unknown member, or all missing members.
 */
export function refuseMisfit(
  where: string,
  value: unknown,
  required: readonly string[],
  optional: readonly string[] = [],
  noun = "member",
): void {
  refuseUnknown(where, value, [...required, ...optional], noun);
  refuseMissing(where, value, required, noun);
}

/**
 * Rejects a value that is not an object, and an object that lacks a member of `required`. @throws TypeError that names
 * all missing members.
 */
export function refuseMissing(
  where: string,
  value: unknown,
  required: readonly string[],
  noun = "member",
): void {
  if (typeof value !== "object" || value === null) {
    throw new TypeError(`${where}: expected an object, got ${describe(value)}`);
  }
  const members = value as Readonly<Record<string, unknown>>;
  const missing = required.filter((name) => members[name] === undefined);
  if (missing.length === 0) return;
  const plural = missing.length === 1 ? "" : "s";
  throw new TypeError(`${where}: missing ${noun}${plural} ${missing.join(", ")}`);
}
