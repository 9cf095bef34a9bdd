/** Finds the bits of registers and flags that are set, and the set bits that are not allowed. */

/** The names of a register's bits, by their numbers; some bits have no name. */
export type BitNames = Readonly<Record<number, string | undefined>>;

/** Lists the numbers of the set bits in ascending order. */
export function bitsOf(value: number | bigint): readonly number[] {
  const wide = BigInt(value);
  return Array.from({ length: 64 }, (_, bit) => bit).filter(
    (bit) => ((wide >> BigInt(bit)) & 1n) === 1n,
  );
}

/** Whether a bit is set. */
export function hasBit(value: bigint, bit: number): boolean {
  return ((value >> BigInt(bit)) & 1n) === 1n;
}

/** Bits that must be 0. */
export interface ReservedBits {
  readonly kind: "reserved-bits";
  /** The name of the register; undefined if the access already identifies the register. */
  readonly register?: string;
  /** The whole value of the register. */
  readonly value: bigint;
  /** The bits of the value that are reserved; there is at least one. */
  readonly bits: readonly number[];
}

/** Finds reserved bits that are set. */
export function reservedBits(
  value: bigint,
  reserved: bigint,
  register?: string,
): ReservedBits | undefined {
  const bits = bitsOf(value & reserved);
  if (bits.length === 0) return undefined;
  return { kind: "reserved-bits", value, bits, ...(register === undefined ? {} : { register }) };
}

/** Set bits that are not in a set of allowed bits. */
export interface ForbiddenBits {
  readonly kind: "forbidden-bits";
  /** The name of the argument; undefined if the access already identifies the argument. */
  readonly name?: string;
  readonly value: bigint;
  /** The bits of the value that are not allowed; there is at least one. */
  readonly bits: readonly number[];
  readonly allowed: bigint;
  /**
   * The source that defines the allowed bits: the kernel's ABI, the features that KVM supports for guests, the
   * definition of the register, or the x86 architecture.
   */
  readonly allowedBy: "linux" | "guests" | "register" | "x86";
}

/** Finds the set bits that are not allowed. */
export function forbiddenBits(
  value: number | bigint,
  allowed: number | bigint,
  allowedBy: ForbiddenBits["allowedBy"],
  name?: string,
): ForbiddenBits | undefined {
  const bits = bitsOf(BigInt(value) & ~BigInt(allowed));
  if (bits.length === 0) return undefined;
  const finding = { value: BigInt(value), bits, allowed: BigInt(allowed), allowedBy };
  return { kind: "forbidden-bits", ...finding, ...(name === undefined ? {} : { name }) };
}
