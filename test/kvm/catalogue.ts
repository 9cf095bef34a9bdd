/**
 * The catalogue: the rules of KVM's CPUID life cycle, by number. A claim names its rule by the number, and several
 * claims may check one rule. docs/catalogue.md is generated from this file and from the claims.
 */

/** A rule of the catalogue. */
export interface CatalogueRule {
  /** A sentence that describes the behaviour of KVM on the newest kernel. */
  readonly rule: string;
  /** The kernel function, the commit, the section of api.rst or the kernel selftest that states or implements the rule. */
  readonly source: string;
  /** The requirements of the check to a host, in addition to /dev/kvm. */
  readonly needs?: string;
  /** The reason why no claim checks the rule. */
  readonly unjudged?: string;
}

/** Rules about one subject. */
export interface CatalogueArea {
  readonly title: string;
  readonly rules: Readonly<Record<number, CatalogueRule>>;
}

const ARGUMENTS: CatalogueArea = {
  title: "Arguments and sizes",
  rules: {
    1: {
      rule:
        "KVM_GET_SUPPORTED_CPUID with room for fewer entries than it has returns E2BIG and writes " +
        "neither entries nor the count.",
      source: "arch/x86/kvm/cpuid.c:kvm_dev_ioctl_get_cpuid; api.rst 4.46",
    },
    2: {
      rule:
        "KVM_GET_SUPPORTED_CPUID accepts any larger room, also more than 256 entries, and returns the " +
        "count of entries. The errno ENOMEM that api.rst mentions for a count that is too high does " +
        "not occur.",
      source: "arch/x86/kvm/cpuid.c:kvm_dev_ioctl_get_cpuid; api.rst 4.46",
    },
    3: {
      rule:
        "KVM_GET_SUPPORTED_CPUID returns the same table at each call. Only the APIC ids of leaves 1, " +
        "0xB and 0x1F depend on the CPU that executes the call.",
      source: "arch/x86/kvm/cpuid.c:do_host_cpuid",
    },
    4: {
      rule: "A table of KVM_GET_SUPPORTED_CPUID has each leaf and index once, and its padding is 0.",
      source: "arch/x86/kvm/cpuid.c:__do_cpuid_func, kvm_dev_ioctl_get_cpuid",
    },
    5: {
      rule:
        "KVM_GET_EMULATED_CPUID returns the leaves 0, 1 and 7, and needs room for one entry more, " +
        "because it checks the room before it knows whether a leaf has an entry.",
      source: "arch/x86/kvm/cpuid.c:__do_cpuid_func_emulated; api.rst 4.88",
      needs: "KVM_CAP_EXT_EMUL_CPUID",
    },
    6: {
      rule:
        "KVM_GET_EMULATED_CPUID returns EINVAL if the passed padding of an entry is not 0. " +
        "KVM_GET_SUPPORTED_CPUID ignores the padding.",
      source: "arch/x86/kvm/cpuid.c:sanity_check_entries",
    },
    7: {
      rule:
        "KVM_GET_SUPPORTED_HV_CPUID returns ten leaves between 0x40000000 and 0x40000082 with index, " +
        "flags and padding 0, and E2BIG if the room is smaller.",
      source: "arch/x86/kvm/hyperv.c:kvm_get_hv_cpuid; api.rst 4.118; selftest hyperv_cpuid",
      needs: "KVM_CAP_SYS_HYPERV_CPUID",
    },
    8: {
      rule:
        "Direct synthetic timers and the recommendation of cluster IPIs need an in-kernel local APIC: " +
        "KVM_GET_SUPPORTED_HV_CPUID returns them on /dev/kvm and on a vCPU with such an APIC, and not " +
        "on another vCPU.",
      source: "arch/x86/kvm/hyperv.c:kvm_get_hv_cpuid; api.rst 4.118; selftest hyperv_cpuid",
      needs: "KVM_CAP_SYS_HYPERV_CPUID for /dev/kvm, KVM_CAP_HYPERV_CPUID for a vCPU",
    },
    9: {
      rule:
        "KVM_SET_CPUID2 accepts up to 256 entries. A larger count fails with E2BIG before KVM reads " +
        "an entry, and the table stays.",
      source: "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_set_cpuid2, KVM_MAX_CPUID_ENTRIES",
    },
    10: {
      rule:
        "KVM_SET_CPUID2 with the count 0 empties the table of a vCPU that has not run, and reads no " +
        "entry.",
      source: "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_set_cpuid2",
    },
    11: {
      rule:
        "KVM_SET_CPUID2 returns EFAULT if it cannot read an entry, and the table stays. The claim " +
        "covers the entries; an unreadable header is not judged, because this package always passes a " +
        "readable one.",
      source: "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_set_cpuid2, vmemdup_user",
    },
    12: {
      rule:
        "A successful KVM_GET_CPUID2 writes the count of entries and does not change the room behind " +
        "them.",
      source:
        "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_get_cpuid2; commit ab322c43cce9 (6.5); selftest " +
        "cpuid_test:test_get_cpuid2",
    },
    13: {
      rule:
        "KVM_GET_CPUID2 with too little room returns E2BIG and changes neither the count nor the " +
        "entries.",
      source: "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_get_cpuid2; selftest cpuid_test:test_get_cpuid2",
    },
    14: {
      rule: "A new vCPU has an empty table, so KVM_GET_CPUID2 with the count 0 succeeds.",
      source: "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_get_cpuid2",
    },
    15: {
      rule:
        "KVM_SET_CPUID2 does not check the leaf, index, flags and padding of an entry, and stores " +
        "them as they were sent.",
      source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid",
    },
    16: {
      rule: "KVM_SET_CPUID, which passes no index, stores each entry with index, flags and padding 0.",
      source: "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_set_cpuid",
    },
    17: {
      rule:
        "An ioctl on a descriptor of another kind fails: KVM_SET_CPUID2 with ENOTTY on a VM and " +
        "EINVAL on /dev/kvm, KVM_GET_SUPPORTED_CPUID with ENOTTY on a VM and EINVAL on a vCPU. A " +
        "vCPU's ioctl from a process with another address space fails with EIO; no claim judges this, " +
        "because Node.js cannot fork without exec, and a program that is executed cannot get a " +
        "descriptor of this package.",
      source:
        "virt/kvm/kvm_main.c:kvm_vcpu_ioctl; arch/x86/kvm/x86.c:kvm_arch_dev_ioctl, " +
        "kvm_arch_vm_ioctl, kvm_arch_vcpu_ioctl",
    },
    18: {
      rule:
        "KVM_SET_CPUID2 from another thread while the vCPU is in KVM_RUN waits until KVM_RUN returns, " +
        "and then fails like any SET of another table after a run.",
      source: "virt/kvm/kvm_main.c:kvm_vcpu_ioctl (vcpu->mutex)",
      unjudged:
        "the package refuses each call on a running vCPU (ERR_RUNNING), because the caller would block, and a " +
        "descriptor cannot be passed to another thread",
    },
  },
};

const VALIDATION: CatalogueArea = {
  title: "Validation and rollback",
  rules: {
    19: {
      rule:
        "KVM_SET_CPUID2 returns EINVAL if the virtual address width in 0x80000008:EAX[15:8] is not 0, " +
        "48 or 57.",
      source: "arch/x86/kvm/cpuid.c:kvm_check_cpuid",
    },
    20: {
      rule:
        "The width is checked only in the first entry of leaf 0x80000008, whatever the entry's index " +
        "is. A table without the leaf is accepted.",
      source: "arch/x86/kvm/cpuid.c:kvm_check_cpuid, cpuid_entry2_find",
    },
    21: {
      rule:
        "KVM_SET_CPUID2 returns EPERM if leaf 0xD.0 has AMX tile data and the process has no " +
        "permission for it. AMX tile configuration needs no permission.",
      source:
        "arch/x86/kvm/cpuid.c:kvm_check_cpuid; " +
        "arch/x86/kernel/fpu/xstate.c:fpu_enable_guest_xfd_features; api.rst 4.46",
    },
    22: {
      rule:
        "KVM_SET_CPUID2 accepts AMX tile data if ARCH_REQ_XCOMP_GUEST_PERM was called before the " +
        "first vCPU of the process. After the first vCPU this request fails with EBUSY.",
      source: "arch/x86/kernel/fpu/xstate.c:xstate_request_perm; selftest amx_test",
      needs: "a CPU with AMX",
    },
    23: {
      rule:
        "A refused KVM_SET_CPUID2 keeps the previous table byte for byte. api.rst does not guarantee " +
        "this.",
      source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid; api.rst 4.20",
    },
    24: {
      rule: "A vCPU whose first table is refused has no table.",
      source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid",
    },
    25: {
      rule:
        "A feature that only a refused table has is not available: neither KVM_SET_SREGS nor the " +
        "guest can set its CR4 bit.",
      source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid (restores cpu_caps), kvm_vcpu_after_set_cpuid",
      needs: "FSGSBASE in the supported table",
    },
    26: {
      rule:
        "A vCPU whose first table is refused has no features: KVM_SET_SREGS refuses the CR4 bit of a " +
        "feature that the host supports.",
      source: "arch/x86/kvm/x86.c:kvm_arch_vcpu_create; commit 85e5ba83c016 (6.14)",
      needs: "UMIP",
    },
    27: {
      rule:
        "A KVM_SET_CPUID2 that fails with EPERM keeps the table and the CR4 bits that the table " +
        "allows.",
      source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid",
      needs: "FSGSBASE; no permission for AMX tile data",
    },
    28: {
      rule:
        "A refused KVM_SET_CPUID2 before the first run does not lose the update of a bit that follows " +
        "CR4.",
      source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid, kvm_update_cpuid_runtime",
      needs: "XSAVE",
    },
    29: {
      rule:
        "The values of the bits that KVM writes itself change neither the result of KVM_SET_CPUID2 " +
        "nor the stored table.",
      source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid, kvm_update_cpuid_runtime",
    },
    30: {
      rule: "KVM_SET_CPUID2 stores a table of KVM_GET_CPUID2 unchanged.",
      source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid",
    },
    31: {
      rule:
        "KVM_SET_CPUID2 and KVM_SET_CPUID do not write to the caller's buffer, although KVM changes " +
        "bits of the stored table.",
      source: "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_set_cpuid2, vmemdup_user",
    },
    32: {
      rule:
        "The errors E2BIG and EFAULT come before the comparison of the tables, also on a vCPU that " +
        "has run.",
      source: "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_set_cpuid2",
    },
  },
};

const RUNTIME_UPDATES: CatalogueArea = {
  title: "Updates at run time",
  rules: {
    33: {
      rule: "KVM_SET_CPUID2 stores OSXSAVE as CR4.OSXSAVE, whatever the passed table has.",
      source: "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime; selftest cr4_cpuid_sync_test",
      needs: "XSAVE",
    },
    34: {
      rule: "The CPUID bit OSXSAVE follows CR4.OSXSAVE after KVM_SET_SREGS.",
      source: "arch/x86/kvm/vmx/vmx.c:vmx_set_cr4, svm/svm.c:svm_set_cr4; selftest set_sregs_test",
      needs: "XSAVE",
    },
    35: {
      rule:
        "The CPUID bit OSXSAVE follows CR4.OSXSAVE when the guest writes CR4, both in the guest's " +
        "CPUID and in KVM_GET_CPUID2.",
      source:
        "arch/x86/kvm/vmx/vmx.c:vmx_set_cr4, svm/svm.c:svm_set_cr4; selftest cr4_cpuid_sync_test",
      needs: "XSAVE",
    },
    36: {
      rule: "The CPUID bit OSPKE follows CR4.PKE after KVM_SET_SREGS.",
      source: "arch/x86/kvm/vmx/vmx.c:vmx_set_cr4, svm/svm.c:svm_set_cr4; selftest set_sregs_test",
      needs: "PKU",
    },
    37: {
      rule:
        "KVM maintains OSXSAVE and OSPKE irrespective of the host's CPU: on a host without the " +
        "feature it clears the bit of the passed table.",
      source: "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime (6.14)",
      needs: "a host without XSAVE, or without PKU",
    },
    38: {
      rule:
        "The CPUID bit APIC is APIC_BASE.EN: KVM_SET_CPUID2 sets it, and it follows KVM_SET_SREGS and " +
        "KVM_SET_MSRS.",
      source: "arch/x86/kvm/lapic.c:__kvm_apic_set_base; cpuid.c:kvm_update_cpuid_runtime",
    },
    39: {
      rule:
        "0xD.0:EBX is the XSAVE size for XCR0 and follows KVM_SET_XCRS. The maximum size in 0xD.0:ECX " +
        "stays as it was sent.",
      source:
        "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime, xstate_required_size; x86.c:__kvm_set_xcr",
      needs: "XSAVE and AVX",
    },
    40: {
      rule:
        "With XSAVEC or XSAVES in the table, 0xD.1:EBX is the compacted size for XCR0. Otherwise it " +
        "stays as it was sent.",
      source: "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime",
      needs: "XSAVE and AVX, to change XCR0",
    },
    41: {
      rule:
        "The compacted size in 0xD.1:EBX includes the components of IA32_XSS and follows a write of " +
        "IA32_XSS.",
      source: "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime; commit 9622e116d0d2 (6.18)",
      needs: "XSAVES, and a KVM that supports a component of IA32_XSS",
    },
    42: {
      rule:
        "With the quirk KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT, which is on by default, the MWAIT bit " +
        "stays as it was sent, whatever MISC_ENABLE[18] is.",
      source:
        "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime; api.rst, KVM_CAP_DISABLE_QUIRKS2; selftest " +
        "monitor_mwait_test",
    },
    43: {
      rule:
        "Without the quirk the MWAIT bit is MISC_ENABLE[18], and follows KVM_SET_MSRS and the guest's " +
        "WRMSR. A vCPU without SSE3 cannot change MISC_ENABLE[18].",
      source:
        "arch/x86/kvm/x86.c:kvm_set_msr_common; cpuid.c:kvm_update_cpuid_runtime; selftest " +
        "monitor_mwait_test",
      needs: "KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT in KVM_CAP_DISABLE_QUIRKS2",
    },
    44: {
      rule:
        "MONITOR raises #UD if the vCPU's CPUID has no MWAIT and the quirk " +
        "KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS is off. Otherwise KVM executes it as NOP.",
      source:
        "arch/x86/kvm/x86.c:kvm_emulate_monitor_mwait; api.rst, KVM_CAP_DISABLE_QUIRKS2; selftest " +
        "monitor_mwait_test",
      needs: "both quirks in KVM_CAP_DISABLE_QUIRKS2",
    },
    45: {
      rule:
        "KVM maintains the first entry that matches the leaf. The index must match only if the entry " +
        "has the flag SIGNIFICANT_INDEX and the leaf has subleaves. All other entries stay as they " +
        "were sent.",
      source: "arch/x86/kvm/cpuid.c:cpuid_entry2_find",
    },
    46: {
      rule: "KVM stores the attributes of SGX enclaves in leaf 0x12.1 as they were sent.",
      source: "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime; commit 275a87244ec8 (6.4)",
    },
    47: {
      rule:
        "The guest's CPUID instruction returns what KVM_GET_CPUID2 returns, for each stored leaf and " +
        "index.",
      source: "arch/x86/kvm/cpuid.c:kvm_cpuid; selftest cpuid_test:test_guest_cpuids",
    },
    48: {
      rule:
        "A table without the leaves that KVM maintains is stored as it was sent, and can be set again " +
        "after a run.",
      source: "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime, kvm_cpuid_check_equal",
    },
  },
};

const AFTER_RUN: CatalogueArea = {
  title: "After KVM_RUN",
  rules: {
    49: {
      rule: "A vCPU that has run accepts the table that was sent before the run.",
      source: "arch/x86/kvm/cpuid.c:kvm_cpuid_check_equal; api.rst 4.20; selftest cpuid_test",
    },
    50: {
      rule: "A vCPU that has run accepts the table that KVM_GET_CPUID2 returns.",
      source: "arch/x86/kvm/cpuid.c:kvm_cpuid_check_equal; api.rst 4.20",
    },
    51: {
      rule: "A vCPU that has run refuses a table with a changed register of a leaf, and keeps its table.",
      source: "arch/x86/kvm/cpuid.c:kvm_cpuid_check_equal; selftest cpuid_test",
    },
    52: {
      rule: "A vCPU that has run refuses another physical address width.",
      source: "arch/x86/kvm/cpuid.c:kvm_cpuid_check_equal; selftest cpuid_test",
    },
    53: {
      rule: "A vCPU that has run refuses a table with another number of entries.",
      source: "arch/x86/kvm/cpuid.c:kvm_cpuid_check_equal",
    },
    54: {
      rule:
        "A vCPU that has run refuses its entries in another order, and an entry with another index or other " +
        "flags.",
      source: "arch/x86/kvm/cpuid.c:kvm_cpuid_check_equal",
    },
    55: {
      rule: "A vCPU that has run refuses another APIC id in leaf 1.",
      source: "arch/x86/kvm/cpuid.c:kvm_cpuid_check_equal",
    },
    56: {
      rule: "A vCPU that has run refuses another maximum XSAVE size.",
      source: "arch/x86/kvm/cpuid.c:kvm_cpuid_check_equal",
    },
    57: {
      rule:
        "A vCPU that has run accepts any value of the bits OSXSAVE, APIC, OSPKE and of the XSAVE size in the " +
        "sent table, because KVM sets them from the state of the vCPU before it compares the tables.",
      source:
        "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime, kvm_cpuid_check_equal; selftest cpuid_test",
    },
    58: {
      rule:
        "The CPUID bit MWAIT belongs to KVM only if KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT is disabled; otherwise a " +
        "vCPU that has run refuses another value. A change of IA32_MISC_ENABLE that nothing has observed makes " +
        "no difference.",
      source: "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime; api.rst, KVM_CAP_DISABLE_QUIRKS2",
      needs: "KVM_CAP_DISABLE_QUIRKS2 to disable the quirk",
    },
    59: {
      rule:
        "The compacted XSAVE size belongs to KVM only if leaf 0xD.1 of the table has XSAVEC or XSAVES; otherwise " +
        "a vCPU that has run refuses another value. A change of XCR0 that nothing has observed makes no " +
        "difference.",
      source: "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime",
      needs: "XSAVE and AVX for a change of XCR0",
    },
    60: {
      rule:
        "The padding of an entry is not compared; after the accepted call, KVM_GET_CPUID2 returns the new " +
        "padding.",
      source:
        "arch/x86/kvm/cpuid.c:kvm_cpuid_check_equal; kvm_set_cpuid swaps the arrays before the comparison since " +
        "Linux 6.14",
    },
    61: {
      rule:
        "A vCPU that has run accepts its table after KVM_SET_SREGS changed CR4.OSXSAVE, although no ioctl and no " +
        "guest has read the table in between.",
      source:
        'arch/x86/kvm/cpuid.c:kvm_set_cpuid; selftest cpuid_test; "apply runtime updates to the current CPUID" ' +
        "(KVM fixes for 6.19-rc1)",
      needs: "XSAVE",
    },
    62: {
      rule:
        "A vCPU that has run accepts its table after the guest changed CR4.OSXSAVE, although no ioctl and no " +
        "guest has read the table in between.",
      source:
        'arch/x86/kvm/cpuid.c:kvm_set_cpuid; "apply runtime updates to the current CPUID" (KVM fixes for ' +
        "6.19-rc1)",
      needs: "XSAVE",
    },
    63: {
      rule:
        "A vCPU that has run accepts its table after a change of XCR0, of APIC_BASE.EN or of " +
        "IA32_MISC_ENABLE[18], although no ioctl and no guest has read the table in between.",
      source:
        'arch/x86/kvm/cpuid.c:kvm_set_cpuid; "apply runtime updates to the current CPUID" (KVM fixes for ' +
        "6.19-rc1)",
      needs: "XSAVE and AVX for XCR0; SSE3 and KVM_CAP_DISABLE_QUIRKS2 for IA32_MISC_ENABLE",
    },
    64: {
      rule: "A refused table does not lose a pending update of the current table.",
      source:
        'arch/x86/kvm/cpuid.c:kvm_set_cpuid; "avoid dropping the pending update" (KVM fixes for 6.19-rc1)',
      needs: "XSAVE",
    },
    65: {
      rule: "A vCPU that has run still accepts its own table after several refused tables.",
      source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid",
    },
    66: {
      rule:
        "A vCPU that has run without exits of HLT accepts the table with PV_UNHALT that was sent, and the table " +
        "without PV_UNHALT that KVM stored.",
      source: "4736d85f0d18 (Linux 6.9); arch/x86/kvm/cpuid.c:kvm_apply_cpuid_pv_features_quirk",
      needs: "KVM_X86_DISABLE_EXITS_HLT",
    },
    67: {
      rule:
        "KVM_SET_CPUID stores index 0 and flags 0, so a vCPU that has run accepts such a table from both ioctls " +
        "if its own table came from KVM_SET_CPUID, and refuses it if its own table has indices.",
      source: "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_set_cpuid, kvm_cpuid_check_equal",
    },
    68: {
      rule:
        "A vCPU without a table may run. Its guest reads zeros from every leaf, and afterwards KVM accepts only " +
        "an empty table.",
      source: "arch/x86/kvm/cpuid.c:kvm_cpuid_check_equal, kvm_cpuid",
    },
    69: {
      rule: "Each vCPU freezes its own table; other vCPUs of the VM are not affected.",
      source: "arch/x86/kvm/x86.h:kvm_vcpu_has_run",
    },
    70: {
      rule:
        "A vCPU that has run does not check a table: a wrong address width and AMX tile data without permission " +
        "fail with EINVAL, because the table differs.",
      source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid",
    },
    71: {
      rule: "A refused table without NX does not take EFER.NX from the guest of a vCPU that has run.",
      source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid restores cpu_caps",
      needs: "NX",
    },
    72: {
      rule: "A refused table with a feature does not give the bit of CR4 to the guest of a vCPU that has run.",
      source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid restores cpu_caps",
      needs: "a vendor module that stores FSGSBASE as it was sent",
    },
    73: {
      rule:
        "A refused table without the CPUID bit MWAIT does not make MONITOR raise #UD in the guest of a vCPU that " +
        "has run.",
      source:
        "arch/x86/kvm/cpuid.c:kvm_set_cpuid restores cpu_caps; arch/x86/kvm/x86.c:kvm_emulate_monitor_mwait; " +
        "selftest monitor_mwait_test",
      needs: "KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS in KVM_CAP_DISABLE_QUIRKS2; SSE3",
    },
    74: {
      rule:
        "A vCPU in a nested guest refuses another table and accepts its own, although it has not run; after it " +
        "has left the nested guest, it accepts another table again.",
      source: "arch/x86/kvm/x86.h:kvm_can_set_cpuid_and_feature_msrs; b47b93c15b12 (Linux 7.0)",
      needs: "KVM_CAP_NESTED_STATE and SVM",
    },
    75: {
      rule:
        "A vCPU that has run accepts only the current value of an MSR that describes features " +
        "(IA32_ARCH_CAPABILITIES, MSR_AMD64_DE_CFG, MSR_PLATFORM_INFO). MSR_IA32_UCODE_REV stays writable.",
      source:
        "arch/x86/kvm/x86.c:do_set_msr, kvm_is_immutable_feature_msr; 0094f62c7eaa (Linux 6.4); selftest " +
        "feature_msrs_test",
      needs: "the MSR",
    },
  },
};

const HAS_RUN: CatalogueArea = {
  title: "What counts as a run",
  rules: {
    76: {
      rule: "A vCPU has not run if immediate_exit ended KVM_RUN with EINTR.",
      source: "arch/x86/kvm/x86.c:kvm_arch_vcpu_ioctl_run; api.rst 5 (immediate_exit)",
    },
    77: {
      rule:
        "A vCPU has not run if a pending signal, which KVM_SET_SIGNAL_MASK unblocks, ended KVM_RUN with EINTR " +
        "before the entry.",
      source: "arch/x86/kvm/x86.c:vcpu_enter_guest, kvm_vcpu_exit_request; api.rst 4.21",
      unjudged: "the check needs a thread that blocks a signal, and Node has no call for that",
    },
    78: {
      rule: "A vCPU has not run if KVM_RUN failed with EINVAL because of an undefined bit of kvm_dirty_regs.",
      source: "arch/x86/kvm/x86.c:kvm_arch_vcpu_ioctl_run; selftest sync_regs_test",
      needs: "KVM_CAP_SYNC_REGS",
    },
    79: {
      rule:
        "A vCPU has not run if KVM_RUN returned KVM_EXIT_SHUTDOWN because of a triple fault that " +
        "KVM_SET_VCPU_EVENTS made pending.",
      source: "arch/x86/kvm/x86.c:vcpu_enter_guest; selftest triple_fault_event_test",
      needs: "KVM_CAP_X86_TRIPLE_FAULT_EVENT",
    },
    80: {
      rule:
        "An application processor that waits for INIT has not run if a signal or immediate_exit ended KVM_RUN " +
        "with EINTR.",
      source: "arch/x86/kvm/x86.c:kvm_arch_vcpu_ioctl_run, kvm_vcpu_block",
      needs: "KVM_CAP_IRQCHIP",
    },
    81: {
      rule:
        "A vCPU that waits in KVM_MP_STATE_HALTED or KVM_MP_STATE_INIT_RECEIVED has not run if a signal ended " +
        "KVM_RUN with EINTR.",
      source: "arch/x86/kvm/x86.c:kvm_arch_vcpu_ioctl_run; arch/x86/kvm/x86.c:vcpu_run",
      needs: "KVM_CAP_IRQCHIP",
    },
    82: {
      rule:
        "A vCPU that exited because of its guest has run: port access, HLT, access to memory that does not " +
        "exist, internal error after an entry.",
      source:
        "arch/x86/kvm/x86.c:vcpu_enter_guest sets last_vmentry_cpu; arch/x86/kvm/x86.h:kvm_vcpu_has_run",
    },
    83: {
      rule:
        "A vCPU whose entry the CPU refused (KVM_EXIT_FAIL_ENTRY) has run, although the guest executed no " +
        "instruction.",
      source:
        "arch/x86/kvm/x86.c:vcpu_enter_guest sets last_vmentry_cpu; arch/x86/kvm/x86.h:kvm_vcpu_has_run",
      needs: "a CPU that checks the state of a guest: SVM or VMX",
    },
    84: {
      rule:
        "Nothing makes a vCPU new again: neither the registers of a new vCPU nor KVM_MP_STATE_UNINITIALIZED; and " +
        "the id of a closed vCPU is not free.",
      source:
        "arch/x86/kvm/x86.c:vcpu_enter_guest sets last_vmentry_cpu; arch/x86/kvm/x86.h:kvm_vcpu_has_run; " +
        "virt/kvm/kvm_main.c:kvm_vm_ioctl_create_vcpu",
      needs: "KVM_CAP_IRQCHIP for the state",
    },
  },
};

const PARAVIRTUAL: CatalogueArea = {
  title: "PV_UNHALT, hypervisor bases and PV features",
  rules: {
    85: {
      rule:
        "If HLT does not exit, KVM removes PV_UNHALT from a table, also from the first one; if HLT exits, KVM " +
        "stores the bit as it was sent.",
      source:
        "arch/x86/kvm/cpuid.c:kvm_apply_cpuid_pv_features_quirk; 4736d85f0d18 (Linux 6.9); selftest kvm_pv_test",
      needs: "KVM_X86_DISABLE_EXITS_HLT",
    },
    86: {
      rule: "KVM removes PV_UNHALT also from the second of two equal tables.",
      source: "arch/x86/kvm/cpuid.c:kvm_apply_cpuid_pv_features_quirk",
      needs: "KVM_X86_DISABLE_EXITS_HLT",
    },
    87: {
      rule:
        "KVM keeps PV_UNHALT in a table without its signature, and removes it from the table that adds the " +
        "signature.",
      source: "arch/x86/kvm/cpuid.c:kvm_apply_cpuid_pv_features_quirk; selftest kvm_pv_test",
      needs: "KVM_X86_DISABLE_EXITS_HLT",
    },
    88: {
      rule:
        "KVM keeps PV_UNHALT in the table that removes the signature: it searches the signature in the new " +
        "table.",
      source: "arch/x86/kvm/cpuid.c:kvm_apply_cpuid_pv_features_quirk; 4736d85f0d18 (Linux 6.9)",
      needs: "KVM_X86_DISABLE_EXITS_HLT",
    },
    89: {
      rule: "KVM finds its leaves at another base than 0x40000000, and follows a base that moves with a new table.",
      source: "arch/x86/kvm/cpuid.c:kvm_apply_cpuid_pv_features_quirk; 4736d85f0d18 (Linux 6.9)",
      needs: "KVM_X86_DISABLE_EXITS_HLT",
    },
    90: {
      rule:
        "KVM searches its signature at the multiples of 0x100 from 0x40000000 to 0x4000ff00, uses the lowest " +
        "match, and ignores the highest leaf in EAX.",
      source:
        "arch/x86/kvm/cpuid.c:kvm_get_hypervisor_cpuid; " +
        "arch/x86/include/asm/cpuid/api.h:for_each_possible_cpuid_base_hypervisor",
      needs: "KVM_X86_DISABLE_EXITS_HLT",
    },
    91: {
      rule: "KVM_CAP_X86_DISABLE_EXITS fails with EINVAL after the first KVM_CREATE_VCPU, and for an undefined bit.",
      source:
        "arch/x86/kvm/x86.c:kvm_vm_ioctl_enable_cap; api.rst, KVM_CAP_X86_DISABLE_EXITS; selftest kvm_pv_test",
      needs: "KVM_X86_DISABLE_EXITS_HLT",
    },
    92: {
      rule:
        "With KVM_CAP_ENFORCE_PV_FEATURE_CPUID, the hypercall KVM_HC_KICK_CPU succeeds if the stored table has " +
        "PV_UNHALT, and returns -KVM_ENOSYS if KVM removed the bit.",
      source: "arch/x86/kvm/x86.c:____kvm_emulate_hypercall; arch/x86/kvm/cpuid.c:guest_pv_has",
      needs:
        "KVM_CAP_ENFORCE_PV_FEATURE_CPUID; KVM_X86_DISABLE_EXITS_HLT; a vendor module with hypercalls",
    },
    93: {
      rule:
        "With KVM_CAP_ENFORCE_PV_FEATURE_CPUID, a guest gets #GP for KVM's MSRs and -KVM_ENOSYS for hypercalls " +
        "whose features its table does not have; without the capability, the table does not matter.",
      source:
        "arch/x86/kvm/x86.c:kvm_set_msr_common, kvm_get_msr_common; 66570e966dd9; selftest kvm_pv_test",
      needs: "KVM_CAP_ENFORCE_PV_FEATURE_CPUID; KVM_CAP_IRQCHIP",
    },
    94: {
      rule:
        "With KVM_CAP_ENFORCE_PV_FEATURE_CPUID, a new table without the leaf of KVM's features, without the " +
        "signature or without entries takes the features of the previous table away.",
      source: "01d1059d635a (Linux 6.14)",
      needs: "KVM_CAP_ENFORCE_PV_FEATURE_CPUID",
    },
    95: {
      rule:
        "With KVM_CAP_ENFORCE_PV_FEATURE_CPUID, a refused table without features does not take KVM's MSRs from " +
        "the guest of a vCPU that has run.",
      source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid",
      needs: "KVM_CAP_ENFORCE_PV_FEATURE_CPUID",
    },
  },
};

const HYPERV = "a KVM with CONFIG_KVM_HYPERV: KVM_CAP_SYS_HYPERV_CPUID";
const ENFORCED = `${HYPERV}, KVM_CAP_HYPERV_ENFORCE_CPUID`;

const OTHER_INTERFACES: CatalogueArea = {
  title: "Hyper-V, Xen, and other ioctls that depend on CPUID",
  rules: {
    96: {
      rule:
        'A guest may use Hyper-V\'s MSRs if and only if leaf 0x40000001 of its table has "Hv#1" in EAX. VP_INDEX is the ' +
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
    102: {
      rule:
        "KVM does not write to the Xen leaf with the frequency of the TSC in a stored table, so a" +
        " vCPU that has run accepts the table that was sent.",
      source: "arch/x86/kvm/xen.c:kvm_xen_update_tsc_info (before Linux 6.17), cpuid.c:kvm_cpuid",
      needs: "KVM_CAP_XEN_HVM",
    },
    103: {
      rule:
        "The guest reads the Xen leaf base + 3 as it is in the table. Before Linux 7.3, in a VM with a Xen hypercall " +
        "MSR, KVM replaces ECX and EDX of index 1 by its scale of the TSC, and EAX of index 2 by the frequency, if the " +
        "leaf is not above the limit in the base leaf.",
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
        "KVM_SET_SREGS accepts a CR4 bit that needs a CPUID feature if and only if the table has the " +
        "feature. A later table does not change CR4, but KVM_SET_SREGS then refuses the old " +
        "value.",
      source: "arch/x86/kvm/regs.c:kvm_is_valid_sregs; selftest set_sregs_test",
    },
    106: {
      rule:
        "KVM_SET_SREGS accepts a bit of EFER that needs a CPUID feature if and only if the table has " +
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
      rule:
        "MSR_IA32_VMX_CR4_FIXED1, and the bits of MSR_IA32_FEAT_CTL that a guest can write, follow the CPUID table. " +
        "User space can write each bit of MSR_IA32_FEAT_CTL that KVM supports, whatever the table has.",
      source:
        "arch/x86/kvm/vmx/vmx.c:vmx_vcpu_after_set_cpuid, is_vmx_feature_control_msr_valid; selftest vmx_msrs_test",
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
    120: {
      rule:
        "With KVM_CAP_HYPERV_ENFORCE_CPUID, a guest can access a Hyper-V MSR if and only if it has the feature of the MSR, " +
        "whatever other Hyper-V features it has. Without the feature, RDMSR and WRMSR raise #GP.",
      source:
        "hyperv.c:hv_check_msr_access, kvm_hv_set_msr, kvm_hv_set_msr_pw; api.rst KVM_CAP_HYPERV_ENFORCE_CPUID; " +
        "selftest hyperv_features",
      needs: ENFORCED,
    },
    121: {
      rule:
        "With KVM_CAP_HYPERV_ENFORCE_CPUID, a guest can read a read-only Hyper-V MSR if and only if it has the feature of " +
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
        "bit without XSAVES. The list of MSRs has IA32_XSS if and only if KVM supports one of its bits.",
      source: "arch/x86/kvm/x86.c:kvm_set_msr_common, kvm_probe_msr_to_save; selftest xss_msr_test",
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
      rule: "KVM_GET_MSR_INDEX_LIST has an MSR if and only if KVM supports a feature of the MSR.",
      source: "arch/x86/kvm/x86.c:kvm_probe_msr_to_save; selftest msrs_test",
    },
    142: {
      rule: "KVM_GET_ONE_REG and KVM_SET_ONE_REG access MSRs as KVM_GET_MSRS and KVM_SET_MSRS do.",
      source: "api.rst 4.68; arch/x86/kvm/x86.c:kvm_get_set_one_reg; selftest msrs_test",
      needs: "KVM_CAP_ONE_REG",
    },
    143: {
      rule:
        "The guest's SSP is a register for KVM_GET_ONE_REG and KVM_SET_ONE_REG if and only if the " +
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
        "MONITOR and MWAIT do nothing in a guest. They raise #UD if and only if " +
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
