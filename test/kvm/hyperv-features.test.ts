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
  compareCall,
  compareMsr,
  FAST,
  type Feature,
  type GateFeatures,
  GP,
  GUEST_OS_ID,
  type GuestNeeds,
  HYPERCALL,
  HYPERCALL_ENABLED,
  LINUX,
  msrGuest,
  SYNDBG,
  UD,
  valuesOf,
} from "./hyperv.ts";

/** An MSR that a guest may use only with a feature (TLFS, "Partition privilege flags"; include/hyperv/hvgdk_mini.h). */
interface GatedMsr extends GuestNeeds {
  /** The name in the ids of the claims. */
  readonly name: string;
  readonly msr: number;
  readonly features: GateFeatures;
}

const RESET = 0x4000_0003;
const EOM = 0x4000_0084;
const STIMER0_CONFIG = 0x4000_00b0;
const SYNDBG_STATUS = 0x4000_00f2;
const TSC_INVARIANT_CONTROL = 0x4000_0118;

/**
 * The values that a guest sends if KVM denies each access: the value and the vector of RDMSR, the vector of WRMSR, and
 * the value and the vector of a second RDMSR.
 */
const DENIED = [0n, GP, GP, 0n, GP];

/** The values that a guest sends if it may use the MSR: the MSR is 0, and then has the written value. */
const written = (value: bigint): readonly bigint[] => [0n, NO_FAULT, NO_FAULT, value, NO_FAULT];

/** The MSRs that a guest can write, each with the value that it writes, and with what it sends if this differs. */
const WRITABLE: readonly (GatedMsr & {
  readonly value: bigint;
  readonly sends?: readonly bigint[];
})[] = [
  { name: "guest-os-id", msr: GUEST_OS_ID, features: ["hv_hypercall_msrs"], value: LINUX },
  {
    name: "hypercall",
    msr: HYPERCALL,
    features: ["hv_hypercall_msrs"],
    value: HYPERCALL_ENABLED,
    // KVM ignores the value until the guest has written GUEST_OS_ID.
    sends: written(0n),
  },
  { name: "reset", msr: RESET, features: ["hv_reset"], value: 0n },
  // Bit 0, which enables the page, is 0.
  { name: "reference-tsc", msr: 0x4000_0021, features: ["hv_reference_tsc"], value: 0x9_3000n },
  {
    name: "eoi",
    msr: 0x4000_0070,
    features: ["hv_apic_access"],
    apic: true,
    value: 1n,
    // The MSR cannot be read.
    sends: [0n, GP, NO_FAULT, 0n, GP],
  },
  { name: "eom", msr: EOM, features: ["hv_synic"], synic: true, value: 0n },
  // The timer would send its messages to the interrupt source 1; bit 0, which enables the timer, is 0.
  {
    name: "stimer0",
    msr: STIMER0_CONFIG,
    features: ["hv_stimer"],
    synic: true,
    value: 0x1_0000n,
  },
  { name: "syndbg-status", msr: SYNDBG_STATUS, features: ["hv_debug_msrs", SYNDBG], value: 5n },
  { name: "crash-p0", msr: 0x4000_0100, features: ["hv_crash_msrs"], value: 1n },
  { name: "reenlightenment", msr: 0x4000_0106, features: ["hv_reenlightenment"], value: 1n },
  {
    name: "tsc-invariant",
    msr: TSC_INVARIANT_CONTROL,
    features: ["hv_tsc_invariant"],
    value: 1n,
  },
];

const number = (value: number | bigint): string => `0x${value.toString(16)}`;

for (const { name, msr, value, sends = written(value), ...gate } of WRITABLE) {
  claim(
    `hv-msr-${name}`,
    `a guest can access MSR ${number(msr)} if and only if it has the Hyper-V feature ${gate.features[0]}`,
    { number: 120 },
    (kit) => {
      const { lacking, having } = compareMsr(kit, msr, value, gate);
      expect(lacking).toEqual(DENIED);
      expect(having).toEqual(sends);
    },
  );
}

/** The MSRs to which a guest cannot write 1. */
const READ_ONLY: readonly GatedMsr[] = [
  { name: "vp-index", msr: 0x4000_0002, features: ["hv_vp_index"] },
  { name: "vp-runtime", msr: 0x4000_0010, features: ["hv_vp_runtime"] },
  { name: "time-ref-count", msr: 0x4000_0020, features: ["hv_time_ref_count"] },
  { name: "tsc-frequency", msr: 0x4000_0022, features: ["hv_frequency_msrs"] },
  // A guest can only clear this MSR.
  { name: "tsc-emulation-status", msr: 0x4000_0108, features: ["hv_reenlightenment"] },
];

for (const { name, msr, ...gate } of READ_ONLY) {
  claim(
    `hv-msr-${name}-read-only`,
    `a guest can read MSR ${number(msr)} if and only if it has the Hyper-V feature ${gate.features[0]}, and can never write 1`,
    { number: 121 },
    (kit) => {
      const { lacking, having } = compareMsr(kit, msr, 1n, gate);
      expect(lacking).toEqual(DENIED);
      const [, first, write, , second] = having;
      expect([first, write, second]).toEqual([NO_FAULT, GP, NO_FAULT]);
    },
  );
}

claim(
  "hv-tsc-invariant-reserved",
  "a guest with the Hyper-V feature hv_tsc_invariant gets #GP if it writes a reserved bit of MSR 0x40000118",
  { number: 122 },
  (kit) => {
    const features = { only: ["hv_tsc_invariant"] } as const;
    const box = msrGuest(kit, TSC_INVARIANT_CONTROL, 0xdead_beefn, { features });
    expect(valuesOf(box)).toEqual([0n, NO_FAULT, GP, 0n, NO_FAULT]);
  },
);

claim(
  "hv-synic-needs-cap",
  "a guest with the Hyper-V feature hv_synic gets #GP for MSR 0x40000084 without KVM_CAP_HYPERV_SYNIC2",
  { number: 123 },
  (kit) => {
    const box = msrGuest(kit, EOM, 0n, { features: { only: ["hv_synic"] }, apic: true });
    expect(valuesOf(box)).toEqual(DENIED);
  },
);

claim(
  "hv-syndbg-needs-leaf",
  "a guest with the Hyper-V feature hv_debug_msrs gets #GP for MSR 0x400000f2 if leaf 0x40000082 does not allow debugging",
  { number: 123 },
  (kit) => {
    const box = msrGuest(kit, SYNDBG_STATUS, 0n, { features: { without: SYNDBG } });
    expect(valuesOf(box)).toEqual(DENIED);
  },
);

/** Bit 12 of STIMER0_CONFIG: the timer raises an interrupt instead of sending a message. */
const DIRECT_MODE = 1n << 12n;

claim(
  "hv-stimer-direct",
  "a guest can set a timer to direct mode if and only if it has the Hyper-V feature hv_stimer_direct",
  { number: 123 },
  (kit) => {
    const { lacking, having } = compareMsr(kit, STIMER0_CONFIG, DIRECT_MODE, {
      features: ["hv_stimer_direct", "hv_stimer"],
      synic: true,
    });
    expect(lacking).toEqual([0n, NO_FAULT, GP, 0n, NO_FAULT]);
    expect(having).toEqual(written(DIRECT_MODE));
  },
);

claim(
  "hv-reset-exits",
  "KVM exits with KVM_SYSTEM_EVENT_RESET if a guest writes 1 to MSR 0x40000003; the guest can continue",
  { number: 124 },
  (kit) => {
    const box = msrGuest(kit, RESET, 1n, { features: { only: ["hv_reset"] } });
    const exit = box.vcpu.runSync({ throughSignals: true });
    const type = exit.kind === "system_event" ? exit.type : undefined;
    expect([exit.kind, type]).toEqual(["system_event", KVM_SYSTEM_EVENT_RESET]);
    expect(valuesOf(box)).toEqual(written(0n));
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
interface GatedCall extends GuestNeeds {
  /** The name in the ids of the claims. */
  readonly name: string;
  readonly control: bigint;
  readonly features: GateFeatures;
  /** The status of the allowed call, whose parameters are zeros. */
  readonly status: bigint;
}

const FLUSH: Feature = "hv_hint_remote_flush";
const IPI: Feature = "hv_hint_cluster_ipi";
const MASKS: Feature = "hv_hint_ex_masks";
const RESET_DEBUG_SESSION = 0x6bn;

const CALLS: readonly GatedCall[] = [
  // Without KVM_CAP_HYPERV_SYNIC2, KVM does not pass messages and events to user space.
  {
    name: "post-message",
    control: 0x5cn,
    features: ["hv_post_messages"],
    status: INVALID_INPUT,
  },
  {
    name: "signal-event",
    control: 0x5dn,
    features: ["hv_signal_events"],
    status: INVALID_INPUT,
  },
  { name: "flush", control: 0x2n, features: [FLUSH], status: SUCCESS },
  { name: "flush-ex", control: 0x13n, features: [MASKS, FLUSH], status: SUCCESS },
  // The vector 0 is invalid. The call with masks sends no interrupt, so KVM does not check its vector.
  { name: "send-ipi", control: 0xbn, features: [IPI], apic: true, status: INVALID_INPUT },
  { name: "send-ipi-ex", control: 0x15n, features: [MASKS, IPI], apic: true, status: SUCCESS },
  { name: "long-spin-wait", control: 0x8n, features: ["hv_spinlock_retries"], status: SUCCESS },
  // The guest has not enabled the debugger's hypercalls (HV_X64_MSR_SYNDBG_OPTIONS).
  {
    name: "reset-debug-session",
    control: RESET_DEBUG_SESSION,
    features: ["hv_debugging", SYNDBG],
    status: OPERATION_DENIED,
  },
  // KVM would pass the call to user space if its parameters were in memory.
  {
    name: "query-extended",
    control: 0x8001n | FAST,
    features: ["hv_extended_hypercalls"],
    status: INVALID_PARAMETER,
  },
];

// A guest sends the result of its hypercall and the vector of the exception.
for (const { name, control, status, ...gate } of CALLS) {
  claim(
    `hv-call-${name}`,
    `KVM denies hypercall ${number(control & 0xffffn)} if and only if the guest lacks the Hyper-V feature ${gate.features[0]}`,
    { number: 125 },
    (kit) => {
      const { lacking, having } = compareCall(kit, control, gate);
      expect(lacking).toEqual([ACCESS_DENIED, NO_FAULT]);
      expect(having).toEqual([status, NO_FAULT]);
    },
  );
}

claim(
  "hv-unknown-call",
  "KVM rejects an unknown hypercall with the status of an invalid code",
  { number: 126 },
  (kit) => {
    const box = callGuest(kit, 0xbeefn, { only: ["hv_hypercall_msrs"] });
    expect(valuesOf(box)).toEqual([INVALID_CODE, NO_FAULT]);
  },
);

claim(
  "hv-debug-call-needs-leaf",
  "KVM rejects hypercall 0x6b with the status of an invalid code if leaf 0x40000082 does not allow debugging",
  { number: 126 },
  (kit) => {
    const box = callGuest(kit, RESET_DEBUG_SESSION, { without: SYNDBG });
    expect(valuesOf(box)).toEqual([INVALID_CODE, NO_FAULT]);
  },
);

claim(
  "hv-xmm-call",
  "a guest gets #UD from a hypercall with input in XMM registers if and only if it lacks the Hyper-V feature hv_xmm_input",
  { number: 127 },
  (kit) => {
    const { lacking, having } = compareCall(kit, 0x2n | FAST, {
      features: ["hv_xmm_input", FLUSH],
    });
    expect(lacking).toEqual([0n, UD]);
    expect(having).toEqual([SUCCESS, NO_FAULT]);
  },
);
