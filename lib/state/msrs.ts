/**
 * The MSRs that are saved although KVM_GET_MSR_INDEX_LIST does not list them, and the order in which MSRs are restored.
 * kvm/state/vcpu-msrs.ts reads and writes the MSRs.
 */
import type { CpuidEntry2, MsrEntry } from "../abi/generated/structs.ts";
import { MSRS } from "../abi/msrs.ts";

/** The number of variable MTRRs, each with a base and a mask: KVM_NR_VAR_MTRR in arch/x86/kvm/mtrr.c. */
const VARIABLE_MTRRS = 8;
/** The bit MCG_CMCI_P, which means that each machine-check bank has an MSR CTL2. */
const MCG_CMCI = 1n << 10n;
/** Each machine-check bank has the MSRs CTL, STATUS, ADDR and MISC. */
const MSRS_PER_BANK = 4;

const HYPERV_INTERFACE = 0x4000_0001;
const HV1 = 0x3123_7648; // "Hv#1"

/**
 * Lists the MSRs of a vCPU that KVM stores but KVM_GET_MSR_INDEX_LIST does not list: MTRRs, machine-check banks and, if
 * the guest has Hyper-V, the synthetic interrupts and timers.
 *
 * @param mcgCap the value of MSR_IA32_MCG_CAP, whose low byte is the number of banks; 0 if the MSR cannot be read
 */
export function unlistedMsrs(mcgCap: bigint, cpuid: readonly CpuidEntry2[]): readonly number[] {
  const banks = Number(mcgCap & 0xffn);
  const isHyperv = cpuid.some(({ function: f, eax }) => f === HYPERV_INTERFACE && eax === HV1);
  return [
    ...range(MSRS.MTRRphysBase0_MSR, VARIABLE_MTRRS * 2),
    MSRS.MSR_MTRRfix64K_00000,
    ...range(MSRS.MSR_MTRRfix16K_80000, 2),
    ...range(MSRS.MSR_MTRRfix4K_C0000, 8),
    MSRS.MSR_MTRRdefType,
    ...range(MSRS.MSR_IA32_MC0_CTL, banks * MSRS_PER_BANK),
    ...((mcgCap & MCG_CMCI) === 0n ? [] : range(MSRS.MSR_IA32_MC0_CTL2, banks)),
    ...(isHyperv
      ? [
          MSRS.HV_X64_MSR_SIEFP,
          MSRS.HV_X64_MSR_SIMP,
          ...range(MSRS.HV_X64_MSR_SINT0, 16),
          // The count of a timer precedes its configuration, because writing the configuration starts the timer.
          ...range(0, 4).flatMap((i) =>
            [1, 0].map((n) => MSRS.HV_X64_MSR_STIMER0_CONFIG + i * 2 + n),
          ),
        ]
      : []),
  ];
}

/** The MSRs that are restored after the local APIC. */
export const LATE_MSRS: readonly { readonly index: number; readonly why: string }[] = [
  {
    index: MSRS.MSR_IA32_TSC_DEADLINE,
    why: "KVM accepts a TSC deadline only if the local APIC's timer is in TSC-deadline mode, and then computes the expiry from the current TSC",
  },
];

/**
 * MSRs that may read back differently, because they count or because later events change them. All other MSRs must read
 * back unchanged.
 */
export const COUNTING_MSRS: readonly { readonly index: number; readonly why: string }[] = [
  {
    index: MSRS.MSR_IA32_TSC,
    why: "the TSC counts; writeTsc() of kvm/state/vcpu-msrs.ts checks it",
  },
  { index: MSRS.MSR_IA32_MPERF, why: "it counts cycles" },
  { index: MSRS.MSR_IA32_APERF, why: "it counts cycles" },
  { index: MSRS.APIC_BASE_MSR + 0x39, why: "the x2APIC timer's current count (APIC_TMCCT)" },
  { index: MSRS.HV_X64_MSR_VP_RUNTIME, why: "HV_X64_MSR_VP_RUNTIME counts" },
  { index: MSRS.HV_X64_MSR_TIME_REF_COUNT, why: "HV_X64_MSR_TIME_REF_COUNT counts" },
  ...[
    ...range(MSRS.MSR_IA32_PERFCTR0, 8),
    ...range(MSRS.MSR_CORE_PERF_FIXED_CTR0, 4),
    ...range(MSRS.MSR_IA32_PMC0, 8),
  ].map((index) => ({
    index,
    why: "an Intel performance counter; KVM removes the bits beyond the counter's width (pmu.h:pmc_bitmask)",
  })),
  ...[
    ...range(MSRS.MSR_K7_PERFCTR0, 4),
    ...range(0, 6).map((i) => MSRS.MSR_F15H_PERF_CTR0 + 2 * i),
  ].map((index) => ({
    index,
    why: "an AMD performance counter; KVM removes the bits beyond the counter's width (pmu.h:pmc_bitmask)",
  })),
];

/** MSRs to restore, in groups that are restored in this order. */
export interface MsrsToWrite {
  /** The MSRs that have no special place in the order of restoring. */
  readonly early: readonly MsrEntry[];
  /**
   * The TSC, if present. The TSC is written after IA32_TSC_ADJUST, because on old kernels a write of IA32_TSC_ADJUST
   * changes the TSC.
   */
  readonly tsc: MsrEntry | undefined;
  readonly late: readonly MsrEntry[];
}

/** Sorts MSRs into the order of restoring; the sort is stable. */
export function inOrder(msrs: readonly MsrEntry[]): MsrsToWrite {
  const isLate = ({ index }: MsrEntry): boolean => LATE_MSRS.some((late) => late.index === index);
  return {
    early: msrs.filter((entry) => !isLate(entry) && entry.index !== MSRS.MSR_IA32_TSC),
    tsc: msrs.find(({ index }) => index === MSRS.MSR_IA32_TSC),
    late: msrs.filter(isLate),
  };
}

function range(first: number, count: number): readonly number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}
