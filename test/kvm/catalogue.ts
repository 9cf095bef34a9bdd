/**
 * The catalogue: the rules of KVM's CPUID life cycle, by number. A claim names its rule by the number, and several
 * claims may check one rule. docs/catalogue.md is generated from this file and from the claims.
 */

/** A rule of the catalogue. */
export interface CatalogueRule {
  /** What KVM does, on the newest kernel, as a sentence. */
  readonly rule: string;
  /** The kernel function, the commit, the section of api.rst or the kernel selftest that states or implements the rule. */
  readonly source: string;
  /** What a host needs for the check, beyond /dev/kvm. */
  readonly needs?: string;
}

/** Rules about one subject. */
export interface CatalogueArea {
  readonly title: string;
  readonly rules: Readonly<Record<number, CatalogueRule>>;
}

const ARGUMENTS: CatalogueArea = {
  title: "Arguments and sizes",
  rules: {},
};

const VALIDATION: CatalogueArea = {
  title: "Validation and rollback",
  rules: {},
};

const RUNTIME_UPDATES: CatalogueArea = {
  title: "Updates at run time",
  rules: {},
};

const AFTER_RUN: CatalogueArea = {
  title: "After KVM_RUN",
  rules: {},
};

const HAS_RUN: CatalogueArea = {
  title: "What counts as a run",
  rules: {},
};

const PARAVIRTUAL: CatalogueArea = {
  title: "PV_UNHALT, hypervisor bases and PV features",
  rules: {},
};

const OTHER_INTERFACES: CatalogueArea = {
  title: "Hyper-V, Xen, and other ioctls that depend on CPUID",
  rules: {
    102: {
      rule:
        "KVM does not write to the Xen leaf with the frequency of the TSC in a stored table, so a" +
        " vCPU that has run accepts the table that was sent.",
      source: "arch/x86/kvm/xen.c:kvm_xen_update_tsc_info (before Linux 6.17), cpuid.c:kvm_cpuid",
      needs: "KVM_CAP_XEN_HVM",
    },
    103: {
      rule:
        "In a VM with a Xen hypercall MSR, the guest reads the scale of its TSC in ECX and EDX of" +
        " index 1 of the Xen leaf base + 3, and its frequency in EAX of index 2, if the leaf is " +
        "not above the limit in the base leaf.",
      source: "arch/x86/kvm/cpuid.c:kvm_cpuid; xen.h:kvm_xen_is_tsc_leaf",
      needs: "KVM_CAP_XEN_HVM",
    },
    104: {
      rule:
        "On a vCPU without a CPUID table, KVM_SET_SREGS accepts only the CR4 bits that need no " +
        "CPUID feature.",
      source:
        "arch/x86/kvm/x86.c:kvm_arch_vcpu_create, regs.c:kvm_is_valid_sregs; selftest set_sregs_test",
    },
    105: {
      rule:
        "KVM_SET_SREGS accepts a CR4 bit that needs a CPUID feature exactly if the table has the " +
        "feature. A later table does not change CR4, but KVM_SET_SREGS then refuses the old " +
        "value.",
      source: "arch/x86/kvm/regs.c:kvm_is_valid_sregs; selftest set_sregs_test",
    },
    106: {
      rule:
        "KVM_SET_SREGS accepts a bit of EFER that needs a CPUID feature exactly if the table has " +
        "the feature.",
      source: "arch/x86/kvm/regs.c:kvm_is_valid_sregs; selftest set_sregs_test",
    },
    107: {
      rule:
        "XCR0 has at most the components of leaf 0xD of the table, and x87 always: for " +
        "KVM_SET_XCRS (EINVAL) and for a guest's XSETBV (#GP). A later table does not change " +
        "XCR0.",
      source: "arch/x86/kvm/x86.c:__kvm_set_xcr; selftest xcr0_cpuid_test",
      needs: "XSAVE",
    },
    108: {
      rule:
        "The reserved address bits of APIC_BASE begin at the width in leaf 0x80000008, or at 36 " +
        "if the leaf is above the limit in leaf 0x80000000.",
      source: "arch/x86/kvm/cpuid.c:cpuid_query_maxphyaddr",
      needs: "a host with at least 40 physical address bits",
    },
    109: {
      rule:
        "For a basic leaf above the limit, a guest reads the highest basic leaf, or zeros if the " +
        "vendor in leaf 0 is AMD or Hygon.",
      source: "arch/x86/kvm/cpuid.c:get_out_of_range_cpuid_entry",
    },
    110: {
      rule:
        "For a missing index of leaf 0xB or 0x1F, a guest reads the index in ECX, and in EDX the " +
        "x2APIC id of index 1 if this index exists.",
      source: "arch/x86/kvm/cpuid.c:kvm_cpuid",
    },
    111: {
      rule:
        "An entry without SIGNIFICANT_INDEX answers every index; an entry with the flag answers " +
        "only its own.",
      source: "arch/x86/kvm/cpuid.c:cpuid_entry2_find",
    },
    112: {
      rule:
        "KVM_GET_SUPPORTED_CPUID never has OSXSAVE, OSPKE and MWAIT, and always has TSC_DEADLINE " +
        "and HYPERVISOR.",
      source: "arch/x86/kvm/cpuid.c:kvm_set_cpu_caps",
    },
    113: {
      rule:
        "A guest can read MSR_PLATFORM_INFO exactly while KVM_CAP_MSR_PLATFORM_INFO is 1; user " +
        "space always can, and can write it.",
      source:
        "api.rst KVM_CAP_MSR_PLATFORM_INFO; arch/x86/kvm/x86.c:kvm_get_msr_common; selftest platform_info_test",
      needs: "KVM_CAP_MSR_PLATFORM_INFO",
    },
    114: {
      rule: "MSR_IA32_VMX_CR4_FIXED1 and the valid bits of MSR_IA32_FEAT_CTL follow the CPUID table.",
      source: "arch/x86/kvm/vmx/vmx.c:vmx_vcpu_after_set_cpuid",
      needs: "KVM supports VMX in guests",
    },
    115: {
      rule:
        "With an in-kernel APIC, the rules for a vCPU that has run are the same, and a guest " +
        "whose APIC is disabled reads the CPUID bit APIC as 0.",
      source: "arch/x86/kvm/lapic.c:kvm_lapic_set_base; cpuid.c:kvm_set_cpuid",
      needs: "KVM_CAP_IRQCHIP",
    },
  },
};

const SELFTESTS: CatalogueArea = {
  title: "Further rules of the kernel's selftests",
  rules: {
    130: {
      rule:
        "KVM_SET_SREGS refuses bits 32 to 63 of CR0, NW without CD, and PG without PE, and " +
        "changes no register.",
      source: "arch/x86/kvm/regs.c:kvm_is_valid_sregs; selftest set_sregs_test",
    },
    131: {
      rule: "KVM_SET_SREGS refuses an APIC_BASE with the bit x2APIC and without the enable bit.",
      source: "arch/x86/kvm/lapic.c:kvm_apic_set_base; selftest set_sregs_test",
    },
    132: {
      rule:
        "The XCR0 of KVM_GET_SUPPORTED_CPUID follows the CPU's rules: YMM needs SSE; the " +
        "components of MPX, of AVX-512 and of AMX need each other.",
      source: "Intel SDM Vol. 1 13.3; selftest xcr0_cpuid_test",
    },
    133: {
      rule:
        "IA32_XSS of a new vCPU is 0. KVM_SET_MSRS writes exactly the bits of leaf 0xD.1, and no " +
        "bit without XSAVES. The list of MSRs has IA32_XSS if KVM supports XSAVES.",
      source: "arch/x86/kvm/x86.c:kvm_set_msr_common; selftest xss_msr_test",
      needs: "XSAVES in guests, except for one claim",
    },
    134: {
      rule:
        "KVM_GET_MSR_INDEX_LIST and KVM_GET_MSR_FEATURE_INDEX_LIST fail with E2BIG if the buffer " +
        "is too small, and return the number of MSRs.",
      source: "api.rst 4.3; selftest feature_msrs_test",
      needs: "KVM_CAP_GET_MSR_FEATURES",
    },
    135: {
      rule: "KVM_GET_MSRS of /dev/kvm reads each feature MSR.",
      source: "arch/x86/kvm/x86.c:kvm_get_feature_msr; selftest feature_msrs_test",
      needs: "KVM_CAP_GET_MSR_FEATURES",
    },
    136: {
      rule:
        "A new vCPU has the supported value in each feature MSR, except 0 in DE_CFG and a " +
        "constant in UCODE_REV; without KVM_X86_QUIRK_STUFF_FEATURE_MSRS, the values are 0. User " +
        "space can write the supported value.",
      source:
        "api.rst KVM_CAP_DISABLE_QUIRKS2; arch/x86/kvm/x86.c:kvm_arch_vcpu_create; selftest feature_msrs_test",
      needs: "KVM_CAP_GET_MSR_FEATURES",
    },
    137: {
      rule:
        "A guest and user space access the same value of an MSR, and a new vCPU has the initial " +
        "value.",
      source: "arch/x86/kvm/x86.c:kvm_set_msr_common; selftest msrs_test",
      needs: "the feature of the MSR",
    },
    138: {
      rule:
        "A reserved value of an MSR raises #GP in a guest. On AMD, the high half of TSC_AUX, " +
        "SYSENTER_ESP and SYSENTER_EIP is ignored instead.",
      source: "arch/x86/kvm/x86.c:__kvm_set_msr; svm/svm.c:svm_set_msr; selftest msrs_test",
      needs: "the feature of the MSR",
    },
    139: {
      rule: "An MSR whose feature the table lacks raises #GP in a guest.",
      source: "arch/x86/kvm/x86.c:__kvm_set_msr, kvm_set_msr_common; selftest msrs_test",
      needs: "kvm.ignore_msrs is off",
    },
    140: {
      rule: "vCPUs that run on one thread keep their own values of MSRs.",
      source: "selftest msrs_test",
    },
    141: {
      rule: "KVM_GET_MSR_INDEX_LIST has an MSR exactly if KVM supports a feature of the MSR.",
      source: "arch/x86/kvm/x86.c:kvm_probe_msr_to_save; selftest msrs_test",
    },
    142: {
      rule: "KVM_GET_ONE_REG and KVM_SET_ONE_REG access MSRs as KVM_GET_MSRS and KVM_SET_MSRS do.",
      source: "api.rst 4.68; arch/x86/kvm/x86.c:kvm_get_set_one_reg; selftest msrs_test",
      needs: "KVM_CAP_ONE_REG",
    },
    143: {
      rule:
        "The guest's SSP is a register for KVM_GET_ONE_REG and KVM_SET_ONE_REG exactly if the " +
        "table has shadow stacks.",
      source: "arch/x86/kvm/x86.c:kvm_get_reg_list, kvm_translate_kvm_reg; selftest msrs_test",
      needs: "KVM_CAP_ONE_REG",
    },
    144: {
      rule:
        "KVM stores the table of KVM_GET_SUPPORTED_CPUID entry by entry, except for the bits that" +
        " it owns.",
      source: "selftest cpuid_test",
    },
    145: {
      rule: "A guest with the supported table reads 0x40000001 as the highest leaf of KVM.",
      source: "arch/x86/kvm/cpuid.c:__do_cpuid_func; selftest cpuid_test",
    },
    146: {
      rule:
        "MONITOR and MWAIT do nothing in a guest. They raise #UD exactly if " +
        "KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS is off and the CPUID bit MWAIT is 0. The bit is that" +
        " of the table, or that of MISC_ENABLE if KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT is off.",
      source:
        "api.rst KVM_CAP_DISABLE_QUIRKS2; arch/x86/kvm/x86.c:kvm_emulate_monitor_mwait; selftest monitor_mwait_test",
      needs: "KVM_CAP_DISABLE_QUIRKS2, a CPU with MONITOR",
    },
    147: {
      rule: "KVM keeps PV_UNHALT as it was sent while HLT exits are enabled.",
      source: "arch/x86/kvm/cpuid.c:kvm_apply_cpuid_pv_features_quirk; selftest kvm_pv_test",
    },
    148: {
      rule:
        "A page table entry with an address beyond the width in leaf 0x80000008 raises #PF with " +
        "the reserved bit, also if the host's width is larger.",
      source:
        "arch/x86/kvm/vmx/vmx.c:allow_smaller_maxphyaddr, mmu/mmu.c; selftest smaller_maxphyaddr_emulation_test",
      needs: "KVM_CAP_SMALLER_MAXPHYADDR",
    },
    149: {
      rule: "A vCPU that has run accepts its table after CR4.OSXSAVE and CR4.PKE changed.",
      source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid; selftest cpuid_test",
      needs: "XSAVE or PKU",
    },
    150: {
      rule: "The guest's CPUID bit OSXSAVE follows CR4.OSXSAVE, whoever writes it.",
      source: "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime; selftest cr4_cpuid_sync_test",
      needs: "XSAVE",
    },
  },
};

/** The areas in the order of their numbers. */
export const catalogue: readonly CatalogueArea[] = [
  ARGUMENTS,
  VALIDATION,
  RUNTIME_UPDATES,
  AFTER_RUN,
  HAS_RUN,
  PARAVIRTUAL,
  OTHER_INTERFACES,
  SELFTESTS,
];
