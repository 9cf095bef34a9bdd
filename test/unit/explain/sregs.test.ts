/**
 * Tests of the reasons of a refused KVM_SET_SREGS: the reason names the register, the bit, and the feature that the bit
 * needs.
 */
import { describe, expect, test } from "vitest";
import { Sregs, Sregs2 } from "../../../lib/abi/generated/structs.ts";
import { encode } from "../../../lib/abi/struct.ts";
import { tableWith, vcpuWith, vcpuWithoutTable, why } from "./refused.ts";

const REFUSED = "KVM_SET_SREGS EINVAL";
const bit = (n: number): bigint => 1n << BigInt(n);
const HOST = [
  "la57",
  "xsave",
  "smep",
  "vmx",
  "umip",
  "fsgsbase",
  "pcid",
  "smap",
  "pku",
  "lm",
  "nx",
  "smx",
  "pks",
  "uintr",
  "fred",
] as const;
const LONG = { cr0: bit(31) | bit(0), cr4: bit(5), efer: bit(8) | bit(10) };

describe("the reason of a KVM_SET_SREGS that was refused for CR4", () => {
  test("names a bit whose feature is not in the vCPU's CPUID table, with the feature's leaf and register", () => {
    expect(why(REFUSED, { cr4: bit(12) }, vcpuWith(["xsave"], HOST))).toBe(
      "CR4 bit 12 LA57: not in this vCPU's CPUID (0x7.0:ecx[16] la57)",
    );
  });

  test.each([
    [11, "UMIP", "umip"],
    [13, "VMXE", "vmx"],
    [14, "SMXE", "smx"],
    [24, "PKS", "pks"],
    [25, "UINTR", "uintr"],
    [32, "FRED", "fred"],
    [16, "FSGSBASE", "fsgsbase"],
    [17, "PCIDE", "pcid"],
    [18, "OSXSAVE", "xsave"],
    [20, "SMEP", "smep"],
    [21, "SMAP", "smap"],
    [22, "PKE", "pku"],
  ] as const)("is stated for bit %i %s, which needs %s", (n, name, feature) => {
    const others = HOST.filter((one) => one !== feature);
    const reason = why(REFUSED, { cr4: bit(n) }, vcpuWith(others, HOST));
    expect(reason).toMatch(
      new RegExp(`^CR4 bit ${n} ${name}: not in .*:e.x\\[\\d+\\] ${feature}\\)$`),
    );
    expect(why(REFUSED, { cr4: bit(n) }, vcpuWith(HOST))).toBeUndefined();
  });

  test("is stated for CR4.CET, which needs one of two features", () => {
    expect(why(REFUSED, { cr4: bit(23) }, vcpuWith([], ["ibt"]))).toBe(
      "CR4 bit 23 CET: not in this vCPU's CPUID (0x7.0:ecx[7] cet_ss, 0x7.0:edx[20] ibt)",
    );
    expect(why(REFUSED, { cr4: bit(23) }, vcpuWith(["ibt"]))).toBeUndefined();
  });

  test("does not report that the vCPU's table lacks a feature if this KVM itself lacks the feature", () => {
    expect(why(REFUSED, { cr4: bit(12) }, vcpuWith(["la57"], ["xsave"]))).toBe(
      "CR4 bit 12 LA57: this KVM cannot give it to a guest (0x7.0:ecx[16] la57)",
    );
  });

  test.each([15, 19, 26, 63])("is stated for bit %i, which is reserved", (n) => {
    expect(why(REFUSED, { cr4: bit(n) }, vcpuWith(HOST))).toBe(`CR4 bit ${n}: reserved`);
  });

  test("names all bits if several are wrong", () => {
    const reason = why(REFUSED, { cr4: bit(12) | bit(20) }, vcpuWith(["xsave"], HOST));
    expect(reason).toMatch(/^CR4 bit 12 LA57: .*; CR4 bit 20 SMEP: /);
  });

  test("names the sub-leaf of a feature", () => {
    expect(why(REFUSED, { cr4: bit(28) }, vcpuWith([], ["lam"]))).toBe(
      "CR4 bit 28 LAM_SUP: not in this vCPU's CPUID (0x7.1:eax[26] lam)",
    );
  });

  test("comes before the reasons for other registers", () => {
    const sregs = { cr4: bit(12), cr0: bit(31), apicBase: 1n };
    expect(why(REFUSED, sregs, vcpuWith(["xsave"], HOST))).toMatch(/^CR4 bit 12 LA57: /);
  });

  test("does not name bits that need no feature", () => {
    expect(why(REFUSED, { cr4: 0x7ffn }, vcpuWith([], HOST))).toBeUndefined();
  });

  test("states if the CPUID table is empty", () => {
    expect(why(REFUSED, { cr4: bit(12) }, vcpuWithoutTable(HOST))).toBe(
      "either CR4 bit 12 LA57: not in this vCPU's CPUID (0x7.0:ecx[16] la57): " +
        "it has no table yet; call KVM_SET_CPUID2 first, or another cause",
    );
  });

  test("lists an empty CPUID table as the last cause, because Linux before 6.14 does not refuse CR4 for it", () => {
    expect(why(REFUSED, { cr4: bit(12), cr0: bit(31) }, vcpuWithoutTable(HOST))).toBe(
      "CR0.PG is 1, and CR0.PE is 0",
    );
  });
});

describe("the reason of a KVM_SET_SREGS that was refused for CR0", () => {
  test.each([
    ["PG without PE", bit(31), "CR0.PG is 1, and CR0.PE is 0"],
    ["NW without CD", bit(29), "CR0.NW is 1, and CR0.CD is 0"],
    ["bits above 31", bit(32) | bit(40), "CR0 0x10100000000: bits 32, 40 are reserved"],
  ])("is stated for %s", (_, cr0, reason) => {
    expect(why(REFUSED, { cr0 }, vcpuWith(HOST))).toBe(reason);
  });

  test.each([bit(31) | bit(0), bit(29) | bit(30), 0x6000_0010n])("is absent for %s", (cr0) => {
    expect(why(REFUSED, { cr0 }, vcpuWith(HOST))).toBeUndefined();
  });
});

describe("the reason of a KVM_SET_SREGS that was refused for the paging mode", () => {
  test.each([
    ["LMA without LME", { efer: bit(10) }, "EFER.LMA is 1, and EFER.LME is 0"],
    ["LMA without paging", { efer: bit(8) | bit(10) }, "EFER.LMA is 1, and CR0.PG is 0"],
    ["a 64-bit code segment without LME", { cs: { l: 1 } }, "cs.l is 1, and EFER.LME is 0"],
    ["long mode without PAE", { ...LONG, cr4: 0n }, "EFER.LME and CR0.PG are 1, and CR4.PAE is 0"],
    [
      "long mode without LMA",
      { ...LONG, efer: bit(8) },
      "EFER.LME and CR0.PG are 1, and EFER.LMA is 0",
    ],
    [
      "a wide CR3",
      { ...LONG, cr3: bit(40) },
      "CR3 0x10000000000 is wider than the 40 bits of this vCPU's physical addresses " +
        "(0x80000008.0:eax[7:0] phys_addr_bits)",
    ],
  ])("is stated for %s", (_, sregs, reason) => {
    expect(why(REFUSED, sregs, vcpuWith(HOST))).toBe(reason);
  });

  test.each([
    [0x8000_0007, 36],
    [0x8000_0008, 40],
    [0x8000_0009, 40],
  ])(
    "uses the physical address width of the table: with last extended leaf %i, the width is %i bits",
    (last, bits) => {
      const cpuid = tableWith(...HOST).map((one) =>
        one.function === 0x8000_0000 ? { ...one, eax: last } : one,
      );
      const evidence = { vcpu: { id: 0, cpuid: () => cpuid } };
      expect(why(REFUSED, { ...LONG, cr3: bit(50) }, evidence)).toContain(`the ${bits} bits`);
    },
  );

  test("assumes 36 physical address bits if the table has no width", () => {
    const sregs = { ...LONG, cr3: bit(36) };
    expect(why(REFUSED, sregs, vcpuWithoutTable(HOST))).toContain("the 36 bits");
  });

  test("is absent for long mode with the widest possible CR3", () => {
    const sregs = { ...LONG, cr3: bit(40) - 0x1000n, cs: { l: 1 } };
    expect(why(REFUSED, sregs, vcpuWith(HOST))).toBeUndefined();
  });

  test("names neither of the two LAM bits of CR3 if the table has LAM", () => {
    const sregs = { ...LONG, cr3: bit(61) | bit(62) };
    expect(why(REFUSED, sregs, vcpuWith([...HOST, "lam"]))).toBeUndefined();
    expect(why(REFUSED, sregs, vcpuWith(HOST))).toContain("CR3 0x6000000000000000");
  });
});

describe("the reason of a KVM_SET_SREGS that was refused for EFER", () => {
  test.each([
    [12, "SVME", "svm"],
    [8, "LME", "lm"],
    [15, "TCE", "tce"],
    [11, "NX", "nx"],
    [14, "FFXSR", "fxsr_opt"],
    [21, "AUTOIBRS", "autoibrs"],
  ] as const)("is stated for bit %i %s, which needs %s", (n, name, feature) => {
    const reason = why(REFUSED, { efer: bit(n) }, vcpuWith([], [...HOST, feature]));
    expect(reason).toMatch(
      new RegExp(
        `^either EFER bit ${n} ${name}: not in this vCPU's CPUID .* ${feature}\\), or another cause$`,
      ),
    );
    expect(why(REFUSED, { efer: bit(n) }, vcpuWith([feature]))).toBeUndefined();
  });

  test("is stated for bit 10 LMA, which needs the feature lm", () => {
    const sregs = { ...LONG, cs: { l: 1 } };
    expect(why(REFUSED, sregs, vcpuWith([], HOST))).toMatch(
      /^either EFER bit 8 LME: .* lm\); EFER bit 10 LMA: .* lm\), or another cause$/,
    );
  });

  test("is stated for reserved bits, and for LMSLE, which few versions of KVM support", () => {
    expect(why(REFUSED, { efer: bit(1) }, vcpuWith(HOST))).toBe(
      "either EFER bit 1: reserved, or another cause",
    );
    expect(why(REFUSED, { efer: bit(13) }, vcpuWith(HOST))).toBe(
      "either EFER bit 13 LMSLE: this KVM does not support it, or another cause",
    );
  });

  test("names any other cause first, because Linux 6.1 does not check EFER", () => {
    const sregs = { efer: bit(12), apicBase: 0xfee0_0001n };
    expect(why(REFUSED, sregs, vcpuWith([], HOST))).toBe("apicBase 0xfee00001: bit 0 is reserved");
  });

  test("is absent for SCE, which needs no feature", () => {
    expect(why(REFUSED, { efer: bit(0) }, vcpuWith(HOST))).toBeUndefined();
  });
});

describe("the reason of a KVM_SET_SREGS that was refused for the APIC base", () => {
  const base = 0xfee0_0000n;

  test.each([
    ["reserved bits", base | 0x801n, "apicBase 0xfee00801: bit 0 is reserved"],
    [
      "x2APIC without EN",
      base | bit(10),
      "apicBase 0xfee00400: bit 10 EXTD (x2APIC) without bit 11 EN",
    ],
    [
      "x2APIC without the feature",
      base | bit(10) | bit(11),
      "apicBase 0xfee00c00: bit 10 EXTD: x2apic is not in this vCPU's CPUID (0x1.0:ecx[21] x2apic)",
    ],
    [
      "a wide address",
      bit(40) | bit(11),
      "apicBase 0x10000000800 is wider than the 40 bits of this vCPU's physical addresses " +
        "(0x80000008.0:eax[7:0] phys_addr_bits)",
    ],
  ])("is stated for %s", (_, apicBase, reason) => {
    expect(why(REFUSED, { apicBase }, vcpuWith(HOST))).toBe(reason);
  });

  test("is absent for x2APIC mode if the table has x2APIC", () => {
    const evidence = vcpuWith(["x2apic"]);
    expect(why(REFUSED, { apicBase: base | bit(10) | bit(11) | bit(8) }, evidence)).toBeUndefined();
  });
});

describe("the reason of a refused KVM_SET_SREGS2", () => {
  const refused = "KVM_SET_SREGS2 EINVAL";

  test("is stated for undefined flags", () => {
    expect(why(refused, { flags: 2n }, vcpuWith(HOST))).toBe(
      "flags 0x2: bit 1 may not be set; Linux 7.2 has 0x1",
    );
  });

  test("is stated for PDPTRs if the mode is not PAE paging", () => {
    expect(why(refused, { flags: 1n, ...LONG }, vcpuWith(HOST))).toMatch(
      /not those of PAE paging$/,
    );
    for (const other of [{ cr0: bit(31) | bit(0) }, { cr4: bit(5) }]) {
      expect(why(refused, { flags: 1n, ...other }, vcpuWith(HOST))).toMatch(
        /not those of PAE paging$/,
      );
    }
    const pae = { flags: 1n, cr0: bit(31) | bit(0), cr4: bit(5) };
    expect(why(refused, pae, vcpuWith(HOST))).toBeUndefined();
  });

  test("names the same faults of registers as the reason of KVM_SET_SREGS", () => {
    expect(why(refused, { cr4: bit(12) }, vcpuWith([], HOST))).toMatch(/^CR4 bit 12 LA57: /);
  });
});

test("the reason of a refused KVM_SET_SREGS is the same for arguments in bytes and for named fields", () => {
  const whole = encode(Sregs2, { apicBase: 1n });
  expect(why("KVM_SET_SREGS2 EINVAL", whole, vcpuWith(HOST))).toMatch(/^apicBase 0x1: bit 0/);
  const bytes = encode(Sregs, { cr4: bit(12) });
  expect(why(REFUSED, bytes, vcpuWith([], HOST))).toMatch(/^CR4 bit 12 LA57: /);
});

test("the reason of a refused KVM_SET_SREGS without evidence names only values that every vCPU rejects", () => {
  expect(why(REFUSED, { cr4: bit(12) })).toBeUndefined();
  expect(why(REFUSED, { cr0: bit(31) })).toBe("CR0.PG is 1, and CR0.PE is 0");
});

test("the reason of a refused KVM_SET_SREGS ignores evidence that cannot be read", () => {
  const fail = (): never => {
    throw new Error("the vCPU is gone");
  };
  const evidence = { kvm: { supportedCpuid: fail }, vcpu: { id: 0, cpuid: fail } };
  expect(why(REFUSED, { cr4: bit(12) }, evidence)).toBeUndefined();
});
