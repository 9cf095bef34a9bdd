/** Why feature MSRs, VMX's and the PMU's were refused: what KVM, the vCPU's CPUID or a run before forbids. */
import type { CpuidFieldName, CpuidTable } from "../cpuid/index.ts";
import { placesOf } from "./cpuid-rules.ts";
import type { MsrAccess } from "./msrs.ts";
import { known } from "./refusal.ts";
import { type Causes, claim, fault, open, type Verdict } from "./verdict.ts";
import { bitsOf, hex, writeBits } from "./wording.ts";

/** KVM_FIRST_EMULATED_VMX_MSR to KVM_LAST_EMULATED_VMX_MSR. */
const [FIRST_VMX, LAST_VMX] = [0x480, 0x491] as const;
const isVmx = (index: number): boolean => index >= FIRST_VMX && index <= LAST_VMX;

/** PLATFORM_INFO, ARCH_CAPABILITIES, PERF_CAPABILITIES, DE_CFG (msr_based_features). */
const OTHERS: readonly number[] = [0xce, 0x10a, 0x345, 0xc001_1029];
const isFeature = (index: number): boolean => isVmx(index) || OTHERS.includes(index);

/** The feature that the vCPU's CPUID must have for an MSR (kvm_set_msr_common, vmx_set_msr). */
const NEEDS: Readonly<Record<number, CpuidFieldName>> = {
  266: "arch_capabilities",
  837: "pdcm",
};

const needOf = (index: number): CpuidFieldName | undefined => (isVmx(index) ? "vmx" : NEEDS[index]);

/** How KVM compares a value with its own, for each MSR that it compares. */
type Shape = "bits that KVM has" | "controls" | "bits that must stay";
const SHAPES: Readonly<Record<number, Shape>> = {
  837: "bits that KVM has",
  3221295145: "bits that KVM has",
  // arch/x86/kvm/vmx/nested.c:vmx_set_vmx_msr
  1163: "controls",
  1164: "bits that KVM has",
  1165: "controls",
  1166: "controls",
  1167: "controls",
  1168: "controls",
  1158: "bits that must stay",
  1160: "bits that must stay",
  1169: "bits that KVM has",
};
/** KVM makes these from the true controls, 0x48d to 0x490. */
const DERIVED: readonly number[] = [0x481, 0x482, 0x483, 0x484];
/** CR0_FIXED1 and CR4_FIXED1, which KVM makes from the vCPU's CPUID. */
const FIXED: readonly number[] = [0x487, 0x489];

const LOW = 0xffff_ffffn;

/** IA32_FEATURE_CONTROL's bits, and the feature that each needs (feature_control_valid_bits). */
const FEATURE_CONTROL = 0x3a;
const CONTROL_BITS: Readonly<Record<number, readonly [name: string, need?: CpuidFieldName]>> = {
  0: ["LOCKED"],
  1: ["VMX_ENABLED_INSIDE_SMX", "smx"],
  2: ["VMX_ENABLED_OUTSIDE_SMX", "vmx"],
  17: ["SGX_LC_ENABLED", "sgx_lc"],
  18: ["SGX_ENABLED", "sgx"],
  20: ["LMCE_ENABLED"],
};
const CONTROL_NAMES = Object.fromEntries(
  Object.entries(CONTROL_BITS).map(([bit, [name]]) => [bit, name]),
);

/** The counters of an Intel PMU: general, fixed, their controls, PEBS and the debug store. */
const PMU_RANGES: readonly (readonly [first: number, last: number])[] = [
  [0xc1, 0xc8],
  [0x186, 0x18d],
  [0x309, 0x30c],
  [0x38d, 0x390],
  [0x3f1, 0x3f2],
  [0x4c1, 0x4c8],
  [0x600, 0x600],
];
const isPmu = (index: number): boolean =>
  PMU_RANGES.some(([first, last]) => index >= first && index <= last);
const hasPmu = (table: CpuidTable): boolean => ((table.find(0xa)?.eax ?? 0) & 0xff) !== 0;

/** What KVM_GET_MSRS of /dev/kvm says of a feature MSR. */
const ownValue = ({ index, evidence: { kvm } }: MsrAccess): bigint | undefined =>
  known(() => kvm?.featureMsr?.(index));

/** Names the bits of a value that this KVM does not have, or that it must keep. */
function compare(access: MsrAccess): string | undefined {
  const { index, data } = access;
  const shape = SHAPES[index];
  const own = shape === undefined ? undefined : ownValue(access);
  if (own === undefined || data === undefined) return undefined;
  const high = shape === "controls" ? ~LOW : shape === "bits that KVM has" ? -1n : 0n;
  const low = shape === "controls" ? LOW : shape === "bits that must stay" ? -1n : 0n;
  const extra = bitsOf(BigInt.asUintN(64, data & ~own & high));
  const gone = bitsOf(BigInt.asUintN(64, own & ~data & low));
  const says = `KVM_GET_MSRS of /dev/kvm says ${hex(own)}`;
  if (extra.length > 0) return `${writeBits(extra)} not in this KVM: ${says}`;
  return gone.length > 0 ? `${writeBits(gone)} must be 1: ${says}` : undefined;
}

/** Says which of KVM and the vCPU's table lacks a feature. */
function lacks(name: CpuidFieldName, { table, supported }: MsrAccess): string | undefined {
  if (supported?.has(name) === false) {
    return `this KVM cannot give ${name} to a guest (${placesOf([name])})`;
  }
  return table?.has(name) === false
    ? `${name} is not in this vCPU's CPUID (${placesOf([name])})`
    : undefined;
}

/** The causes for which feature MSRs, VMX's and the PMU's are refused. */
export const FEATURE_MSR_CAUSES: Causes<MsrAccess> = {
  // arch/x86/kvm: do_set_msr, since Linux 6.4 (not for every one of them)
  "after a run": ({ index, data, current, evidence: { vcpu } }) => {
    if (!isFeature(index) || data === undefined || known(vcpu?.hasEntered) !== true)
      return undefined;
    return claim(
      current !== undefined && current !== data,
      `it describes the CPU, and cannot change after KVM_RUN: it is ${hex(current ?? 0n)}`,
    );
  },
  "bits of a feature MSR": (access) => {
    const text = compare(access);
    // VMX's are compared only for a vCPU that has VMX.
    return isVmx(access.index) && lacks("vmx", access) !== undefined ? undefined : fault(text);
  },
  "feature MSR that KVM lacks": (access) => {
    const { index, evidence } = access;
    const isAsked = evidence.kvm?.featureMsr !== undefined;
    if (!isFeature(index) || !isAsked || ownValue(access) !== undefined) return undefined;
    const need = needOf(index);
    const lacking = need === undefined ? undefined : lacks(need, access);
    return lacking === undefined ? open("this KVM has no such feature MSR") : undefined;
  },
  // Linux 6.14 and later look at the table, for VMX every kernel does.
  "feature not in CPUID": (access) => {
    const need = needOf(access.index);
    const text = need && lacks(need, access);
    return isVmx(access.index) ? fault(text) : open(text);
  },
  "derived VMX MSR": (access) =>
    claim(
      isDerived(access) && DERIVED.includes(access.index),
      "KVM makes it from the true controls: write those (0x48d to 0x490)",
    ),
  "fixed VMX MSR": (access) =>
    claim(isDerived(access) && FIXED.includes(access.index), "KVM makes it from the vCPU's CPUID"),
  // arch/x86/kvm/vmx/vmx.c:is_vmx_feature_control_msr_valid
  "bits of IA32_FEATURE_CONTROL": (access) => {
    const { index, data } = access;
    if (index !== FEATURE_CONTROL || data === undefined) return undefined;
    const reserved = bitsOf(data).filter((bit) => CONTROL_BITS[bit] === undefined);
    if (reserved.length > 0) return fault(`${writeBits(reserved)} reserved`);
    const found = bitsOf(data).flatMap((bit) => {
      const need = CONTROL_BITS[bit]?.[1];
      const text = need && lacks(need, access);
      return text === undefined ? [] : [`${writeBits([bit], CONTROL_NAMES)}: ${text}`];
    });
    return fault(found.length === 0 ? undefined : found.join("; "));
  },
  "LMCE of IA32_FEATURE_CONTROL": ({ index, data = 0n }) =>
    open(
      index === FEATURE_CONTROL && ((data >> 20n) & 1n) === 1n
        ? "bit 20 LMCE_ENABLED: KVM_X86_SETUP_MCE gave this vCPU no LMCE (bit 27 of mcgCap)"
        : undefined,
    ),
  "no PMU": ({ index, table, supported }): Verdict | undefined => {
    if (!isPmu(index)) return undefined;
    const leaf = "(0xa.0:eax[7:0])";
    if (supported !== undefined && !hasPmu(supported)) {
      return fault(`this KVM gives its guests no Intel PMU ${leaf}`);
    }
    return fault(
      table !== undefined && !hasPmu(table)
        ? `this vCPU's CPUID has no Intel PMU ${leaf}`
        : undefined,
    );
  },
  "counter that the PMU lacks": ({ index, table }) =>
    open(
      isPmu(index) && table !== undefined && hasPmu(table)
        ? `the PMU of leaf 0xa in this vCPU's CPUID does not have this counter, or not these bits`
        : undefined,
    ),
};

const isDerived = (access: MsrAccess): boolean =>
  access.data !== undefined && lacks("vmx", access) === undefined && access.table !== undefined;
