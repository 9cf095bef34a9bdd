/** Why KVM's own MSRs (0x4b564d02 to 0x4b564d08) were refused: their bits, the LAPIC, the memory behind them. */
import {
  MSR_KVM_ASYNC_PF_EN,
  MSR_KVM_ASYNC_PF_INT,
  MSR_KVM_MIGRATION_CONTROL,
  MSR_KVM_POLL_CONTROL,
  MSR_KVM_PV_EOI_EN,
  MSR_KVM_STEAL_TIME,
} from "../abi/generated/constants.ts";
import type { CpuidFieldName } from "../cpuid/index.ts";
import { placesOf } from "./cpuid-rules.ts";
import { slotAt } from "./kernel-pages.ts";
import type { MsrAccess } from "./msrs.ts";
import { known } from "./refusal.ts";
import { type Causes, claim, fault, open } from "./verdict.ts";
import { bitsOf, hex, writeBits } from "./wording.ts";

const ALL = (1n << 64n) - 1n;

/** What KVM checks of one of its MSRs (kvm_set_msr_common, kvm_pv_enable_async_pf, kvm_lapic_set_pv_eoi). */
interface PvMsr {
  /** The feature that KVM asks for, where KVM_CAP_ENFORCE_PV_FEATURE_CPUID is enabled. */
  readonly feature: CpuidFieldName;
  /** The bits that must be 0. */
  readonly reserved: bigint;
  /** Whether a value above 0 needs the LAPIC in the kernel; for one MSR any value does. */
  readonly lapic?: "value" | "any";
  /** The bits of the address of memory that KVM writes to, and those that must all be 1 for it. */
  readonly memory?: { readonly address: bigint; readonly enabled: bigint };
}

const PV_MSRS: Readonly<Record<number, PvMsr>> = {
  [MSR_KVM_ASYNC_PF_EN]: {
    feature: "kvm_async_pf",
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
  [MSR_KVM_ASYNC_PF_INT]: {
    feature: "kvm_async_pf_int",
    reserved: ALL & ~0xffn,
    lapic: "any",
  },
  [MSR_KVM_MIGRATION_CONTROL]: { feature: "kvm_migration_control", reserved: ALL & ~1n },
};

/** The highest and the lowest of a run of bits, which is shorter than a list of 63. */
function writeReserved(bits: readonly number[]): string {
  const MOST = 8;
  const [first] = bits;
  return bits.length > MOST ? `bits ${first} to ${bits.at(-1)}` : writeBits(bits);
}

const pv =
  (judge: (msr: PvMsr, data: bigint, access: MsrAccess) => ReturnType<typeof claim>) =>
  (access: MsrAccess): ReturnType<typeof claim> => {
    const msr = PV_MSRS[access.index];
    return msr === undefined || access.data === undefined
      ? undefined
      : judge(msr, access.data, access);
  };

/** The features that bits of MSR_KVM_ASYNC_PF_EN need, where KVM enforces them. */
const ASYNC_BITS: Readonly<Record<number, CpuidFieldName>> = {
  2: "kvm_async_pf_vmexit",
  3: "kvm_async_pf_int",
};

/** The causes for which KVM's own MSRs are refused. */
export const PV_MSR_CAUSES: Causes<MsrAccess> = {
  "reserved bits of a KVM MSR": pv(({ reserved }, data) => {
    const found = bitsOf(data & reserved);
    return fault(found.length === 0 ? undefined : `${writeReserved(found)} reserved`);
  }),
  "KVM MSR without LAPIC": pv(({ lapic }, data, { evidence: { vcpu } }) => {
    if (lapic === undefined || (lapic === "value" && data === 0n)) return undefined;
    const has = known(vcpu?.hasLapic);
    return fault(
      has === false ? "it needs the LAPIC in the kernel (KVM_CREATE_IRQCHIP)" : undefined,
    );
  }),
  "KVM MSR without memory": pv(({ memory }, data, { evidence: { vm } }) => {
    const slots = known(vm?.slots);
    if (memory === undefined || slots === undefined) return undefined;
    if ((data & memory.enabled) !== memory.enabled) return undefined;
    const at = data & memory.address;
    return claim(
      slotAt(slots, at, 1n) === undefined,
      `address ${hex(at)}: no memory slot is there`,
    );
  }),
  "KVM feature not in CPUID": pv(({ feature }, data, { index, table }) => {
    const async = index === MSR_KVM_ASYNC_PF_EN ? bitsOf(data) : [];
    const needs = [feature, ...async.flatMap((bit) => ASYNC_BITS[bit] ?? [])];
    const missing = needs.filter((name) => table?.has(name) === false);
    return open(
      missing.length === 0
        ? undefined
        : `this vCPU's CPUID lacks ${placesOf(missing)}, and KVM_CAP_ENFORCE_PV_FEATURE_CPUID is enabled`,
    );
  }),
};
