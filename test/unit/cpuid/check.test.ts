/** Tests of checkCpuid(): each rule reports its fault and nothing else, and a valid table has no finding. */
import { describe, expect, test } from "vitest";
import { CPUID_RULES } from "../../../lib/cpuid/check.ts";
import {
  type CheckCpuidOptions,
  type CpuidEntry2Input,
  type CpuidRuleName,
  CpuidTable,
  checkCpuid,
  fromSupported,
} from "../../../lib/cpuid/index.ts";

const KVM_SIGNATURE = { ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d };

/** A small example of the result of KVM_GET_SUPPORTED_CPUID. */
const SUPPORTED = CpuidTable.from([
  { function: 0, eax: 0x1f },
  { function: 1, eax: 0x906ea, ebx: 0x0510_0800, ecx: 1, edx: 0x201 },
  { function: 2, eax: 0xff },
  { function: 4, flags: 1, eax: 0x121 },
  { function: 4, index: 1, flags: 1, eax: 0x122 },
  { function: 7, flags: 1, ebx: 0x20 },
  { function: 0xb, flags: 1, edx: 5 },
  { function: 0xd, flags: 1, eax: 7, ebx: 0x340 },
  { function: 0xd, index: 1, flags: 1, eax: 1 },
  { function: 0x1f, flags: 1, edx: 5 },
  { function: 0x4000_0000, ...KVM_SIGNATURE },
  { function: 0x4000_0001, eax: 1 },
  { function: 0x8000_001e, eax: 5, ebx: 5 },
  { function: 0x8000_0026, flags: 1 },
]);
const GOOD = fromSupported(SUPPORTED, { apicId: 2 });
const AGAINST: CheckCpuidOptions = { id: 2, supported: SUPPORTED };

const messages = (table: Iterable<CpuidEntry2Input>, options = AGAINST): readonly string[] =>
  checkCpuid(table, options).map(({ message }) => message);

type Broken = readonly [CpuidRuleName, string, CpuidTable, string];

const BROKEN: readonly Broken[] = [
  [
    "duplicate",
    "an entry twice",
    GOOD.append({ function: 7, flags: 1 }),
    "0x7.0: entry 5 (0x7.0) matches first, so KVM never uses entry 14",
  ],
  [
    "duplicate",
    "an entry behind one without the flag, which answers for every sub-leaf",
    GOOD.append({ function: 2, index: 1 }),
    "0x2.1: entry 2 (0x2.0) matches first, so KVM never uses entry 14",
  ],
  [
    "index-flag",
    "a sub-leaf without its flag",
    GOOD.replace(5, { flags: 0 }),
    "0x7.0: has no KVM_CPUID_FLAG_SIGNIFCANT_INDEX, so KVM uses it for every sub-leaf",
  ],
  [
    "padding",
    "padding that is not 0",
    GOOD.replace(2, { padding: [0, 0x10, 0] }),
    "0x2.0: the reserved padding is 0x0,0x10,0x0",
  ],
  [
    "apic-id",
    "another id in leaf 1",
    GOOD.with({ local_apic_id: 5 }),
    "0x1.0:ebx[31:24] local_apic_id: is 5, but the vCPU's APIC id is 2",
  ],
  [
    "apic-id",
    "another id in leaf 0xb",
    GOOD.with({ x2apic_id: 5 }),
    "0xb.0:edx[31:0] x2apic_id: is 0x5, but the vCPU's APIC id is 0x2",
  ],
  [
    "apic-id",
    "another id in leaf 0x1f",
    GOOD.with({ x2apic_id_1f: 5 }),
    "0x1f.0:edx[31:0] x2apic_id_1f: is 0x5, but the vCPU's APIC id is 0x2",
  ],
  [
    "apic-id",
    "another id in leaf 0x8000001e",
    GOOD.with({ ext_apic_id: 5 }),
    "0x8000001e.0:eax[31:0] ext_apic_id: is 0x5, but the vCPU's APIC id is 0x2",
  ],
  [
    "apic-id",
    "another id in leaf 0x80000026",
    GOOD.with({ x2apic_id_80000026: 5 }),
    "0x80000026.0:edx[31:0] x2apic_id_80000026: is 0x5, but the vCPU's APIC id is 0x2",
  ],
  [
    "unsupported",
    "a feature that KVM lacks",
    GOOD.with({ bmi1: 1 }),
    "0x7.0:ebx[3] bmi1: KVM does not support it",
  ],
  [
    "unsupported",
    "a bit that no field names",
    GOOD.replace(1, { ecx: 0x1_0001 }),
    "0x1.0:ecx[16] reserved: KVM does not support it",
  ],
  [
    "unsupported",
    "an XSAVE component that KVM lacks",
    GOOD.with({ xcr0_pkru: 1 }),
    "0xd.0:eax[9] xcr0_pkru: KVM does not support it",
  ],
  [
    "unsupported",
    "a feature in a leaf that KVM lacks",
    GOOD.append({ function: 0x8000_0021, eax: 1 }),
    "0x80000021.0:eax[0] no_nested_data_bp: KVM does not support it",
  ],
  [
    "unsupported",
    "a paravirtual feature that KVM lacks",
    GOOD.with({ kvm_pv_unhalt: 1 }),
    "0x40000001.0:eax[7] kvm_pv_unhalt: KVM does not support it",
  ],
];

describe("checkCpuid() reports", () => {
  test.each(BROKEN)("only the rule %s for a table with %s", (rule, _, table, message) => {
    expect(checkCpuid(table, AGAINST).map((one) => [one.rule, one.message])).toEqual([
      [rule, message],
    ]);
  });

  test("nothing for a table without a fault", () => {
    expect(checkCpuid(GOOD, AGAINST)).toEqual([]);
  });
});

test("every rule is broken by a table of this test", () => {
  const broken = new Set(BROKEN.map(([rule]) => rule));
  expect(CPUID_RULES.map(({ name }) => name).filter((name) => !broken.has(name))).toEqual([]);
});

test("every rule has a sentence that describes its fault", () => {
  expect(CPUID_RULES.filter(({ why }) => why === "")).toEqual([]);
});

test("a finding has its rule, place, field and position as members", () => {
  expect(checkCpuid(GOOD.with({ local_apic_id: 5 }), { id: 2 })).toEqual([
    {
      rule: "apic-id",
      where: "0x1.0:ebx[31:24]",
      name: "local_apic_id",
      function: 1,
      index: 0,
      position: 1,
      message: "0x1.0:ebx[31:24] local_apic_id: is 5, but the vCPU's APIC id is 2",
    },
  ]);
});

test("all faults of a table are found, in the order of the table's entries", () => {
  const table = GOOD.with({ local_apic_id: 1, bmi1: 1, xcr0_pkru: 1 }).append({ function: 0 });
  expect(checkCpuid(table, AGAINST).map(({ rule, position }) => [rule, position])).toEqual([
    ["apic-id", 1],
    ["unsupported", 5],
    ["unsupported", 7],
    ["duplicate", 14],
  ]);
});

/** The registers with feature bits; a KVM leaf is relative to the base of KVM's leaves. */
const FEATURES = [
  ...["0x1.0:ecx", "0x1.0:edx", "0x6.0:eax"],
  ...["0x7.0:ebx", "0x7.0:ecx", "0x7.0:edx", "0x7.1:eax", "0x7.1:ecx", "0x7.1:edx", "0x7.2:edx"],
  ...["0xd.0:eax", "0xd.0:edx", "0xd.1:eax", "0x12.0:eax", "0x12.1:eax"],
  ...["0x1e.1:eax", "0x24.0:ebx", "0x24.1:ecx"],
  ...["0x80000001.0:ecx", "0x80000001.0:edx", "0x80000007.0:ebx", "0x80000007.0:edx"],
  ...["0x80000008.0:ebx", "0x8000000a.0:edx", "0x8000001f.0:eax"],
  ...["0x80000021.0:eax", "0x80000021.0:ecx", "0x80000022.0:eax", "0xc0000001.0:edx"],
  "0x40000001.0:eax",
] as const;

test.each(FEATURES)("a bit of %s that KVM does not support is a finding", (place) => {
  const [leaf = "", register = ""] = place.split(":");
  const [fn = "", index = ""] = leaf.split(".");
  const supported = CpuidTable.from([{ function: 0x4000_0000, ...KVM_SIGNATURE }]);
  const one = { function: Number(fn), index: Number(index), flags: 1, [register]: 0xffff_ffff };
  const found = checkCpuid(supported.append(one), { supported });
  expect(new Set(found.map(({ rule }) => rule))).toEqual(new Set(["unsupported"]));
  expect(new Set(found.map(({ where }) => where.replace(/\[.*/, "")))).toEqual(new Set([place]));
});

test("named and reserved bits of one register are reported in order", () => {
  expect(messages(GOOD.replace(1, { ecx: 0x3_0003 }))).toEqual([
    "0x1.0:ecx[1] pclmulqdq: KVM does not support it",
    "0x1.0:ecx[16] reserved: KVM does not support it",
    "0x1.0:ecx[17] pcid: KVM does not support it",
  ]);
});

test("several features of one register are reported by name, lowest bit first", () => {
  expect(messages(GOOD.with({ bmi1: 1, avx2: 1, erms: 1, fsgsbase: 1 }))).toEqual([
    "0x7.0:ebx[0] fsgsbase: KVM does not support it",
    "0x7.0:ebx[3] bmi1: KVM does not support it",
    "0x7.0:ebx[9] erms: KVM does not support it",
  ]);
});

test.each([
  [1, "0x1.0:ebx[31:24] local_apic_id: is 0, but the vCPU's APIC id is 2"],
  [6, "0xb.0:edx[31:0] x2apic_id: is 0x0, but the vCPU's APIC id is 0x2"],
  [9, "0x1f.0:edx[31:0] x2apic_id_1f: is 0x0, but the vCPU's APIC id is 0x2"],
] as const)(
  "if all registers of entry %i are zero, the wrong APIC id is reported: %s",
  (position, message) => {
    const zeros = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    expect(messages(GOOD.replace(position, zeros), { id: 2 })).toEqual([message]);
  },
);

describe("checkCpuid() reports no finding for", () => {
  test.each([
    ["a feature that KVM writes itself", GOOD.with({ osxsave: 1 })],
    ["a TSC deadline timer, which old tables never report", GOOD.with({ tsc_deadline_timer: 1 })],
    ["the flag of several APIC ids", GOOD.with({ ht: 1 })],
    ["another family, model or cache", GOOD.with({ base_model: 1, cache_level: 3 })],
    ["a longer XSAVE area", GOOD.with({ xsave_sz_xcr0: 0xa80 })],
    ["a leaf 0x8000001e of zeros, which the CPU lacks", GOOD.replace(12, { eax: 0, ebx: 0 })],
    ["a leaf 0x80000026 of zeros, which the CPU lacks", GOOD.replace(13, { edx: 0 })],
    ["padding of zeros", GOOD.replace(2, { padding: [0, 0, 0] })],
    [
      "Hyper-V's leaves, which KVM_GET_SUPPORTED_CPUID never has",
      GOOD.without(0x4000_0000)
        .without(0x4000_0001)
        .append({ function: 0x4000_0001, eax: 0x3123_7648 }, { function: 0x4000_0003, eax: 1 }),
    ],
    ["a name in the leaf of KVM's signature", GOOD.replace(10, { eax: 0x4000_0001 })],
    [
      "KVM's leaves at another base",
      GOOD.without(0x4000_0000)
        .without(0x4000_0001)
        .append({ function: 0x4000_0100, ...KVM_SIGNATURE }, { function: 0x4000_0101, eax: 1 }),
    ],
  ])("%s", (_, table) => {
    expect(messages(table)).toEqual([]);
  });

  test("KVM's leaves if the supported table has none", () => {
    const supported = SUPPORTED.without(0x4000_0000).without(0x4000_0001);
    expect(messages(GOOD, { supported })).toEqual([]);
  });

  test("an APIC id if the caller passes no id", () => {
    expect(messages(GOOD.with({ local_apic_id: 5 }), { supported: SUPPORTED })).toEqual([]);
  });

  test("a feature if the caller passes no supported table", () => {
    expect(messages(GOOD.with({ bmi1: 1 }), { id: 2 })).toEqual([]);
  });

  test("an id above 255 if leaf 1 has the low eight bits of the id", () => {
    const table = fromSupported(SUPPORTED, { apicId: 300 });
    expect(messages(table, { id: 300 })).toEqual([]);
  });
});

test("plain entries are checked like a table", () => {
  expect(messages([{ function: 1 }, { function: 1 }], {})).toEqual([
    "0x1.0: entry 0 (0x1.0) matches first, so KVM never uses entry 1",
  ]);
});

test.each([
  ["apicId", { apicId: 1 }],
  ["supportd", { supportd: [] }],
])("checkCpuid() refuses the unknown option %s by name", (name, options) => {
  expect(() => checkCpuid(GOOD, options as CheckCpuidOptions)).toThrow(
    `checkCpuid(): unknown option "${name}"`,
  );
});

test("the highest id of 32 bits is accepted and checked", () => {
  const table = fromSupported(SUPPORTED, { apicId: 0xffff_ffff });
  expect(messages(table, { id: 0xffff_ffff })).toEqual([]);
});

test.each([-1, 0.5, 2 ** 32])("checkCpuid() refuses the APIC id %d", (id) => {
  const wrong = new RangeError(`id ${id} is not an unsigned 32-bit integer`);
  expect(() => checkCpuid(GOOD, { id })).toThrow(wrong);
});
