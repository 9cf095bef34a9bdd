/** Tests of CpuidTable: lookup, setting fields, order, JSON. */
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type CpuidEntry2Input,
  type CpuidField,
  type CpuidFieldValuesInput,
  CpuidTable,
  fields,
} from "../../../lib/cpuid/index.ts";

const KVM = { ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d };
const table = CpuidTable.from([
  { function: 0, eax: 0x1f },
  { function: 1, ecx: 0x80000000 },
  { function: 4, index: 0, flags: 1, eax: 0x21 },
  { function: 4, index: 2, flags: 1, eax: 0x43 },
  { function: 7, flags: 1, ebx: 0x20 },
  { function: 0x40000100, ...KVM },
  { function: 0x40000101, eax: 0x80 },
  { function: 0x80000008, eax: 0x3027 },
]);
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const input: fc.Arbitrary<CpuidEntry2Input> = fc.record({
  function: fc.oneof(fc.constantFrom(0, 1, 4, 7, 0xd, 0x40000000, 0x80000008), u32),
  index: fc.integer({ min: 0, max: 3 }),
  flags: fc.integer({ min: 0, max: 7 }),
  eax: u32,
  ebx: u32,
  ecx: u32,
  edx: u32,
  padding: fc.tuple(u32, u32, u32),
});

/** Returns a table of random registers with an entry for every field of the database. */
const SIGNED = { kvm: KVM, xen: { ebx: 0x566e6558, ecx: 0x65584d4d, edx: 0x4d4d566e } };
const BASES = {
  native: 0,
  hyperv: 0x40000000,
  kvm: 0x40000100,
  xen: 0x40000200,
  vmware: 0x40000300,
};
const home = (f: CpuidField, noise: number): CpuidTable => {
  const index = typeof f.index === "number" ? f.index : f.index.first;
  const registers = { eax: noise, ebx: noise, ecx: noise, edx: noise };
  return CpuidTable.from([
    { function: BASES[f.space] + f.function, index, flags: 1, ...registers },
    { function: 0x40000001, eax: 0x31237648 },
    { function: 0x40000100, ...SIGNED.kvm },
    { function: 0x40000200, ...SIGNED.xen },
    { function: 0x40000300, ebx: 0x61774d56, ecx: 0x4d566572, edx: 0x65726177 },
  ]);
};
/** The fields that do not affect a hypervisor's base. */
const settable = fields().filter((f) => f.space === "native" || f.function > 1);

test("every field reads back the written value, and no other bit changes", () => {
  fc.assert(
    fc.property(fc.constantFrom(...settable), u32, u32, (f, noise, raw) => {
      const value = Number(BigInt.asUintN(f.high - f.low + 1, BigInt(raw)));
      const before = home(f, noise);
      const after = before.with({ [f.name]: value });
      expect(after.get(f.name)).toBe(value);
      expect(after.with({ [f.name]: before.get(f.name) ?? 0 }).equals(before)).toBe(true);
    }),
    { numRuns: 2000 },
  );
});

test("every field can have all bits set", () => {
  const full = (f: CpuidField): number => 2 ** (f.high - f.low + 1) - 1;
  const wrong = settable.filter(
    (f) =>
      home(f, 0)
        .with({ [f.name]: full(f) })
        .get(f.name) !== full(f),
  );
  expect(wrong).toEqual([]);
});

test("get() reads a field by name", () => {
  expect(table.get("avx2")).toBe(1);
});

test("a misspelled name causes a compile error and a run-time error", () => {
  // @ts-expect-error: the test is that this does not compile
  expect(() => table.get("avx3")).toThrow(/did you mean/);
});

test("the value of a field in an absent leaf is undefined", () => {
  expect(table.get("xsaves")).toBeUndefined();
});

test("the value of a field of an absent hypervisor is undefined", () => {
  expect(table.get("hv_max_leaf")).toBeUndefined();
});

test("a hypervisor's field is read at the hypervisor's base", () => {
  expect([table.base("kvm"), table.get("kvm_pv_unhalt")]).toEqual([0x40000100, 1]);
});

test("a table has a feature if its field exists and is not 0", () => {
  expect([table.has("avx2"), table.has("bmi1"), table.has("xsaves")]).toEqual([true, false, false]);
});

test("a field in a family of sub-leaves is read at the first index by default", () => {
  expect([table.get("cache_level"), table.get("cache_level", 2)]).toEqual([1, 2]);
});

test("the value of a field in a family is undefined at an absent index", () => {
  expect(table.get("cache_level", 1)).toBeUndefined();
});

test("an index outside of a field's family is refused", () => {
  const wrong = new RangeError(
    "cpuid field cache_level: index 32, but it is in indexes 0 to 31 only",
  );
  expect(() => table.get("cache_level", 32)).toThrow(wrong);
});

test.each([-1, 0.5])("index %d of a family is refused", (index) => {
  const wrong = new RangeError(
    `cpuid field cache_level: index ${index}, but it is in indexes 0 to 31 only`,
  );
  expect(() => table.get("cache_level", index)).toThrow(wrong);
});

test("an index that a field does not have is refused", () => {
  const wrong = new RangeError("cpuid field avx2: index 1, but it is in index 0 only");
  expect(() => table.get("avx2", 1)).toThrow(wrong);
});

test("a field of leaf 1 is read even if the entry is flagged with another index", () => {
  expect(CpuidTable.from([{ function: 1, index: 5, flags: 1, ecx: 1 }]).get("pni")).toBe(1);
});

test("a field of leaf 0x23 is read in its own sub-leaf, although KVM does not index the leaf", () => {
  const leaf = { function: 0x23, flags: 1 };
  const two = CpuidTable.from([{ ...leaf }, { ...leaf, index: 1, eax: 0xff }]);
  expect(two.get("gp_counters")).toBe(0xff);
});

test("a field of KVM's leaf 0x10 is read at any index of its entry, although the CPU's leaf 0x10 is indexed", () => {
  const signed = { function: 0x40000000, ...SIGNED.kvm };
  const odd = CpuidTable.from([signed, { function: 0x40000010, index: 3, flags: 1, eax: 2000 }]);
  expect(odd.get("kvm_tsc_khz")).toBe(2000);
});

test("a Xen field is read in the right sub-leaf", () => {
  const leaf = { function: 0x40000003, flags: 1 };
  const signed = { function: 0x40000000, ...SIGNED.xen };
  const xen = CpuidTable.from([signed, leaf, { ...leaf, index: 2, eax: 3000 }]);
  expect(xen.get("xen_host_tsc_khz")).toBe(3000);
});

test("only the first duplicate is read and set", () => {
  const twice = CpuidTable.from([
    { function: 7, eax: 1 },
    { function: 7, eax: 2 },
  ]).with({ avx2: 1 });
  expect([...twice].map((e) => e.ebx)).toEqual([0x20, 0]);
});

test("setting fields returns a new table and does not change the old one", () => {
  const without = table.with({ avx2: 0, phys_addr_bits: 46 });
  expect([without.get("avx2"), without.get("phys_addr_bits")]).toEqual([0, 46]);
  expect([table.get("avx2"), table.get("phys_addr_bits")]).toEqual([1, 39]);
});

test("a field of a family is set at the given index", () => {
  const changed = table.with({ cache_level: 3 }, 2);
  expect([changed.get("cache_level", 0), changed.get("cache_level", 2)]).toEqual([1, 3]);
});

test.each<[string, { readonly [name: string]: number }]>([
  ["phys_addr_bits: 256 does not fit 8 bits (0x80000008.0:eax[7:0])", { phys_addr_bits: 256 }],
  ["avx2: 2 does not fit 1 bit (0x7.0:ebx[5])", { avx2: 2 }],
  ["avx2: -1 does not fit 1 bit (0x7.0:ebx[5])", { avx2: -1 }],
  ["avx2: 0.5 is not an integer (0x7.0:ebx[5])", { avx2: 0.5 }],
  ["xsaves: the table has no entry 0xd.1 (0xd.1:eax[3])", { xsaves: 1 }],
  ["kvm_tsc_khz: the table has no entry 0x40000110.0 (0x40000110.0:eax[31:0])", { kvm_tsc_khz: 1 }],
  ["xen_vtsc: the table has no xen signature", { xen_vtsc: 1 }],
])("setting refuses: %s", (text, values) => {
  const given = values as CpuidFieldValuesInput;
  expect(() => table.with(given)).toThrow(new RangeError(`cpuid field ${text}`));
});

test("a table keeps the order, the duplicates and unusual flags of its entries", () => {
  const sent = [{ function: 7, flags: 6 }, { function: 1 }, { function: 7, flags: 6 }];
  expect([...CpuidTable.from(sent)]).toMatchObject(sent);
});

test("a table is frozen", () => {
  expect(Object.isFrozen(table)).toBe(true);
});

test("a table does not change if the array from which it was created changes", () => {
  const array = [{ function: 1 }];
  const made = CpuidTable.from(array);
  array.push({ function: 2 });
  expect(made.length).toBe(1);
});

test("at() counts from the end if the position is negative", () => {
  expect([table.at(-1)?.function, table.at(99)]).toEqual([0x80000008, undefined]);
});

test("find() with an index returns the entry that a guest gets", () => {
  expect([table.find(4, 2)?.eax, table.find(4, 1)]).toEqual([0x43, undefined]);
});

test("withEntry() replaces the first entry with the same function and index", () => {
  const changed = table.withEntry({ function: 4, index: 2, flags: 1, eax: 9 });
  expect([changed.length, changed.at(3)?.eax]).toEqual([table.length, 9]);
});

test("withEntry() appends an entry that is not in the table", () => {
  const longer = table.withEntry({ function: 2 });
  expect([longer.length, longer.at(-1)?.function]).toEqual([table.length + 1, 2]);
});

test("withEntry() replaces the entry at position 0", () => {
  const changed = table.withEntry({ function: 0, eax: 3 });
  expect([changed.length, changed.at(0)?.eax]).toEqual([table.length, 3]);
});

test("replace() changes members of one entry", () => {
  expect(table.replace(4, { flags: 0 }).at(4)).toMatchObject({ function: 7, flags: 0, ebx: 0x20 });
});

test.each([-1, 8, 0.5])("replace() refuses position %d", (position) => {
  const wrong = new RangeError(`cpuid table: no entry at ${position}, there are 8`);
  expect(() => table.replace(position, {})).toThrow(wrong);
});

test("without() removes all entries of a function", () => {
  expect(table.without(4).length).toBe(table.length - 2);
});

test("without() removes one index of a function", () => {
  const without = table.without(4, 2);
  expect([without.length, without.find(4, 0)?.eax]).toEqual([table.length - 1, 0x21]);
  expect(without.find(4, 2)).toBeUndefined();
});

test("append() adds entries at the end", () => {
  expect(table.append({ function: 2 }, { function: 3 }).at(-2)?.function).toBe(2);
});

test("filter() and map() keep the order", () => {
  const functions = [...table.filter((e) => e.function > 4).map((e) => ({ ...e, eax: 0 }))];
  expect(functions.map((e) => e.function)).toEqual([7, 0x40000100, 0x40000101, 0x80000008]);
});

test("tables with different orders are not equal", () => {
  expect(CpuidTable.from([...table].reverse()).equals(table)).toBe(false);
});

test("tables of different lengths are not equal", () => {
  expect(table.equals(table.without(0))).toBe(false);
});

test("equality ignores padding", () => {
  expect(table.replace(0, { padding: [1, 2, 3] }).equals(table)).toBe(true);
});

test("a table is unchanged after conversion to JSON and back, including padding", () => {
  fc.assert(
    fc.property(fc.array(input), (inputs) => {
      const made = CpuidTable.from(inputs);
      const back = CpuidTable.fromJSON(JSON.parse(JSON.stringify(made)));
      expect([...back]).toEqual([...made]);
    }),
  );
});

test("JSON contains registers as hexadecimal text", () => {
  const one = {
    function: "0x7",
    index: 0,
    flags: 1,
    eax: "0x0",
    ebx: "0x20",
    ecx: "0x0",
    edx: "0x0",
  };
  expect(table.toJSON().entries[4]).toEqual(one);
});

test("JSON may contain numbers, and text in decimal or in hexadecimal with upper or lower case", () => {
  const json = { entries: [{ function: "0x1", eax: 7, ebx: "12", ecx: "0XfF" }] };
  expect(CpuidTable.fromJSON(json).at(0)).toMatchObject({ eax: 7, ebx: 12, ecx: 255 });
});

test.each<[string, unknown]>([
  ["no array of entries", null],
  ["no array of entries", []],
  ["no array of entries", { entries: {} }],
  ["entry 0 is not an object", { entries: [3] }],
  ["entry 0 has no number as function", { entries: [{}] }],
  ["entry 1 has no number as eax", { entries: [{ function: 1 }, { function: 1, eax: "zz" }] }],
  ...["", "1.5", "-1", " 1", "1 ", "1e3", "0b1", "0xg", null, true, [5]].map(
    (eax): [string, unknown] => [
      "entry 0 has no number as eax",
      { entries: [{ function: 1, eax }] },
    ],
  ),
  ["entry 0 has no array as padding", { entries: [{ function: 1, padding: 3 }] }],
])("JSON input is refused: %s", (text, json) => {
  expect(() => CpuidTable.fromJSON(json)).toThrow(new TypeError(`cpuid table: ${text}`));
});

test("JSON contains the padding of an entry if a word of the padding is not 0", () => {
  const json = CpuidTable.from([{ function: 1, padding: [0, 5, 0] }, { function: 2 }]).toJSON();
  expect(json.entries.map(({ padding }) => padding)).toEqual([[0, 5, 0], undefined]);
});

test("the constructor rejects a call without entries, and names the functions that create a table", () => {
  const Constructor = CpuidTable as unknown as new () => CpuidTable;
  expect(() => new Constructor()).toThrow(
    new TypeError("new CpuidTable(): use CpuidTable.from() or CpuidTable.fromJSON()"),
  );
});

test("toString() prints one line per entry", () => {
  expect(`${table}`.split("\n")).toHaveLength(table.length);
});
