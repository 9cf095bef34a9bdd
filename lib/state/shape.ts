/**
 * The possible shapes of a part's value, and the conversion of values to and from the kernel's bytes. json.ts has the
 * JSON form.
 */
import { copyOf, isBytes } from "../abi/bytes.ts";
import { encode, type Layout, read } from "../abi/struct.ts";

/** One struct. */
export interface StructShape<T = unknown> {
  readonly kind: "struct";
  readonly layout: Layout<T>;
}

/** The shape of a list of structs. */
export interface ListShape<E = unknown> {
  readonly kind: "list";
  readonly element: Layout<E>;
}

/** The shape of bytes that only the kernel and the CPU interpret. */
export interface BytesShape {
  readonly kind: "bytes";
  /** The minimum number of bytes. */
  readonly least: number;
}

/** The shape of an unsigned 32-bit number. */
export interface NumberShape {
  readonly kind: "u32";
  /** The maximum value; 0xffffffff if omitted. */
  readonly most?: number;
}

/**
 * The largest u32 that an ioctl can return as its result: the kernel returns an int, and -4095 to -1 (MAX_ERRNO,
 * include/linux/err.h) are errnos. A larger number would be indistinguishable from an error.
 */
export const MAX_IOCTL_RESULT = 0xffff_f000;

/** The shape of a value. */
export type Shape = StructShape | ListShape | BytesShape | NumberShape;

/** The shape of values of a type. */
export type ShapeOf<T> = T extends Uint8Array
  ? BytesShape
  : T extends number
    ? NumberShape
    : T extends readonly (infer E)[]
      ? ListShape<E>
      : StructShape<T>;

/** A single number, as a struct with one member. */
const U32: Layout<{ readonly value: number }> = {
  name: "u32",
  size: 4,
  fields: [{ name: "value", offset: 0, type: "u32" }],
};

/**
 * Encodes a value for the kernel; the structs of a list are written in succession, without a count.
 *
 * @throws TypeError for a value of a wrong type
 * @throws RangeError for a number, an array or bytes that do not fit
 */
export function toBytes(shape: Shape, value: unknown): Uint8Array {
  switch (shape.kind) {
    case "struct":
      return encode(shape.layout, value as never);
    case "list":
      if (!Array.isArray(value)) throw new TypeError("expected an array");
      return joined(value.map((one) => encode(shape.element, one)));
    case "bytes":
      if (!isBytes(value)) throw new TypeError("expected a Uint8Array");
      if (value.length >= shape.least) return copyOf(value);
      throw new RangeError(`expected ${shape.least} bytes or more, got ${value.length}`);
    case "u32":
      if (typeof value !== "number" || value <= mostOf(shape)) {
        return encode(U32, { value: value as number });
      }
      throw new RangeError(`expected at most ${mostOf(shape)}, got ${value}`);
    default:
      throw shape satisfies never;
  }
}

/** Decodes a value from bytes that `toBytes` has returned; returns `undefined` if the bytes cannot have this shape. */
export function fromBytes(shape: Shape, bytes: Uint8Array): unknown {
  switch (shape.kind) {
    case "struct":
      return bytes.length === shape.layout.size ? read(shape.layout, bytes) : undefined;
    case "list":
      return fromList(shape.element, bytes);
    case "bytes":
      return bytes.length >= shape.least ? copyOf(bytes) : undefined;
    case "u32":
      return bytes.length === U32.size ? read(U32, bytes).value : undefined;
    default:
      throw shape satisfies never;
  }
}

/** Returns the size of a value of a shape in bytes. */
export function sizeInWords(shape: Shape): string {
  switch (shape.kind) {
    case "struct":
      return `${shape.layout.size}`;
    case "list":
      return `a multiple of ${shape.element.size}`;
    case "bytes":
      return `${shape.least} or more`;
    case "u32":
      return "4";
    default:
      throw shape satisfies never;
  }
}

/** Returns the maximum value of a number with this shape. */
export const mostOf = ({ most }: NumberShape): number => most ?? 0xffff_ffff;

function fromList(element: Layout, bytes: Uint8Array): unknown {
  if (bytes.length % element.size !== 0) return undefined;
  return Array.from({ length: bytes.length / element.size }, (_, i) =>
    read(element, bytes, i * element.size),
  );
}

/** Joins pieces of bytes. */
export function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
