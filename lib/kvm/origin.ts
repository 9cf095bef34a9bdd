/** What a VM and its vCPUs ask of the /dev/kvm that they came from, once. Asking it is kvm.ts. */
import type { CapabilityName } from "../abi/generated/constants.ts";
import type { CpuidEntry2, MsrEntry } from "../abi/generated/structs.ts";

/** What is the same for every VM of one /dev/kvm. */
export interface Origin {
  /** Answers KVM_CHECK_EXTENSION. */
  checkExtension(capability: CapabilityName): number;
  /** Answers KVM_GET_MSR_INDEX_LIST. */
  msrIndexList(): readonly number[];
  /** Answers KVM_GET_SUPPORTED_CPUID, which depends on what the process was permitted. */
  supportedCpuid(): readonly CpuidEntry2[];
  /** Reads the MSRs of KVM_GET_MSR_FEATURE_INDEX_LIST. */
  featureMsrs(): readonly MsrEntry[];
}

/**
 * Makes an origin that asks when it is asked, and each question once whose answer never changes: all but
 * KVM_GET_SUPPORTED_CPUID.
 */
export function remembering(asked: Origin): Origin {
  const capabilities = new Map<CapabilityName, number>();
  let list: readonly number[] | undefined;
  let features: readonly MsrEntry[] | undefined;
  return {
    checkExtension(capability) {
      const known = capabilities.get(capability) ?? asked.checkExtension(capability);
      capabilities.set(capability, known);
      return known;
    },
    msrIndexList() {
      list ??= asked.msrIndexList();
      return list;
    },
    supportedCpuid: () => asked.supportedCpuid(),
    featureMsrs() {
      features ??= asked.featureMsrs();
      return features;
    },
  };
}
