/** Tests of the oracle's rules for special registers: the rule that an argument violates, and the finding. */
import { describe, expect, test } from "vitest";
import type { Sregs2 } from "../../../lib/abi/generated/structs.ts";
import type { StructInput } from "../../../lib/abi/struct.ts";
import type { CpuidFieldName, CpuidTable } from "../../../lib/cpuid/index.ts";
import { featureBits } from "../../../lib/oracle/features.ts";
import {
  CR4_BITS,
  EFER_BITS,
  physicalBits,
  SREGS_RULES,
  SREGS2_RULES,
} from "../../../lib/oracle/index.ts";
import { bit, broken, EMPTY, sregs2, tableWith } from "./asked.ts";

const EVERY = [
  ...["umip", "la57", "vmx", "smx", "fsgsbase", "pcid", "xsave", "smep", "smap", "pku", "cet_ss"],
  ...["pks", "uintr", "lam", "fred", "lm", "nx", "svm", "fxsr_opt", "tce", "autoibrs", "x2apic"],
] as readonly CpuidFieldName[];
const LONG = { cr0: bit(31) | bit(0), cr4: bit(5), efer: bit(8) | bit(10) };

interface Tables {
  readonly table?: CpuidTable | undefined;
  readonly supported?: CpuidTable | undefined;
}

const judge = (fields: StructInput<Sregs2>, tables: Tables = { table: tableWith(...EVERY) }) =>
  broken(SREGS_RULES, {
    sregs: sregs2(fields),
    table: tables.table,
    supported: tables.supported,
  });

const contradiction = (...states: readonly (readonly [string, number])[]) => ({
  kind: "contradiction",
  states,
});

describe("the oracle judges special registers that break one rule", () => {
  test.each([
    ["mode", { efer: bit(10) }, contradiction(["EFER.LMA", 1], ["EFER.LME", 0])],
    ["mode", { efer: bit(8) | bit(10) }, contradiction(["EFER.LMA", 1], ["CR0.PG", 0])],
    ["mode", { cs: { l: 2 } }, contradiction(["cs.l", 2], ["EFER.LME", 0])],
    ["mode", { cs: { l: 1 }, efer: bit(8) }, contradiction(["cs.l", 1], ["CR0.PG", 0])],
    ["mode", { ...LONG, cr4: 0n }, contradiction(["EFER.LME", 1], ["CR0.PG", 1], ["CR4.PAE", 0])],
    [
      "mode",
      { ...LONG, efer: bit(8) },
      contradiction(["EFER.LME", 1], ["CR0.PG", 1], ["EFER.LMA", 0]),
    ],
    [
      "mode",
      { ...LONG, cr3: bit(40) },
      { kind: "wide-address", name: "CR3", address: bit(40), width: 40 },
    ],
    ["CR0", { cr0: bit(31) }, contradiction(["CR0.PG", 1], ["CR0.PE", 0])],
    ["CR0", { cr0: bit(29) }, contradiction(["CR0.NW", 1], ["CR0.CD", 0])],
    [
      "CR0",
      { cr0: bit(32) | bit(63) },
      {
        kind: "reserved-bits",
        register: "CR0",
        value: bit(32) | bit(63),
        bits: [32, 63],
      },
    ],
    [
      "APIC base",
      { apicBase: 0xfee0_02ffn },
      {
        kind: "reserved-bits",
        register: "apicBase",
        value: 0xfee0_02ffn,
        bits: [0, 1, 2, 3, 4, 5, 6, 7, 9],
      },
    ],
    ["APIC base", { apicBase: bit(10) }, { kind: "x2apic-not-enabled", base: bit(10) }],
    [
      "APIC base",
      { apicBase: bit(40) },
      { kind: "wide-address", name: "apicBase", address: bit(40), width: 40 },
    ],
  ] as const)("%s: %o", (rule, fields, finding) => {
    expect(judge(fields)).toEqual([[rule, { is: "refused", finding }]]);
  });

  test("but is undecided about EFER.LMSLE, because only few hosts support it", () => {
    expect(judge({ efer: bit(13) })).toEqual([
      ["EFER.LMSLE", { is: "undecided", finding: { kind: "lmsle" } }],
    ]);
  });

  test("and requires the CPUID feature for x2APIC mode", () => {
    const apicBase = bit(10) | bit(11);
    expect(judge({ apicBase }, { table: tableWith() })).toEqual([
      ["APIC base", { is: "refused", finding: { kind: "no-x2apic", base: apicBase } }],
    ]);
    expect(judge({ apicBase })).toEqual([]);
    expect(judge({ apicBase }, {})).toEqual([]);
  });
});

test.each([
  [{ ...LONG, cs: { l: 1 }, cr3: bit(40) - 1n }],
  [{ ...LONG, cr3: 3n << 61n }],
  [{ cr0: bit(0) | bit(29) | bit(30) | bit(31) }],
  [{ apicBase: bit(40) - 1n - 0x2ffn }],
  [{ efer: bit(0) }],
  [{ efer: bit(8) }],
  [{ cr0: bit(31) | bit(0), cr3: bit(50) }],
] as const)("in the oracle, the special registers %o break no rule", (fields) => {
  expect(judge(fields)).toEqual([]);
});

test("the oracle does not know the physical address width if there is no CPUID table", () => {
  expect(judge({ ...LONG, cr3: bit(63) }, {})).toEqual([]);
  expect(judge({ apicBase: bit(63) }, {})).toEqual([]);
});

test("in the oracle, CR3 may have the bits of LAM only if the table has LAM", () => {
  const asked = { ...LONG, cr3: 3n << 61n };
  expect(judge(asked, { table: tableWith("lm") }).map(([rule]) => rule)).toEqual(["mode"]);
});

describe("the oracle's rules for bits that need a feature", () => {
  const registers = [
    ["CR4", CR4_BITS],
    ["EFER", EFER_BITS],
  ] as const;

  test("apply to exactly these bits of CR4 and EFER", () => {
    const written = registers.map(([, bits]) =>
      Object.entries(bits)
        .map(([n, [name, ...features]]) => `${n} ${name} ${features.join(" ")}`.trim())
        .join(", "),
    );
    expect(written).toEqual([
      "0 VME, 1 PVI, 2 TSD, 3 DE, 4 PSE, 5 PAE, 6 MCE, 7 PGE, 8 PCE, 9 OSFXSR, 10 OSXMMEXCPT, " +
        "11 UMIP umip, 12 LA57 la57, 13 VMXE vmx, 14 SMXE smx, 16 FSGSBASE fsgsbase, " +
        "17 PCIDE pcid, 18 OSXSAVE xsave, 20 SMEP smep, 21 SMAP smap, 22 PKE pku, " +
        "23 CET cet_ss ibt, 24 PKS pks, 25 UINTR uintr, 28 LAM_SUP lam, 32 FRED fred",
      "0 SCE, 8 LME lm, 10 LMA lm, 11 NX nx, 12 SVME svm, 13 LMSLE, 14 FFXSR fxsr_opt, " +
        "15 TCE tce, 21 AUTOIBRS autoibrs",
    ]);
  });

  const cr4 = (n: number, tables: Tables) => judge({ cr4: bit(n) }, tables);
  const finding = (cause: string) => ({
    kind: "feature-bits",
    register: "CR4",
    bits: [{ bit: 12, name: "LA57", cause, features: ["la57"] }],
  });

  test.each([
    ["that KVM does not support", { supported: tableWith() }, "unsupported"],
    [
      "that KVM does not support, whatever the table has",
      { table: tableWith("la57"), supported: tableWith() },
      "unsupported",
    ],
    ["that the table lacks", { table: tableWith(), supported: tableWith("la57") }, "absent"],
    ["that the table lacks, on an unknown KVM", { table: tableWith() }, "absent"],
  ])("refuse a bit of CR4 %s", (_, tables, cause) => {
    expect(cr4(12, tables)).toEqual([["CR4", { is: "refused", finding: finding(cause) }]]);
  });

  test("are undecided for a vCPU without a table, because older kernels do not check the bits", () => {
    expect(cr4(12, { table: EMPTY })).toEqual([
      ["CR4 without a table", { is: "undecided", finding: finding("no-table") }],
    ]);
    expect(SREGS_RULES["CR4 without a table"]?.kernels).toMatch(/^6\.14 and later/);
  });

  test("refuse reserved bits on every vCPU", () => {
    const bits = [{ bit: 15, name: undefined, cause: "reserved", features: [] }];
    const reserved = { kind: "feature-bits", register: "CR4", bits };
    expect(cr4(15, {})).toEqual([["CR4", { is: "refused", finding: reserved }]]);
  });

  test("refuse no bit if the tables are unknown", () => {
    expect(cr4(12, {})).toEqual([]);
    expect(cr4(12, { table: tableWith("la57"), supported: tableWith("la57") })).toEqual([]);
  });

  test("accept a bit that needs one of two features if the table has one of them", () => {
    expect(cr4(23, { table: tableWith("ibt"), supported: tableWith("cet_ss") })).toEqual([]);
  });

  test("accept with any table a bit that needs no feature", () => {
    expect(cr4(5, { table: EMPTY, supported: EMPTY })).toEqual([]);
  });

  test("are undecided about EFER, because older kernels do not check EFER", () => {
    const [found] = judge({ efer: bit(12) }, { table: tableWith() });
    expect(found?.[0]).toBe("EFER");
    expect(found?.[1].is).toBe("undecided");
    expect(found?.[1].finding).toEqual({
      kind: "feature-bits",
      register: "EFER",
      bits: [{ bit: 12, name: "SVME", cause: "absent", features: ["svm"] }],
    });
  });

  test("put several bits into one finding", () => {
    const known = { 0: ["A", "lm"], 1: ["B"], 2: ["C", "nx"] } as const;
    expect(featureBits("R", 7n, known, tableWith(), undefined)?.bits.map((b) => b.name)).toEqual([
      "A",
      "C",
    ]);
    expect(featureBits("R", 2n, known, tableWith(), undefined)).toBeUndefined();
  });
});

describe("the oracle's rule for KVM_SET_SREGS2", () => {
  const judge2 = (fields: StructInput<Sregs2>) =>
    broken(SREGS2_RULES, { sregs: sregs2(fields), table: undefined, supported: undefined });
  const notPae = ["PDPTRs", { is: "refused", finding: { kind: "not-pae-paging" } }];
  const PAE = { cr0: bit(31), cr4: bit(5) };

  test("accepts one flag", () => {
    const finding = {
      kind: "forbidden-bits",
      name: "flags",
      value: 6n,
      bits: [1, 2],
      allowed: 1n,
      allowedBy: "linux",
    };
    expect(judge2({ flags: 6n })).toEqual([["flags", { is: "refused", finding }]]);
  });

  test.each([{}, { cr0: bit(31) }, { cr4: bit(5) }, { ...PAE, efer: bit(10) }])(
    "refuses PDPTRs with %o, which is not PAE paging",
    (fields) => {
      expect(judge2({ flags: 1n, ...fields })).toEqual([notPae]);
      expect(judge2({ ...fields })).toEqual([]);
    },
  );

  test("accepts PDPTRs with PAE paging", () => {
    expect(judge2({ flags: 1n, ...PAE })).toEqual([]);
  });
});

test.each([
  [0x8000_0007, 36],
  [0x8000_0008, 40],
  [0x8000_0009, 40],
])(
  "in the oracle, a table whose highest extended leaf is %i has %i physical address bits",
  (last, width) => {
    const table = tableWith();
    const at = Array.from(table).findIndex((one) => one.function === 0x8000_0000);
    expect(physicalBits(table.replace(at, { eax: last }))).toBe(width);
    expect(physicalBits(EMPTY)).toBe(36);
    expect(physicalBits(table.without(0x8000_0008))).toBe(36);
  },
);
