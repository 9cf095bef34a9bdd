/** Tests of the oracle's rules for XCR0 and for XSAVE areas. */
import { describe, expect, test } from "vitest";
import type { Xcrs } from "../../../lib/abi/generated/structs.ts";
import { CpuidTable } from "../../../lib/cpuid/index.ts";
import {
  GET_XSAVE_RULES,
  SET_XCRS_RULES,
  SET_XSAVE_RULES,
  XFEATURES,
  XSAVE_SIZE_RULES,
} from "../../../lib/oracle/index.ts";
import { componentsOf, xcr0Finding } from "../../../lib/oracle/xsave.ts";
import { broken, EMPTY } from "./asked.ts";

const tableWith = (eax: number, edx = 0): CpuidTable =>
  CpuidTable.from([{ function: 0xd, index: 0, flags: 1, eax, edx }]);

describe("the oracle's rule for XCR0", () => {
  test.each([
    [0n, { kind: "xcr0-without-x87", xcr0: 0n }],
    [2n, { kind: "xcr0-without-x87", xcr0: 2n }],
    [5n, { kind: "xcr0-dependency", xcr0: 5n, bits: [2], feature: "AVX", needed: 1 }],
    [0xfn, { kind: "xcr0-part-of-feature", xcr0: 0xfn, feature: "MPX", missing: [4] }],
    [0x17n, { kind: "xcr0-part-of-feature", xcr0: 0x17n, feature: "MPX", missing: [3] }],
    [0x27n, { kind: "xcr0-part-of-feature", xcr0: 0x27n, feature: "AVX-512", missing: [6, 7] }],
    [0xc7n, { kind: "xcr0-part-of-feature", xcr0: 0xc7n, feature: "AVX-512", missing: [5] }],
    [0x2_0007n, { kind: "xcr0-part-of-feature", xcr0: 0x2_0007n, feature: "AMX", missing: [18] }],
    [0x4_0007n, { kind: "xcr0-part-of-feature", xcr0: 0x4_0007n, feature: "AMX", missing: [17] }],
    [
      0xe3n,
      { kind: "xcr0-dependency", xcr0: 0xe3n, bits: [5, 6, 7], feature: "AVX-512", needed: 2 },
    ],
  ] as const)("refuses %i", (xcr0, finding) => {
    expect(xcr0Finding(xcr0, undefined)).toEqual(finding);
  });

  test.each([1n, 3n, 7n, 0x1fn, 0xe7n, 0x6_0007n])("accepts %i", (xcr0) => {
    expect(xcr0Finding(xcr0, undefined)).toBeUndefined();
    expect(xcr0Finding(xcr0, tableWith(0xffff_ffff))).toBeUndefined();
  });

  test("limits the value to the bits of leaf 0xd.0, except for x87", () => {
    const beyond = { kind: "xcr0-beyond-cpuid", xcr0: 7n };
    expect(xcr0Finding(7n, EMPTY)).toEqual({ ...beyond, bits: [1, 2], allowed: undefined });
    expect(xcr0Finding(7n, tableWith(3))).toEqual({ ...beyond, bits: [2], allowed: 3n });
    expect(xcr0Finding(1n, EMPTY)).toBeUndefined();
    expect(xcr0Finding(1n, tableWith(2))).toBeUndefined();
  });

  test("compares the value with EAX and EDX", () => {
    expect(componentsOf(tableWith(7, 1))).toBe(0x1_0000_0007n);
    expect(componentsOf(EMPTY)).toBeUndefined();
    expect(xcr0Finding(0x1_0000_0001n, tableWith(0, 1))).toBeUndefined();
  });
});

describe("the oracle's rule for KVM_SET_XCRS", () => {
  const xcrs = (more: Partial<Xcrs>): Xcrs => ({
    nrXcrs: 1,
    flags: 0,
    xcrs: [{ xcr: 0, reserved: 0, value: 1n }],
    padding: [],
    ...more,
  });
  const judge = (sent: Xcrs | undefined, capability?: number) =>
    broken(SET_XCRS_RULES, { xcrs: sent, table: EMPTY, capability: capability ?? 1 });
  const entry = (xcr: number, value: bigint) => ({ xcr, reserved: 0, value });

  test("accepts XCR0 = 1 without a table", () => {
    expect(judge(xcrs({}))).toEqual([]);
    expect(judge(undefined)).toEqual([]);
  });

  test("accepts at most 16 registers", () => {
    const finding = { kind: "too-many-xcrs", nrXcrs: 17, most: 16 };
    expect(judge(xcrs({ nrXcrs: 17 }))).toEqual([
      ["too many registers", { is: "refused", finding }],
    ]);
    expect(judge(xcrs({ nrXcrs: 16 }))).toEqual([]);
  });

  test("accepts no flags", () => {
    const finding = {
      kind: "forbidden-bits",
      name: "flags",
      value: 2n,
      bits: [1],
      allowed: 0n,
      allowedBy: "linux",
    };
    expect(judge(xcrs({ flags: 2 }))).toEqual([["flags", { is: "refused", finding }]]);
  });

  test("judges the first XCR0 among the first nrXcrs registers", () => {
    const wrong = ["XCR0", { is: "refused", finding: { kind: "xcr0-without-x87", xcr0: 2n } }];
    expect(judge(xcrs({ xcrs: [entry(0, 2n)] }))).toEqual([wrong]);
    expect(judge(xcrs({ nrXcrs: 2, xcrs: [entry(1, 2n), entry(0, 2n)] }))).toEqual([wrong]);
    expect(judge(xcrs({ nrXcrs: 2, xcrs: [entry(0, 1n), entry(0, 2n)] }))).toEqual([]);
    expect(judge(xcrs({ nrXcrs: 1, xcrs: [entry(1, 2n), entry(0, 2n)] }))).toEqual([]);
    expect(judge(xcrs({ nrXcrs: 0, xcrs: [entry(0, 2n)] }))).toEqual([]);
  });

  test("refuses the call on a host without XSAVE, and is undecided for an unknown host", () => {
    expect(judge(xcrs({}), 0)).toEqual([
      ["no XSAVE", { is: "refused", finding: { kind: "no-xsave" } }],
    ]);
    const asked = { xcrs: undefined, table: undefined, capability: undefined };
    expect(broken(SET_XCRS_RULES, asked)).toEqual([]);
  });
});

describe("the oracle's rule for KVM_SET_XSAVE", () => {
  /** Returns an XSAVE area with bytes at an offset, inside a larger buffer. */
  function area(at: number, bytes: readonly number[], size = 4096): Uint8Array {
    const whole = new Uint8Array(size + 16).fill(0xff);
    const part = whole.subarray(8, 8 + size).fill(0);
    part.set(bytes, at);
    return part;
  }
  const judge = (sent: Uint8Array | undefined, supported: CpuidTable | undefined = tableWith(7)) =>
    broken(SET_XSAVE_RULES, { area: sent, supported });
  const forbidden = (name: string, value: bigint, bits: readonly number[], allowed: bigint) => ({
    kind: "forbidden-bits",
    name,
    value,
    bits,
    allowed,
  });

  test("accepts only the components that KVM supports for guests", () => {
    const finding = { ...forbidden("xstate_bv", 0x208n, [3, 9], 7n), allowedBy: "guests" };
    const sent = area(512, [8, 2]);
    expect(judge(sent)).toEqual([["components", { is: "refused", finding }]]);
    expect(judge(sent, EMPTY)).toEqual([]);
    expect(broken(SET_XSAVE_RULES, { area: sent, supported: undefined })).toEqual([]);
    expect(judge(area(512, [7]))).toEqual([]);
  });

  test("accepts only the standard format", () => {
    const finding = { kind: "compacted-area", xcompBv: 1n << 63n };
    expect(judge(area(527, [0x80]))).toEqual([["compact form", { is: "refused", finding }]]);
  });

  test.each([528, 575])("requires 0 in byte %i of the XSAVE header", (offset) => {
    const finding = { kind: "reserved-byte", offset };
    expect(judge(area(offset, [1]))).toEqual([["reserved header", { is: "refused", finding }]]);
  });

  test("accepts any bytes after the XSAVE header", () => {
    expect(judge(area(576, [1]))).toEqual([]);
  });

  test("judges MXCSR if the area has x87, SSE or AVX", () => {
    const withMxcsr = (mxcsr: readonly number[], components: number): Uint8Array => {
      const sent = area(24, mxcsr);
      sent[512] = components;
      return sent;
    };
    const finding = { ...forbidden("mxcsr", 0x1_0000n, [16], 0x2_ffffn), allowedBy: "x86" };
    for (const components of [1, 2, 4]) {
      expect(judge(withMxcsr([0, 0, 1], components))).toEqual([
        ["mxcsr", { is: "refused", finding }],
      ]);
    }
    expect(judge(withMxcsr([0, 0, 1], 0))).toEqual([]);
    expect(judge(withMxcsr([0xff, 0xff], 7))).toEqual([]);
    expect(judge(withMxcsr([0, 0, 2], 7))).toEqual([
      ["mxcsr of AMD", { is: "undecided", finding: { kind: "misaligned-mode", mxcsr: 0x2_0000 } }],
    ]);
  });

  test.each([575, 0])("does not judge an area of %i bytes", (size) => {
    const short = new Uint8Array(size).fill(0xff);
    expect(judge(short)).toEqual([]);
    expect(judge(undefined)).toEqual([]);
  });

  test("judges an area of 576 bytes", () => {
    expect(judge(area(575, [1], 576))).toHaveLength(1);
  });
});

describe("the oracle's size of XSAVE state", () => {
  test("is the minimum size of an area", () => {
    const finding = { kind: "short-area", bytes: 4096, needed: 4097 };
    expect(broken(XSAVE_SIZE_RULES, { bytes: 4096, size: 4097 })).toEqual([
      ["short", { is: "refused", finding }],
    ]);
    expect(broken(XSAVE_SIZE_RULES, { bytes: 4096, size: 4096 })).toEqual([]);
    expect(broken(XSAVE_SIZE_RULES, { bytes: undefined, size: 4096 })).toEqual([]);
    expect(broken(XSAVE_SIZE_RULES, { bytes: 4096, size: undefined })).toEqual([]);
  });

  test("is at most 4096 for KVM_GET_XSAVE", () => {
    const finding = { kind: "larger-state", size: 4097, room: 4096 };
    expect(broken(GET_XSAVE_RULES, { size: 4097 })).toEqual([
      ["larger state", { is: "refused", finding }],
    ]);
    expect(broken(GET_XSAVE_RULES, { size: 4096 })).toEqual([]);
    expect(broken(GET_XSAVE_RULES, { size: undefined })).toEqual([]);
  });
});

test("the oracle has a name for each XSAVE component", () => {
  const names = Object.entries(XFEATURES).map(([bit, name]) => `${bit} ${name}`);
  expect(names.join(", ")).toBe(
    "0 x87, 1 SSE, 2 AVX, 3 BNDREGS, 4 BNDCSR, 5 opmask, 6 ZMM_Hi256, 7 Hi16_ZMM, 9 PKRU, " +
      "11 CET_U, 12 CET_S, 17 TILECFG, 18 TILEDATA",
  );
});
