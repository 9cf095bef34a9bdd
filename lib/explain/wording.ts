/** How a reason writes numbers, bits and ranges. What it says is the files by subject. */

/** The names of a register's bits, by their numbers; not every bit has one. */
export type BitNames = Readonly<Record<number, string | undefined>>;

/** Writes a number in hexadecimal: `0x1000`. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** Lists the bits that are set, lowest first. */
export function bitsOf(value: number | bigint): readonly number[] {
  const wide = BigInt(value);
  return Array.from({ length: 64 }, (_, bit) => bit).filter(
    (bit) => ((wide >> BigInt(bit)) & 1n) === 1n,
  );
}

/** Tells whether a bit is set. */
export function hasBit(value: bigint, bit: number): boolean {
  return ((value >> BigInt(bit)) & 1n) === 1n;
}

/** Writes bits with their names: `bit 12 LA57`, `bits 0, 40`. */
export function writeBits(bits: readonly number[], names: BitNames = {}): string {
  const one = (bit: number): string =>
    names[bit] === undefined ? `${bit}` : `${bit} ${names[bit]}`;
  return `${bits.length === 1 ? "bit" : "bits"} ${bits.map(one).join(", ")}`;
}

/** Writes the range that begins at an address, its last byte included: `0x1000-0x1fff`. */
export function range(start: bigint, size: bigint): string {
  return `${hex(start)}-${hex(start + size - 1n)}`;
}

/**
 * Complains about bits that may not be set: `flags 0x80: bit 7 may not be set; Linux 7.2 knows 0x3`.
 *
 * @param allowed - the bits that may be set.
 * @param says - who says so.
 * @returns `undefined` when there are none.
 */
export function unknownBits(
  name: string,
  value: number | bigint,
  allowed: number | bigint,
  says = "Linux 7.2 knows",
  names: BitNames = {},
): string | undefined {
  const extra = bitsOf(BigInt(value) & ~BigInt(allowed));
  if (extra.length === 0) return undefined;
  return `${name} ${hex(value)}: ${writeBits(extra, names)} may not be set; ${says} ${hex(allowed)}`;
}

/** Takes the first reason that there is; later ones are not even looked for. */
export function firstOf(...reasons: readonly (() => string | undefined)[]): string | undefined {
  for (const reason of reasons) {
    const text = reason();
    if (text !== undefined) return text;
  }
  return undefined;
}
