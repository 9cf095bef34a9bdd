/**
 * Tests of compare(): whether a guest with the table of one host can run on a host with another table, and the reasons.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type CpuidEntry2Input,
  type CpuidFieldValuesInput,
  CpuidTable,
  compare,
  formatDifference,
} from "../../../lib/cpuid/index.ts";

const host = CpuidTable.from([
  { function: 0, eax: 0xd, ebx: 0x756e6547, ecx: 0x6c65746e, edx: 0x49656e69 },
  { function: 1, eax: 0x906ea, ebx: 0x100800, ecx: 1 << 26 },
  { function: 2, eax: 1 },
  { function: 7, flags: 1, ebx: 1 << 5 },
  { function: 0xa, eax: 0x07300402, ebx: 0 },
  { function: 0xd, flags: 1, eax: 7, ebx: 0x240, ecx: 0x340 },
  { function: 0xd, index: 2, flags: 1, eax: 256, ebx: 576 },
  { function: 0x80000000, eax: 0x80000008 },
  { function: 0x80000008, eax: 0x3028 },
]);

const relation = (values: CpuidFieldValuesInput, index?: number): string =>
  compare(host, host.with(values, index)).relation;

describe("the relation of a table to another", () => {
  test(`is "identical" for the same table`, () => {
    expect(compare(host, host)).toEqual({
      relation: "identical",
      reasons: [],
      notes: [],
      negated: [],
    });
  });

  test.each([
    ["an added feature", { avx: 1 }, "subset"],
    ["a removed feature", { avx2: 0 }, "superset"],
    ["an added and a removed feature", { avx: 1, avx2: 0 }, "incompatible"],
    ["a larger address", { phys_addr_bits: 46 }, "subset"],
    ["a smaller address", { phys_addr_bits: 39 }, "superset"],
    ["a bit that reports the lack of a function", { fdp_excptn_only: 1 }, "superset"],
    ["a bit that reports the lack of a flaw", { mcdt_no: 1 }, "subset"],
    ["another cache line size", { clflush_size: 16 }, "incompatible"],
    ["no cache line size", { clflush_size: 0 }, "superset"],
    ["an event that the PMU lacks", { no_llc_misses: 1 }, "superset"],
    ["another vendor", { cpu_vendorid_0: 0x68747541 }, "incompatible"],
  ] as const)("with %s (%j) is %s", (_, values, expected) => {
    const other = CpuidTable.from([...host, { function: 7, index: 2, flags: 1 }]);
    expect(compare(other, other.with(values)).relation).toBe(expected);
  });

  test.each([
    ["another stepping", { stepping: 1 }],
    ["another APIC id", { local_apic_id: 3 }],
    ["a bit that KVM computes", { osxsave: 1, xsave_sz_xcr0: 0x340 }],
    ["other cache descriptors", { desc1: 3 }],
    ["another number of threads", { n_logical_cpu: 4 }],
  ] as const)("with %s is identical, with a note", (_, values) => {
    const { relation: found, notes, reasons } = compare(host, host.with(values));
    expect(found).toBe("identical");
    expect(reasons).toEqual([]);
    expect(notes.map(({ name }) => name)).toEqual(Object.keys(values));
  });

  test(`is "incompatible" if an XSAVE component has another offset`, () => {
    expect(relation({ xsave_offset: 832 }, 2)).toBe("incompatible");
  });

  test(`is "subset" if only the other table has an XSAVE component`, () => {
    const other = host
      .with({ xcr0_pkru: 1 })
      .append({ function: 0xd, index: 9, flags: 1, eax: 8, ebx: 2432 });
    expect(compare(host, other).relation).toBe("subset");
    expect(compare(other, host).relation).toBe("superset");
  });

  test(`is "superset" if the other table does not have leaf 7 or the PMU's leaf 0xA`, () => {
    expect(compare(host, host.without(7)).relation).toBe("superset");
    expect(compare(host, host.without(0xa)).relation).toBe("superset");
    expect(compare(host, host.without(2)).relation).toBe("identical");
  });

  test("does not depend on the order of entries, the flags of unindexed leaves, and entries that KVM never uses", () => {
    const other = CpuidTable.from([...host].reverse()).append({ function: 7, flags: 1, ebx: 1 });
    expect(compare(host, other).relation).toBe("identical");
  });

  test('is "subset" if only the other table has an unnamed bit of a feature register', () => {
    expect(compare(host, host.replace(1, { ecx: (1 << 26) | (1 << 16) })).relation).toBe("subset");
  });

  test(`is "incompatible" for an unknown leaf whose values differ`, () => {
    const [a, b] = [
      host.append({ function: 0x7777, eax: 1 }),
      host.append({ function: 0x7777, eax: 2 }),
    ];
    expect(compare(a, b).relation).toBe("incompatible");
    expect(compare(host, b).relation).toBe("subset");
  });

  test(`is "incompatible" if each table has a mask bit that the other table does not have`, () => {
    const mask = (ecx: number): CpuidTable => host.replace(4, { ecx });
    expect(compare(mask(3), mask(5)).relation).toBe("incompatible");
    expect(compare(mask(4), mask(5)).relation).toBe("subset");
  });
});

test("negated bits are listed separately from the other reasons", () => {
  const { negated, reasons } = compare(host, host.with({ fdp_excptn_only: 1, avx2: 0 }));
  expect(reasons.map(({ name }) => name)).toEqual(["avx2", "fdp_excptn_only"]);
  expect(negated.map(({ name }) => name)).toEqual(["fdp_excptn_only"]);
});

test.each([
  [{ avx2: 0 }, "0x7.0:ebx[5] avx2: 1 and 0, the first has more"],
  [{ avx: 1 }, "0x1.0:ecx[28] avx: 0 and 1, the second has more"],
  [{ stepping: 1 }, "0x1.0:eax[3:0] stepping: 10 and 1, a guest runs with either"],
  [{ clflush_size: 16 }, "0x1.0:ebx[15:8] clflush_size: 8 and 16, they exclude each other"],
  [
    { zero_fcs_fds: 1 },
    "0x7.0:ebx[13] zero_fcs_fds: 0 and 1, the first has more (1 reports that the CPU lacks a function)",
  ],
] as const)(
  "the difference %j is printed with its position, values and consequence",
  (values, line) => {
    const { reasons, notes } = compare(host, host.with(values));
    expect([...reasons, ...notes].map(formatDifference)).toEqual([line]);
  },
);

test("an unnamed bit is printed with its position", () => {
  const { reasons } = compare(host, host.replace(1, { ecx: (1 << 26) | (1 << 16) }));
  expect(reasons.map(formatDifference)).toEqual([
    "0x1.0:ecx[16] reserved: 0 and 1, the second has more",
  ]);
});

const word = fc.nat({ max: 0xffffffff });
const anEntry: fc.Arbitrary<CpuidEntry2Input> = fc.record({
  function: fc.constantFrom(0, 1, 7, 0xa, 0xd, 0x80000008, 0x80000021, 0x12345),
  index: fc.nat({ max: 2 }),
  flags: fc.nat({ max: 1 }),
  eax: word,
  ebx: word,
  ecx: word,
  edx: word,
});
const tables = fc.array(anEntry, { maxLength: 6 }).map((list) => CpuidTable.from(list));

test("compare() of two tables in the other order has the opposite relation", () => {
  const opposite = {
    identical: "identical",
    subset: "superset",
    superset: "subset",
    incompatible: "incompatible",
  };
  fc.assert(
    fc.property(tables, tables, (a, b) => {
      expect(compare(b, a).relation).toBe(opposite[compare(a, b).relation]);
    }),
  );
});

test("a table without some feature bits of another table is a subset", () => {
  fc.assert(
    fc.property(word, word, word, (ebx, ecx, mask) => {
      const negated = (1 << 6) | (1 << 13);
      const table = (more: number): CpuidTable =>
        CpuidTable.from([{ function: 7, flags: 1, ebx: (ebx & ~negated & more) >>> 0, ecx }]);
      expect(["subset", "identical"]).toContain(compare(table(mask), table(-1)).relation);
    }),
  );
});

test.each([
  [() => compare(5 as never, host), "compare(): expected an array"],
  [() => formatDifference({} as never), "formatDifference(): missing members"],
])("the wrong argument in this call is refused: %s", (call, message) => {
  expect(call).toThrow(TypeError);
  expect(call).toThrow(message);
});

test("unnamed bits that differ are listed as ranges, each with the table that has the bits", () => {
  const tableOf = (eax: number): CpuidTable => CpuidTable.from([{ function: 0x80000021, eax }]);
  const bits = compare(tableOf((1 << 15) | (3 << 25)), tableOf((1 << 19) | (1 << 18))).reasons;
  expect(bits.map(formatDifference)).toEqual([
    "0x80000021.0:eax[15] reserved: 1 and 0, the first has more",
    "0x80000021.0:eax[18] epsf: 0 and 1, the second has more",
    "0x80000021.0:eax[19] reserved: 0 and 1, the second has more",
    "0x80000021.0:eax[26:25] reserved: 3 and 0, the first has more",
  ]);
});
