/** What a VM and its vCPUs ask of the /dev/kvm that they came from, once. Asking it is kvm.ts. */
import type { CapabilityName } from "../abi/generated/constants.ts";

/** What is the same for every VM of one /dev/kvm. */
export interface Origin {
  /** Answers KVM_CHECK_EXTENSION. */
  checkExtension(capability: CapabilityName): number;
  /** Answers KVM_GET_MSR_INDEX_LIST. */
  msrIndexList(): readonly number[];
}

/** Makes an origin that asks when it is asked, and each question once: the answers never change. */
export function remembering(asked: Origin): Origin {
  const capabilities = new Map<CapabilityName, number>();
  let list: readonly number[] | undefined;
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
  };
}
