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

const HYPERV = "a KVM with CONFIG_KVM_HYPERV: KVM_CAP_SYS_HYPERV_CPUID";
const ENFORCED = `${HYPERV}, KVM_CAP_HYPERV_ENFORCE_CPUID`;

const OTHER_INTERFACES: CatalogueArea = {
  title: "Hyper-V, Xen, and other ioctls that depend on CPUID",
  rules: {
    96: {
      rule:
        'A guest may use Hyper-V\'s MSRs exactly if leaf 0x40000001 of its table has "Hv#1" in EAX. VP_INDEX is the ' +
        "index of the vCPU in the order of creation. Without KVM_CAP_HYPERV_ENFORCE_CPUID, the feature bits do not " +
        "restrict the guest.",
      source: "hyperv.c:kvm_hv_get_msr_common, kvm_hv_set_cpuid, cpuid.c:kvm_cpuid_has_hyperv",
      needs: HYPERV,
    },
    97: {
      rule:
        "KVM allocates the Hyper-V state of a vCPU before it checks a table, but a rejected table neither gives the " +
        "guest Hyper-V's MSRs nor takes them away.",
      source: "cpuid.c:kvm_set_cpuid, hyperv.c:kvm_hv_vcpu_init, kvm_hv_set_cpuid",
      needs: HYPERV,
    },
    98: {
      rule:
        "If a table without Hyper-V replaces a table with Hyper-V before the first run, the guest cannot use " +
        "Hyper-V's MSRs.",
      source: "hyperv.c:kvm_hv_set_cpuid",
      needs: HYPERV,
    },
    99: {
      rule:
        "After KVM_RUN, KVM rejects a table without Hyper-V with EINVAL, accepts the same table with Hyper-V, and the " +
        "guest can still use Hyper-V's MSRs.",
      source: "cpuid.c:kvm_set_cpuid",
      needs: HYPERV,
    },
    100: {
      rule:
        "Each accepted table replaces all Hyper-V features of a vCPU. No feature of an earlier table remains, also if " +
        "the new table has no feature leaf.",
      source: "hyperv.c:kvm_hv_set_cpuid clears the cached features",
      needs: ENFORCED,
    },
    101: {
      rule:
        "If a guest has the feature hv_tsc_invariant (0x40000003.EAX[15]), its CPUID has no invariant TSC " +
        "(0x80000007.EDX[8]) until it writes 1 to TSC_INVARIANT_CONTROL. The stored table keeps the bit.",
      source: "cpuid.c:kvm_cpuid, hyperv.h:kvm_hv_invtsc_suppressed; selftest hyperv_features",
      needs: `${HYPERV}, and the feature hv_tsc_invariant (Linux 6.2)`,
    },
  },
};

const SELFTESTS: CatalogueArea = {
  title: "Further rules of the kernel's selftests",
  rules: {
    120: {
      rule:
        "With KVM_CAP_HYPERV_ENFORCE_CPUID, a guest can access a Hyper-V MSR exactly if it has the feature of the MSR, " +
        "whatever other Hyper-V features it has. Without the feature, RDMSR and WRMSR raise #GP.",
      source:
        "hyperv.c:hv_check_msr_access, kvm_hv_set_msr, kvm_hv_set_msr_pw; api.rst KVM_CAP_HYPERV_ENFORCE_CPUID; " +
        "selftest hyperv_features",
      needs: ENFORCED,
    },
    121: {
      rule:
        "With KVM_CAP_HYPERV_ENFORCE_CPUID, a guest can read a read-only Hyper-V MSR exactly if it has the feature of " +
        "the MSR. WRMSR raises #GP even if the guest has the feature.",
      source: "hyperv.c:hv_check_msr_access, kvm_hv_set_msr; selftest hyperv_features",
      needs: ENFORCED,
    },
    122: {
      rule: "A guest gets #GP if it writes a reserved bit of the MSR TSC_INVARIANT_CONTROL.",
      source: "hyperv.c:kvm_hv_set_msr_pw; selftest hyperv_features",
      needs: `${ENFORCED}, and the feature hv_tsc_invariant (Linux 6.2)`,
    },
    123: {
      rule:
        "Some Hyper-V MSRs need more than their feature: SynIC needs KVM_CAP_HYPERV_SYNIC2, timers in direct mode need " +
        "hv_stimer_direct, and the debugger's MSRs need 0x40000082.EAX[1].",
      source: "hyperv.c:synic_set_msr, stimer_set_config, syndbg_set_msr; selftest hyperv_features",
      needs: ENFORCED,
    },
    124: {
      rule: "If a guest writes 1 to the MSR RESET, KVM_RUN returns KVM_EXIT_SYSTEM_EVENT with KVM_SYSTEM_EVENT_RESET.",
      source: "hyperv.c:kvm_hv_set_msr_pw, x86.c:vcpu_enter_guest; selftest hyperv_features",
      needs: ENFORCED,
    },
    125: {
      rule:
        "With KVM_CAP_HYPERV_ENFORCE_CPUID, a hypercall returns the status 6 (access denied) if the guest lacks one of " +
        "its features, whatever other Hyper-V features the guest has. With the features, KVM handles the call.",
      source: "hyperv.c:hv_check_hypercall_access, kvm_hv_hypercall; selftest hyperv_features",
      needs: ENFORCED,
    },
    126: {
      rule:
        "An unknown hypercall returns the status 2 (invalid code), and so does a debugger's hypercall if " +
        "0x40000082.EAX[1] is 0.",
      source: "hyperv.c:kvm_hv_hypercall, hv_check_hypercall_access; selftest hyperv_features",
      needs: ENFORCED,
    },
    127: {
      rule:
        "With KVM_CAP_HYPERV_ENFORCE_CPUID, a hypercall whose input is in XMM registers raises #UD without the feature " +
        "hv_xmm_input (0x40000003.EDX[4]).",
      source: "hyperv.c:kvm_hv_hypercall; selftest hyperv_features",
      needs: ENFORCED,
    },
    128: {
      rule:
        "KVM_GET_SUPPORTED_HV_CPUID returns the same leaf limit and the same host properties on /dev/kvm and on a " +
        "vCPU, and E2BIG without room; the version of the enlightened VMCS appears after it was enabled.",
      source: "hyperv.c:kvm_get_hv_cpuid; selftest hyperv_cpuid",
      needs: "a KVM with CONFIG_KVM_HYPERV; for the enlightened VMCS also nested VMX",
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
