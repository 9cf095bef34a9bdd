/** Lists the results that may differ when a call is repeated, each with the reason. */
import {
  ClockData,
  Cpuid2,
  CreateDevice,
  LapicState,
  Msrs,
  PitState,
  PitState2,
} from "../abi/generated/structs.ts";
import { MSRS } from "../abi/msrs.ts";
import { offsetOf, sizeOf } from "../abi/struct.ts";

/** The bits of a result that may differ. */
export interface Varying {
  /** The offset of the integer in the result, in bytes. */
  readonly offset: number;
  /** The bits that may differ in the little-endian integer at `offset`. */
  readonly mask: bigint;
  readonly why: string;
}

type Row = (answer: Uint8Array) => readonly Varying[];

const ALL = 0xffff_ffff_ffff_ffffn;
const ALL_32 = 0xffff_ffffn;

const at = (offset: number, why: string, mask = ALL): Varying => ({ offset, mask, why });

const APIC_ID = "the APIC id of the CPU on which the call ran";

/** For a CPUID leaf, the register and the bits that identify the CPU on which the leaf was read. */
const OWN_CPU: Readonly<
  Record<number, readonly (readonly ["eax" | "ebx" | "ecx" | "edx", bigint])[]>
> = {
  1: [["ebx", 0xff00_0000n]],
  11: [["edx", ALL_32]],
  31: [["edx", ALL_32]],
  2147483678: [
    ["eax", ALL_32],
    ["ebx", 0xffn],
    ["ecx", 0xffn],
  ],
  2147483686: [["edx", ALL_32]],
};

const ENTRIES = offsetOf(Cpuid2, "entries");
const ENTRY = sizeOf(Cpuid2, 1) - ENTRIES;

function ownCpu(answer: Uint8Array): readonly Varying[] {
  return elements(answer, ENTRIES, ENTRY).flatMap((entry) => {
    const leaf = new DataView(answer.buffer, answer.byteOffset + entry).getUint32(0, true);
    return (OWN_CPU[leaf] ?? []).map(([register, mask]) =>
      at(entry + offsetOf(Cpuid2, `entries[0].${register}`) - ENTRIES, APIC_ID, mask),
    );
  });
}

/** The MSRs that count or contain a time. */
const CLOCK_MSRS: Readonly<Record<number, string>> = {
  [MSRS.MSR_IA32_TSC]: "the time-stamp counter",
  [MSRS.MSR_IA32_MPERF]: "counts cycles",
  [MSRS.MSR_IA32_APERF]: "counts cycles",
  [MSRS.MSR_IA32_TSC_DEADLINE]: "the TSC deadline",
  [MSRS.MSR_AMD64_TSC_RATIO]: "the ratio of the time-stamp counter, which each boot measures",
  [MSRS.HV_X64_MSR_VP_RUNTIME]:
    "this MSR counts the time that the vCPU ran (HV_X64_MSR_VP_RUNTIME)",
  [MSRS.HV_X64_MSR_TIME_REF_COUNT]: "the time (HV_X64_MSR_TIME_REF_COUNT)",
  [MSRS.HV_X64_MSR_TSC_FREQUENCY]: "a frequency that each boot measures",
  [MSRS.HV_X64_MSR_APIC_FREQUENCY]: "a frequency that each boot measures",
};

const MSR_ENTRIES = offsetOf(Msrs, "entries");
const MSR_ENTRY = sizeOf(Msrs, 1) - MSR_ENTRIES;
const MSR_DATA = offsetOf(Msrs, "entries[0].data") - MSR_ENTRIES;

function clockMsrs(answer: Uint8Array): readonly Varying[] {
  return elements(answer, MSR_ENTRIES, MSR_ENTRY).flatMap((entry) => {
    const index = new DataView(answer.buffer, answer.byteOffset + entry).getUint32(0, true);
    const why = CLOCK_MSRS[index];
    return why === undefined ? [] : [at(entry + MSR_DATA, why)];
  });
}

function elements(answer: Uint8Array, from: number, size: number): readonly number[] {
  const count = Math.max(0, Math.floor((answer.length - from) / size));
  return Array.from({ length: count }, (_, i) => from + i * size);
}

/** The current count of the APIC's timer, in the APIC's page of registers. */
const APIC_TMCCT = 0x390;

/** By ioctl. */
const ROWS: Readonly<Record<string, Row>> = {
  KVM_GET_SUPPORTED_CPUID: ownCpu,
  KVM_GET_MSRS: clockMsrs,
  KVM_GET_CLOCK: () => [
    at(offsetOf(ClockData, "clock"), "the guest's clock"),
    at(offsetOf(ClockData, "realtime"), "the time of day"),
    at(offsetOf(ClockData, "hostTsc"), "the host's time-stamp counter"),
  ],
  KVM_GET_LAPIC: () => [
    at(offsetOf(LapicState, "regs") + APIC_TMCCT, "the APIC timer counts", ALL_32),
  ],
  KVM_GET_PIT: () => pit((i) => offsetOf(PitState, `channels[${i}].countLoadTime`)),
  KVM_GET_PIT2: () => pit((i) => offsetOf(PitState2, `channels[${i}].countLoadTime`)),
  KVM_CREATE_DEVICE: () => [
    at(offsetOf(CreateDevice, "fd"), "the number of the new descriptor", ALL_32),
  ],
};

function pit(offset: (channel: number) => number): readonly Varying[] {
  return [0, 1, 2].map((channel) => at(offset(channel), "the time when the counter was loaded"));
}

/** Lists the bits of an ioctl's result that may differ when the ioctl is repeated. */
export function varyingOf(ioctl: string, answer: Uint8Array): readonly Varying[] {
  return ROWS[ioctl]?.(answer) ?? [];
}

/**
 * The ioctls whose result describes the kernel and the CPU. On another host the result may differ, although the claim
 * of the recording still holds.
 */
const OF_THE_HOST = new Set([
  "KVM_CHECK_EXTENSION",
  "KVM_GET_VCPU_MMAP_SIZE",
  "KVM_GET_SUPPORTED_CPUID",
  "KVM_GET_EMULATED_CPUID",
  "KVM_GET_SUPPORTED_HV_CPUID",
  "KVM_GET_MSR_INDEX_LIST",
  "KVM_GET_MSR_FEATURE_INDEX_LIST",
  "KVM_X86_GET_MCE_CAP_SUPPORTED",
  "KVM_GET_TSC_KHZ",
  "KVM_GET_STATS_FD",
]);

/** Whether the result describes the host and not a guest; the result of an MSR ioctl does so only on /dev/kvm. */
export function isOfTheHost(ioctl: string, fdKind: string): boolean {
  return OF_THE_HOST.has(ioctl) || (ioctl === "KVM_GET_MSRS" && fdKind === "sys");
}
