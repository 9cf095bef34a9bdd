/**
 * Compiles a layout, at its first use, into functions that read and write its struct. The functions are closures over
 * the layout's offsets, because a program may forbid the evaluation of strings as code. The functions of the most
 * frequent structs are generated (generated/frequent.ts). A generated reader reads any bytes of its struct; a generated
 * writer writes only a complete value that fits. layout.ts has the layouts; struct.ts has the functions for other
 * files.
 *
 * If a value does not fit, the writer throws a {@link Misfit}. Each level (field, element, struct) adds its part of the
 * path to the error, so the code builds no path for a value that fits.
 */

import { quoted, suggestion } from "../options.ts";
import { isBytes } from "./bytes.ts";
import type { Write as WritePlain } from "./frequent.ts";
import { frequent } from "./generated/frequent.ts";
import {
  type Field,
  type FieldType,
  type Layout,
  nameOfType,
  type Scalar,
  scalars,
  sizeOfType,
  type Tail,
} from "./layout.ts";

/** Reads a value at an offset. */
type Read = (view: DataView, at: number) => unknown;

/** Writes a value at an offset. @throws Misfit after the earlier members were written */
type Write = (view: DataView, at: number, value: unknown) => void;

/** The functions that read and write a type. */
export interface Codec {
  readonly read: Read;
  readonly write: Write;
  /** Writes most values faster than `write`; returns false for a value that `write` must write. */
  readonly writePlain?: WritePlain | undefined;
  /** Writes a value for which `writePlain` has returned false; if omitted, `write` is used. */
  readonly writeOther?: Write;
}

type Members = Readonly<Record<string, unknown>>;

/** A value that does not fit its type. `path` is the path to the value in the written struct. */
export class Misfit {
  readonly Kind: typeof TypeError | typeof RangeError;
  /** The end of the message, after the path. */
  readonly text: string;
  path: string = "";

  constructor(Kind: typeof TypeError | typeof RangeError, text: string) {
    this.Kind = Kind;
    this.text = text;
  }
}

/** Adds a part to the path of a misfit, and returns any other error, such as an error of a getter, unchanged. */
function within(part: string, error: unknown): unknown {
  if (error instanceof Misfit) error.path = `${part}${error.path}`;
  return error;
}

/** Describes a wrong value for an error message: its type and, if the value is short, the value. */
function show(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === "bigint") return `bigint ${value}n`;
  if (typeof value === "number") return `number ${value}`;
  if (typeof value === "string") return `string ${JSON.stringify(value.slice(0, 40))}`;
  return typeof value === "object" ? (value.constructor?.name ?? "object") : typeof value;
}

const expected = (wanted: string, value: unknown): Misfit =>
  new Misfit(TypeError, `: expected ${wanted}, got ${show(value)}`);

const isWide = (type: Scalar): boolean => type.endsWith("64");

/** Checks an integer with this number of bits, and returns it: as a bigint for 64 bits, otherwise as a number. */
function checkInteger(type: Scalar, width: number, value: unknown): never {
  const wide = isWide(type);
  if (typeof value !== "number" && !(wide && typeof value === "bigint")) {
    const hint = typeof value === "bigint" ? `; write ${value}` : "";
    const wanted = `${wide ? "bigint or a number" : "number"} (${type})`;
    throw new Misfit(TypeError, `: expected a ${wanted}, got ${show(value)}${hint}`);
  }
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    const isInexact = Number.isInteger(value) && wide;
    const why = isInexact
      ? "is above 2^53 and may have lost bits; write it as a bigint"
      : "is not an integer";
    if (isInexact || !Number.isInteger(value)) {
      throw new Misfit(RangeError, `: ${value} ${why} (${type})`);
    }
  }
  const exact = BigInt(value);
  const wrapped = type.startsWith("s") ? BigInt.asIntN(width, exact) : BigInt.asUintN(width, exact);
  if (wrapped !== exact) {
    const bits = width === scalars[type].size * 8 ? type : `${width} bits of ${type}`;
    throw new Misfit(RangeError, `: ${value} does not fit ${bits}`);
  }
  return (wide ? exact : value) as never;
}

const LAST_U64 = 0xffff_ffff_ffff_ffffn;

type SetInteger = (view: DataView, at: number, value: never) => void;

/** The writers of the most frequent integers, which check a value without converting it to a bigint. */
const writers: ReadonlyMap<Scalar, (set: SetInteger) => Write> = new Map([
  [
    "u8",
    (set) => (view, at, x) => {
      const fits = typeof x === "number" && (x & 0xff) === x;
      set(view, at, fits ? (x as never) : checkInteger("u8", 8, x));
    },
  ],
  [
    "u16",
    (set) => (view, at, x) => {
      const fits = typeof x === "number" && (x & 0xffff) === x;
      set(view, at, fits ? (x as never) : checkInteger("u16", 16, x));
    },
  ],
  [
    "u32",
    (set) => (view, at, x) => {
      const fits = typeof x === "number" && x >>> 0 === x;
      set(view, at, fits ? (x as never) : checkInteger("u32", 32, x));
    },
  ],
  [
    "u64",
    (set) => (view, at, x) => {
      const fits = typeof x === "bigint" && x >= 0n && x <= LAST_U64;
      set(view, at, fits ? (x as never) : checkInteger("u64", 64, x));
    },
  ],
] satisfies readonly (readonly [Scalar, (set: SetInteger) => Write])[]);

/** Makes the functions that read and write an integer. */
function integer(type: Scalar): Codec {
  const { get, set, size } = scalars[type];
  const write: Write = (view, at, value) => set(view, at, checkInteger(type, 8 * size, value));
  return { read: get, write: writers.get(type)?.(set) ?? write };
}

/**
 * Makes the functions that read and write a bit field. The functions access only the bytes that contain the field,
 * because the whole integer may exceed the struct.
 */
function bitField(type: FieldType, [shift, width]: readonly [number, number]): Codec {
  const name = nameOfType(type) as Scalar;
  const [first, end, low] = [shift >> 3, (shift + width + 7) >> 3, BigInt(shift & 7)];
  const ones = ((1n << BigInt(width)) - 1n) << low;
  return {
    read(view, at) {
      let raw = 0n;
      for (let i = end - 1; i >= first; i--) raw = (raw << 8n) | BigInt(view.getUint8(at + i));
      raw >>= low;
      const value = name.startsWith("s") ? BigInt.asIntN(width, raw) : BigInt.asUintN(width, raw);
      return isWide(name) ? value : Number(value);
    },
    write(view, at, value) {
      const bits: number | bigint = checkInteger(name, width, value);
      let mask = ones;
      let raw = (BigInt(bits) << low) & mask;
      for (let i = first; i < end; i++) {
        const others = view.getUint8(at + i) & ~Number(mask & 0xffn);
        view.setUint8(at + i, others | Number(raw & 0xffn));
        mask >>= 8n;
        raw >>= 8n;
      }
    },
  };
}

const bytesAt = (view: DataView, at: number, length: number): Uint8Array =>
  new Uint8Array(view.buffer, view.byteOffset + at, length);

/** The functions that read and write an array. The length of the array is an argument of each call. */
interface ListCodec {
  readonly read: (view: DataView, at: number, count: number) => unknown;
  /** Writes at most `count` elements, and returns the number of written elements. */
  readonly write: (view: DataView, at: number, value: unknown, count: number) => number;
}

const tooLong = (of: FieldType, length: number, count: number): Misfit =>
  new Misfit(RangeError, `: ${length} elements do not fit ${nameOfType({ of, count })}`);

/** Reads and writes an array of `u8`. The value of such an array is a `Uint8Array`. */
const byteList: ListCodec = {
  read: (view, at, count) => bytesAt(view, at, count).slice(),
  write(view, at, value, count) {
    if (!isBytes(value)) throw expected("a Uint8Array", value);
    if (value.length > count) throw tooLong("u8", value.length, count);
    bytesAt(view, at, value.length).set(value);
    return value.length;
  },
};

function list(of: FieldType): ListCodec {
  if (of === "u8") return byteList;
  const size = sizeOfType(of);
  const { read, write, writePlain, writeOther = write } = codecOf(of);
  return {
    read(view, at, count) {
      const elements: unknown[] = [];
      for (let i = 0; i < count; i++) elements.push(read(view, at + i * size));
      return elements;
    },
    write(view, at, value, count) {
      if (!Array.isArray(value)) throw expected(`an array of ${nameOfType(of)}`, value);
      const { length } = value;
      if (length > count) throw tooLong(of, length, count);
      let i = 0;
      try {
        for (; i < length; i++) {
          const start = at + i * size;
          if (!writePlain?.(view, start, value[i])) writeOther(view, start, value[i]);
        }
      } catch (error) {
        throw within(`[${i}]`, error);
      }
      return length;
    },
  };
}

/** Makes the functions that read and write an array of fixed length; missing elements are written as zeros. */
function array(of: FieldType, count: number): Codec {
  const elements = list(of);
  const size = sizeOfType(of);
  return {
    read: (view, at) => elements.read(view, at, count),
    write(view, at, value) {
      const length = elements.write(view, at, value, count);
      if (length < count) bytesAt(view, at + length * size, (count - length) * size).fill(0);
    },
  };
}

/** A compiled member of a struct. */
interface Member extends Codec {
  readonly name: string;
  readonly offset: number;
  /** The index of the next member in the layout. */
  readonly next: number;
}

/**
 * Makes the functions that read and write a tail. The functions take the offset of the struct that contains the tail,
 * because this struct also contains the tail's count.
 */
function tailCodec(layout: Layout, tail: Tail) {
  const { name, offset, element } = tail;
  const elements = list(element);
  const size = sizeOfType(element);
  const roomAt = (view: DataView, at: number): number =>
    Math.floor((view.byteLength - at - offset) / size);
  return {
    read(view: DataView, at: number, header: Members): unknown {
      const room = Math.max(0, roomAt(view, at));
      const count = tail.count === undefined ? room : Number(header[tail.count]);
      if (count > room) {
        const there = `${size} bytes each, but there is room for ${room}`;
        throw new RangeError(`${layout.name}.${tail.count}: ${count} entries of ${there}`);
      }
      return elements.read(view, at + offset, count);
    },
    write(view: DataView, at: number, value: unknown): number {
      return elements.write(view, at + offset, value, roomAt(view, at));
    },
    name,
  };
}

/** Returns whether Object.prototype has enumerable members, which `for…in` would list for every object. */
function isPolluted(): boolean {
  for (const _ in Object.prototype) return true;
  return false;
}

/**
 * Returns the value, or a copy if `for…in` would also list inherited members of the value. Arrays, maps and tables are
 * rejected, because their content is not in properties and would be lost.
 */
function membersOf(value: unknown): Members {
  if (typeof value !== "object" || value === null || Symbol.iterator in value) {
    throw expected("an object", value);
  }
  if (Object.getPrototypeOf(value) === Object.prototype && !isPolluted()) return value as Members;
  return Object.assign(Object.create(null), value);
}

function unknownField(layout: Layout, name: string): Misfit {
  const all = [...layout.fields, ...(layout.tail ? [layout.tail] : [])].map((one) => one.name);
  return new Misfit(TypeError, ` has no field ${quoted(name)}${suggestion(name, all)}`);
}

const fieldCodec = ({ type, bits }: Field): Codec =>
  bits && typeof type === "string" ? bitField(type, bits) : codecOf(type);

/** Makes the functions that read and write a struct. */
function struct(layout: Layout): Codec {
  const members: readonly Member[] = layout.fields.map((field, i) => {
    const { name, offset } = field;
    return { name, offset, next: i + 1, ...fieldCodec(field) };
  });
  const byName: ReadonlyMap<string, Member> = new Map(members.map((one) => [one.name, one]));
  const tail = layout.tail && tailCodec(layout, layout.tail);
  const count = layout.fields.find(({ name }) => name === layout.tail?.count);
  const counter = count && byName.get(count.name);

  const writeTail = (view: DataView, at: number, value: Members, elements: unknown): void => {
    const length = tail?.write(view, at, elements) ?? 0;
    // A count in the value is written unchanged, because tests must be able to pass a wrong count to the kernel.
    if (!counter || value[counter.name] !== undefined) return;
    counter.write(view, at + counter.offset, count?.type === "u64" ? BigInt(length) : length);
  };

  const plain = frequent.get(layout);

  const writeOther: Write = (view, at, given) => {
    const value = membersOf(given);
    // Most values have their members in the layout's order, so the next member is tried before a lookup by name.
    let next = 0;
    let current = "";
    try {
      for (const name in value) {
        const part = value[name];
        let member = members[next];
        if (member?.name !== name) member = byName.get(name);
        if (member !== undefined) {
          next = member.next;
          current = name;
          if (part !== undefined) member.write(view, at + member.offset, part);
          continue;
        }
        if (name !== tail?.name) {
          current = "";
          throw unknownField(layout, name);
        }
        current = name;
        if (part !== undefined) writeTail(view, at, value, part);
      }
    } catch (error) {
      throw within(current === "" ? "" : `.${current}`, error);
    }
  };

  return {
    writePlain: plain?.write,
    read:
      plain?.read ??
      ((view, at) => {
        const value: Record<string, unknown> = {};
        for (let i = 0; i < members.length; i++) {
          const { name, offset, read } = members[i] as Member;
          value[name] = read(view, at + offset);
        }
        if (tail) value[tail.name] = tail.read(view, at, value);
        return value;
      }),

    write(view, at, given) {
      if (!plain?.write?.(view, at, given)) writeOther(view, at, given);
    },
    writeOther,
  };
}

const structs = new WeakMap<Layout, Codec>();

function codecOf(type: FieldType): Codec {
  if (typeof type === "string") return integer(type);
  return "of" in type ? array(type.of, type.count) : compiled(type);
}

/** Returns the functions that read and write a layout's struct. */
export function compiled(layout: Layout): Codec {
  let codec = structs.get(layout);
  if (codec === undefined) {
    codec = struct(layout);
    structs.set(layout, codec);
  }
  return codec;
}
