/**
 * Explains why KVM refused a CPUID table, or why a table did not fit into the buffer. lib/oracle/set-cpuid2.ts has the
 * rules.
 */
import { Cpuid, Cpuid2 } from "../abi/generated/structs.ts";
import type { CpuidEntry2Input } from "../cpuid/index.ts";
import { GET_CPUID_RULES, SET_CPUID_RULES, type SetCpuidAsked } from "../oracle/set-cpuid2.ts";
import { causesOf } from "./findings.ts";
import { known, type Reasons, type Refusal, sentCount, sentStruct } from "./refusal.ts";

/**
 * Returns the entries that were passed, from the named arguments or from the bytes of the struct. The entries of
 * KVM_SET_CPUID have index 0.
 */
function entriesOf(refusal: Refusal): readonly CpuidEntry2Input[] | undefined {
  const { entries } = refusal.sent;
  if (Array.isArray(entries)) return entries as readonly CpuidEntry2Input[];
  if (refusal.ioctl === "KVM_SET_CPUID2") return sentStruct(refusal, Cpuid2)?.entries;
  const old = sentStruct(refusal, Cpuid)?.entries;
  return old?.map(({ function: fn, eax, ebx, ecx, edx }) => ({ function: fn, eax, ebx, ecx, edx }));
}

function ask(refusal: Refusal): SetCpuidAsked {
  const { vcpu } = refusal.evidence;
  const entries = entriesOf(refusal);
  return {
    nent: sentCount(refusal, "nent") ?? entries?.length,
    entries,
    get hasEntered() {
      return known(vcpu?.hasEntered);
    },
    get hasRun() {
      return known(vcpu?.hasRun);
    },
    get given() {
      return known(vcpu?.cpuid);
    },
  };
}

/** The causes of errors of KVM_SET_CPUID2 and KVM_SET_CPUID. */
export const SET_CPUID: Reasons = {
  E2BIG: causesOf(SET_CPUID_RULES.E2BIG, ask),
  EFAULT: causesOf(SET_CPUID_RULES.EFAULT, ask),
  EPERM: causesOf(SET_CPUID_RULES.EPERM, ask),
  EINVAL: causesOf(SET_CPUID_RULES.EINVAL, ask),
};

/** The causes of errors of the ioctls that return a CPUID table. */
export const GET_CPUID: Reasons = {
  E2BIG: causesOf(GET_CPUID_RULES, (refusal: Refusal) => ({ nent: sentCount(refusal, "nent") })),
};
