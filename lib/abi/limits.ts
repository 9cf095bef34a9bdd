/** Limits of KVM that its headers for user space do not define. */

/** The maximum number of entries of a CPUID table (arch/x86/include/asm/kvm_host.h). */
export const KVM_MAX_CPUID_ENTRIES = 256;

/**
 * The number of MSRs in one KVM_GET_MSRS or KVM_SET_MSRS must be smaller than this limit (arch/x86/kvm/x86.c:msr_io).
 */
export const MAX_IO_MSRS = 256;
