/**
 * Tests of leaf 0xD: its components, reading the leaf, and computing it from features. The rule ids in this file are
 * ids of lint rules.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type CpuidFieldName,
  CpuidTable,
  closeFeatures,
  withXsave,
  XSAVE_COMPONENTS,
  xsaveCompactedSize,
  xsaveOf,
  xsaveSize,
} from "../../../lib/cpuid/index.ts";

const GENUINE_INTEL = { ebx: 0x756e6547, edx: 0x49656e69, ecx: 0x6c65746e };
const AUTHENTIC_AMD = { ebx: 0x68747541, edx: 0x69746e65, ecx: 0x444d4163 };

/**
 * A table with all leaves of features with extended state. Every feature is off, and leaf 0xD has only entries 0 and 1.
 */
function blank(vendor: typeof GENUINE_INTEL): CpuidTable {
  return CpuidTable.from([
    { function: 0, eax: 0x1f, ...vendor },
    { function: 1 },
    { function: 6 },
    { function: 7, index: 0, flags: 1, eax: 2 },
    { function: 7, index: 1, flags: 1 },
    { function: 0xd, index: 0, flags: 1 },
    { function: 0xd, index: 1, flags: 1 },
    { function: 0x14, index: 0, flags: 1 },
    { function: 0x80000000, eax: 0x80000008 },
    { function: 0x80000001 },
  ]);
}

const turnOn = (table: CpuidTable, on: readonly CpuidFieldName[]): CpuidTable =>
  table.with(Object.fromEntries(on.map((name) => [name, 1])));

const intel = (...on: readonly CpuidFieldName[]): CpuidTable =>
  turnOn(blank(GENUINE_INTEL), closeFeatures(on));

const amd = (...on: readonly CpuidFieldName[]): CpuidTable =>
  turnOn(blank(AUTHENTIC_AMD), closeFeatures(on));

/** All features with extended state except for APX, whose component overlaps with those of MPX. */
const STATE: readonly CpuidFieldName[] = [
  ...new Set(XSAVE_COMPONENTS.flatMap(({ features }) => features)),
].filter((name) => name !== "apx_f");

const someTables = fc
  .record({
    vendor: fc.constantFrom(GENUINE_INTEL, AUTHENTIC_AMD),
    on: fc.uniqueArray(
      fc.constantFrom<CpuidFieldName>(...STATE, "xsavec", "xsaves", "xfd", "xsave"),
    ),
    stale: fc.array(fc.record({ index: fc.nat({ max: 63 }), eax: fc.nat(), ebx: fc.nat(0xfff) })),
    xss: fc.nat(),
  })
  .map(({ vendor, on, stale, xss }) => {
    const features = closeFeatures(["avx", ...on]).filter((name) => name !== "lwp");
    const table = turnOn(blank(vendor), features).with({ xss_pt: (xss & 1) === 1 ? 1 : 0 });
    return table.append(
      ...stale
        .filter(({ index }) => index > 1)
        .map((e) => ({ ...e, function: 0xd, flags: 1, edx: 7 })),
    );
  });

describe("XSAVE_COMPONENTS", () => {
  test("has numbers 0 to 19 and 62, in order", () => {
    const numbers = XSAVE_COMPONENTS.map(({ number }) => number);
    expect(numbers).toEqual([...Array.from({ length: 20 }, (_, i) => i), 62]);
  });

  test("has an offset for each user component, and for no other component", () => {
    for (const { kind, offset } of XSAVE_COMPONENTS) {
      expect(offset !== undefined).toBe(kind === "user");
    }
  });
});

describe("withXsave()", () => {
  test("for AVX-512, PKU, AMX and CET on Intel computes the sizes of a Sapphire Rapids CPU", () => {
    const made = withXsave(
      intel("avx512f", "pku", "amx_tile", "cet_ss", "xsavec", "xsaves").append({
        function: 0xd,
        index: 2,
        flags: 1,
      }),
    );
    const { xcr0, xss, size, parts } = xsaveOf(made) ?? { parts: [] };
    expect({ xcr0, xss, size }).toEqual({ xcr0: 0x602e7n, xss: 0x1800n, size: 11008 });
    expect(parts.map(({ number, size: bytes, offset }) => [number, bytes, offset])).toEqual([
      [2, 256, 576],
      [5, 64, 1088],
      [6, 512, 1152],
      [7, 1024, 1664],
      [9, 8, 2688],
      [11, 16, 0],
      [12, 24, 0],
      [17, 64, 2752],
      [18, 8192, 2816],
    ]);
    expect(made.find(0xd, 18)?.ecx).toBe(6);
    expect(made.find(0xd, 11)?.ecx).toBe(1);
  });

  test("for AVX-512 and PKU on AMD computes the sizes of a Genoa CPU", () => {
    const { xcr0, size, parts } = xsaveOf(withXsave(amd("avx512f", "pku"))) ?? { parts: [] };
    expect({ xcr0, size }).toEqual({ xcr0: 0x2e7n, size: 2440 });
    expect(parts.map(({ offset }) => offset)).toEqual([576, 832, 896, 1408, 2432]);
  });

  test("writes the sizes for XCR0 after reset into the two registers that KVM updates", () => {
    const made = withXsave(intel("avx", "xsavec"));
    expect([made.get("xsave_sz_xcr0"), made.get("xsave_sz_xcr0_xss")]).toEqual([576, 576]);
    expect(withXsave(intel("avx")).get("xsave_sz_xcr0_xss")).toBe(0);
  });

  test("keeps the size and the offset in a CPU's sub-leaf, for example of Zen 2's PKRU", () => {
    const zen2 = amd("pku").append({ function: 0xd, index: 9, flags: 1, eax: 64, ebx: 832 });
    expect(withXsave(zen2).find(0xd, 9)).toMatchObject({ eax: 64, ebx: 832 });
    expect(withXsave(zen2).get("xsave_sz_max")).toBe(896);
    expect(withXsave(zen2, { vendor: "amd" }).find(0xd, 9)).toMatchObject({ eax: 8, ebx: 2432 });
  });

  test("keeps a supervisor component that KVM does not offer only if the table has its sub-leaf", () => {
    const table = intel("intel_pt", "xsaves", "uintr");
    expect(xsaveOf(withXsave(table))?.xss).toBe(0n);
    expect(xsaveOf(withXsave(table.with({ xss_pt: 1 })))?.xss).toBe(1n << 8n);
  });

  test("writes two entries of zeros if the table has no XSAVE", () => {
    const table = withXsave(withXsave(intel("avx", "xsavec")).with({ xsave: 0 }));
    const left = [...table].filter((e) => e.function === 0xd);
    expect(left).toEqual([0, 1].map((index) => expect.objectContaining({ index, eax: 0, ecx: 0 })));
  });

  test("raises the maximum of basic leaves to 0xD, but keeps a higher maximum", () => {
    expect(withXsave(intel("avx").with({ max_std_leaf: 7 })).get("max_std_leaf")).toBe(0xd);
    expect(withXsave(intel("avx")).get("max_std_leaf")).toBe(0x1f);
  });

  test("reads the size of TILEDATA from leaf 0x1D", () => {
    const tiles = { function: 0x1d, index: 1, flags: 1, eax: 0x0400_1000, ebx: 0x0004_0040 };
    const made = withXsave(intel("amx_tile").append(tiles));
    expect(made.find(0xd, 18)?.eax).toBe(4096);
  });

  test("does not mark TILEDATA as disabled by XFD if the table has no XFD", () => {
    expect(withXsave(intel("amx_tile").with({ xfd: 0 })).find(0xd, 18)?.ecx).toBe(2);
  });

  test("refuses APX with MPX, whose components overlap", () => {
    expect(() => withXsave(intel("apx_f", "mpx"))).toThrow(
      "withXsave(): components BNDREGS (960 to 1023) and APX (960 to 1087) overlap",
    );
  });

  test("refuses an unknown vendor and an unknown option", () => {
    expect(() => withXsave(intel(), { vendor: "via" as "amd" })).toThrow(
      'withXsave(): vendor is "intel" or "amd", not "via"',
    );
    expect(() => withXsave(intel(), { vender: "amd" } as object)).toThrow('mean "vendor"?');
  });

  test("gives a consistent leaf for any features and any stale sub-leaves", () => {
    fc.assert(
      fc.property(someTables, (before) => {
        const table = withXsave(before, { vendor: "intel" });
        const { xcr0, xss, size, parts } = xsaveOf(table) ?? { xcr0: 0n, xss: 0n, parts: [] };
        const has = (bit: number): boolean => (((xcr0 | xss) >> BigInt(bit)) & 1n) === 1n;
        // X02, X03, X04, X05, X06, X07
        expect(xcr0 & 3n).toBe(3n);
        expect(has(2)).toBe(table.has("avx"));
        expect([has(3), has(4)]).toEqual(Array(2).fill(table.has("mpx")));
        const isAvx512 = table.has("avx512f") || table.has("avx10");
        expect([has(5), has(6), has(7)]).toEqual(Array(3).fill(isAvx512));
        expect(has(9)).toBe(table.has("pku"));
        expect([has(17), has(18)]).toEqual(Array(2).fill(table.has("amx_tile")));
        // X09, X10, X11, X12
        const cet = table.has("xsaves") && (table.has("cet_ss") || table.has("ibt"));
        expect([has(11), has(12)]).toEqual([cet, cet]);
        expect(!has(8) || (table.has("intel_pt") && table.has("xsaves"))).toBe(true);
        expect(xss === 0n || table.has("xsaves")).toBe(true);
        expect(xcr0 & xss).toBe(0n);
        // X13, X14, X16, X20, X22
        const enabled = Array.from({ length: 61 }, (_, i) => i + 2).filter(has);
        expect([...table].filter((e) => e.function === 0xd).map((e) => e.index)).toEqual(
          expect.arrayContaining([0, 1, ...enabled]),
        );
        expect(parts.map(({ number }) => number)).toEqual(enabled);
        for (const { number, kind, offset, hasXfd } of parts) {
          expect(kind).toBe(((xss >> BigInt(number)) & 1n) === 1n ? "supervisor" : "user");
          expect(kind === "supervisor" ? offset === 0 : offset >= 576).toBe(true);
          expect(hasXfd && !table.has("xfd")).toBe(false);
        }
        const spans = parts.filter(({ kind }) => kind === "user");
        for (const a of spans) {
          for (const b of spans) {
            expect(a === b || a.offset + a.size <= b.offset || b.offset + b.size <= a.offset).toBe(
              true,
            );
          }
        }
        // X17, X18, X19
        expect(size).toBe(Math.max(576, ...spans.map((part) => part.offset + part.size)));
        expect(table.get("xsave_sz_xcr0")).toBe(576);
        const compacted = xsaveCompactedSize(parts, xcr0 | xss);
        expect(table.get("xsave_sz_xcr0_xss") ?? 0).toBeLessThanOrEqual(compacted);
        expect([...table].filter((e) => e.function === 0xd).every((e) => e.edx === 0)).toBe(true);
      }),
    );
  });

  test("changes nothing outside of leaf 0xD, and changes nothing if it is applied again", () => {
    fc.assert(
      fc.property(someTables, (before) => {
        const json = JSON.stringify(before);
        const once = withXsave(before, { vendor: "intel" });
        const others = (table: CpuidTable): string =>
          table.filter((e) => e.function !== 0xd).toString();
        expect(others(once)).toBe(others(before));
        expect(withXsave(once).toString()).toBe(once.toString());
        expect(JSON.stringify(before)).toBe(json);
      }),
    );
  });
});

describe("the size of an XSAVE area", () => {
  const parts = [
    { number: 18, size: 8192, offset: 2816, isAligned: true },
    { number: 2, size: 256, offset: 576, isAligned: false },
    { number: 9, size: 8, offset: 2688, isAligned: false },
  ];

  test("in the standard format is the end of the last component in the mask", () => {
    expect([0x3n, 0x7n, 0x207n, 0x40207n].map((mask) => xsaveSize(parts, mask))).toEqual([
      576, 832, 2696, 11008,
    ]);
  });

  test("in the compacted format is the sum of the sizes, with aligned components at multiples of 64", () => {
    expect([0x3n, 0x207n, 0x40207n].map((mask) => xsaveCompactedSize(parts, mask))).toEqual([
      576, 840, 9088,
    ]);
  });
});

test("xsaveOf() of a table without leaf 0xD returns undefined", () => {
  expect(xsaveOf(CpuidTable.from([{ function: 0 }]))).toBeUndefined();
});
