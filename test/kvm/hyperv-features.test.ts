/**
 * Claims about KVM_CAP_HYPERV_ENFORCE_CPUID: the Hyper-V features of the CPUID table decide which MSRs and hypercalls a
 * guest may use (hyperv.c:hv_check_msr_access, hv_check_hypercall_access). The cases of the kernel's selftest
 * hyperv_features are among the rows; docs/selftests.md maps them.
 *
 * The selftest adds one feature after the other. Here, a guest lacks only the feature in question, or has only the
 * features in question.
 */
import { KVM_SYSTEM_EVENT_RESET } from "node-kvm/abi";
import { NO_FAULT } from "node-kvm/guest";
import { claim, expect } from "node-kvm/test";
import {
  CALL,
  enforced,
  FAST,
  type Feature,
  type Features,
  GP,
  GUEST_OS_ID,
  HYPERCALL,
  LINUX,
  RDMSR,
  SYNDBG,
  setCallOperands,
  setMsrOperands,
  UD,
  valuesOf,
  WRMSR,
} from "./hyperv.ts";

const RESET = 0x4000_0003;
const EOI = 0x4000_0070;
const EOM = 0x4000_0084;
const STIMER0_CONFIG = 0x4000_00b0;
const SYNDBG_STATUS = 0x4000_00f2;

/** Bit 12 of STIMER0_CONFIG: the timer asserts an interrupt instead of sending a message. */
const DIRECT_MODE = 1n << 12n;

/** An MSR that a guest may use only with a feature (TLFS, "Partition privilege flags"; include/hyperv/hvgdk_mini.h). */
interface GatedMsr {
  /** The name in the claims' ids. */
  readonly name: string;
  readonly msr: number;
  readonly feature: Feature;
  /** Another feature without which every access fails. */
  readonly also?: Feature;
  /** Whether every access fails without KVM_CAP_HYPERV_SYNIC2. */
  readonly synic?: true;
  /** The value after a reset; "varies" for a counter; omitted if the MSR cannot be read. */
  readonly reads?: bigint | "varies";
  /** A value that the guest may write and reads back. */
  readonly writes?: bigint;
  /** A value that the guest may not write. */
  readonly refuses?: bigint;
}

const MSRS: readonly GatedMsr[] = [
  { name: "guest-os-id", msr: GUEST_OS_ID, feature: "hv_hypercall_msrs", reads: 0n, writes: LINUX },
  { name: "hypercall", msr: HYPERCALL, feature: "hv_hypercall_msrs", reads: 0n },
  { name: "vp-index", msr: 0x4000_0002, feature: "hv_vp_index", reads: 0n, refuses: 1n },
  { name: "reset", msr: RESET, feature: "hv_reset", reads: 0n, writes: 0n },
  { name: "vp-runtime", msr: 0x4000_0010, feature: "hv_vp_runtime", reads: "varies", refuses: 1n },
  {
    name: "time-ref-count",
    msr: 0x4000_0020,
    feature: "hv_time_ref_count",
    reads: "varies",
    refuses: 1n,
  },
  {
    name: "reference-tsc",
    msr: 0x4000_0021,
    feature: "hv_reference_tsc",
    reads: 0n,
    // Bit 0, which enables the page, is 0.
    writes: 0x9_3000n,
  },
  {
    name: "tsc-frequency",
    msr: 0x4000_0022,
    feature: "hv_frequency_msrs",
    reads: "varies",
    refuses: 1n,
  },
  { name: "eoi", msr: EOI, feature: "hv_apic_access" },
  { name: "eom", msr: EOM, feature: "hv_synic", synic: true, reads: 0n, writes: 0n },
  {
    name: "stimer0-config",
    msr: STIMER0_CONFIG,
    feature: "hv_stimer",
    synic: true,
    reads: 0n,
    // The timer would send its messages to SINT 1; bit 0, which enables the timer, is 0.
    writes: 0x1_0000n,
  },
  {
    name: "syndbg-status",
    msr: SYNDBG_STATUS,
    feature: "hv_debug_msrs",
    also: SYNDBG,
    reads: 0n,
    writes: 5n,
  },
  { name: "crash-p0", msr: 0x4000_0100, feature: "hv_crash_msrs", reads: 0n, writes: 1n },
  {
    name: "reenlightenment",
    msr: 0x4000_0106,
    feature: "hv_reenlightenment",
    reads: 0n,
    writes: 1n,
  },
  {
    name: "tsc-emulation-status",
    msr: 0x4000_0108,
    feature: "hv_reenlightenment",
    reads: 0n,
    refuses: 1n,
  },
  {
    name: "tsc-invariant",
    msr: 0x4000_0118,
    feature: "hv_tsc_invariant",
    reads: 0n,
    writes: 1n,
    refuses: 0xdead_beefn,
  },
];

/** Returns only the features that the accesses to an MSR need. */
const needs = ({ feature, also }: GatedMsr): Features => ({
  only: also === undefined ? [feature] : [feature, also],
});

const hex = (msr: number): string => `MSR 0x${msr.toString(16)}`;

for (const { name, msr, feature, synic, writes, refuses } of MSRS) {
  claim(
    `hv-msr-${name}-denied`,
    `a guest that lacks only the Hyper-V feature ${feature} can neither read nor write ${hex(msr)}`,
    { number: 120 },
    (kit) => {
      const box = enforced(kit, WRMSR, { features: { without: feature }, synic });
      setMsrOperands(box, msr, writes ?? refuses);
      expect(valuesOf(box)).toEqual([GP, 0n, GP]);
    },
  );
}

for (const row of MSRS) {
  const { name, msr, feature, synic, reads } = row;
  if (reads === undefined) continue;
  claim(
    `hv-msr-${name}-read`,
    `a guest reads ${hex(msr)} if the feature ${feature} is its only Hyper-V feature`,
    { number: 121 },
    (kit) => {
      const box = enforced(kit, RDMSR, { features: needs(row), synic });
      const [value, vector] = valuesOf(setMsrOperands(box, msr));
      expect([reads === "varies" ? reads : value, vector]).toEqual([reads, NO_FAULT]);
    },
  );
}

for (const row of MSRS) {
  const { name, msr, feature, synic, writes } = row;
  if (writes === undefined) continue;
  claim(
    `hv-msr-${name}-write`,
    `a guest writes ${hex(msr)} and reads the value back if ${feature} is its only Hyper-V feature`,
    { number: 122 },
    (kit) => {
      const box = enforced(kit, WRMSR, { features: needs(row), synic });
      expect(valuesOf(setMsrOperands(box, msr, writes))).toEqual([NO_FAULT, writes, NO_FAULT]);
    },
  );
}

for (const row of MSRS) {
  const { name, msr, feature, synic, refuses } = row;
  if (refuses === undefined) continue;
  claim(
    `hv-msr-${name}-refused`,
    `a guest that has the Hyper-V feature ${feature} gets #GP for a wrong value of ${hex(msr)}`,
    { number: 123 },
    (kit) => {
      const box = enforced(kit, WRMSR, { features: needs(row), synic });
      const [written, , read] = valuesOf(setMsrOperands(box, msr, refuses));
      expect([written, read]).toEqual([GP, NO_FAULT]);
    },
  );
}

claim(
  "hv-synic-needs-cap",
  "a guest that has the Hyper-V feature hv_synic gets #GP for EOM without KVM_CAP_HYPERV_SYNIC2",
  { number: 124 },
  (kit) => {
    const box = enforced(kit, WRMSR, { features: { only: ["hv_synic"] } });
    expect(valuesOf(setMsrOperands(box, EOM))).toEqual([GP, 0n, GP]);
  },
);

claim(
  "hv-syndbg-needs-leaf",
  "a guest that has the Hyper-V feature hv_debug_msrs gets #GP for SYNDBG_STATUS if leaf 0x40000082 does not allow debugging",
  { number: 124 },
  (kit) => {
    const box = enforced(kit, WRMSR, { features: { without: SYNDBG } });
    expect(valuesOf(setMsrOperands(box, SYNDBG_STATUS))).toEqual([GP, 0n, GP]);
  },
);

claim(
  "hv-stimer-direct-denied",
  "a guest that lacks only the Hyper-V feature hv_stimer_direct cannot set a timer to direct mode",
  { number: 124 },
  (kit) => {
    const features = { without: "hv_stimer_direct" } as const;
    const box = setMsrOperands(
      enforced(kit, WRMSR, { features, synic: true }),
      STIMER0_CONFIG,
      DIRECT_MODE,
    );
    expect(valuesOf(box)).toEqual([GP, 0n, NO_FAULT]);
  },
);

claim(
  "hv-stimer-direct",
  "a guest sets a timer to direct mode with the Hyper-V features hv_stimer and hv_stimer_direct",
  { number: 124 },
  (kit) => {
    const features = { only: ["hv_stimer", "hv_stimer_direct"] } as const;
    const box = setMsrOperands(
      enforced(kit, WRMSR, { features, synic: true }),
      STIMER0_CONFIG,
      DIRECT_MODE,
    );
    expect(valuesOf(box)).toEqual([NO_FAULT, DIRECT_MODE, NO_FAULT]);
  },
);

claim(
  "hv-eoi-write-only",
  "a guest that has the Hyper-V feature hv_apic_access can write the MSR EOI, but cannot read it",
  { number: 124 },
  (kit) => {
    const box = enforced(kit, WRMSR, { features: { only: ["hv_apic_access"] } });
    expect(valuesOf(setMsrOperands(box, EOI, 1n))).toEqual([NO_FAULT, 0n, GP]);
  },
);

claim(
  "hv-reset-exits",
  "KVM exits with KVM_SYSTEM_EVENT_RESET if a guest writes 1 to the MSR RESET, and the guest can continue",
  { number: 125 },
  (kit) => {
    const box = enforced(kit, WRMSR, { features: { only: ["hv_reset"] } });
    const { kind, ...exit } = setMsrOperands(box, RESET, 1n).vcpu.runSync();
    const type = "type" in exit ? exit.type : undefined;
    expect([kind, type]).toEqual(["system_event", KVM_SYSTEM_EVENT_RESET]);
    expect(valuesOf(box)).toEqual([NO_FAULT, 0n, NO_FAULT]);
  },
);

// The results of hypercalls (TLFS, "Hypercall status codes").
const SUCCESS = 0n;
const INVALID_CODE = 2n;
const INVALID_INPUT = 3n;
const INVALID_PARAMETER = 5n;
const ACCESS_DENIED = 6n;
const OPERATION_DENIED = 8n;

/** A hypercall that a guest may make only with certain features (TLFS, "Hypercall reference"). */
interface GatedCall {
  /** The name in the claims' ids. */
  readonly name: string;
  readonly control: bigint;
  /** The features without which KVM denies the call. */
  readonly features: readonly [Feature, ...Feature[]];
  /** The result of the call with parameters of zeros, if it is not denied. */
  readonly result: bigint;
}

/** Recommendations of TLB flushes and IPIs by hypercall, and of the calls with masks for more than 64 vCPUs. */
const FLUSH = "hv_hint_remote_flush";
const IPI = "hv_hint_cluster_ipi";
const EX = "hv_hint_ex_masks";

const CALLS: readonly GatedCall[] = [
  // KVM passes messages and events to user space only if the synthetic interrupt controller is enabled.
  { name: "post-message", control: 0x5cn, features: ["hv_post_messages"], result: INVALID_INPUT },
  { name: "signal-event", control: 0x5dn, features: ["hv_signal_events"], result: INVALID_INPUT },
  { name: "flush", control: 0x2n, features: [FLUSH], result: SUCCESS },
  { name: "flush-ex", control: 0x13n, features: [EX, FLUSH], result: SUCCESS },
  // The IPI has the invalid vector 0; the extended call has no destination, so KVM does not check its vector.
  { name: "send-ipi", control: 0xbn, features: [IPI], result: INVALID_INPUT },
  { name: "send-ipi-ex", control: 0x15n, features: [EX, IPI], result: SUCCESS },
  { name: "long-spin-wait", control: 0x8n, features: ["hv_spinlock_retries"], result: SUCCESS },
  // KVM passes extended calls to user space, but never a call whose parameters are in registers.
  {
    name: "query-extended",
    control: 0x8001n | FAST,
    features: ["hv_extended_hypercalls"],
    result: INVALID_PARAMETER,
  },
];

/** Returns only these features and the one that allows hypercalls. */
const onlyCall = (...features: readonly Feature[]): Features => ({
  only: ["hv_hypercall_msrs", ...features],
});

for (const { name, control, features } of CALLS) {
  claim(
    `hv-call-${name}-denied`,
    `KVM denies the hypercall 0x${(control & 0xffffn).toString(16)} if a guest lacks only the Hyper-V feature ${features[0]}`,
    { number: 126 },
    (kit) => {
      const box = enforced(kit, CALL, { features: { without: features[0] } });
      expect(valuesOf(setCallOperands(box, control))).toEqual([ACCESS_DENIED, NO_FAULT]);
    },
  );
}

for (const { name, control, features, result } of CALLS) {
  claim(
    `hv-call-${name}`,
    `KVM does not deny the hypercall 0x${(control & 0xffffn).toString(16)} if a guest has only ${features.join(" and ")}`,
    { number: 127 },
    (kit) => {
      const box = enforced(kit, CALL, { features: onlyCall(...features) });
      expect(valuesOf(setCallOperands(box, control))).toEqual([result, NO_FAULT]);
    },
  );
}

claim(
  "hv-call-unknown",
  "KVM rejects an unknown hypercall with the status for an invalid code",
  { number: 127 },
  (kit) => {
    const box = enforced(kit, CALL, { features: onlyCall() });
    expect(valuesOf(setCallOperands(box, 0xbeefn))).toEqual([INVALID_CODE, NO_FAULT]);
  },
);

/** The hypercall ResetDebugSession of the synthetic debugger. */
const RESET_DEBUG_SESSION = 0x6bn;

claim(
  "hv-call-debug-no-leaf",
  "KVM rejects a debugger's hypercall as an invalid code if leaf 0x40000082 does not allow debugging",
  { number: 127 },
  (kit) => {
    const box = enforced(kit, CALL, { features: { without: SYNDBG } });
    const values = valuesOf(setCallOperands(box, RESET_DEBUG_SESSION));
    expect(values).toEqual([INVALID_CODE, NO_FAULT]);
  },
);

claim(
  "hv-call-debug-denied",
  "KVM denies a debugger's hypercall if a guest lacks only the Hyper-V feature hv_debugging",
  { number: 126 },
  (kit) => {
    const box = enforced(kit, CALL, { features: { without: "hv_debugging" } });
    const values = valuesOf(setCallOperands(box, RESET_DEBUG_SESSION));
    expect(values).toEqual([ACCESS_DENIED, NO_FAULT]);
  },
);

claim(
  "hv-call-debug",
  "KVM rejects a debugger's hypercall as a denied operation until the guest enables the debugger's hypercalls",
  { number: 127 },
  (kit) => {
    const box = enforced(kit, CALL, { features: onlyCall(SYNDBG, "hv_debugging") });
    const values = valuesOf(setCallOperands(box, RESET_DEBUG_SESSION));
    expect(values).toEqual([OPERATION_DENIED, NO_FAULT]);
  },
);

claim(
  "hv-call-xmm-denied",
  "a guest that lacks only the Hyper-V feature hv_xmm_input gets #UD for a hypercall with XMM registers",
  { number: 128 },
  (kit) => {
    const box = enforced(kit, CALL, { features: { without: "hv_xmm_input" } });
    expect(valuesOf(setCallOperands(box, 0x2n | FAST))).toEqual([0n, UD]);
  },
);

claim(
  "hv-call-xmm",
  "KVM takes the input of a hypercall from XMM registers if the guest has the Hyper-V feature hv_xmm_input",
  { number: 128 },
  (kit) => {
    const box = enforced(kit, CALL, { features: onlyCall(FLUSH, "hv_xmm_input") });
    expect(valuesOf(setCallOperands(box, 0x2n | FAST))).toEqual([SUCCESS, NO_FAULT]);
  },
);
