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
  | "leaves-get-count"
  | "cr4-before-cpuid"
  | "masks-sgx-attributes"
  | "lazy-updates-lost"
  | "stale-base"
  | "fixed-base"
  | "keeps-pv-features"
  | "disables-exits-late"
  | "writable-feature-msrs"
  | "writable-platform-info"
  | "open-in-nested-guest"
  | "efer-before-cpuid"
  | "rewrites-xen-leaf"
  | "without-emulated-bits"
  | "unchecked-wrmsr"
  | "shows-invtsc"
  | "hides-nested-leaf"
  | "never-frozen"
  | "compares-every-index"
  | "accepts-any-cr0"
  | "sets-bsp-flag"
  | "clears-misc-enable"
  | "hides-base-msrs"
  | "keeps-wide-tsc-aux"
  | "keeps-wide-sysenter"
  | "fills-xen-leaf"
  | "feat-ctl-needs-table";

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
      "kvm_pvm replaces bits of leaves 1, 7.0, 7.1 and 0xD by the host CPU's bits when a table is set, " +
      "because its guest's ring 3 runs natively and reads the host's CPUID",
    where: "the vendor module kvm_pvm",
    source: "observed on Linux 6.18 with kvm_pvm",
  },
  "compares-incoming": {
    behaviour:
      "until Linux 6.14 KVM_SET_CPUID2 on a vCPU that has run compares the new array and discards it, " +
      "so the stored padding stays as it was first sent",
    where: "Linux 5.16 to 6.13",
    source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid; observed on 6.1 and 6.12",
    fix: "8c01290bda1a (Linux 6.14)",
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
  "leaves-get-count": {
    behaviour:
      "before Linux 6.5 a successful KVM_GET_CPUID2 does not write the count of entries; nent stays as it was sent, " +
      "so the caller does not learn how many entries KVM wrote",
    where: "before Linux 6.5",
    source: "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_get_cpuid2; observed on 6.1, not on 6.12",
    fix: "ab322c43cce9 (Linux 6.5)",
  },
  "cr4-before-cpuid": {
    behaviour:
      "on a vCPU without a CPUID table, KVM before 6.14 accepts every CR4 bit that the host supports, " +
      "because it computes the allowed bits only after an accepted table; kvm_pvm also accepts them",
    where: "before Linux 6.14; and kvm_pvm, observed on Linux 6.18",
    source: "arch/x86/kvm/cpuid.c:kvm_vcpu_after_set_cpuid, x86.c:kvm_arch_vcpu_create",
    fix: "85e5ba83c016 (Linux 6.14)",
  },
  "masks-sgx-attributes": {
    behaviour:
      "before Linux 6.4 KVM masks the attributes of SGX enclaves in leaf 0x12.1 with the guest's XSAVE components, " +
      "and always sets x87 and SSE",
    where: "Linux 5.13 to 6.3",
    source: "arch/x86/kvm/cpuid.c:__kvm_update_cpuid_runtime; observed on 6.1",
    fix: "275a87244ec8 (Linux 6.4)",
  },
  "lazy-updates-lost": {
    behaviour:
      "KVM delays its updates of a table until the table is read, and KVM_SET_CPUID2 applies a pending update to the " +
      "new table alone; the comparison with the outdated current table then fails, and the update is lost",
    where: "Linux 6.15 to 6.18; stable updates of 6.18 have the fix",
    source:
      "arch/x86/kvm/cpuid.c:kvm_set_cpuid, kvm_vcpu_after_set_cpuid; the delay is of 93da6af3ae56 (Linux 6.15); " +
      "observed on 6.16 and 6.17",
    fix: "e2b43fb25243 (Linux 6.19)",
  },
  "stale-base": {
    behaviour:
      "KVM searches PV_UNHALT at the base of KVM's leaves in the previous table, so the first table, and a table that " +
      "moves, adds or removes the leaves, gets PV_UNHALT from the wrong leaf",
    where: "Linux 5.17 to 6.8",
    source: "arch/x86/kvm/cpuid.c:__kvm_update_cpuid_runtime, kvm_update_kvm_cpuid_base",
    fix: "4736d85f0d18 (Linux 6.9)",
  },
  "fixed-base": {
    behaviour:
      "KVM uses leaf 0x40000001 as the leaf of its features, without a search for the signature, so it removes " +
      "PV_UNHALT there even from the features of another hypervisor, and at no other base",
    where: "observed on Linux 5.10; Linux 6.1 searches the signature",
    source: "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime; KVM_CPUID_FEATURES",
  },
  "keeps-pv-features": {
    behaviour:
      "KVM keeps the KVM features of the previous table if the new table has no leaf of KVM's features, so a guest " +
      "can still use MSRs that its table does not have",
    where: "Linux 5.10 to 6.13",
    source: "arch/x86/kvm/cpuid.c:kvm_update_pv_runtime",
    fix: "01d1059d635a (Linux 6.14)",
  },
  "disables-exits-late": {
    behaviour:
      "KVM_CAP_X86_DISABLE_EXITS succeeds after the first KVM_CREATE_VCPU, although a vCPU may already have a table " +
      "with PV_UNHALT, from which KVM would have removed the bit",
    where: "before Linux 6.14",
    source: "arch/x86/kvm/x86.c:kvm_vm_ioctl_enable_cap; api.rst, KVM_CAP_X86_DISABLE_EXITS",
    fix: "04cd8f8628d8 (Linux 6.14)",
  },
  "writable-feature-msrs": {
    behaviour:
      "the MSRs that describe features are writable after KVM_RUN, so a vCPU can change its model although its CPUID " +
      "table is frozen",
    where: "before Linux 6.4",
    source: "arch/x86/kvm/x86.c:do_set_msr",
    fix: "0094f62c7eaa (Linux 6.4)",
  },
  "writable-platform-info": {
    behaviour:
      "MSR_PLATFORM_INFO is writable after KVM_RUN, because KVM does not count it among the MSRs that describe " +
      "features, which a run makes immutable",
    where: "before Linux 6.14",
    source: "arch/x86/kvm/x86.c:msr_based_features_all_except_vmx, kvm_is_immutable_feature_msr",
  },
  "open-in-nested-guest": {
    behaviour:
      "a vCPU that has not run accepts another table and other feature MSRs while it executes a nested guest, which " +
      "KVM_SET_NESTED_STATE started",
    where: "before Linux 7.0",
    source: "arch/x86/kvm/x86.h:kvm_can_set_cpuid_and_feature_msrs",
    fix: "b47b93c15b12 (Linux 7.0)",
  },
  "efer-before-cpuid": {
    behaviour:
      "KVM_SET_SREGS accepts EFER bits whose features the CPUID table lacks; only the guest's WRMSR checks them",
    where:
      "observed on 5.10, 6.1 and 6.16 to 6.18; not on 6.12.118, which has the check as a stable update, and not on 7.2",
    source: "arch/x86/kvm/x86.c:kvm_is_valid_sregs; regs.c in newer kernels",
  },
  "rewrites-xen-leaf": {
    behaviour:
      "KVM writes the frequency of the TSC to the Xen leaf of the stored table when the vCPU runs, " +
      "so the stored table differs from the sent one",
    where: "observed on 6.12 and 6.14, not on 6.17; Linux 6.1 has no such code",
    source: "arch/x86/kvm/xen.c:kvm_xen_update_tsc_info",
  },
  "without-emulated-bits": {
    behaviour:
      "KVM_GET_SUPPORTED_CPUID reports TSC_DEADLINE and HYPERVISOR as 0, although KVM emulates both",
    where: "before Linux 6.14",
    source: "arch/x86/kvm/cpuid.c:kvm_set_cpu_caps",
  },
  "unchecked-wrmsr": {
    behaviour:
      "the CPU that executes a guest's WRMSR is emulated by QEMU; for MSRs that kvm_amd does not intercept, " +
      "it accepts addresses that are not canonical, and keeps 64 bits of SYSENTER_ESP",
    where: "kvm_amd in QEMU 7.2's emulator",
    source: "observed in the lab on 6.1, 6.12 and 7.2",
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
  "never-frozen": {
    behaviour:
      "KVM_SET_CPUID2 replaces the table of a vCPU that has run, so the guest's CPUID can change while it runs",
    where: "before Linux 5.16",
    source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid; observed on 5.10",
    fix: "feb627e8d6f6 (Linux 5.16)",
  },
  "compares-every-index": {
    behaviour:
      "KVM compares the index of each entry in a look-up, so it does not find a leaf without sub-leaves whose entry " +
      "has an index",
    where: "observed on Linux 5.10, not on 6.1",
    source: "arch/x86/kvm/cpuid.c:cpuid_entry2_find",
  },
  "accepts-any-cr0": {
    behaviour:
      "KVM_SET_SREGS accepts values of CR0 that MOV CR0 refuses: bits 32 to 63, NW without CD, PG without PE",
    where: "observed on Linux 5.10, not on 6.1.0-57, which has the check as a stable update",
    source: "arch/x86/kvm/x86.c:kvm_is_valid_sregs",
    fix: "26a0652cb453 (Linux 6.5)",
  },
  "sets-bsp-flag": {
    behaviour:
      "without a local APIC in the kernel, KVM sets the flag of the bootstrap processor in each value of APIC_BASE",
    where: "observed on Linux 5.10, not on 6.1",
    source: "arch/x86/kvm/lapic.c:kvm_lapic_set_base",
  },
  "clears-misc-enable": {
    behaviour:
      "IA32_MISC_ENABLE of a new vCPU is 0; newer kernels set its bits FAST_STRING, BTS_UNAVAIL and PEBS_UNAVAIL",
    where: "observed on Linux 5.10, not on 6.1",
    source: "arch/x86/kvm/x86.c:kvm_arch_vcpu_create, kvm_vcpu_reset",
  },
  "hides-base-msrs": {
    behaviour:
      "KVM_GET_MSRS cannot read FS_BASE and GS_BASE, although a guest can; KVM_GET_SREGS has both values",
    where: "kvm_amd, observed on Linux 5.10, not on 6.1",
    source: "arch/x86/kvm/svm/svm.c:svm_get_msr",
  },
  "keeps-wide-tsc-aux": {
    behaviour: "a guest of vendor AMD keeps the bits 32 to 63 of a value that it writes to TSC_AUX",
    where: "observed on Linux 5.10, not on 6.1",
    source: "arch/x86/kvm/svm/svm.c:svm_set_msr; x86.c:__kvm_set_msr in newer kernels",
  },
  "keeps-wide-sysenter": {
    behaviour:
      "a vCPU of vendor AMD keeps the bits 32 to 63 of values that user space writes to SYSENTER_ESP and SYSENTER_EIP",
    where: "observed on Linux 5.10, not on 6.1; and kvm_pvm, observed on Linux 6.18",
    source: "arch/x86/kvm/svm/svm.c:svm_set_msr",
  },
  "fills-xen-leaf": {
    behaviour:
      "a guest in a VM with Xen hypercalls reads KVM's scale of the TSC and the TSC's frequency in the Xen leaf " +
      "instead of the values of its table",
    where: "observed on 6.12 to 7.2, not on 7.3.4; 6.1 has no Xen support in Debian's kernels",
    source:
      "arch/x86/kvm/cpuid.c:kvm_cpuid, xen.h:kvm_xen_is_tsc_leaf; before 6.17 xen.c:kvm_xen_update_tsc_info",
  },
  "feat-ctl-needs-table": {
    behaviour:
      "kvm_intel before 6.2 refuses bits of MSR_IA32_FEAT_CTL from user space if the CPUID table lacks their features, " +
      "so user space must set the table first",
    where: "kvm_intel before Linux 6.2",
    source: "arch/x86/kvm/vmx/vmx.c:vmx_feature_control_msr_valid; observed on 6.1, not on 7.2",
    fix: "d2a00af2061d (Linux 6.2)",
  },
};
