/**
 * The MSRs that a saved vCPU has besides KVM's own list, and the MSRs that are restored late. Reading and writing them
 * is kvm/state/vcpu-msrs.ts.
 */
import type { CpuidEntry2, MsrEntry } from "../abi/generated/structs.ts";

/** The MSRs of this file, by the names of Intel's SDM, volume 4, and of the Hyper-V TLFS. */
export const IA32_TSC = 0x10;
/** The low byte is the number of machine-check banks; other bits are their features. */
export const IA32_MCG_CAP = 0x179;
const IA32_TSC_DEADLINE = 0x6e0;
const IA32_MTRR_PHYSBASE0 = 0x200;
const IA32_MTRR_FIX: readonly number[] = [0x250, 0x258, 0x259, ...range(0x268, 8)];
const IA32_MC0_CTL2 = 0x280;
const IA32_MTRR_DEF_TYPE = 0x2ff;
const IA32_MC0_CTL = 0x400;
const HV_X64_MSR_SIEFP = 0x4000_0082;
const HV_X64_MSR_SIMP = 0x4000_0083;
const HV_X64_MSR_SINT0 = 0x4000_0090;
const HV_X64_MSR_STIMER0_CONFIG = 0x4000_00b0;

/** KVM_NR_VAR_MTRR in arch/x86/kvm/mtrr.c: pairs of base and mask. */
const VARIABLE_MTRRS = 8;
/** MCG_CMCI_P: each bank has a CTL2. */
const MCG_CMCI = 1n << 10n;
/** CTL, STATUS, ADDR, MISC. */
const MSRS_PER_BANK = 4;

const HYPERV_INTERFACE = 0x4000_0001;
const HV1 = 0x3123_7648; // "Hv#1"

/**
 * Lists MSRs that KVM stores for a vCPU and KVM_GET_MSR_INDEX_LIST does not list: MTRRs, machine-check banks and, for a
 * guest with Hyper-V, its synthetic interrupts and timers.
 *
 * @param mcgCap the value of IA32_MCG_CAP; 0 if it cannot be read
 */
export function unlistedMsrs(mcgCap: bigint, cpuid: readonly CpuidEntry2[]): readonly number[] {
  const banks = Number(mcgCap & 0xffn);
  const isHyperv = cpuid.some(({ function: f, eax }) => f === HYPERV_INTERFACE && eax === HV1);
  return [
    ...range(IA32_MTRR_PHYSBASE0, VARIABLE_MTRRS * 2),
    ...IA32_MTRR_FIX,
    IA32_MTRR_DEF_TYPE,
    ...range(IA32_MC0_CTL, banks * MSRS_PER_BANK),
    ...((mcgCap & MCG_CMCI) === 0n ? [] : range(IA32_MC0_CTL2, banks)),
    ...(isHyperv
      ? [
          HV_X64_MSR_SIEFP,
          HV_X64_MSR_SIMP,
          ...range(HV_X64_MSR_SINT0, 16),
          // Count before config, for each timer: writing the config starts it.
          ...range(0, 4).flatMap((i) => [1, 0].map((n) => HV_X64_MSR_STIMER0_CONFIG + i * 2 + n)),
        ]
      : []),
  ];
}

/** The MSRs that are restored after the local APIC. */
export const LATE_MSRS: readonly { readonly index: number; readonly why: string }[] = [
  {
    index: IA32_TSC_DEADLINE,
    why: "KVM takes it only from a local APIC whose timer is in that mode, and arms the timer by the TSC",
  },
];

/**
 * MSRs that count, or that report later events, so that they may read back differently. All other MSRs must read back
 * unchanged.
 */
export const COUNTING_MSRS: readonly { readonly index: number; readonly why: string }[] = [
  { index: IA32_TSC, why: "the TSC counts; writeTsc() of kvm/vcpu-msrs.ts looks after it" },
  { index: 0xe7, why: "IA32_MPERF counts" },
  { index: 0xe8, why: "IA32_APERF counts" },
  { index: 0x839, why: "the x2APIC timer's current count" },
  { index: 0x4000_0010, why: "HV_X64_MSR_VP_RUNTIME counts" },
  { index: 0x4000_0020, why: "HV_X64_MSR_TIME_REF_COUNT counts" },
  ...[...range(0xc1, 8), ...range(0x309, 4), ...range(0x4c1, 8)].map((index) => ({
    index,
    why: "an Intel performance counter, of which KVM keeps as many bits as it has (pmu.h:pmc_bitmask)",
  })),
  ...[...range(0xc001_0004, 4), ...range(0, 6).map((i) => 0xc001_0201 + 2 * i)].map((index) => ({
    index,
    why: "an AMD performance counter, of which KVM keeps as many bits as it has (pmu.h:pmc_bitmask)",
  })),
];

/** MSRs in the order of restoring. */
export interface MsrsToWrite {
  /** All without a special place. */
  readonly early: readonly MsrEntry[];
  /** The TSC, if present: after IA32_TSC_ADJUST, with which old kernels change it. */
  readonly tsc: MsrEntry | undefined;
  readonly late: readonly MsrEntry[];
}

/** Sorts MSRs into the order of restoring; the sort is stable. */
export function inOrder(msrs: readonly MsrEntry[]): MsrsToWrite {
  const isLate = ({ index }: MsrEntry): boolean => LATE_MSRS.some((late) => late.index === index);
  return {
    early: msrs.filter((entry) => !isLate(entry) && entry.index !== IA32_TSC),
    tsc: msrs.find(({ index }) => index === IA32_TSC),
    late: msrs.filter(isLate),
  };
}

function range(first: number, count: number): readonly number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}
