/**
 * Helpers for the tests of the oracle: arguments for rules, and the verdict of the first rule that an argument
 * violates.
 */
import { Sregs2 } from "../../../lib/abi/generated/structs.ts";
import { encode, read, type StructInput } from "../../../lib/abi/struct.ts";
import { type CpuidEntry2, type CpuidFieldName, CpuidTable } from "../../../lib/cpuid/index.ts";
import { apply, type MsrAccess, type Rules, type RuleVerdict } from "../../../lib/oracle/index.ts";

export const bit = (n: number): bigint => 1n << BigInt(n);

/** The entries of indexed leaves have the flag that KVM requires. */
const LEAVES: readonly Pick<CpuidEntry2, "function" | "index" | "flags" | "eax">[] = [
  { function: 0x1, index: 0, flags: 0, eax: 0 },
  { function: 0x7, index: 0, flags: 1, eax: 1 },
  { function: 0x7, index: 1, flags: 1, eax: 0 },
  { function: 0xd, index: 0, flags: 1, eax: 0 },
  { function: 0xd, index: 1, flags: 1, eax: 0 },
  { function: 0x8000_0000, index: 0, flags: 0, eax: 0x8000_0021 },
  { function: 0x8000_0001, index: 0, flags: 0, eax: 0 },
  { function: 0x8000_0008, index: 0, flags: 0, eax: 0x3028 },
  { function: 0x8000_0021, index: 0, flags: 0, eax: 0 },
];

/** Creates a CPUID table with these features and 40 bits of physical address. */
export function tableWith(...names: readonly CpuidFieldName[]): CpuidTable {
  return CpuidTable.from(LEAVES).with(Object.fromEntries(names.map((name) => [name, 1])));
}

export const EMPTY: CpuidTable = CpuidTable.from([]);

/** Creates special registers that are 0 except for these fields. */
export const sregs2 = (fields: StructInput<Sregs2>): Sregs2 => read(Sregs2, encode(Sregs2, fields));

/** Applies every rule, and returns the name and the verdict of each rule that the argument violates. */
export function broken<Asked, Finding>(
  rules: Rules<Asked, Finding>,
  asked: Asked,
): readonly (readonly [name: string, verdict: RuleVerdict<Finding>])[] {
  return Object.entries(rules).flatMap(([name, rule]) => {
    const verdict = apply(rule, asked);
    return verdict === undefined ? [] : [[name, verdict] as const];
  });
}

/** An access to an MSR without any evidence. */
export const access = (index: number, more: Partial<MsrAccess> = {}): MsrAccess => ({
  index,
  table: undefined,
  supported: undefined,
  current: undefined,
  featureValue: undefined,
  hasEntered: undefined,
  hasLapic: undefined,
  hasMemoryAt: () => undefined,
  ...more,
});
