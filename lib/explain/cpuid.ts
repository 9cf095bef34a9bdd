/** Why CPUID tables were refused or had no room; which bits differ is set-cpuid2.ts. */
import { Cpuid, Cpuid2 } from "../abi/generated/structs.ts";
import { type CpuidEntry2Input, CpuidTable } from "../cpuid/index.ts";
import { known, type Reasons, type Refusal, sentCount, sentStruct } from "./refusal.ts";
import { explainAddressWidth, explainChanges, explainPermission } from "./set-cpuid2.ts";
import { fault, only } from "./verdict.ts";

/** The entries as they were sent: named, or in the bytes. Those of the old form have index 0. */
function entriesOf(refusal: Refusal): readonly CpuidEntry2Input[] | undefined {
  const { entries } = refusal.sent;
  if (Array.isArray(entries)) return entries as readonly CpuidEntry2Input[];
  if (refusal.ioctl === "KVM_SET_CPUID2") return sentStruct(refusal, Cpuid2)?.entries;
  const old = sentStruct(refusal, Cpuid)?.entries;
  return old?.map(({ function: fn, eax, ebx, ecx, edx }) => ({ function: fn, eax, ebx, ecx, edx }));
}

/** The causes of KVM_SET_CPUID2 and KVM_SET_CPUID. */
export const SET_CPUID: Reasons = {
  E2BIG: {
    "too many entries": (refusal) => {
      const nent = nentOf(refusal);
      return only(
        "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_set_cpuid2",
        nent === undefined
          ? undefined
          : `${nent} entries, and KVM takes at most 256 (KVM_MAX_CPUID_ENTRIES)`,
      );
    },
  },
  EFAULT: {
    "count past the entries": (refusal) => {
      const sent = entriesOf(refusal);
      const nent = sentCount(refusal, "nent") ?? 0;
      return fault(
        sent && nent > sent.length
          ? `nent is ${nent}, but only ${sent.length} entries were sent`
          : undefined,
      );
    },
  },
  EPERM: {
    "AMX without permission": (refusal) => {
      const sent = entriesOf(refusal);
      return only(
        "arch/x86/kernel/fpu/xstate.c:fpu_enable_guest_xfd_features",
        sent && explainPermission(CpuidTable.from(sent)),
      );
    },
  },
  EINVAL: {
    "address width": (refusal) => {
      // A vCPU whose guest was entered compares the table, and checks nothing else of it.
      const isFrozen = known(refusal.evidence.vcpu?.hasEntered) ?? false;
      const sent = entriesOf(refusal);
      return fault(isFrozen || !sent ? undefined : explainAddressWidth(CpuidTable.from(sent)));
    },
    "table of a vCPU that has run": (refusal) => {
      const { vcpu } = refusal.evidence;
      const sent = entriesOf(refusal);
      const given = known(vcpu?.hasRun) === true ? known(vcpu?.cpuid) : undefined;
      return fault(sent && given && explainChanges(given, sent));
    },
  },
};

const nentOf = (refusal: Refusal): number | undefined =>
  sentCount(refusal, "nent") ?? entriesOf(refusal)?.length;

/** The causes of the ioctls that answer a CPUID table. */
export const GET_CPUID: Reasons = {
  E2BIG: {
    "too little room": (refusal) => {
      const nent = sentCount(refusal, "nent");
      return only(
        "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_get_cpuid2, kvm_dev_ioctl_get_cpuid",
        nent === undefined ? undefined : `nent ${nent}: the table has more entries`,
      );
    },
  },
};
