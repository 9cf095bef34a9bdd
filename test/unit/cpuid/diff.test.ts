/** Tests of diff() and printDiff(). */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type CpuidChange,
  type CpuidEntry2Input,
  CpuidTable,
  cpuid,
  diff,
  entry,
  formatChange,
  printDiff,
} from "../../../lib/cpuid/index.ts";

const table = CpuidTable.from([
  { function: 0, eax: 7 },
  { function: 1, eax: 0x906ea },
  { function: 4, index: 0, flags: 1 },
  { function: 4, index: 1, flags: 1 },
  { function: 7, flags: 1, ebx: 0x20 },
]);
const lines = (other: Iterable<CpuidEntry2Input>): string =>
  printDiff(diff(table, CpuidTable.from(other)));

const small = fc.integer({ min: 0, max: 2 });
const entries = fc.array(
  fc.record({ function: small, index: small, flags: fc.integer({ min: 0, max: 1 }), eax: small }),
  { maxLength: 6 },
);

test("diff() is empty if and only if the tables are equal", () => {
  fc.assert(
    fc.property(entries, entries, (x, y) => {
      const [a, b] = [CpuidTable.from(x), CpuidTable.from(y)];
      expect(diff(a, b).length === 0).toBe(a.equals(b));
    }),
    { numRuns: 2000 },
  );
});

test("a table does not differ from itself", () => {
  fc.assert(
    fc.property(entries, (x) => {
      expect(diff(CpuidTable.from(x), CpuidTable.from(x))).toEqual([]);
    }),
  );
});

test("distinct entries in another order differ only in order, and at least one entry keeps its place", () => {
  const distinct = fc.uniqueArray(fc.integer({ min: 0, max: 20 }), { minLength: 1 });
  const shuffled = distinct.chain((all) =>
    fc.tuple(fc.constant(all), fc.shuffledSubarray(all, { minLength: all.length })),
  );
  fc.assert(
    fc.property(shuffled, ([x, y]) => {
      const table = (all: readonly number[]): CpuidTable =>
        CpuidTable.from(all.map((n) => ({ function: n })));
      const changes = diff(table(x), table(y));
      expect(changes.filter((c) => c.kind !== "order")).toEqual([]);
      expect(changes.length).toBeLessThan(x.length);
    }),
  );
});

test("a changed feature is named", () => {
  expect(diff(table, table.with({ avx2: 0 }))).toEqual([
    {
      kind: "field",
      fieldKind: "feature",
      name: "avx2",
      where: "0x7.0:ebx[5]",
      space: "native",
      function: 7,
      index: 0,
      position: 4,
      register: "ebx",
      low: 5,
      high: 5,
      before: 1,
      after: 0,
    },
  ]);
});

test("a changed feature is printed with its place and values", () => {
  expect(lines(table.with({ avx2: 0 }))).toBe("0x7.0:ebx[5] avx2: 1 -> 0");
});

test("printDiff() uses the given names of the two tables", () => {
  const said = diff(table, table.with({ avx2: 0 })).map((change) =>
    formatChange(change, { before: "ran with", after: "got" }),
  );
  expect(said).toEqual(["0x7.0:ebx[5] avx2: ran with 1, got 0"]);
});

test("a change of a wide field is reported as one change", () => {
  expect(lines(table.with({ base_model: 1 }))).toBe("0x1.0:eax[7:4] base_model: 14 -> 1");
});

test("a field of 16 bits or more is printed in hexadecimal", () => {
  expect(lines(table.with({ max_std_leaf: 0x1f }))).toBe(
    "0x0.0:eax[31:0] max_std_leaf: 0x7 -> 0x1f",
  );
});

test("adjacent unnamed bits are reported as one range", () => {
  const changed = table.replace(1, { eax: 0xf009c6ea });
  expect(lines(changed)).toBe(
    "0x1.0:eax[15:14] reserved: 0 -> 3\n0x1.0:eax[31:28] reserved: 0 -> 15",
  );
});

test("named and unnamed bits of one register are listed in bit order", () => {
  const changed = table.replace(1, { ecx: 0x00030001 });
  expect(lines(changed)).toBe(
    "0x1.0:ecx[0] pni: 0 -> 1\n0x1.0:ecx[16] reserved: 0 -> 1\n0x1.0:ecx[17] pcid: 0 -> 1",
  );
});

test("a field of a family of sub-leaves is reported with the number of its sub-leaf", () => {
  expect(lines(table.with({ cache_level: 2 }, 1))).toBe("0x4.1:eax[7:5] cache_level: 0 -> 2");
});

test("a hypervisor's field is named according to the hypervisor's signature", () => {
  const kvm = CpuidTable.from([
    { function: 0x40000100, ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d },
    { function: 0x40000101, eax: 0x80 },
  ]);
  expect(printDiff(diff(kvm, kvm.with({ kvm_pv_unhalt: 0 })))).toBe(
    "0x40000101.0:eax[7] kvm_pv_unhalt: 1 -> 0",
  );
});

test("a hypervisor leaf has a name even if only the second table has the hypervisor's signature", () => {
  const plain = CpuidTable.from([{ function: 0x40000001, eax: 0 }]);
  const hyperv = plain.replace(0, { eax: 0x31237648 });
  expect(printDiff(diff(plain, hyperv))).toBe(
    "0x40000001.0:eax[31:0] hv_interface_id: 0x0 -> 0x31237648",
  );
});

test("a hypervisor leaf has a name even if only the first table has the hypervisor's signature", () => {
  const plain = CpuidTable.from([{ function: 0x40000001, eax: 0 }]);
  const hyperv = plain.replace(0, { eax: 0x31237648 });
  expect(printDiff(diff(hyperv, plain))).toBe(
    "0x40000001.0:eax[31:0] hv_interface_id: 0x31237648 -> 0x0",
  );
});

test("a change of bit 0 in a register without known fields is reported as one change", () => {
  expect(printDiff(diff([entry({ function: 3 })], [entry({ function: 3, eax: 1 })]))).toBe(
    "0x3.0:eax[0] reserved: 0 -> 1",
  );
});

test("a change of the number of entries has no leaf", () => {
  expect(diff(table, table.append({ function: 2 }))[0]).toStrictEqual({
    kind: "count",
    where: "table",
    function: undefined,
    index: undefined,
    position: undefined,
    before: 5,
    after: 6,
  });
});

test("a removed entry is reported as a removal and a change of the number of entries", () => {
  expect(lines(table.without(7))).toBe(
    "table entries: 5 -> 4\n0x7.0 entry: present (avx2) -> absent",
  );
});

test("an added entry is reported as an addition and a change of the number of entries", () => {
  expect(lines(table.append({ function: 2 }))).toBe(
    "table entries: 5 -> 6\n0x2.0 entry: absent -> present",
  );
});

test("an added entry lists its nonzero fields, at most 12", () => {
  const few = table.append({ function: 7, index: 1, flags: 1, eax: 1 << 5 });
  expect(lines(few)).toContain("0x7.1 entry: absent -> present (avx512_bf16)");
  const many = printDiff(diff(table, table.append({ function: 0x80000001, edx: 0xffffffff })));
  const names = /present \(([^)]*)\)/.exec(many)?.[1]?.split(" and ");
  expect(names?.[0]?.split(", ")).toHaveLength(12);
  expect(names?.[1]).toMatch(/^\d+ more$/);
});

test("an added or removed hypervisor entry lists the fields of its interface, at any base", () => {
  const first = table.append({ function: 1, ecx: 0 });
  const both = cpuid.from(first).hypervisor("hyperv", "kvm").table;
  const text = printDiff(diff(first, both));
  expect(text).toContain("0x40000000.0 entry: absent -> present (hv_max_leaf, hv_vendor_0, hv_");
  expect(text).toContain("0x40000003.0 entry: absent -> present (hv_time_ref_count, hv_apic_acc");
  expect(text).toContain("0x40000101.0 entry: absent -> present (kvm_clocksource, kvm_nop_io_de");
  const kvm = cpuid.from(first).hypervisor("kvm").table;
  expect(printDiff(diff(kvm, first))).toContain(
    "0x40000001.0 entry: present (kvm_clocksource, kvm_nop_io_delay, ",
  );
  expect(diff(kvm, first)[1]).toMatchObject({ kind: "removed", space: "kvm" });
});

test("a second duplicate is reported as an added entry", () => {
  expect(diff(table, table.append({ function: 1 })).map((c) => c.kind)).toEqual(["count", "added"]);
});

test("an added duplicate is called a duplicate, with its ordinal number", () => {
  const twice = table.append({ function: 7, flags: 1, eax: 1 });
  expect(lines(twice)).toBe(
    "table entries: 5 -> 6\n0x7.0#2 duplicate entry: absent -> present (leaf7_n_subleaves)",
  );
  expect(lines(twice.append({ function: 7, flags: 1 }))).toContain(
    "0x7.0#3 duplicate entry: absent",
  );
  expect(diff(table, twice)[1]).toMatchObject({ where: "0x7.0#2", index: 0, copy: 1 });
});

test("a removed entry is called a duplicate if an earlier entry has the same leaf and sub-leaf", () => {
  const twice = table.append({ function: 7, flags: 1 });
  expect(printDiff(diff(twice, table))).toBe(
    "table entries: 6 -> 5\n0x7.0#2 duplicate entry: present -> absent",
  );
});

test("an entry that occurs once is not a duplicate", () => {
  expect(diff(table, table.append({ function: 7, index: 1, flags: 1 }))[1]).toMatchObject({
    where: "0x7.1",
    copy: 0,
  });
});

test("a change in a duplicate is reported with the duplicate's ordinal number", () => {
  const twice = table.append({ function: 7, flags: 1 });
  expect(printDiff(diff(twice, twice.replace(5, { ebx: 0x20, flags: 0 })))).toBe(
    "0x7.0#2 flags: 1 -> 0\n0x7.0#2:ebx[5] avx2: 0 -> 1",
  );
});

test("moving one entry is reported as one change of order", () => {
  const [first, ...rest] = [...table];
  expect(lines([...rest, first ?? { function: 0 }])).toBe("0x0.0 position: 0 -> 4");
});

/** Returns the entries of the table in another order. */
const reordered = (...order: readonly number[]): readonly CpuidEntry2Input[] =>
  order.flatMap((i) => table.at(i) ?? []);

test.each([
  ["the last entry at the front", [4, 0, 1, 2, 3], "0x7.0 position: 4 -> 0"],
  ["a later entry in the middle", [0, 3, 1, 2, 4], "0x4.1 position: 3 -> 1"],
  ["an entry behind the next", [1, 0, 2, 3, 4], "0x1.0 position: 1 -> 0"],
  ["an entry between two that stay", [3, 0, 1, 2, 4], "0x4.1 position: 3 -> 0"],
])("%s is one change of order", (_, order, line) => {
  expect(lines(reordered(...order))).toBe(line);
});

test("if two entries changed places, only the second has moved", () => {
  const two = table.filter(({ function: fn }) => fn < 2);
  expect(printDiff(diff(two, CpuidTable.from([...two].reverse())))).toBe("0x1.0 position: 1 -> 0");
});

test("sub-leaves that changed places differ in order but not in index", () => {
  expect(lines(reordered(0, 1, 3, 2, 4))).toBe("0x4.1 position: 3 -> 2");
});

test("an entry with a changed index keeps its place", () => {
  expect(lines(table.replace(2, { index: 5 }))).toBe("0x4.0 index: 0 -> 5");
});

test("entries that occur several times are compared in their order", () => {
  const many = Array.from({ length: 6 }, (_, eax) => entry({ function: 7, flags: 1, eax }));
  expect(diff(many, many)).toEqual([]);
  expect(printDiff(diff(many, many.with(4, entry({ function: 7, flags: 1, eax: 5 }))))).toBe(
    "0x7.0#5:eax[31:0] leaf7_n_subleaves: 0x4 -> 0x5",
  );
});

test("a change of an entry's flags is reported", () => {
  expect(lines(table.replace(4, { flags: 0 }))).toBe("0x7.0 flags: 1 -> 0");
});

test("a changed index is reported as a change of the index", () => {
  expect(lines(table.replace(4, { index: 3 }))).toBe("0x7.0 index: 0 -> 3");
});

describe("the kind of a change", () => {
  const many = CpuidTable.from([
    { function: 0 },
    { function: 1 },
    { function: 7, flags: 1 },
    { function: 0x80000008 },
    { function: 0x24, flags: 1 },
    { function: 0x12345 },
  ]);

  test.each([
    [{ avx2: 1 }, "feature"],
    [{ fdp_excptn_only: 1 }, "negated"],
    [{ phys_addr_bits: 46 }, "size"],
    [{ n_logical_cpu: 8 }, "topology"],
    [{ stepping: 1 }, "id"],
    [{ local_apic_id: 1 }, "id"],
    [{ osxsave: 1 }, "runtime-owned"],
    [{ avx10_version: 2 }, "size"],
  ] as const)("of %j is %s", (values, kind) => {
    expect(diff(many, many.with(values))).toMatchObject([{ fieldKind: kind }]);
  });

  test("of a bit without a name is the kind of the bit's register", () => {
    expect(diff(many, many.replace(1, { ecx: 1 << 16 }))).toMatchObject([
      { name: undefined, fieldKind: "feature" },
    ]);
    expect(diff(many, many.replace(5, { ecx: 1 }))).toMatchObject([{ fieldKind: "size" }]);
  });
});

describe("the option `ignore` of diff()", () => {
  const own = CpuidTable.from([{ function: 1 }, { function: 0xb, flags: 1 }, { function: 2 }]);

  test("omits changes of the APIC id", () => {
    const other = own.with({ local_apic_id: 3, x2apic_id: 3, avx: 1 });
    expect(printDiff(diff(own, other, { ignore: ["apic-id"] }))).toBe("0x1.0:ecx[28] avx: 0 -> 1");
  });

  test.each([
    [0xb, 2, "x2apic_id"],
    [0x1f, 6, "x2apic_id_1f"],
    [0x8000_0026, 4, "x2apic_id_80000026"],
  ] as const)(
    "omits changes of the APIC id in leaf 0x%x.%i, after the last level",
    (fn, index, name) => {
      const at = (edx: number): CpuidTable =>
        CpuidTable.from([{ function: fn, index, flags: 1, ecx: index, edx }]);
      expect(diff(at(0), at(5), { ignore: ["apic-id"] })).toEqual([]);
      expect(diff(at(0), at(5), { ignore: [name] })).toEqual([]);
      expect(diff(at(0), at(5), { ignore: ["local_apic_id"] })).not.toEqual([]);
    },
  );

  test("keeps changes of unnamed bits beside the APIC id", () => {
    const [one, two] = [1, 2].map((eax) =>
      CpuidTable.from([{ function: 0xb, index: 7, flags: 1, eax }]),
    );
    expect(diff(one ?? [], two ?? [], { ignore: ["apic-id"] })).not.toEqual([]);
  });

  test("omits changes of bits that KVM computes", () => {
    const other = own.with({ osxsave: 1, avx: 1 });
    expect(diff(own, other, { ignore: ["runtime-owned"] })).toMatchObject([{ name: "avx" }]);
  });

  test("omits changes of a named field", () => {
    const other = own.with({ osxsave: 1, avx: 1 });
    expect(diff(own, other, { ignore: ["avx"] })).toMatchObject([{ name: "osxsave" }]);
  });

  test("omits changes of the order of entries", () => {
    expect(diff(own, [...own].reverse(), { ignore: ["order"] })).toEqual([]);
  });

  test.each([
    [{ ignore: ["avx3"] }, 'diff(): ignore: "avx3" is neither one of apic-id, runtime-owned'],
    [{ ignore: "avx" }, "diff(): ignore: expected an array or another iterable"],
    [{ ignore: [5] }, "diff(): ignore: expected names, got 5"],
    [{ ignored: [] }, 'diff(): unknown option "ignored"; did you mean "ignore"?'],
  ])("refuses %j", (options, message) => {
    expect(() => diff(own, own, options as object)).toThrow(TypeError);
    expect(() => diff(own, own, options as object)).toThrow(message);
  });
});

test("diff() of 3,000 entries in reverse order ends, and one entry keeps its place", () => {
  const long = Array.from({ length: 3000 }, (_, i) => entry({ function: i }));
  expect(diff(long, [...long].reverse())).toHaveLength(2999);
});

test("the error of formatChange() as the callback of map() names the correct form", () => {
  const changes = diff([entry({ function: 1 })], [entry({ function: 1, eax: 0x11 })]);
  expect(changes.length).toBeGreaterThan(1);
  expect(() => changes.map(formatChange as (change: CpuidChange) => string)).toThrow(
    "formatChange(): phrase: expected an object, got 0; in map(), write (change) => formatChange(change)",
  );
  expect(changes.map((change) => formatChange(change))).toHaveLength(changes.length);
});

test("diff() suggests a name to ignore", () => {
  expect(() => diff([], [], { ignore: ["runtime-ownd" as "order"] })).toThrow(
    "nor a field's name; did you mean runtime-owned?",
  );
  expect(() => diff([], [], { ignore: ["avx22" as "avx2"] })).toThrow("did you mean avx2?");
});
