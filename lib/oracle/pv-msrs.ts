/**
 * The rules for KVM's own MSRs, 0x4b564d02 to 0x4b564d08: the allowed bits, the required LAPIC, and the guest memory at
 * the address that the MSR contains.
 */
import {
  MSR_KVM_ASYNC_PF_EN,
  MSR_KVM_ASYNC_PF_INT,
  MSR_KVM_MIGRATION_CONTROL,
  MSR_KVM_POLL_CONTROL,
  MSR_KVM_PV_EOI_EN,
  MSR_KVM_STEAL_TIME,
} from "../abi/generated/constants.ts";
import type { CpuidFieldName } from "../cpuid/index.ts";
import { bitsOf, type ReservedBits, reservedBits } from "./bits.ts";
import type { MsrAccess } from "./msr-access.ts";
import { type Rules, type RuleVerdict, refused } from "./verdict.ts";

const ALL = (1n << 64n) - 1n;

/** The data for the checks of one of KVM's MSRs. */
interface PvMsr {
  /** The CPUID feature that KVM requires for the MSR if KVM_CAP_ENFORCE_PV_FEATURE_CPUID is enabled. */
  readonly feature: CpuidFieldName;
  /** The CPUID features that KVM requires for single bits if KVM_CAP_ENFORCE_PV_FEATURE_CPUID is enabled. */
  readonly bitFeatures?: Readonly<Record<number, CpuidFieldName>>;
  /** The bits that must be 0. */
  readonly reserved: bigint;
  /** The values that require the LAPIC in the kernel: `value` is any value except 0, and `any` is any value. */
  readonly lapic?: "value" | "any";
  /**
   * `address` has the bits of the address of guest memory that KVM writes to; KVM uses the address only if all bits of
   * `enabled` are 1.
   */
  readonly memory?: { readonly address: bigint; readonly enabled: bigint };
}

/**
 * The checks of KVM's MSRs (arch/x86/kvm/x86.c:kvm_set_msr_common, kvm_pv_enable_async_pf;
 * lapic.c:kvm_lapic_set_pv_eoi).
 */
const PV_MSRS: Readonly<Record<number, PvMsr>> = {
  [MSR_KVM_ASYNC_PF_EN]: {
    feature: "kvm_async_pf",
    bitFeatures: { 2: "kvm_async_pf_vmexit", 3: "kvm_async_pf_int" },
    reserved: 0x30n,
    lapic: "value",
    memory: { address: ALL & ~0x3fn, enabled: 9n },
  },
  [MSR_KVM_STEAL_TIME]: { feature: "kvm_steal_time", reserved: 0x3en },
  [MSR_KVM_PV_EOI_EN]: {
    feature: "kvm_pv_eoi",
    reserved: 2n,
    memory: { address: ALL & ~1n, enabled: 1n },
  },
  [MSR_KVM_POLL_CONTROL]: { feature: "kvm_poll_control", reserved: ALL & ~1n },
  [MSR_KVM_ASYNC_PF_INT]: { feature: "kvm_async_pf_int", reserved: ALL & ~0xffn, lapic: "any" },
  [MSR_KVM_MIGRATION_CONTROL]: { feature: "kvm_migration_control", reserved: ALL & ~1n },
};

/** A finding about one of KVM's MSRs. */
export type PvMsrFinding =
  | ReservedBits
  | { readonly kind: "no-lapic" }
  | { readonly kind: "no-memory"; readonly address: bigint }
  | { readonly kind: "missing-pv-features"; readonly features: readonly CpuidFieldName[] };

/** Makes a rule for writes of KVM's MSRs. */
const pv =
  (judge: (msr: PvMsr, data: bigint, access: MsrAccess) => PvMsrFinding | undefined) =>
  (access: MsrAccess): RuleVerdict<PvMsrFinding> | undefined => {
    const msr = PV_MSRS[access.index];
    return msr === undefined || access.data === undefined
      ? undefined
      : refused(judge(msr, access.data, access));
  };

/** The rules for writes of KVM's own MSRs. */
export const PV_MSR_RULES: Rules<MsrAccess, PvMsrFinding> = {
  "reserved bits of a KVM MSR": {
    source: "arch/x86/kvm/x86.c:kvm_set_msr_common",
    judge: pv(({ reserved }, data) => reservedBits(data, reserved)),
  },
  "KVM MSR without LAPIC": {
    source: "arch/x86/kvm/x86.c:kvm_pv_enable_async_pf",
    judge: pv(({ lapic }, data, access) => {
      if (lapic === undefined || (lapic === "value" && data === 0n)) return undefined;
      return access.hasLapic === false ? { kind: "no-lapic" } : undefined;
    }),
  },
  "KVM MSR without memory": {
    source: "arch/x86/kvm/x86.c:kvm_pv_enable_async_pf; arch/x86/kvm/lapic.c:kvm_lapic_set_pv_eoi",
    judge: pv(({ memory }, data, { hasMemoryAt }) => {
      if (memory === undefined || (data & memory.enabled) !== memory.enabled) return undefined;
      const address = data & memory.address;
      return hasMemoryAt(address) === false ? { kind: "no-memory", address } : undefined;
    }),
  },
  "KVM feature not in CPUID": {
    source: "arch/x86/kvm/x86.c:kvm_set_msr_common",
    kernels: "all, if KVM_CAP_ENFORCE_PV_FEATURE_CPUID is enabled on the vCPU",
    judge: pv(({ feature, bitFeatures = {} }, data, { table }) => {
      const needs = [feature, ...bitsOf(data).flatMap((bit) => bitFeatures[bit] ?? [])];
      const features = needs.filter((name) => table?.has(name) === false);
      return features.length === 0 ? undefined : { kind: "missing-pv-features", features };
    }),
  },
};
