/**
 * The named differences (traits) between the KVMs of different kernels, on which tests depend. A trait describes
 * behaviour instead of a version number, because stable kernels and distributions backport fixes. lib/suite/traits.ts
 * probes the traits.
 */

/** The name of a trait. */
export type Trait =
  | "kvm_pvm"
  | "compares-incoming"
  | "without-xsave2"
  | "leaves-ospke"
  | "leaves-osxsave"
  | "shows-invtsc"
  | "hides-nested-leaf";

/** A difference in behaviour between KVMs. */
export interface TraitFacts {
  /** The behaviour of a KVM with the trait, as a sentence that explains a difference. */
  readonly behaviour: string;
  /** The kernels and hosts that have the trait. */
  readonly where: string;
  /** The evidence for the trait: the kernel function, the commits that changed it, a capability, or an observation. */
  readonly source: string;
  /** The commit or the release that removes the trait, if it is known. */
  readonly fix?: string;
}

/** The traits by name. */
export const TRAITS: Readonly<Record<Trait, TraitFacts>> = {
  kvm_pvm: {
    behaviour:
      "kvm_pvm replaces bits of leaves 1, 7.0, 7.1 and D.1 by the host CPU's bits when a table is set, " +
      "because its guest's ring 3 runs natively and reads the host's CPUID",
    where: "the vendor module kvm_pvm",
    source: "observed on Linux 6.18 with kvm_pvm",
  },
  "compares-incoming": {
    behaviour:
      "until Linux 6.14 KVM_SET_CPUID2 on a vCPU that has run compares the new array and discards it, " +
      "so the stored padding stays as it was first sent",
    where: "Linux 5.16 to 6.13",
    source:
      "arch/x86/kvm/cpuid.c:kvm_set_cpuid; changed by the series that swaps the arrays before the comparison (6.14)",
  },
  "without-xsave2": {
    behaviour:
      "before Linux 5.17 KVM has no XSAVE component that requires permission; it stores the bit of " +
      "AMX tile data like any other unknown bit",
    where: "Linux 5.10 to 5.16",
    source: "KVM_CAP_XSAVE2 is 0",
  },
  "leaves-ospke": {
    behaviour:
      "the CPU has no protection keys, and KVM before 6.14 derives OSPKE from CR4.PKE only on a CPU that has them; " +
      "here the bit is stored and compared as it was sent",
    where: "before Linux 6.14, on a host without PKU",
    source: "arch/x86/kvm/cpuid.c:__kvm_update_cpuid_runtime",
  },
  "leaves-osxsave": {
    behaviour:
      "the CPU has no XSAVE, and KVM before 6.14 derives OSXSAVE from CR4 only on a CPU that has it; " +
      "here the bit is stored and compared as it was sent",
    where: "before Linux 6.14, on a host without XSAVE",
    source: "arch/x86/kvm/cpuid.c:__kvm_update_cpuid_runtime",
  },
  "shows-invtsc": {
    behaviour:
      "the CPU has no invariant TSC, and KVM before 6.14 hides the bit from a guest with Hyper-V's control of the " +
      "invariant TSC only on a CPU that has it; here the guest sees the bit of its table",
    where: "Linux 6.2 to 6.13, on a host without an invariant TSC",
    source: "arch/x86/kvm/cpuid.c:kvm_cpuid; observed on 6.12",
    fix: "ccf4c1d15d5a (Linux 6.14)",
  },
  "hides-nested-leaf": {
    behaviour:
      "before Linux 5.18 KVM_GET_SUPPORTED_HV_CPUID has leaf 0x4000000A only if KVM supports the enlightened VMCS",
    where: "before Linux 5.18, except for a vCPU with the enlightened VMCS",
    source:
      "arch/x86/kvm/hyperv.c:kvm_get_hv_cpuid; changed by the commit that implements the enlightened MSR bitmap for " +
      "nSVM; observed on 5.10",
  },
};
