/** The rules for MSRs that describe features: feature MSRs, the MSRs of VMX and the MSRs of the PMU. */
import { MSRS } from "../abi/msrs.ts";
import type { CpuidFieldName, CpuidTable } from "../cpuid/index.ts";
import { bitsOf, hasBit, type ReservedBits, reservedBits } from "./bits.ts";
import { type MissingFeature, missingFeature } from "./features.ts";
import type { MsrAccess } from "./msr-access.ts";
import { type Rules, refused, undecided, verdictIf } from "./verdict.ts";

/** Whether an MSR is in the range from KVM_FIRST_EMULATED_VMX_MSR to KVM_LAST_EMULATED_VMX_MSR. */
const isVmx = (index: number): boolean =>
  index >= MSRS.MSR_IA32_VMX_BASIC && index <= MSRS.MSR_IA32_VMX_VMFUNC;

/** The feature MSRs, except those of VMX, that user space may write (arch/x86/kvm/x86.c:msr_based_features). */
const OTHERS: readonly number[] = [
  MSRS.MSR_PLATFORM_INFO,
  MSRS.MSR_IA32_ARCH_CAPABILITIES,
  MSRS.MSR_IA32_PERF_CAPABILITIES,
  MSRS.MSR_AMD64_DE_CFG,
];
const isFeature = (index: number): boolean => isVmx(index) || OTHERS.includes(index);

/** The CPUID feature that the vCPU must have for an MSR (arch/x86/kvm/x86.c:kvm_set_msr_common). */
const NEEDS: Readonly<Record<number, CpuidFieldName>> = {
  [MSRS.MSR_IA32_ARCH_CAPABILITIES]: "arch_capabilities",
  [MSRS.MSR_IA32_PERF_CAPABILITIES]: "pdcm",
};

const needOf = (index: number): CpuidFieldName | undefined => (isVmx(index) ? "vmx" : NEEDS[index]);

const ALL = (1n << 64n) - 1n;
const LOW = 0xffff_ffffn;

/**
 * The limits for the bits of a feature MSR, as two masks. A bit in `most` must be 0 if the bit is 0 in KVM's value. A
 * bit in `least` must be 1 if the bit is 1 in KVM's value.
 */
interface Bounds {
  readonly most: bigint;
  readonly least: bigint;
}
const AT_MOST: Bounds = { most: ALL, least: 0n };
const AT_LEAST: Bounds = { most: 0n, least: ALL };
/**
 * In the MSRs of VMX controls, the low half contains the bits that must be 1, and the high half the bits that may be 1.
 */
const CONTROLS: Bounds = { most: ALL & ~LOW, least: LOW };

/** The comparison of a value with KVM's value, for each MSR (arch/x86/kvm/vmx/nested.c:vmx_set_vmx_msr). */
const BOUNDS: Readonly<Record<number, Bounds>> = {
  [MSRS.MSR_IA32_PERF_CAPABILITIES]: AT_MOST,
  [MSRS.MSR_AMD64_DE_CFG]: AT_MOST,
  [MSRS.MSR_IA32_VMX_PROCBASED_CTLS2]: CONTROLS,
  [MSRS.MSR_IA32_VMX_EPT_VPID_CAP]: AT_MOST,
  [MSRS.MSR_IA32_VMX_TRUE_PINBASED_CTLS]: CONTROLS,
  [MSRS.MSR_IA32_VMX_TRUE_PROCBASED_CTLS]: CONTROLS,
  [MSRS.MSR_IA32_VMX_TRUE_EXIT_CTLS]: CONTROLS,
  [MSRS.MSR_IA32_VMX_TRUE_ENTRY_CTLS]: CONTROLS,
  [MSRS.MSR_IA32_VMX_CR0_FIXED0]: AT_LEAST,
  [MSRS.MSR_IA32_VMX_CR4_FIXED0]: AT_LEAST,
  [MSRS.MSR_IA32_VMX_VMFUNC]: AT_MOST,
};
/** The MSRs of VMX controls that KVM derives from the "true" controls. */
const DERIVED: readonly number[] = [
  MSRS.MSR_IA32_VMX_PINBASED_CTLS,
  MSRS.MSR_IA32_VMX_PROCBASED_CTLS,
  MSRS.MSR_IA32_VMX_EXIT_CTLS,
  MSRS.MSR_IA32_VMX_ENTRY_CTLS,
];
/** The MSRs of VMX that KVM derives from the vCPU's CPUID. */
const FIXED: readonly number[] = [MSRS.MSR_IA32_VMX_CR0_FIXED1, MSRS.MSR_IA32_VMX_CR4_FIXED1];

/** The bits of IA32_FEATURE_CONTROL and their features (arch/x86/kvm/vmx/vmx.c:vmx_vcpu_after_set_cpuid). */
const CONTROL_BITS: Readonly<Record<number, readonly [name: string, need?: CpuidFieldName]>> = {
  0: ["LOCKED"],
  1: ["VMX_ENABLED_INSIDE_SMX", "smx"],
  2: ["VMX_ENABLED_OUTSIDE_SMX", "vmx"],
  17: ["SGX_LC_ENABLED", "sgx_lc"],
  18: ["SGX_ENABLED", "sgx"],
  20: ["LMCE_ENABLED"],
};
const LMCE = 20;
const CONTROL_MASK = Object.keys(CONTROL_BITS).reduce(
  (mask, bit) => mask | (1n << BigInt(bit)),
  0n,
);

/** The MSRs of an Intel PMU: general and fixed counters, their controls, PEBS and the debug store. */
const PMU_RANGES: readonly (readonly [first: number, last: number])[] = [
  [MSRS.MSR_IA32_PERFCTR0, MSRS.MSR_IA32_PERFCTR0 + 7],
  [MSRS.MSR_P6_EVNTSEL0, MSRS.MSR_P6_EVNTSEL0 + 7],
  [MSRS.MSR_CORE_PERF_FIXED_CTR0, MSRS.MSR_CORE_PERF_FIXED_CTR0 + 3],
  [MSRS.MSR_CORE_PERF_FIXED_CTR_CTRL, MSRS.MSR_CORE_PERF_GLOBAL_OVF_CTRL],
  [MSRS.MSR_IA32_PEBS_ENABLE, MSRS.MSR_PEBS_DATA_CFG],
  [MSRS.MSR_IA32_PMC0, MSRS.MSR_IA32_PMC0 + 7],
  [MSRS.MSR_IA32_DS_AREA, MSRS.MSR_IA32_DS_AREA],
];
const isPmu = (index: number): boolean =>
  PMU_RANGES.some(([first, last]) => index >= first && index <= last);
/** The version of an Intel PMU is in leaf 0xA.0:eax[7:0]; it is 0 if the CPU has no PMU. */
const hasPmu = (table: CpuidTable): boolean => ((table.find(0xa)?.eax ?? 0) & 0xff) !== 0;

/** A bit of IA32_FEATURE_CONTROL that requires a missing feature. */
export interface ControlBit {
  readonly bit: number;
  readonly name: string;
  readonly missing: MissingFeature;
}

/** A finding about a feature MSR. */
export type FeatureMsrFinding =
  | ReservedBits
  | MissingFeature
  | { readonly kind: "feature-msr-after-run"; readonly current: bigint }
  | {
      readonly kind: "feature-msr-bits";
      /** Bits of the argument that are 0 in KVM's value. */
      readonly extra: readonly number[];
      /** Bits of KVM's value that are 0 in the argument. */
      readonly absent: readonly number[];
      /** KVM's value, which KVM_GET_MSRS of /dev/kvm returns. */
      readonly value: bigint;
    }
  | { readonly kind: "control-bits"; readonly bits: readonly ControlBit[] }
  | { readonly kind: "no-pmu"; readonly by: "kvm" | "vcpu" }
  | {
      readonly kind:
        | "no-feature-msr"
        | "derived-vmx-msr"
        | "fixed-vmx-msr"
        | "no-lmce"
        | "no-pmu-counter";
    };

const missing = (need: CpuidFieldName, access: MsrAccess): MissingFeature | undefined =>
  missingFeature(need, access.table, access.supported);

function beyondBounds(access: MsrAccess): FeatureMsrFinding | undefined {
  const { index, data } = access;
  const bounds = BOUNDS[index];
  if (bounds === undefined || data === undefined) return undefined;
  const { featureValue: value } = access;
  if (typeof value !== "bigint") return undefined;
  const extra = bitsOf(data & ~value & bounds.most);
  const absent = bitsOf(value & ~data & bounds.least);
  if (extra.length === 0 && absent.length === 0) return undefined;
  return { kind: "feature-msr-bits", extra, absent, value };
}

/** Whether the access writes an MSR of a vCPU that is known to have VMX. */
const isVmxWrite = (access: MsrAccess): boolean =>
  access.data !== undefined && access.table !== undefined && missing("vmx", access) === undefined;

function controlBits(access: MsrAccess): FeatureMsrFinding | undefined {
  const { data = 0n } = access;
  const reserved = reservedBits(data, ALL & ~CONTROL_MASK);
  if (reserved !== undefined) return reserved;
  const bits = bitsOf(data).flatMap((bit) => {
    const [name = "", need] = CONTROL_BITS[bit] ?? [];
    const lacking = need && missing(need, access);
    return lacking === undefined ? [] : [{ bit, name, missing: lacking }];
  });
  return bits.length === 0 ? undefined : { kind: "control-bits", bits };
}

function pmuOf({ table, supported }: MsrAccess): FeatureMsrFinding | undefined {
  if (supported !== undefined && !hasPmu(supported)) return { kind: "no-pmu", by: "kvm" };
  return table !== undefined && !hasPmu(table) ? { kind: "no-pmu", by: "vcpu" } : undefined;
}

/** The rules for feature MSRs, the MSRs of VMX and the MSRs of the PMU. */
export const FEATURE_MSR_RULES: Rules<MsrAccess, FeatureMsrFinding> = {
  // Since Linux 6.4, KVM rejects a changed value of most feature MSRs after the first run.
  "after a run": {
    source: "arch/x86/kvm/x86.c:do_set_msr",
    judge: (access) => {
      const { index, data } = access;
      if (!isFeature(index) || data === undefined || access.hasEntered !== true) return undefined;
      const { current } = access;
      if (typeof current !== "bigint" || current === data) return undefined;
      return refused({ kind: "feature-msr-after-run", current });
    },
  },
  "bits of a feature MSR": {
    source: "arch/x86/kvm/vmx/nested.c:vmx_set_vmx_msr; arch/x86/kvm/x86.c:kvm_set_msr_common",
    judge: (access) => {
      // KVM compares the values of VMX MSRs only for a vCPU that has VMX.
      const isCompared = !isVmx(access.index) || missing("vmx", access) === undefined;
      return isCompared ? refused(beyondBounds(access)) : undefined;
    },
  },
  "feature MSR that KVM lacks": {
    source: "arch/x86/kvm/x86.c:kvm_get_feature_msr",
    judge: (access) => {
      if (!isFeature(access.index) || access.featureValue !== "none") return undefined;
      const need = needOf(access.index);
      const lacking = need && missing(need, access);
      return undecided(lacking === undefined ? { kind: "no-feature-msr" } : undefined);
    },
  },
  "VMX not in CPUID": {
    source: "arch/x86/kvm/vmx/vmx.c:vmx_set_msr",
    judge: (access) => refused(isVmx(access.index) ? missing("vmx", access) : undefined),
  },
  "feature not in CPUID": {
    source: "arch/x86/kvm/x86.c:kvm_set_msr_common",
    kernels: "6.14 and later",
    judge: (access) => {
      const need = NEEDS[access.index];
      return refused(need && missing(need, access));
    },
  },
  "derived VMX MSR": {
    source: "arch/x86/kvm/vmx/nested.c:vmx_set_vmx_msr",
    judge: (access) =>
      verdictIf(DERIVED.includes(access.index) && isVmxWrite(access), { kind: "derived-vmx-msr" }),
  },
  "fixed VMX MSR": {
    source: "arch/x86/kvm/vmx/nested.c:vmx_set_vmx_msr",
    judge: (access) =>
      verdictIf(FIXED.includes(access.index) && isVmxWrite(access), { kind: "fixed-vmx-msr" }),
  },
  "bits of IA32_FEATURE_CONTROL": {
    source: "arch/x86/kvm/vmx/vmx.c:is_vmx_feature_control_msr_valid",
    judge: (access) =>
      refused(access.index === MSRS.MSR_IA32_FEAT_CTL ? controlBits(access) : undefined),
  },
  "LMCE of IA32_FEATURE_CONTROL": {
    source: "arch/x86/kvm/vmx/vmx.c:is_vmx_feature_control_msr_valid",
    judge: ({ index, data = 0n }) =>
      undecided(
        index === MSRS.MSR_IA32_FEAT_CTL && hasBit(data, LMCE) ? { kind: "no-lmce" } : undefined,
      ),
  },
  "no PMU": {
    source: "arch/x86/kvm/vmx/pmu_intel.c:intel_is_valid_msr",
    judge: (access) => refused(isPmu(access.index) ? pmuOf(access) : undefined),
  },
  "counter that the PMU lacks": {
    source: "arch/x86/kvm/vmx/pmu_intel.c:intel_pmu_set_msr",
    judge: ({ index, table }) =>
      undecided(
        isPmu(index) && table !== undefined && hasPmu(table)
          ? { kind: "no-pmu-counter" }
          : undefined,
      ),
  },
};
