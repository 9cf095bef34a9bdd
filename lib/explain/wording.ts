/**
 * Formats the numbers, bits and ranges in reasons. The other files of this folder find the reasons, each for one
 * subject.
 */
import { type BitNames, bitsOf } from "../oracle/bits.ts";

/** Formats a number in hexadecimal: `0x1000`. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** Formats bits with their names: `bit 12 LA57`, `bits 0, 40`. */
export function writeBits(bits: readonly number[], names: BitNames = {}): string {
  const one = (bit: number): string =>
    names[bit] === undefined ? `${bit}` : `${bit} ${names[bit]}`;
  return `${bits.length === 1 ? "bit" : "bits"} ${bits.map(one).join(", ")}`;
}

/** Formats a range of addresses as its first and last byte: `0x1000-0x1fff`. */
export function range(start: bigint, size: bigint): string {
  return `${hex(start)}-${hex(start + size - 1n)}`;
}

/**
 * Formats the bits that may not be set: `flags 0x80: bit 7 may not be set; Linux 7.2 has 0x3`.
 *
 * @param value - the name and the value of the argument; omit it if the text before the sentence already names them.
 * @param allowed - the end of the sentence: the allowed bits, and the reason why only these bits are allowed.
 */
export function writeForbidden(
  value: string | undefined,
  bits: readonly number[],
  allowed: string,
  names: BitNames = {},
): string {
  const place = value === undefined ? "" : `${value}: `;
  return `${place}${writeBits(bits, names)} may not be set; ${allowed}`;
}

/**
 * Formats the bits of an argument that may not be set; undefined if there are none.
 *
 * @param allowed - the bits that may be set.
 * @param allowedBy - the subject and the verb of the sentence that names the allowed bits.
 * @param names - the names of bits.
 */
export function unknownBits(
  name: string,
  value: number | bigint,
  allowed: number | bigint,
  allowedBy = "Linux 7.2 has",
  names: BitNames = {},
): string | undefined {
  const extra = bitsOf(BigInt(value) & ~BigInt(allowed));
  if (extra.length === 0) return undefined;
  return writeForbidden(`${name} ${hex(value)}`, extra, `${allowedBy} ${hex(allowed)}`, names);
}

/** Returns the first reason that is found; later reasons are not computed. */
export function firstOf(...reasons: readonly (() => string | undefined)[]): string | undefined {
  for (const reason of reasons) {
    const text = reason();
    if (text !== undefined) return text;
  }
  return undefined;
}
