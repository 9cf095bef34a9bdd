/**
 * Tests of the reasons about feature MSRs, the PMU's MSRs and KVM's own MSRs: the bit, the feature, and whether KVM or
 * the vCPU does not have the feature.
 */
import { describe, expect, test } from "vitest";
import { type CpuidEntry2, type CpuidFieldName, CpuidTable } from "../../../lib/cpuid/index.ts";
import { type Evidence, explainMsrs } from "../../../lib/explain/index.ts";
import { tableWith } from "./refused.ts";

const bit = (n: number): bigint => 1n << BigInt(n);
const ALL = bit(64) - 1n;

/** The evidence of a test: features of the vCPU and of KVM, feature MSRs, and other MSRs. */
interface World {
  readonly has?: readonly CpuidFieldName[];
  readonly supports?: readonly CpuidFieldName[];
  readonly feature?: bigint;
  readonly current?: bigint;
  readonly hasEntered?: boolean;
  readonly hasLapic?: boolean;
  readonly pmu?: "both" | "KVM";
  readonly slots?: readonly bigint[];
}

const PMU: CpuidEntry2 = {
  function: 0xa,
  index: 0,
  flags: 0,
  eax: 2,
  ebx: 0,
  ecx: 0,
  edx: 0,
  padding: [0, 0, 0],
};

function evidenceOf(world: World): Evidence {
  const { has = [], supports = has, pmu } = world;
  const table = (names: readonly CpuidFieldName[], hasPmu: boolean): readonly CpuidEntry2[] =>
    hasPmu ? [...tableWith(...names), PMU] : tableWith(...names);
  return {
    kvm: {
      supportedCpuid: () => table(supports, pmu !== undefined),
      featureMsr: () => world.feature,
    },
    vm: {
      slots: () =>
        (world.slots ?? []).map((guestPhysAddr, slot) => ({
          slot,
          flags: 0,
          guestPhysAddr,
          memorySize: 0x1000n,
        })),
    },
    vcpu: {
      id: 0,
      cpuid: () => table(has, pmu === "both"),
      msr: () => world.current,
      hasEntered: () => world.hasEntered ?? false,
      hasLapic: () => world.hasLapic ?? true,
    },
  };
}

/**
 * Returns the reason without the name of the MSR: for a refused write, or for a refused read if `data` is undefined.
 */
function why(index: number, data: bigint | undefined, world: World = {}): string {
  const msr = data === undefined ? { index } : { index, data };
  const text = explainMsrs([msr], 0, evidenceOf({ current: 0n, ...world })) ?? "";
  return text.slice(text.search(/: | was/)).replace(/^: /, "");
}

describe("the reason of a refused write to a feature MSR", () => {
  test.each([
    [0x345, bit(5), { has: ["pdcm"], feature: 0xfn }, /^bit 5 not in this KVM: .* returns 0xf$/],
    [
      0xc001_1029,
      bit(1),
      { feature: 2n * bit(8) },
      /^bit 1 not in this KVM: KVM_GET_MSRS of \/dev\/kvm returns 0x200$/,
    ],
    [0x48f, bit(40), { has: ["vmx"], feature: 0n }, /^bit 40 not in this KVM/],
    [0x48f, 0n, { has: ["vmx"], feature: 4n }, /^bit 2 must be 1: .* returns 0x4$/],
    [0x486, 0n, { has: ["vmx"], feature: 1n }, /^bit 0 must be 1/],
    [
      0x48f,
      1n,
      { has: [], supports: ["vmx"], feature: 0n },
      /^vmx is not in this vCPU's CPUID \(0x1.0:ecx\[5\] vmx\)$/,
    ],
    [0x48f, 1n, { feature: 0n }, /^this KVM cannot give vmx to a guest \(0x1.0:ecx\[5\] vmx\)$/],
    [0x480, undefined, {}, /^this KVM cannot give vmx to a guest/],
    [0x482, 1n, { has: ["vmx"], feature: 1n }, /^KVM derives this MSR from the true controls/],
    [0x487, 1n, { has: ["vmx"], feature: 1n }, /^KVM derives this MSR from the vCPU's CPUID$/],
    [
      0x10a,
      1n,
      { supports: ["arch_capabilities"], feature: 0n },
      /^either arch_capabilities is not in this vCPU's CPUID .*, or another cause$/,
    ],
    [0x345, 0n, { supports: ["pdcm"], feature: 0xfn }, /^either pdcm is not in this vCPU's CPUID/],
    [0xc001_1029, 1n, {}, /^either this KVM has no such feature MSR, or another cause$/],
    [
      0x10a,
      1n,
      { has: ["arch_capabilities"], feature: 0n, current: 3n, hasEntered: true },
      /^this MSR describes the CPU, and cannot change after KVM_RUN: it is 0x3$/,
    ],
    [0x480, 1n, { has: ["vmx"], feature: 1n }, /^was refused$/],
    [0x491, bit(4), { has: ["vmx"], feature: 1n }, /^bit 4 not in this KVM/],
    [0x491, 0n, { has: ["vmx"], feature: 1n }, /^was refused$/],
    [0x491, 0n, { has: [], supports: ["vmx"] }, /^vmx is not in this vCPU's CPUID/],
    [0x48f, undefined, { has: ["vmx"], feature: 4n }, /^either this KVM has no such MSR/],
    [
      0x10a,
      1n,
      { supports: ["arch_capabilities"] },
      /^either arch_capabilities is not in this vCPU's CPUID \([^)]*\), or another cause$/,
    ],
    [0x492, 1n, { feature: 0n }, /^was refused$/],
    [0x48b, bit(40), { has: ["vmx"], feature: 1n }, /^bit 40 not in this KVM/],
    [0x48b, bit(1), { has: ["vmx"], feature: 1n }, /^bit 0 must be 1/],
    [0x48c, bit(4), { has: ["vmx"], feature: 1n }, /^bit 4 not in this KVM/],
    [0x48c, 0n, { has: ["vmx"], feature: 1n }, /^was refused$/],
    [0x48d, 0n, { has: ["vmx"], feature: 1n }, /^bit 0 must be 1/],
    [0x48e, 0n, { has: ["vmx"], feature: 1n }, /^bit 0 must be 1/],
    [0x490, 0n, { has: ["vmx"], feature: 1n }, /^bit 0 must be 1/],
    [0x488, 0n, { has: ["vmx"], feature: 1n }, /^bit 0 must be 1/],
    [0x486, bit(40), { has: ["vmx"], feature: 0n }, /^was refused$/],
    [0x48f, 1n, { has: [], supports: ["vmx"], feature: 4n }, /^vmx is not in this vCPU's CPUID/],
    [0x482, 1n, { supports: ["vmx"], feature: 1n }, /^vmx is not in this vCPU's CPUID/],
    [
      0x10a,
      1n,
      { has: ["arch_capabilities"] },
      /^either this KVM has no such feature MSR, or another cause$/,
    ],
    [0x174, 1n, { feature: 0n, current: 3n, hasEntered: true }, /^was refused$/],
    [0x48f, 4n, { has: ["vmx"], feature: 4n }, /^was refused$/],
  ] as const)("of value %i = %s is stated with the evidence %o", (index, data, world, reason) => {
    expect(why(index, data, world).trim()).toMatch(reason);
  });
});

describe("the reason of a refused write to IA32_FEATURE_CONTROL", () => {
  test.each([
    [bit(3), {}, "bit 3 is reserved"],
    [
      bit(2),
      {},
      "bit 2 VMX_ENABLED_OUTSIDE_SMX: this KVM cannot give vmx to a guest (0x1.0:ecx[5] vmx)",
    ],
    [
      bit(18),
      { supports: ["sgx"] },
      "bit 18 SGX_ENABLED: sgx is not in this vCPU's CPUID (0x7.0:ebx[2] sgx)",
    ],
    [
      bit(20),
      {},
      "either bit 20 LMCE_ENABLED: KVM_X86_SETUP_MCE gave this vCPU no LMCE (bit 27 of mcgCap), or another cause",
    ],
    [5n, { has: ["vmx"] }, " was refused"],
    [1n, {}, " was refused"],
    [
      bit(1) | bit(17),
      { supports: ["smx", "sgx_lc"] },
      "bit 1 VMX_ENABLED_INSIDE_SMX: smx is not in this vCPU's CPUID (0x1.0:ecx[6] smx); " +
        "bit 17 SGX_LC_ENABLED: sgx_lc is not in this vCPU's CPUID (0x7.0:ecx[30] sgx_lc)",
    ],
  ] as const)("is stated for the value %i with the evidence %o", (data, world, reason) => {
    expect(why(0x3a, data, world)).toBe(reason);
  });
});

describe("the reason of a refused access to a PMU MSR", () => {
  test.each([
    [{}, /^this KVM gives its guests no Intel PMU \(0xa.0:eax\[7:0\]\)$/],
    [{ pmu: "KVM" }, /^this vCPU's CPUID has no Intel PMU/],
    [{ pmu: "both" }, /^either the PMU of leaf 0xa .* not these bits, or another cause$/],
  ] as const)("is stated for MSR 0x38d with the evidence %o", (world, reason) => {
    expect(why(0x38d, 1n, world)).toMatch(reason);
  });
});

describe("the list of the PMU's MSRs", () => {
  const RANGES = [
    [0xc1, 0xc8],
    [0x186, 0x18d],
    [0x309, 0x30c],
    [0x38d, 0x390],
    [0x3f1, 0x3f2],
    [0x4c1, 0x4c8],
    [0x600, 0x600],
  ] as const;

  test.each(RANGES)("begins with 0x%i and ends with %i", (first, last) => {
    const reason = /^this KVM gives its guests no Intel PMU/;
    expect([why(first, 1n), why(last, 1n)]).toEqual([
      expect.stringMatching(reason),
      expect.stringMatching(reason),
    ]);
    expect([why(first - 1, 1n), why(last + 1, 1n)]).toEqual([" was refused", " was refused"]);
  });
});

test("no feature MSR is reported as missing if KVM's list of feature MSRs is unknown", () => {
  const { kvm: _, ...rest } = evidenceOf({ has: ["arch_capabilities"], current: 0n });
  expect(explainMsrs([{ index: 0x10a, data: 1n }], 0, rest)).toMatch(/ = 0x1 was refused$/);
});

test("a feature MSR that cannot be read is not reported as changed after the first run", () => {
  const { vcpu, ...rest } = evidenceOf({ feature: 0n, hasEntered: true });
  const world = { ...rest, vcpu: { id: 0, ...vcpu, msr: () => undefined } };
  expect(explainMsrs([{ index: 0xc001_1029, data: 0n }], 0, world)).not.toMatch(/after KVM_RUN/);
});

describe("the reason of a refused write to one of KVM's own MSRs", () => {
  const NAMES = ["kvm_async_pf"] as const;

  test.each([
    [0x4b56_4d02, 0x30n, {}, "bits 4, 5 are reserved"],
    [
      0x4b56_4d02,
      1n,
      { hasLapic: false },
      "this MSR needs the LAPIC in the kernel (KVM_CREATE_IRQCHIP)",
    ],
    [0x4b56_4d02, 0x1009n, {}, "address 0x1000 is not in a memory slot"],
    [0x4b56_4d02, 0x1009n, { slots: [0x1000n] }, " was refused"],
    [0x4b56_4d02, 0x1001n, {}, " was refused"],
    [0x4b56_4d02, 0n, { hasLapic: false }, " was refused"],
    [0x4b56_4d06, 0x1ffn, {}, "bit 8 is reserved"],
    [0x4b56_4d06, 0xff00n, {}, "bits 8, 9, 10, 11, 12, 13, 14, 15 are reserved"],
    [0x4b56_4d06, 0x1_ff00n, {}, "bits 8 to 16 are reserved"],
    [0x4b56_4d03, 1n, { hasLapic: false }, " was refused"],
    [0x4b56_4d04, 1n, { hasLapic: false, slots: [0n] }, " was refused"],
    [0x4b56_4d03, 0x3en, {}, "bits 1, 2, 3, 4, 5 are reserved"],
    [0x4b56_4d04, 2n, {}, "bit 1 is reserved"],
    [0x4b56_4d04, 0x1001n, {}, "address 0x1000 is not in a memory slot"],
    [0x4b56_4d05, 3n, {}, "bit 1 is reserved"],
    [0x4b56_4d05, ALL, {}, "bits 1 to 63 are reserved"],
    [0x4b56_4d06, 0x100n, {}, "bit 8 is reserved"],
    [
      0x4b56_4d06,
      0n,
      { hasLapic: false },
      "this MSR needs the LAPIC in the kernel (KVM_CREATE_IRQCHIP)",
    ],
    [0x4b56_4d08, 2n, {}, "bit 1 is reserved"],
  ] as const)("is stated for MSR %i = %i with the evidence %o", (index, data, world, reason) => {
    const signed = signature();
    const evidence = evidenceOf({ current: 0n, ...world });
    const vcpu = { ...evidence.vcpu, id: 0, cpuid: () => signed };
    const text = explainMsrs([{ index, data }], 0, { ...evidence, vcpu }) ?? "";
    expect(text.slice(text.search(/: | was/)).replace(/^: /, "")).toBe(reason);
  });

  test("is a missing feature if KVM enforces the features of the vCPU's table", () => {
    expect(why(0x4b56_4d05, 1n)).toMatch(
      /^either this vCPU's CPUID lacks .*kvm_poll_control, and KVM_CAP_ENFORCE_PV_FEATURE_CPUID is enabled, or another cause$/,
    );
    expect(why(0x4b56_4d02, 4n)).toMatch(/kvm_async_pf, .*kvm_async_pf_vmexit/);
    expect(why(0x4b56_4d02, 8n)).toMatch(/kvm_async_pf, .*kvm_async_pf_int,/);
    expect(why(0x4b56_4d03, 0n)).toMatch(/ kvm_steal_time, and/);
    expect(why(0x4b56_4d04, 0n)).toMatch(/ kvm_pv_eoi, and/);
    expect(why(0x4b56_4d06, 12n)).toMatch(/lacks 0x[^,]* kvm_async_pf_int, and/);
    expect(why(0x4b56_4d08, 0n)).toMatch(/ kvm_migration_control, and/);
    expect(NAMES.every((name) => CpuidTable.from(signature()).has(name))).toBe(true);
  });
});

/** A table with KVM's signature and every KVM feature. */
function signature(): readonly CpuidEntry2[] {
  const rest = { index: 0, flags: 0, padding: [0, 0, 0] };
  return [
    {
      ...rest,
      function: 0x4000_0000,
      eax: 0x4000_0001,
      ebx: 0x4b4d564b,
      ecx: 0x564b4d56,
      edx: 0x4d,
    },
    { ...rest, function: 0x4000_0001, eax: 0xffff_ffff, ebx: 0, ecx: 0, edx: 0 },
  ];
}

describe("the reason of a refused write to a write-only MSR", () => {
  test("does not mention that the MSR cannot be read", () => {
    expect(why(0x49, 1n)).toBe(
      "either the host's CPU has no IBPB (or for bit 7 no SBPB), or another cause",
    );
    expect(why(0x49, 4n)).toBe("bit 2 may not be set; the register has 0x81");
    expect(why(0x10b, 2n)).toBe("bit 1 may not be set; the register has 0x1");
    expect(why(0x10b, 1n)).toBe("either the host's CPU has no L1D flush, or another cause");
    expect(why(0x49, undefined)).toBe("this MSR can only be written");
    expect(why(0x174, undefined)).toMatch(/^either this KVM has no such MSR, or this vCPU's CPUID/);
  });
});

test("a value with a nonzero high half in TSC_AUX is not a reason for an AMD guest, because KVM ignores this half", () => {
  const vendor = (ebx: number): Evidence => ({
    vcpu: { id: 0, msr: () => 0n, cpuid: () => [{ ...PMU, function: 0, ebx }] },
  });
  const text = (ebx: number) =>
    explainMsrs([{ index: 0xc000_0103, data: bit(32) }], 0, vendor(ebx));
  expect(text(0x756e_6547)).toMatch(/: bits 32-63 are reserved$/);
  expect(text(0x6874_7541)).toMatch(/was refused$/);
  expect(text(0x6f67_7948)).toMatch(/was refused$/);
});
