/**
 * The numbers of MSRs under the kernel's names. The kernel's UAPI headers define only KVM's own MSRs, whose constants
 * are generated. The other numbers are from arch/x86/include/asm/msr-index.h (Linux 7.2), except where a comment names
 * another file. lib/oracle has the rules for the values of MSRs.
 */
import {
  MSR_KVM_ASYNC_PF_ACK,
  MSR_KVM_ASYNC_PF_EN,
  MSR_KVM_ASYNC_PF_INT,
  MSR_KVM_MIGRATION_CONTROL,
  MSR_KVM_POLL_CONTROL,
  MSR_KVM_PV_EOI_EN,
  MSR_KVM_STEAL_TIME,
  MSR_KVM_SYSTEM_TIME,
  MSR_KVM_SYSTEM_TIME_NEW,
  MSR_KVM_WALL_CLOCK,
  MSR_KVM_WALL_CLOCK_NEW,
} from "./generated/constants.ts";

/**
 * The MSRs that this package names, except KVM's own MSRs, which are constants of `node-kvm/abi`. A name that ends with
 * `0` is the first MSR of a series. General counters have consecutive numbers. The counters of AMD's family 15h have
 * every second number. A machine-check bank has four MSRs, and a variable MTRR has two MSRs.
 */
export const MSRS = {
  MSR_IA32_TSC: 0x10,
  MSR_IA32_APICBASE: 0x1b,
  MSR_IA32_FEAT_CTL: 0x3a,
  MSR_IA32_PRED_CMD: 0x49,
  MSR_IA32_PERFCTR0: 0xc1,
  MSR_PLATFORM_INFO: 0xce,
  MSR_IA32_MPERF: 0xe7,
  MSR_IA32_APERF: 0xe8,
  MSR_IA32_ARCH_CAPABILITIES: 0x10a,
  MSR_IA32_FLUSH_CMD: 0x10b,
  MSR_IA32_SYSENTER_CS: 0x174,
  MSR_IA32_MCG_CAP: 0x179,
  MSR_P6_EVNTSEL0: 0x186,
  MSR_IA32_MISC_ENABLE: 0x1a0,
  MTRRphysBase0_MSR: 0x200, // arch/x86/include/asm/mtrr.h: MTRRphysBase_MSR(0)
  MSR_MTRRfix64K_00000: 0x250,
  MSR_MTRRfix16K_80000: 0x258,
  MSR_MTRRfix16K_A0000: 0x259,
  MSR_MTRRfix4K_C0000: 0x268,
  MSR_MTRRfix4K_C8000: 0x269,
  MSR_MTRRfix4K_D0000: 0x26a,
  MSR_MTRRfix4K_D8000: 0x26b,
  MSR_MTRRfix4K_E0000: 0x26c,
  MSR_MTRRfix4K_E8000: 0x26d,
  MSR_MTRRfix4K_F0000: 0x26e,
  MSR_MTRRfix4K_F8000: 0x26f,
  MSR_IA32_CR_PAT: 0x277,
  MSR_IA32_MC0_CTL2: 0x280,
  MSR_MTRRdefType: 0x2ff,
  MSR_CORE_PERF_FIXED_CTR0: 0x309,
  MSR_IA32_PERF_CAPABILITIES: 0x345,
  MSR_CORE_PERF_FIXED_CTR_CTRL: 0x38d,
  MSR_CORE_PERF_GLOBAL_OVF_CTRL: 0x390,
  MSR_IA32_PEBS_ENABLE: 0x3f1,
  MSR_PEBS_DATA_CFG: 0x3f2,
  MSR_IA32_MC0_CTL: 0x400,
  MSR_IA32_VMX_BASIC: 0x480,
  MSR_IA32_VMX_PINBASED_CTLS: 0x481,
  MSR_IA32_VMX_PROCBASED_CTLS: 0x482,
  MSR_IA32_VMX_EXIT_CTLS: 0x483,
  MSR_IA32_VMX_ENTRY_CTLS: 0x484,
  MSR_IA32_VMX_MISC: 0x485,
  MSR_IA32_VMX_CR0_FIXED0: 0x486,
  MSR_IA32_VMX_CR0_FIXED1: 0x487,
  MSR_IA32_VMX_CR4_FIXED0: 0x488,
  MSR_IA32_VMX_CR4_FIXED1: 0x489,
  MSR_IA32_VMX_VMCS_ENUM: 0x48a,
  MSR_IA32_VMX_PROCBASED_CTLS2: 0x48b,
  MSR_IA32_VMX_EPT_VPID_CAP: 0x48c,
  MSR_IA32_VMX_TRUE_PINBASED_CTLS: 0x48d,
  MSR_IA32_VMX_TRUE_PROCBASED_CTLS: 0x48e,
  MSR_IA32_VMX_TRUE_EXIT_CTLS: 0x48f,
  MSR_IA32_VMX_TRUE_ENTRY_CTLS: 0x490,
  MSR_IA32_VMX_VMFUNC: 0x491,
  MSR_IA32_PMC0: 0x4c1,
  MSR_IA32_DS_AREA: 0x600,
  MSR_IA32_TSC_DEADLINE: 0x6e0,
  APIC_BASE_MSR: 0x800, // arch/x86/include/asm/apicdef.h: the first x2APIC MSR; an MSR is 16 bytes of the APIC page
  MSR_IA32_XSS: 0xda0,
  // include/hyperv/hvgdk_mini.h
  HV_X64_MSR_VP_RUNTIME: 0x4000_0010,
  HV_X64_MSR_TIME_REF_COUNT: 0x4000_0020,
  HV_X64_MSR_TSC_FREQUENCY: 0x4000_0022,
  HV_X64_MSR_APIC_FREQUENCY: 0x4000_0023,
  HV_X64_MSR_SIEFP: 0x4000_0082,
  HV_X64_MSR_SIMP: 0x4000_0083,
  HV_X64_MSR_SINT0: 0x4000_0090,
  HV_X64_MSR_STIMER0_CONFIG: 0x4000_00b0,
  MSR_EFER: 0xc000_0080,
  MSR_LSTAR: 0xc000_0082,
  MSR_CSTAR: 0xc000_0083,
  MSR_FS_BASE: 0xc000_0100,
  MSR_GS_BASE: 0xc000_0101,
  MSR_KERNEL_GS_BASE: 0xc000_0102,
  MSR_TSC_AUX: 0xc000_0103,
  MSR_AMD64_TSC_RATIO: 0xc000_0104,
  MSR_K7_PERFCTR0: 0xc001_0004,
  MSR_F15H_PERF_CTR0: 0xc001_0201,
  MSR_AMD64_DE_CFG: 0xc001_1029,
} as const;

/** KVM's own MSRs (arch/x86/include/uapi/asm/kvm_para.h). */
const KVM_MSRS = {
  MSR_KVM_WALL_CLOCK,
  MSR_KVM_SYSTEM_TIME,
  MSR_KVM_WALL_CLOCK_NEW,
  MSR_KVM_SYSTEM_TIME_NEW,
  MSR_KVM_ASYNC_PF_EN,
  MSR_KVM_STEAL_TIME,
  MSR_KVM_PV_EOI_EN,
  MSR_KVM_POLL_CONTROL,
  MSR_KVM_ASYNC_PF_INT,
  MSR_KVM_ASYNC_PF_ACK,
  MSR_KVM_MIGRATION_CONTROL,
};

/** Finds the name of an MSR by its number, in {@link MSRS} and KVM's own MSRs; undefined for any other number. */
export function msrName(index: number): string | undefined {
  return Object.entries({ ...MSRS, ...KVM_MSRS }).find(([, number]) => number === index)?.[0];
}
