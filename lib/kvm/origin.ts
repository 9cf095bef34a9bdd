/** Caches results of /dev/kvm that its VMs and vCPUs need. kvm.ts issues the calls. */
import type { CapabilityName } from "../abi/generated/names.ts";
import type { CpuidEntry2, MsrEntry } from "../abi/generated/structs.ts";

/** The results that are the same for every VM of one /dev/kvm. */
export interface Origin {
  /** Returns the result of KVM_CHECK_EXTENSION. */
  checkExtension(capability: CapabilityName): number;
  /** Returns the result of KVM_GET_MSR_INDEX_LIST. */
  msrIndexList(): readonly number[];
  /** Returns the result of KVM_GET_SUPPORTED_CPUID, which depends on the process's permissions. */
  supportedCpuid(): readonly CpuidEntry2[];
  /** Reads the MSRs of KVM_GET_MSR_FEATURE_INDEX_LIST. */
  featureMsrs(): readonly MsrEntry[];
}

/**
 * Returns an object that calls the kernel when a result is first needed. All results except that of
 * KVM_GET_SUPPORTED_CPUID are cached.
 */
export function cachedOrigin(source: Origin): Origin {
  const capabilities = new Map<CapabilityName, number>();
  let list: readonly number[] | undefined;
  let features: readonly MsrEntry[] | undefined;
  return {
    checkExtension(capability) {
      const known = capabilities.get(capability) ?? source.checkExtension(capability);
      capabilities.set(capability, known);
      return known;
    },
    msrIndexList() {
      list ??= source.msrIndexList();
      return list;
    },
    supportedCpuid: () => source.supportedCpuid(),
    featureMsrs() {
      features ??= source.featureMsrs();
      return features;
    },
  };
}
