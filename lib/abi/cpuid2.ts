/** The entries and the limit of `struct kvm_cpuid2`; its layout is generated/structs.ts. */
import type { CpuidEntry2 } from "./generated/structs.ts";

/** The number of entries that KVM accepts (arch/x86/include/asm/kvm_host.h). */
export const KVM_MAX_CPUID_ENTRIES = 256;

/** An entry of a CPUID table to create: only `function` is required; all other members are 0 by default, as in C. */
export type CpuidEntry2Input = Pick<CpuidEntry2, "function"> & Partial<CpuidEntry2>;
