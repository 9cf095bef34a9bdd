/** Rules that depend on CPUID: the features that bits of a register require, and the width of physical addresses. */
import { type CpuidEntry2, locate } from "../cpuid/entry.ts";
import { field, readField } from "../cpuid/field.ts";
import type { CpuidFieldName, CpuidTable } from "../cpuid/index.ts";
import { bitsOf } from "./bits.ts";

/**
 * The known bits of a register: the name of each bit, and the features. The bit requires at least one of the features.
 * If no features are listed, every vCPU has the bit.
 */
export type FeatureBits = Readonly<Record<number, readonly [name: string, ...CpuidFieldName[]]>>;

/** A bit that a vCPU may not set. */
export interface BitFinding {
  readonly bit: number;
  /** The bit's name; undefined if it is reserved. */
  readonly name: string | undefined;
  /**
   * `reserved`: no CPU has the bit. `unsupported`: KVM_GET_SUPPORTED_CPUID has none of the features. `absent`: the
   * vCPU's table has none of the features. `no-table`: the vCPU's table is empty.
   */
  readonly cause: "reserved" | "unsupported" | "absent" | "no-table";
  /** The bit requires at least one of these features. */
  readonly features: readonly CpuidFieldName[];
}

/** Bits of a register that a vCPU may not set. */
export interface FeatureBitsFinding {
  readonly kind: "feature-bits";
  readonly register: string;
  /** The list has at least one bit. */
  readonly bits: readonly BitFinding[];
}

function judgeBit(
  bit: number,
  known: FeatureBits,
  table: CpuidTable | undefined,
  supported: CpuidTable | undefined,
): BitFinding | undefined {
  const row = known[bit];
  if (row === undefined) return { bit, name: undefined, cause: "reserved", features: [] };
  const [name, ...features] = row;
  if (features.length === 0) return undefined;
  const lacks = (from: CpuidTable | undefined): boolean =>
    from !== undefined && !features.some((feature) => from.has(feature));
  if (lacks(supported)) return { bit, name, cause: "unsupported", features };
  if (!lacks(table)) return undefined;
  return { bit, name, cause: table?.length === 0 ? "no-table" : "absent", features };
}

/**
 * Finds the bits of a register that a vCPU may not set. If a table is undefined, no bit is excluded because of this
 * table.
 */
export function featureBits(
  register: string,
  value: bigint,
  known: FeatureBits,
  table: CpuidTable | undefined,
  supported: CpuidTable | undefined,
): FeatureBitsFinding | undefined {
  const bits = bitsOf(value).flatMap((bit) => judgeBit(bit, known, table, supported) ?? []);
  return bits.length === 0 ? undefined : { kind: "feature-bits", register, bits };
}

/** Removes the bits whose cause `isKept` rejects from a finding; returns undefined if no bit remains. */
export function bitsWithCause(
  finding: FeatureBitsFinding | undefined,
  isKept: (cause: BitFinding["cause"]) => boolean,
): FeatureBitsFinding | undefined {
  const bits = finding?.bits.filter(({ cause }) => isKept(cause)) ?? [];
  return finding === undefined || bits.length === 0 ? undefined : { ...finding, bits };
}

/** A missing feature that a call requires. */
export interface MissingFeature {
  readonly kind: "missing-feature";
  readonly feature: CpuidFieldName;
  /** `kvm`: KVM_GET_SUPPORTED_CPUID does not have the feature; `vcpu`: the vCPU's table does not have the feature. */
  readonly by: "kvm" | "vcpu";
}

/** Finds whether KVM or the vCPU's table does not have a feature; undefined if both have the feature or are unknown. */
export function missingFeature(
  feature: CpuidFieldName,
  table: CpuidTable | undefined,
  supported: CpuidTable | undefined,
): MissingFeature | undefined {
  if (supported?.has(feature) === false) return { kind: "missing-feature", feature, by: "kvm" };
  if (table?.has(feature) === false) return { kind: "missing-feature", feature, by: "vcpu" };
  return undefined;
}

/** KVM's MAXPHYADDR for a table without leaf 0x80000008 (arch/x86/kvm/cpuid.c:cpuid_query_maxphyaddr). */
const DEFAULT_PHYS_BITS = 36;

/** Returns the number of bits of a vCPU's physical addresses (arch/x86/kvm/cpuid.c:cpuid_query_maxphyaddr). */
export function physicalBits(table: CpuidTable): number {
  return physicalBitsIn([...table]);
}

/** Returns the same number as {@link physicalBits}, for the entries of a table. */
export function physicalBitsIn(entries: readonly CpuidEntry2[]): number {
  const { function: fn, low, high } = field("phys_addr_bits");
  const last = entries[locate(entries, 0x8000_0000)]?.eax ?? 0;
  const leaf = last < fn ? undefined : entries[locate(entries, fn)];
  return leaf === undefined ? DEFAULT_PHYS_BITS : readField(leaf.eax, low, high);
}

/** An address that is wider than a vCPU's physical addresses. */
export interface WideAddress {
  readonly kind: "wide-address";
  /** The name of the register; undefined if the access already identifies the register. */
  readonly name?: string;
  readonly address: bigint;
  /** The number of bits of the vCPU's physical addresses. */
  readonly width: number;
}

/** Finds an address that is wider than a vCPU's physical addresses. */
export function wideAddress(
  address: bigint,
  table: CpuidTable,
  name?: string,
): WideAddress | undefined {
  const width = physicalBits(table);
  if (address >> BigInt(width) === 0n) return undefined;
  return { kind: "wide-address", address, width, ...(name === undefined ? {} : { name }) };
}
