/** Why CPUID tables were refused or had no room; which bits differ is set-cpuid2.ts. */
import { Cpuid, Cpuid2 } from "../abi/generated/structs.ts";
import type { CpuidEntryInput } from "../cpuid/index.ts";
import {
  known,
  type Reason,
  type Reasons,
  type Refusal,
  sentCount,
  sentStruct,
} from "./refusal.ts";
import { explainSetCpuid2 } from "./set-cpuid2.ts";

/** The entries as they were sent: named, or in the bytes. Those of the old form have index 0. */
function entriesOf(refusal: Refusal): readonly CpuidEntryInput[] | undefined {
  const { entries } = refusal.sent;
  if (Array.isArray(entries)) return entries as readonly CpuidEntryInput[];
  if (refusal.ioctl === "KVM_SET_CPUID2") return sentStruct(refusal, Cpuid2)?.entries;
  const old = sentStruct(refusal, Cpuid)?.entries;
  return old?.map(({ function: fn, eax, ebx, ecx, edx }) => ({ function: fn, eax, ebx, ecx, edx }));
}

const explain: Reason = (refusal) => {
  const sent = entriesOf(refusal);
  const { vcpu } = refusal.evidence;
  const nent = sentCount(refusal, "nent") ?? sent?.length;
  if (nent === undefined) return undefined;
  return explainSetCpuid2({
    errno: refusal.errno,
    nent,
    sent: sent ?? [],
    isFrozen: known(vcpu?.hasEntered) ?? false,
    stored: () =>
      sent !== undefined && known(vcpu?.hasRun) === true ? known(vcpu?.cpuid) : undefined,
  });
};

/** The reasons of KVM_SET_CPUID2 and KVM_SET_CPUID. */
export const SET_CPUID: Reasons = {
  E2BIG: explain,
  EFAULT: explain,
  EINVAL: explain,
  EPERM: explain,
};

/** The reasons of the ioctls that answer a CPUID table. */
export const GET_CPUID: Reasons = {
  E2BIG: (refusal) => {
    const nent = sentCount(refusal, "nent");
    return nent === undefined ? undefined : `nent ${nent}: the table has more entries`;
  },
};
