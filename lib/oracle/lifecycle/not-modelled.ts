/** The parts of KVM's CPUID life cycle that the model does not describe. */

/** The limits of the model, one sentence each; docs/guides/oracle.md has the same list. */
export const NOT_MODELLED: readonly string[] = [
  "Xen's time leaf, which 6.12 and 6.14 rewrite in the stored table.",
  "Hyper-V: the context of a vCPU with Hyper-V leaves, the gates of its MSRs, and the hidden invariant TSC.",
  "The enforcement of CPUID by KVM_CAP_ENFORCE_PV_FEATURE_CPUID and KVM_CAP_HYPERV_ENFORCE_CPUID.",
  "Nested virtualisation: a vCPU in L2 that never ran, and CR4 loads of nested VMX and SVM.",
  "Permission for AMX tile data: the model assumes that the process has none.",
  "EFAULT and ENOMEM of KVM_SET_CPUID2 and KVM_GET_CPUID2.",
  "EFER, CR3 and the x2APIC mode: the special registers change only CR4.OSXSAVE, CR4.PKE and APIC_BASE.EN.",
  "Guest XSETBV, SMM and RSM.",
  "IA32_XSS on a host with XSAVES: the lab's hosts have none, so only its value 0 was compared.",
  "Feature MSRs and their check after the first entry.",
  "The effect of TSX_CTRL on the guest's CPUID.",
  "KVM_EXIT_FAIL_ENTRY, pending signals, and vCPUs that wait for INIT.",
  "Calls from several threads.",
  "The vendor module kvm_pvm.",
];
