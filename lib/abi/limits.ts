/** Limits of KVM that its headers for user space do not define. */

/** The most entries of a CPUID table (arch/x86/include/asm/kvm_host.h). */
export const KVM_MAX_CPUID_ENTRIES = 256;

/**
 * The limit for the number of MSRs in one KVM_GET_MSRS or KVM_SET_MSRS, which must be smaller
 * (arch/x86/kvm/x86.c:msr_io).
 */
export const MAX_IO_MSRS = 256;
