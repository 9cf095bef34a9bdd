/** Rules that lean on CPUID: which feature a bit needs, who lacks it, and how wide an address may be. */
import {
  type CpuidEntry2,
  type CpuidFieldName,
  CpuidTable,
  field,
  formatBits,
} from "../cpuid/index.ts";
import { type Evidence, known } from "./refusal.ts";
import { bitsOf, hex, writeBits } from "./wording.ts";

/** What a register's bit is called, and the CPUID features of which it needs one; none: anyone may set it. */
export type FeatureBits = Readonly<Record<number, readonly [name: string, ...CpuidFieldName[]]>>;

/** MAXPHYADDR of a table that does not tell (cpuid_query_maxphyaddr). */
const DEFAULT_PHYS_BITS = 36;

const tables = new WeakMap<readonly CpuidEntry2[], CpuidTable>();

/** Makes a table of entries, once for each list: every rule of a call asks for it. */
function tableOf(entries: readonly CpuidEntry2[] | undefined): CpuidTable | undefined {
  if (entries === undefined) return undefined;
  const table = tables.get(entries) ?? CpuidTable.from(entries);
  tables.set(entries, table);
  return table;
}

/** The table of the refused call's vCPU; `undefined` when it is not known. */
export function vcpuTable({ vcpu }: Evidence): CpuidTable | undefined {
  return tableOf(known(vcpu?.cpuid));
}

/** What this KVM can give a guest; `undefined` when it is not known. */
export function supportedTable({ kvm }: Evidence): CpuidTable | undefined {
  return tableOf(known(kvm?.supportedCpuid));
}

/** Writes where features are: `0x7.0:ecx[7] cet_ss, 0x7.0:edx[20] ibt`. */
export function placesOf(names: readonly CpuidFieldName[]): string {
  return names
    .map((name) => {
      const { function: fn, index, register, low, high } = field(name);
      const first = typeof index === "number" ? index : index.first;
      return `${formatBits({ function: fn, index: first, register, low, high })} ${name}`;
    })
    .join(", ");
}

/** What keeps one bit from being set. */
export interface BitBlame {
  /** The bit. */
  readonly bit: number;
  /** Why it cannot be set. */
  readonly why: string;
  /** Whether only an empty table forbids it, which Linux before 6.14 does not mind in CR4. */
  readonly isOnlyUntold: boolean;
}

/**
 * Finds the bits that a vCPU may not set: KVM's own, the ones whose feature the vCPU's table lacks,
 * and the ones that this KVM cannot give at all.
 */
export function blameBits(
  value: bigint,
  known: FeatureBits,
  table: CpuidTable | undefined,
  supported: CpuidTable | undefined,
): readonly BitBlame[] {
  return bitsOf(value).flatMap((bit) => {
    const why = blameBit(known[bit], table, supported);
    return why === undefined ? [] : [{ bit, ...why }];
  });
}

function blameBit(
  names: FeatureBits[number] | undefined,
  table: CpuidTable | undefined,
  supported: CpuidTable | undefined,
): Omit<BitBlame, "bit"> | undefined {
  if (names === undefined) return { why: "reserved", isOnlyUntold: false };
  const [, ...features] = names;
  if (features.length === 0) return undefined;
  const lacks = (from: CpuidTable): boolean => !features.some((feature) => from.has(feature));
  if (supported !== undefined && lacks(supported)) {
    return {
      why: `this KVM cannot give it to a guest (${placesOf(features)})`,
      isOnlyUntold: false,
    };
  }
  if (table === undefined || !lacks(table)) return undefined;
  const isOnlyUntold = table.length === 0;
  const note = isOnlyUntold ? ": it has no table yet, KVM_SET_CPUID2 comes first" : "";
  return { why: `not in this vCPU's CPUID (${placesOf(features)})${note}`, isOnlyUntold };
}

/** Writes what {@link blameBits} found: `CR4 bit 12 LA57: not in this vCPU's CPUID (...)`. */
export function writeBlame(
  register: string,
  blame: readonly BitBlame[],
  known: FeatureBits,
): string | undefined {
  if (blame.length === 0) return undefined;
  const one = ({ bit, why }: BitBlame): string =>
    `${register} ${writeBits([bit], { [bit]: known[bit]?.[0] })}: ${why}`;
  return blame.map(one).join("; ");
}

/** How many bits a physical address of this vCPU has (cpuid_query_maxphyaddr). */
export function physicalBits(table: CpuidTable): number {
  const last = table.find(0x8000_0000)?.eax ?? 0;
  const told = last < 0x8000_0008 ? undefined : table.get("phys_addr_bits");
  return told ?? DEFAULT_PHYS_BITS;
}

/** Complains about an address that is wider than this vCPU's physical addresses. */
export function tooWide(name: string, address: bigint, table: CpuidTable): string | undefined {
  const bits = physicalBits(table);
  if (address >> BigInt(bits) === 0n) return undefined;
  return (
    `${name} ${hex(address)} is wider than the ${bits} bits of this vCPU's physical addresses ` +
    `(${placesOf(["phys_addr_bits"])})`
  );
}
