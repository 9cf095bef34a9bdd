/** Tests of the oracle's rules for MSRs: the rule that an access violates, and the finding. */
import { describe, expect, test } from "vitest";
import { MSRS } from "../../../lib/abi/msrs.ts";
import { type CpuidFieldName, CpuidTable } from "../../../lib/cpuid/index.ts";
import { MSR_RULES, type MsrAccess } from "../../../lib/oracle/index.ts";
import { access, bit, broken, EMPTY, tableWith } from "./asked.ts";

const ALL = bit(64) - 1n;
const judge = (index: number, data?: bigint, more: Partial<MsrAccess> = {}) =>
  broken(MSR_RULES, access(index, { data, ...more }));

/** The expected result if the access violates one rule, and the evidence proves the violation. */
const one = (rule: string, finding: object) => [[rule, { is: "refused", finding }]];
const maybe = (rule: string, finding: object) => [[rule, { is: "undecided", finding }]];
const reserved = (value: bigint, ...bits: readonly number[]) => ({
  kind: "reserved-bits",
  value,
  bits,
});
const forbidden = (value: bigint, bits: readonly number[], allowed: bigint, allowedBy: string) => ({
  kind: "forbidden-bits",
  value,
  bits,
  allowed,
  allowedBy,
});

describe("the memory types that the oracle accepts", () => {
  const BYTE = Array.from({ length: 256 }, (_, type) => type);

  test("are six types in IA32_PAT", () => {
    const accepted = BYTE.filter((type) => judge(MSRS.MSR_IA32_CR_PAT, BigInt(type)).length === 0);
    expect(accepted).toEqual([0, 1, 4, 5, 6, 7]);
  });

  test.each([
    MSRS.MSR_MTRRfix64K_00000,
    MSRS.MSR_MTRRfix16K_80000,
    MSRS.MSR_MTRRfix16K_A0000,
    MSRS.MSR_MTRRfix4K_C0000,
    MSRS.MSR_MTRRfix4K_C8000,
    MSRS.MSR_MTRRfix4K_D0000,
    MSRS.MSR_MTRRfix4K_D8000,
    MSRS.MSR_MTRRfix4K_E0000,
    MSRS.MSR_MTRRfix4K_E8000,
    MSRS.MSR_MTRRfix4K_F0000,
    MSRS.MSR_MTRRfix4K_F8000,
  ])("are five types in the fixed MTRR %i", (index) => {
    const accepted = BYTE.filter((type) => judge(index, BigInt(type)).length === 0);
    expect(accepted).toEqual([0, 1, 4, 5, 6]);
  });

  test("are required in each of the eight bytes", () => {
    expect(judge(MSRS.MSR_IA32_CR_PAT, 0x0307_0406_0007_0406n)).toEqual(
      one("value", { kind: "memory-type", byte: 7, type: 3 }),
    );
    expect(judge(MSRS.MSR_MTRRfix64K_00000, 0x0700n)).toEqual(
      one("type of a fixed MTRR", { kind: "memory-type", byte: 1, type: 7 }),
    );
    expect(judge(MSRS.MSR_MTRRfix64K_00000)).toEqual([]);
  });

  test("are five types in IA32_MTRR_DEF_TYPE, which also has two flags", () => {
    const index = MSRS.MSR_MTRRdefType;
    expect(judge(index, 0xc06n)).toEqual([]);
    expect(judge(index, 0xc07n)).toEqual(one("value", { kind: "memory-type", type: 7 }));
    expect(judge(index, 0x307n)).toEqual(
      one("value", forbidden(0x307n, [8, 9], 0xcffn, "register")),
    );
  });
});

describe("in the oracle, a variable MTRR", () => {
  const variable = (index: number, data: bigint) =>
    judge(index, data, { table: tableWith() }).map(([rule, { finding }]) => [rule, finding]);
  const [FIRST, LAST] = [0x200, 0x20f] as const;

  test.each([
    [FIRST, 7n, { kind: "memory-type", type: 7 }],
    [FIRST, 0x100n, { kind: "reserved-range", low: 8, high: 11 }],
    [FIRST, 0x800n, { kind: "reserved-range", low: 8, high: 11 }],
    [FIRST + 1, 1n, { kind: "reserved-range", low: 0, high: 10 }],
    [LAST, 0x400n, { kind: "reserved-range", low: 0, high: 10 }],
    [FIRST, bit(40), { kind: "wide-address", address: bit(40), width: 40 }],
    [LAST, bit(40), { kind: "wide-address", address: bit(40), width: 40 }],
  ])("with %i = %i is refused", (index, data, finding) => {
    expect(variable(index, data)).toEqual([["variable MTRR", finding]]);
  });

  test.each([
    [FIRST, 0x1006n],
    [LAST, 0x800n],
    [FIRST - 1, ALL],
    [LAST + 1, ALL],
  ])("%i = %i breaks no rule", (index, data) => {
    expect(variable(index, data)).toEqual([]);
  });

  test("is not checked if the address width is unknown, or if the access is a read", () => {
    expect(judge(FIRST, bit(63))).toEqual([]);
    expect(judge(FIRST)).toEqual([]);
  });
});

describe("the oracle's rules for the value of an MSR", () => {
  test.each([
    [MSRS.MSR_IA32_APICBASE, 1n, { ...reserved(1n, 0), register: "apicBase" }],
    [MSRS.MSR_IA32_PRED_CMD, 2n, forbidden(2n, [1], 0x81n, "register")],
    [MSRS.MSR_IA32_FLUSH_CMD, 2n, forbidden(2n, [1], 1n, "register")],
    [MSRS.MSR_LSTAR, bit(62), { kind: "not-canonical" }],
    [MSRS.MSR_CSTAR, bit(56), { kind: "not-canonical" }],
    [MSRS.MSR_FS_BASE, bit(62), { kind: "not-canonical" }],
    [MSRS.MSR_GS_BASE, bit(62), { kind: "not-canonical" }],
    [MSRS.MSR_KERNEL_GS_BASE, bit(62), { kind: "not-canonical" }],
  ])("refuse MSR %i = %i", (index, data, finding) => {
    expect(judge(index, data)).toEqual(one("value", finding));
  });

  test.each([
    [MSRS.MSR_IA32_PRED_CMD, 0x81n, "ibpb"],
    [MSRS.MSR_IA32_FLUSH_CMD, 1n, "l1d-flush"],
  ])("depend on the host for MSR %i = %i", (index, data, feature) => {
    expect(judge(index, data)).toEqual(maybe("value", { kind: "host-lacks", feature }));
  });

  test.each([bit(47), bit(55)])("accept the address %i as canonical only with LA57", (data) => {
    const index = MSRS.MSR_LSTAR;
    const finding = { kind: "not-canonical" };
    expect(judge(index, data, { table: tableWith() })).toEqual(one("value", finding));
    expect(judge(index, data, { table: tableWith("la57") })).toEqual(maybe("value", finding));
    expect(judge(index, data)).toEqual(maybe("value", finding));
  });

  test.each([0n, bit(47) - 1n, ALL, ALL - bit(47) + 1n])(
    "accept the address %i as canonical",
    (data) => {
      expect(judge(MSRS.MSR_LSTAR, data, { table: tableWith() })).toEqual([]);
    },
  );

  test("accept the bits of EFER that KVM supports, for any table", () => {
    const bits = [{ bit: 12, name: "SVME", cause: "unsupported", features: ["svm"] }];
    const evidence = { table: tableWith("svm"), supported: tableWith() };
    expect(judge(MSRS.MSR_EFER, bit(12), evidence)).toEqual(
      one("value", { kind: "feature-bits", register: "EFER", bits }),
    );
    expect(judge(MSRS.MSR_EFER, bit(12), { table: tableWith() })).toEqual([]);
  });

  test("accept the components of leaf 0xd.1 in XSS", () => {
    const leaf = { function: 0xd, index: 1, flags: 1, ecx: 0x800, edx: 1 };
    const supported = CpuidTable.from([leaf]);
    const allowed = 0x1_0000_0800n;
    expect(judge(MSRS.MSR_IA32_XSS, allowed, { supported })).toEqual([]);
    expect(judge(MSRS.MSR_IA32_XSS, 1n, { supported })).toEqual(
      one("value", forbidden(1n, [0], allowed, "guests")),
    );
    expect(judge(MSRS.MSR_IA32_XSS, 1n, { supported: EMPTY })).toEqual([]);
    expect(judge(MSRS.MSR_IA32_XSS, 1n)).toEqual([]);
  });

  test.each([
    [0x756e_6547, "refused"],
    [0x6874_7541, undefined],
    [0x6f67_7948, undefined],
    [1, "undecided"],
  ])("judge the high half of TSC_AUX by the vendor %i: %s", (ebx, is) => {
    const table = CpuidTable.from([{ function: 0, ebx }]);
    const found = judge(MSRS.MSR_TSC_AUX, bit(32), { table });
    expect(found).toEqual(
      is === undefined
        ? []
        : [["value", { is, finding: { kind: "reserved-range", low: 32, high: 63 } }]],
    );
    expect(judge(MSRS.MSR_TSC_AUX, bit(32) - 1n, { table })).toEqual([]);
  });

  test("are undecided about TSC_AUX without a table", () => {
    expect(judge(MSRS.MSR_TSC_AUX, bit(32)).map(([, { is }]) => is)).toEqual(["undecided"]);
  });

  test("do not apply to a read", () => {
    for (const index of [MSRS.MSR_IA32_CR_PAT, MSRS.MSR_LSTAR, MSRS.MSR_TSC_AUX]) {
      expect(judge(index)).toEqual([]);
    }
  });
});

describe("in the oracle, an MSR that cannot be read", () => {
  const unknown = [
    ["unknown MSR", { is: "undecided", finding: { kind: "no-such-msr" } }],
    ["feature of the MSR", { is: "undecided", finding: { kind: "no-feature-of-msr" } }],
  ];

  test("may be unknown to KVM, or its feature may be missing", () => {
    expect(judge(0xdead, 1n, { current: "unreadable" })).toEqual(unknown);
    expect(judge(0xdead, undefined, { current: "unreadable" })).toEqual(unknown);
    expect(judge(0xdead, 1n, { current: 0n })).toEqual([]);
    expect(judge(0xdead, 1n)).toEqual([]);
  });

  test.each([MSRS.MSR_IA32_PRED_CMD, MSRS.MSR_IA32_FLUSH_CMD])("may be write-only: %i", (index) => {
    expect(judge(index, undefined, { current: "unreadable" })).toEqual(
      one("write-only", { kind: "write-only" }),
    );
    const write = judge(index, 1n, { current: "unreadable" });
    expect(write.map(([rule]) => rule)).toEqual(["value"]);
  });
});

describe("in the oracle, a feature MSR", () => {
  const VMX = { table: tableWith("vmx"), supported: tableWith("vmx") };
  const bits = (extra: readonly number[], absent: readonly number[], value: bigint) =>
    one("bits of a feature MSR", { kind: "feature-msr-bits", extra, absent, value });
  /**
   * KVM's value has bits 0, 1, 32 and 33; the argument does not have bits 0 and 32, and has bits 2 and 34 in addition.
   */
  const OWN = bit(0) | bit(1) | bit(32) | bit(33);
  const SENT = bit(1) | bit(2) | bit(33) | bit(34);

  test.each([
    [MSRS.MSR_IA32_VMX_EPT_VPID_CAP, [2, 34], []],
    [MSRS.MSR_IA32_VMX_VMFUNC, [2, 34], []],
    [MSRS.MSR_IA32_VMX_CR0_FIXED0, [], [0, 32]],
    [MSRS.MSR_IA32_VMX_CR4_FIXED0, [], [0, 32]],
    [MSRS.MSR_IA32_VMX_PROCBASED_CTLS2, [34], [0]],
    [MSRS.MSR_IA32_VMX_TRUE_PINBASED_CTLS, [34], [0]],
    [MSRS.MSR_IA32_VMX_TRUE_PROCBASED_CTLS, [34], [0]],
    [MSRS.MSR_IA32_VMX_TRUE_EXIT_CTLS, [34], [0]],
    [MSRS.MSR_IA32_VMX_TRUE_ENTRY_CTLS, [34], [0]],
  ])("of VMX, %i, is compared with KVM's value", (index, extra, absent) => {
    expect(judge(index, SENT, { ...VMX, featureValue: OWN })).toEqual(bits(extra, absent, OWN));
    expect(judge(index, OWN, { ...VMX, featureValue: OWN })).toEqual([]);
    expect(judge(index, SENT, VMX)).toEqual([]);
    expect(judge(index, undefined, { ...VMX, featureValue: OWN })).toEqual([]);
  });

  test.each([MSRS.MSR_IA32_PERF_CAPABILITIES, MSRS.MSR_AMD64_DE_CFG])(
    "without VMX, %i, may have only bits that KVM's value has",
    (index) => {
      const table = tableWith("pdcm");
      expect(judge(index, SENT, { table, featureValue: OWN })).toEqual(bits([2, 34], [], OWN));
    },
  );

  test.each([MSRS.MSR_IA32_VMX_BASIC, MSRS.MSR_IA32_VMX_MISC, MSRS.MSR_IA32_ARCH_CAPABILITIES])(
    "%i is not compared with KVM's value",
    (index) => {
      const table = tableWith("vmx", "arch_capabilities");
      expect(judge(index, SENT, { table, featureValue: OWN })).toEqual([]);
    },
  );

  test("of VMX is not compared for a vCPU without VMX", () => {
    const index = MSRS.MSR_IA32_VMX_VMFUNC;
    const evidence = { table: tableWith(), supported: tableWith("vmx"), featureValue: OWN };
    expect(judge(index, SENT, evidence)).toEqual(
      one("VMX not in CPUID", { kind: "missing-feature", feature: "vmx", by: "vcpu" }),
    );
  });

  test.each([
    [MSRS.MSR_IA32_VMX_BASIC, true],
    [MSRS.MSR_IA32_VMX_VMFUNC, true],
    [MSRS.MSR_IA32_VMX_BASIC - 1, false],
    [MSRS.MSR_IA32_VMX_VMFUNC + 1, false],
  ])("%i belongs to VMX: %s", (index, isVmx) => {
    const finding = { kind: "missing-feature", feature: "vmx", by: "kvm" };
    expect(judge(index, undefined, { supported: tableWith() })).toEqual(
      isVmx ? one("VMX not in CPUID", finding) : [],
    );
  });

  test.each([
    [MSRS.MSR_IA32_ARCH_CAPABILITIES, "arch_capabilities"],
    [MSRS.MSR_IA32_PERF_CAPABILITIES, "pdcm"],
  ] as const)("%i needs the feature %s on some kernels", (index, feature) => {
    expect(judge(index, 0n, { table: tableWith() })).toEqual(
      maybe("feature not in CPUID", { kind: "missing-feature", feature, by: "vcpu" }),
    );
    expect(judge(index, 0n, { table: tableWith(feature) })).toEqual([]);
  });

  const EACH = [
    MSRS.MSR_IA32_VMX_BASIC,
    MSRS.MSR_PLATFORM_INFO,
    MSRS.MSR_IA32_ARCH_CAPABILITIES,
    MSRS.MSR_IA32_PERF_CAPABILITIES,
    MSRS.MSR_AMD64_DE_CFG,
  ];

  test.each(EACH)("%i cannot change after the guest was entered", (index) => {
    const finding = { kind: "feature-msr-after-run", current: 3n };
    const entered = { current: 3n, hasEntered: true };
    expect(judge(index, 1n, entered)).toEqual(one("after a run", finding));
    expect(judge(index, 3n, entered)).toEqual([]);
    expect(judge(index, 1n, { ...entered, hasEntered: false })).toEqual([]);
    expect(judge(index, 1n, { ...entered, hasEntered: undefined })).toEqual([]);
    expect(judge(index, undefined, entered)).toEqual([]);
    const rules = judge(index, 1n, { ...entered, current: "unreadable" }).map(([rule]) => rule);
    expect(rules).not.toContain("after a run");
  });

  test("differs from other MSRs, which can change after the guest was entered", () => {
    expect(judge(MSRS.MSR_IA32_SYSENTER_CS, 1n, { current: 3n, hasEntered: true })).toEqual([]);
  });

  test.each(EACH)("%i may be unknown to KVM", (index) => {
    const finding = { kind: "no-feature-msr" };
    expect(judge(index, 1n, { featureValue: "none" })).toEqual(
      maybe("feature MSR that KVM lacks", finding),
    );
  });

  test("is not reported as unknown if KVM lacks the MSR because a CPUID feature is missing", () => {
    const rules = judge(MSRS.MSR_IA32_PERF_CAPABILITIES, 1n, {
      table: tableWith(),
      featureValue: "none",
    }).map(([rule]) => rule);
    expect(rules).toEqual(["feature not in CPUID"]);
    expect(judge(0xdead, 1n, { featureValue: "none" })).toEqual([]);
    expect(judge(MSRS.MSR_PLATFORM_INFO, 1n, { featureValue: 0n })).toEqual([]);
  });

  test.each([
    ["derived VMX MSR", "derived-vmx-msr", MSRS.MSR_IA32_VMX_PINBASED_CTLS],
    ["derived VMX MSR", "derived-vmx-msr", MSRS.MSR_IA32_VMX_PROCBASED_CTLS],
    ["derived VMX MSR", "derived-vmx-msr", MSRS.MSR_IA32_VMX_EXIT_CTLS],
    ["derived VMX MSR", "derived-vmx-msr", MSRS.MSR_IA32_VMX_ENTRY_CTLS],
    ["fixed VMX MSR", "fixed-vmx-msr", MSRS.MSR_IA32_VMX_CR0_FIXED1],
    ["fixed VMX MSR", "fixed-vmx-msr", MSRS.MSR_IA32_VMX_CR4_FIXED1],
  ])("%s: %s %i is not written on a vCPU with VMX", (rule, kind, index) => {
    const { table } = VMX;
    expect(judge(index, 1n, { table })).toEqual(one(rule, { kind }));
    expect(judge(index, undefined, { table })).toEqual([]);
    expect(judge(index, 1n)).toEqual([]);
    expect(judge(index, 1n, { table: tableWith() }).map(([name]) => name)).toEqual([
      "VMX not in CPUID",
    ]);
  });
});

describe("in the oracle, IA32_FEATURE_CONTROL", () => {
  const RULE = "bits of IA32_FEATURE_CONTROL";
  const control = (data: bigint, ...names: readonly CpuidFieldName[]) =>
    judge(MSRS.MSR_IA32_FEAT_CTL, data, { table: tableWith(...names) });

  test("has six bits", () => {
    const free = Array.from({ length: 64 }, (_, n) => n).filter((n) =>
      control(bit(n)).every(([, { finding }]) => finding.kind !== "reserved-bits"),
    );
    expect(free).toEqual([0, 1, 2, 17, 18, 20]);
    expect(control(bit(3) | bit(63))).toEqual(one(RULE, reserved(bit(3) | bit(63), 3, 63)));
  });

  test.each([
    [1, "VMX_ENABLED_INSIDE_SMX", "smx"],
    [2, "VMX_ENABLED_OUTSIDE_SMX", "vmx"],
    [17, "SGX_LC_ENABLED", "sgx_lc"],
    [18, "SGX_ENABLED", "sgx"],
  ] as const)("accepts bit %i %s only with %s", (n, name, feature) => {
    const missing = { kind: "missing-feature", feature, by: "vcpu" };
    expect(control(bit(n) | 1n)).toEqual(
      one(RULE, { kind: "control-bits", bits: [{ bit: n, name, missing }] }),
    );
    expect(control(bit(n), feature)).toEqual([]);
  });

  test("may have LMCE disabled", () => {
    expect(control(bit(20))).toEqual(maybe("LMCE of IA32_FEATURE_CONTROL", { kind: "no-lmce" }));
    expect(control(1n)).toEqual([]);
    expect(judge(MSRS.MSR_IA32_FEAT_CTL)).toEqual([]);
    expect(judge(0xdead, bit(20) | bit(3))).toEqual([]);
  });
});

describe("in the oracle, the MSRs of an Intel PMU", () => {
  const pmu = (eax: number): CpuidTable => CpuidTable.from([{ function: 0xa, eax }]);

  test.each([
    [0xc1, 0xc8],
    [0x186, 0x18d],
    [0x309, 0x30c],
    [0x38d, 0x390],
    [0x3f1, 0x3f2],
    [0x4c1, 0x4c8],
    [0x600, 0x600],
  ])("are %i to %i", (first, last) => {
    const has = (index: number) => judge(index, 1n, { supported: EMPTY }).length > 0;
    expect([first - 1, first, last, last + 1].map(has)).toEqual([false, true, true, false]);
  });

  test("need a PMU both in KVM and in the vCPU's table", () => {
    const index = MSRS.MSR_IA32_PMC0;
    const none = (by: string) => one("no PMU", { kind: "no-pmu", by });
    const counter = maybe("counter that the PMU lacks", { kind: "no-pmu-counter" });
    expect(judge(index, 1n, { supported: pmu(0x100) })).toEqual(none("kvm"));
    expect(judge(index, 1n, { supported: pmu(2), table: pmu(0) })).toEqual(none("vcpu"));
    expect(judge(index, 1n, { table: EMPTY })).toEqual(none("vcpu"));
    expect(judge(index, 1n, { supported: pmu(2), table: pmu(2) })).toEqual(counter);
    expect(judge(index, 1n, { table: pmu(2) })).toEqual(counter);
    expect(judge(index, 1n)).toEqual([]);
    expect(judge(0xdead, 1n, { supported: EMPTY, table: pmu(2) })).toEqual([]);
  });
});

describe("in the oracle, one of KVM's own MSRs,", () => {
  const [ASYNC, STEAL, EOI, POLL, INT, MIGRATION] = [
    0x4b56_4d02, 0x4b56_4d03, 0x4b56_4d04, 0x4b56_4d05, 0x4b56_4d06, 0x4b56_4d08,
  ] as const;
  const range = (low: number, high: number) =>
    Array.from({ length: high - low + 1 }, (_, i) => low + i);

  test.each([
    [ASYNC, [4, 5]],
    [STEAL, range(1, 5)],
    [EOI, [1]],
    [POLL, range(1, 63)],
    [INT, range(8, 63)],
    [MIGRATION, range(1, 63)],
  ])("%i, has these reserved bits: %j", (index, bits) => {
    expect(judge(index, ALL)).toEqual(one("reserved bits of a KVM MSR", reserved(ALL, ...bits)));
    expect(judge(index)).toEqual([]);
  });

  test.each([
    [ASYNC, 1n, true],
    [ASYNC, 0n, false],
    [INT, 0n, true],
    [INT, 1n, true],
    [STEAL, 1n, false],
  ])("%i = %i, needs the LAPIC: %s", (index, data, needs) => {
    const refused = one("KVM MSR without LAPIC", { kind: "no-lapic" });
    expect(judge(index, data, { hasLapic: false })).toEqual(needs ? refused : []);
    expect(judge(index, data, { hasLapic: true })).toEqual([]);
    expect(judge(index, data)).toEqual([]);
  });

  test.each([
    [ASYNC, 0x1009n, 0x1000n],
    [ASYNC, 0x1049n, 0x1040n],
    [EOI, 0x1001n, 0x1000n],
    [ASYNC, 0x1001n, undefined],
    [ASYNC, 0x1008n, undefined],
    [EOI, 0x1000n, undefined],
    [STEAL, 0x1001n, undefined],
  ])("%i = %i, needs memory at %s", (index, data, address) => {
    const refused = one("KVM MSR without memory", { kind: "no-memory", address });
    const asked: bigint[] = [];
    const ask = (answer: boolean) => (gpa: bigint) => {
      asked.push(gpa);
      return answer;
    };
    expect(judge(index, data, { hasMemoryAt: ask(false) })).toEqual(address ? refused : []);
    expect(asked).toEqual(address === undefined ? [] : [address]);
    expect(judge(index, data, { hasMemoryAt: ask(true) })).toEqual([]);
    expect(judge(index, data)).toEqual([]);
  });

  test.each([
    [ASYNC, 0n, ["kvm_async_pf"]],
    [ASYNC, 0xcn, ["kvm_async_pf", "kvm_async_pf_vmexit", "kvm_async_pf_int"]],
    [STEAL, 0n, ["kvm_steal_time"]],
    [EOI, 0n, ["kvm_pv_eoi"]],
    [POLL, 1n, ["kvm_poll_control"]],
    [INT, 0xcn, ["kvm_async_pf_int"]],
    [MIGRATION, 0n, ["kvm_migration_control"]],
  ])("%i = %i, needs the feature %j if KVM enforces features", (index, data, features) => {
    const finding = { kind: "missing-pv-features", features };
    expect(judge(index, data, { table: EMPTY })).toEqual(
      maybe("KVM feature not in CPUID", finding),
    );
  });
});

test("without evidence, the oracle's MSR rules reject an access only because of its value", () => {
  const indices = Object.values(MSRS);
  const refusedReads = indices.flatMap((index) =>
    judge(index).filter(([, { is }]) => is === "refused"),
  );
  expect(refusedReads.map(([rule]) => rule)).toEqual(["write-only", "write-only"]);
});
