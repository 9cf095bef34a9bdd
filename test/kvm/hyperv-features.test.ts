/**
 * Claims about KVM_CAP_HYPERV_ENFORCE_CPUID: the Hyper-V features of the CPUID table decide which MSRs and hypercalls a
 * guest may use (hyperv.c:hv_check_msr_access, hv_check_hypercall_access). The claims contain all cases of the kernel's
 * selftest hyperv_features; docs/selftests.md maps them.
 *
 * The selftest adds one feature after the other. Here, a guest lacks only the feature in question, or has only the
 * features in question.
 */
import { KVM_SYSTEM_EVENT_RESET } from "node-kvm/abi";
import { NO_FAULT } from "node-kvm/guest";
import { claim, expect } from "node-kvm/test";
import {
  callGuest,
  FAST,
  type Feature,
  GP,
  GUEST_OS_ID,
  HYPERCALL,
  HYPERCALL_ENABLED,
  LINUX,
  msrGuest,
  SYNDBG,
  UD,
  valuesOf,
} from "./hyperv.ts";

/** An MSR that a guest may use only with a feature (TLFS, "Partition privilege flags"; include/hyperv/hvgdk_mini.h). */
interface GatedMsr {
  /** The name in the ids of the claims. */
  readonly name: string;
  readonly msr: number;
  readonly feature: Feature;
  /** Further features without which each access fails. */
  readonly also?: readonly Feature[];
  /** Whether each access fails without KVM_CAP_HYPERV_SYNIC2. */
  readonly synic?: true;
}

const RESET: GatedMsr = { name: "reset", msr: 0x4000_0003, feature: "hv_reset" };
const EOI: GatedMsr = { name: "eoi", msr: 0x4000_0070, feature: "hv_apic_access" };
const EOM: GatedMsr = { name: "eom", msr: 0x4000_0084, feature: "hv_synic", synic: true };
const STIMER: GatedMsr = { name: "stimer0", msr: 0x4000_00b0, feature: "hv_stimer", synic: true };
const INVARIANT: GatedMsr = {
  name: "tsc-invariant",
  msr: 0x4000_0118,
  feature: "hv_tsc_invariant",
};
const SYNDBG_STATUS: GatedMsr = {
  name: "syndbg-status",
  msr: 0x4000_00f2,
  feature: "hv_debug_msrs",
  also: [SYNDBG],
};
const CALL_PAGE: GatedMsr = { name: "hypercall", msr: HYPERCALL, feature: "hv_hypercall_msrs" };

/** The MSRs that are 0 after a reset, each with a value that a guest can write and read back. */
const WRITABLE: readonly (GatedMsr & { readonly writes: bigint })[] = [
  { name: "guest-os-id", msr: GUEST_OS_ID, feature: "hv_hypercall_msrs", writes: LINUX },
  // Bit 0, which enables the page, is 0.
  { name: "reference-tsc", msr: 0x4000_0021, feature: "hv_reference_tsc", writes: 0x9_3000n },
  { ...EOM, writes: 0n },
  // The timer would send its messages to the interrupt source 1; bit 0, which enables the timer, is 0.
  { ...STIMER, writes: 0x1_0000n },
  { ...SYNDBG_STATUS, writes: 5n },
  { name: "crash-p0", msr: 0x4000_0100, feature: "hv_crash_msrs", writes: 1n },
  { name: "reenlightenment", msr: 0x4000_0106, feature: "hv_reenlightenment", writes: 1n },
  { ...INVARIANT, writes: 1n },
];

/** The MSRs that a guest can read; a guest cannot write 1 to them. */
const READ_ONLY: readonly GatedMsr[] = [
  { name: "vp-index", msr: 0x4000_0002, feature: "hv_vp_index" },
  { name: "vp-runtime", msr: 0x4000_0010, feature: "hv_vp_runtime" },
  { name: "time-ref-count", msr: 0x4000_0020, feature: "hv_time_ref_count" },
  { name: "tsc-frequency", msr: 0x4000_0022, feature: "hv_frequency_msrs" },
  // A guest can only clear this MSR.
  { name: "tsc-emulation-status", msr: 0x4000_0108, feature: "hv_reenlightenment" },
];

/** What a guest sends if KVM denies each access: the value and the vector of RDMSR, of WRMSR, and of RDMSR again. */
const DENIED = [0n, GP, GP, 0n, GP];

for (const { name, msr, feature, synic } of [
  ...WRITABLE,
  ...READ_ONLY,
  ...[RESET, EOI, CALL_PAGE],
]) {
  claim(
    `hv-msr-${name}-denied`,
    `a guest that lacks only the Hyper-V feature ${feature} gets #GP from each access to MSR 0x${msr.toString(16)}`,
    { number: 120 },
    (kit) => {
      const box = msrGuest(kit, msr, 0n, { features: { without: feature }, synic });
      expect(valuesOf(box)).toEqual(DENIED);
    },
  );
}

for (const { name, msr, feature, also = [], synic, writes } of WRITABLE) {
  claim(
    `hv-msr-${name}-writable`,
    `a guest with the Hyper-V feature ${feature} writes MSR 0x${msr.toString(16)} and reads the value back`,
    { number: 121 },
    (kit) => {
      const box = msrGuest(kit, msr, writes, { features: { only: [feature, ...also] }, synic });
      expect(valuesOf(box)).toEqual([0n, NO_FAULT, NO_FAULT, writes, NO_FAULT]);
    },
  );
}

for (const { name, msr, feature } of READ_ONLY) {
  claim(
    `hv-msr-${name}-read-only`,
    `a guest with the Hyper-V feature ${feature} reads MSR 0x${msr.toString(16)} and gets #GP if it writes 1`,
    { number: 122 },
    (kit) => {
      const box = msrGuest(kit, msr, 1n, { features: { only: [feature] } });
      const [, first, written, , second] = valuesOf(box);
      expect([first, written, second]).toEqual([NO_FAULT, GP, NO_FAULT]);
    },
  );
}

claim(
  "hv-tsc-invariant-reserved",
  "a guest with the Hyper-V feature hv_tsc_invariant gets #GP if it writes a reserved bit of MSR 0x40000118",
  { number: 122 },
  (kit) => {
    const features = { only: [INVARIANT.feature] };
    const box = msrGuest(kit, INVARIANT.msr, 0xdead_beefn, { features });
    expect(valuesOf(box)).toEqual([0n, NO_FAULT, GP, 0n, NO_FAULT]);
  },
);

claim(
  "hv-eoi-write-only",
  "a guest with the Hyper-V feature hv_apic_access writes MSR 0x40000070 and gets #GP if it reads the MSR",
  { number: 123 },
  (kit) => {
    const box = msrGuest(kit, EOI.msr, 1n, { features: { only: [EOI.feature] }, apic: true });
    expect(valuesOf(box)).toEqual([0n, GP, NO_FAULT, 0n, GP]);
  },
);

claim(
  "hv-hypercall-needs-os-id",
  "KVM ignores what a guest writes to MSR 0x40000001 until the guest writes its identification to MSR 0x40000000",
  { number: 123 },
  (kit) => {
    const features = { only: [CALL_PAGE.feature] };
    const box = msrGuest(kit, CALL_PAGE.msr, HYPERCALL_ENABLED, { features });
    expect(valuesOf(box)).toEqual([0n, NO_FAULT, NO_FAULT, 0n, NO_FAULT]);
  },
);

claim(
  "hv-synic-needs-cap",
  "a guest with the Hyper-V feature hv_synic gets #GP for MSR 0x40000084 without KVM_CAP_HYPERV_SYNIC2",
  { number: 123 },
  (kit) => {
    const box = msrGuest(kit, EOM.msr, 0n, { features: { only: [EOM.feature] }, apic: true });
    expect(valuesOf(box)).toEqual(DENIED);
  },
);

claim(
  "hv-syndbg-needs-leaf",
  "a guest with the Hyper-V feature hv_debug_msrs gets #GP for MSR 0x400000f2 if leaf 0x40000082 does not allow debugging",
  { number: 123 },
  (kit) => {
    const box = msrGuest(kit, SYNDBG_STATUS.msr, 0n, { features: { without: SYNDBG } });
    expect(valuesOf(box)).toEqual(DENIED);
  },
);

/** Bit 12 of STIMER0_CONFIG: the timer raises an interrupt instead of sending a message. */
const DIRECT_MODE = 1n << 12n;

claim(
  "hv-stimer-direct-denied",
  "a guest that lacks only the Hyper-V feature hv_stimer_direct gets #GP if it sets a timer to direct mode",
  { number: 123 },
  (kit) => {
    const features = { without: "hv_stimer_direct" } as const;
    const box = msrGuest(kit, STIMER.msr, DIRECT_MODE, { features, synic: true });
    expect(valuesOf(box)).toEqual([0n, NO_FAULT, GP, 0n, NO_FAULT]);
  },
);

claim(
  "hv-stimer-direct",
  "a guest with the Hyper-V features hv_stimer and hv_stimer_direct sets a timer to direct mode",
  { number: 123 },
  (kit) => {
    const features = { only: [STIMER.feature, "hv_stimer_direct"] } as const;
    const box = msrGuest(kit, STIMER.msr, DIRECT_MODE, { features, synic: true });
    expect(valuesOf(box)).toEqual([0n, NO_FAULT, NO_FAULT, DIRECT_MODE, NO_FAULT]);
  },
);

claim(
  "hv-reset-exits",
  "KVM exits with KVM_SYSTEM_EVENT_RESET if a guest writes 1 to MSR 0x40000003; the guest can continue",
  { number: 124 },
  (kit) => {
    const box = msrGuest(kit, RESET.msr, 1n, { features: { only: [RESET.feature] } });
    const exit = box.vcpu.runSync();
    const type = exit.kind === "system_event" ? exit.type : undefined;
    expect([exit.kind, type]).toEqual(["system_event", KVM_SYSTEM_EVENT_RESET]);
    expect(valuesOf(box)).toEqual([0n, NO_FAULT, NO_FAULT, 0n, NO_FAULT]);
  },
);

// The results of hypercalls (TLFS, "Hypercall status codes").
const SUCCESS = 0n;
const INVALID_CODE = 2n;
const INVALID_INPUT = 3n;
const INVALID_PARAMETER = 5n;
const ACCESS_DENIED = 6n;
const OPERATION_DENIED = 8n;

/** A hypercall that KVM denies to a guest without certain features (TLFS, "Hypercall reference"). */
interface GatedCall {
  /** The name in the ids of the claims. */
  readonly name: string;
  readonly code: bigint;
  /** The features without which KVM denies the call; the first one is the feature of this call only. */
  readonly features: readonly [Feature, ...Feature[]];
  /** Further bits of the input of the allowed call. */
  readonly flags?: bigint;
  /** Whether the vCPU needs an APIC in the kernel. */
  readonly apic?: true;
  /** The status of the allowed call, whose parameters are zeros. */
  readonly result: bigint;
}

const FLUSH = "hv_hint_remote_flush";
const IPI = "hv_hint_cluster_ipi";
const MASKS = "hv_hint_ex_masks";
const RESET_DEBUG_SESSION = 0x6bn;

const CALLS: readonly GatedCall[] = [
  // Without KVM_CAP_HYPERV_SYNIC2, KVM does not pass messages and events to user space.
  { name: "post-message", code: 0x5cn, features: ["hv_post_messages"], result: INVALID_INPUT },
  { name: "signal-event", code: 0x5dn, features: ["hv_signal_events"], result: INVALID_INPUT },
  { name: "flush", code: 0x2n, features: [FLUSH], result: SUCCESS },
  { name: "flush-ex", code: 0x13n, features: [MASKS, FLUSH], result: SUCCESS },
  // The vector 0 is invalid. The call with masks sends no interrupt, so KVM does not check its vector.
  { name: "send-ipi", code: 0xbn, features: [IPI], apic: true, result: INVALID_INPUT },
  { name: "send-ipi-ex", code: 0x15n, features: [MASKS, IPI], apic: true, result: SUCCESS },
  { name: "long-spin-wait", code: 0x8n, features: ["hv_spinlock_retries"], result: SUCCESS },
  // The guest has not enabled the debugger's hypercalls (HV_X64_MSR_SYNDBG_OPTIONS).
  {
    name: "reset-debug-session",
    code: RESET_DEBUG_SESSION,
    features: ["hv_debugging", SYNDBG],
    result: OPERATION_DENIED,
  },
  // Without the flag, KVM would pass the call to user space.
  {
    name: "query-extended",
    code: 0x8001n,
    features: ["hv_extended_hypercalls"],
    flags: FAST,
    result: INVALID_PARAMETER,
  },
];

// A guest sends the result of its hypercall and the vector of the exception.
for (const { name, code, features } of CALLS) {
  claim(
    `hv-call-${name}-denied`,
    `KVM denies hypercall 0x${code.toString(16)} to a guest that lacks only the Hyper-V feature ${features[0]}`,
    { number: 125 },
    (kit) => {
      const box = callGuest(kit, code, { features: { without: features[0] } });
      expect(valuesOf(box)).toEqual([ACCESS_DENIED, NO_FAULT]);
    },
  );
}

for (const { name, code, features, flags = 0n, apic, result } of CALLS) {
  claim(
    `hv-call-${name}-allowed`,
    `KVM handles hypercall 0x${code.toString(16)} of a guest with the Hyper-V feature ${features.join(" and ")}`,
    { number: 126 },
    (kit) => {
      const box = callGuest(kit, code | flags, { features: { only: features }, apic });
      expect(valuesOf(box)).toEqual([result]);
    },
  );
}

claim(
  "hv-call-unknown",
  "KVM rejects an unknown hypercall with the status of an invalid code",
  { number: 127 },
  (kit) => {
    const box = callGuest(kit, 0xbeefn, { features: { only: [] } });
    expect(valuesOf(box)).toEqual([INVALID_CODE, NO_FAULT]);
  },
);

claim(
  "hv-call-debug-without-leaf",
  "KVM rejects hypercall 0x6b with the status of an invalid code if leaf 0x40000082 does not allow debugging",
  { number: 127 },
  (kit) => {
    const box = callGuest(kit, RESET_DEBUG_SESSION, { features: { without: SYNDBG } });
    expect(valuesOf(box)).toEqual([INVALID_CODE, NO_FAULT]);
  },
);

claim(
  "hv-call-xmm-denied",
  "a guest that lacks only the Hyper-V feature hv_xmm_input gets #UD from a hypercall with input in XMM registers",
  { number: 128 },
  (kit) => {
    const box = callGuest(kit, 0x2n | FAST, { features: { without: "hv_xmm_input" } });
    expect(valuesOf(box)).toEqual([0n, UD]);
  },
);

claim(
  "hv-call-xmm-allowed",
  "KVM handles a hypercall with input in XMM registers of a guest with the Hyper-V feature hv_xmm_input",
  { number: 128 },
  (kit) => {
    const box = callGuest(kit, 0x2n | FAST, { features: { only: [FLUSH, "hv_xmm_input"] } });
    expect(valuesOf(box)).toEqual([SUCCESS, NO_FAULT]);
  },
);
