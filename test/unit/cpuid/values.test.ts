/**
 * Tests of values that are computed from captured tables: vendor, brand, signature, address sizes, caches and topology.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  addressSizesOf,
  brandOf,
  CpuidTable,
  cachesOf,
  signatureOf,
  topologyOf,
  vendorOf,
} from "../../../lib/cpuid/index.ts";
import { CAPTURED, captured } from "./captured-tables.ts";

const KIB = 1024;
const empty = CpuidTable.from([]);
const word = (text: string): number =>
  new DataView(new TextEncoder().encode(text).buffer).getUint32(0, true);

test("there are ten captured tables", () => {
  expect(CAPTURED).toHaveLength(10);
});

test.each([
  ["host-zen5", "AuthenticAMD", "Oxide Virtual Turin-like Processor"],
  ["nehalem", "GenuineIntel", "Intel Core i7 9xx (Nehalem Class Core i7)"],
  ["dhyana", "HygonGenuine", "Hygon Dhyana Processor"],
])("%s has the vendor %s and the brand %s", (name, vendor, brand) => {
  expect([vendorOf(captured(name)), brandOf(captured(name))]).toEqual([vendor, brand]);
});

test("a vendor string keeps its spaces", () => {
  const table = CpuidTable.from([
    { function: 0, ebx: word("  Sh"), edx: word("angh"), ecx: word("ai  ") },
  ]);
  expect(vendorOf(table)).toBe("  Shanghai  ");
});

test("a string ends at its first NUL", () => {
  const table = CpuidTable.from([
    { function: 0, ebx: word("Te\0t"), edx: word("ineI"), ecx: word("ntel") },
  ]);
  expect(vendorOf(table)).toBe("Te");
});

test.each([
  ["host-zen5", { family: 26, model: 2, stepping: 1 }],
  ["nehalem", { family: 6, model: 26, stepping: 3 }],
  ["skylake-server", { family: 6, model: 85, stepping: 4 }],
  ["opteron-g3", { family: 16, model: 2, stepping: 3 }],
  ["epyc-rome", { family: 23, model: 49, stepping: 0 }],
  ["epyc-milan", { family: 25, model: 1, stepping: 1 }],
  ["dhyana", { family: 24, model: 0, stepping: 1 }],
])("%s has the signature %j", (name, signature) => {
  expect(signatureOf(captured(name))).toEqual(signature);
});

test.each([
  ["Zhaoxin's family 7 (KH-40000)", 0x0005_07b3, { family: 7, model: 0x5b, stepping: 3 }],
  ["family 6", 0x000906ea, { family: 6, model: 0x9e, stepping: 10 }],
  ["base family 14", 0x0001_0e21, { family: 14, model: 0x12, stepping: 1 }],
])("the extended model counts for %s, as in Linux", (_, eax, signature) => {
  expect(signatureOf(CpuidTable.from([{ function: 1, eax }]))).toEqual(signature);
});

test("the extended family and model are ignored for family 5", () => {
  expect(
    signatureOf([{ ...captured("nehalem").at(0), function: 1, eax: 0x0ff0_0543 } as never]),
  ).toEqual({
    family: 5,
    model: 4,
    stepping: 3,
  });
});

test("address sizes are in bits, and a guest's address size is undefined if the field is 0", () => {
  expect(addressSizesOf(captured("host-zen5"))).toEqual({
    physical: 48,
    virtual: 48,
    guestPhysical: undefined,
  });
  expect(addressSizesOf(CpuidTable.from([{ function: 0x8000_0008, eax: 0x34_3930 }]))).toEqual({
    physical: 48,
    virtual: 57,
    guestPhysical: 52,
  });
});

test("leaf 4 describes Nehalem's caches", () => {
  const shown = cachesOf(captured("nehalem")).map(({ level, type, size, ways, sharedBy }) => {
    return [level, type, size / KIB, ways, sharedBy];
  });
  expect(shown).toEqual([
    [1, "data", 32, 8, 1],
    [1, "instruction", 32, 8, 1],
    [2, "unified", 4096, 16, 1],
    [3, "unified", 16384, 16, 1],
  ]);
});

test("leaf 0x8000001d describes Milan's caches", () => {
  const shown = cachesOf(captured("epyc-milan")).map(({ level, type, size, source }) => {
    return [level, type, size / KIB, source];
  });
  expect(shown).toEqual([
    [1, "data", 32, "0x8000001d"],
    [1, "instruction", 32, "0x8000001d"],
    [2, "unified", 512, "0x8000001d"],
    [3, "unified", 32768, "0x8000001d"],
  ]);
});

test("leaves 0x80000005 and 0x80000006 describe the caches of an AMD CPU without 0x8000001d", () => {
  expect(
    cachesOf(captured("host-zen5")).map(({ level, type, size, ways }) => [
      level,
      type,
      size / KIB,
      ways,
    ]),
  ).toEqual([
    [1, "data", 48, 12],
    [1, "instruction", 32, 8],
    [2, "unified", 1024, 8],
    [3, "unified", 1016 * 512, undefined],
  ]);
});

test("leaf 2 describes the caches of an Intel CPU without leaf 4", () => {
  const table = captured("nehalem").without(4);
  expect(
    cachesOf(table).map(({ level, type, size, ways }) => [level, type, size / KIB, ways]),
  ).toEqual([
    [3, "unified", 16384, 16],
    [2, "unified", 2048, 8],
    [1, "instruction", 32, 8],
    [1, "data", 32, 8],
  ]);
});

test("a register of leaf 2 with bit 31 set has no descriptors", () => {
  const table = CpuidTable.from([{ function: 2, eax: 0x2c01, ebx: 0x8000_0030 }]);
  expect(cachesOf(table).map(({ type }) => type)).toEqual(["data"]);
});

test("a fully associative cache has no number of ways", () => {
  const table = CpuidTable.from([{ function: 4, flags: 1, eax: 0x221, ebx: 0x3f }]);
  expect(cachesOf(table)[0]).toMatchObject({ ways: "full", size: 64 });
});

test("an entry of leaf 4 without SIGNIFICANT_INDEX describes one cache", () => {
  expect(cachesOf(CpuidTable.from([{ function: 4, eax: 0x121, ebx: 0x3f }]))).toHaveLength(1);
});

const ext = (fn: number, levels: readonly (readonly [number, number, number])[]): CpuidTable =>
  CpuidTable.from(
    levels.map(([type, shift, processors], index) => {
      return { function: fn, index, flags: 1, eax: shift, ebx: processors, ecx: type << 8, edx: 9 };
    }),
  );

test("in leaf 0x1f, the CPUs of a level form a unit of the next level's type", () => {
  const table = ext(0x1f, [
    [1, 1, 2],
    [2, 3, 8],
    [5, 5, 32],
    [0, 0, 0],
  ]);
  expect(topologyOf(table)).toEqual({
    source: "0x1f",
    apicId: 9,
    levels: [
      { domain: "core", shift: 1, processors: 2 },
      { domain: "die", shift: 3, processors: 8 },
      { domain: "package", shift: 5, processors: 32 },
    ],
    threadsPerCore: 2,
    coresPerPackage: 16,
    processorsPerPackage: 32,
  });
});

test("in leaf 0x80000026 of AMD, the CPUs of a level form a unit of this level's type", () => {
  const amd = captured("epyc-milan").filter((e) => e.function === 0);
  const table = amd.append(
    ...ext(0x8000_0026, [
      [1, 1, 2],
      [2, 4, 16],
      [3, 4, 16],
      [4, 7, 128],
    ]).map((e) => ({ ...e, flags: 1 })),
  );
  expect(topologyOf(table)?.levels.map(({ domain }) => domain)).toEqual([
    "core",
    "complex",
    "die",
    "package",
  ]);
});

test("a table with only a thread level describes a package of one core", () => {
  expect(topologyOf(ext(0xb, [[1, 1, 2]]))).toMatchObject({
    threadsPerCore: 2,
    coresPerPackage: 1,
  });
});

test("leaf 0xb describes the topology of one processor", () => {
  expect(topologyOf(captured("nehalem"))).toMatchObject({
    source: "0xb",
    threadsPerCore: 1,
    processorsPerPackage: 1,
  });
});

test("leaves 1 and 4 describe two cores with two threads each", () => {
  const table = CpuidTable.from([
    { function: 1, ebx: 0x0304_0800, edx: 1 << 28 },
    { function: 4, flags: 1, eax: 0x0400_0121 },
  ]);
  expect(topologyOf(table)).toMatchObject({
    source: "legacy",
    apicId: 3,
    threadsPerCore: 2,
    coresPerPackage: 2,
    levels: [{ shift: 1 }, { shift: 2 }],
  });
});

test("an empty table has no vendor, brand, signature, address sizes, caches or topology", () => {
  const values = [vendorOf, brandOf, signatureOf, addressSizesOf, topologyOf].map((of) =>
    of(empty),
  );
  expect([...values, cachesOf(empty)]).toEqual([...values.map(() => undefined), []]);
});

test("any register values give a result in bounded time", () => {
  const u32 = fc.nat(0xffff_ffff);
  const input = fc.record({
    function: fc.constantFrom(
      0,
      1,
      2,
      4,
      0xb,
      0x1f,
      0x8000_0005,
      0x8000_0006,
      0x8000_0008,
      0x8000_001d,
      0x8000_001e,
      0x8000_0026,
    ),
    index: fc.nat(40),
    flags: fc.nat(1),
    eax: u32,
    ebx: u32,
    ecx: u32,
    edx: u32,
  });
  fc.assert(
    fc.property(fc.array(input, { maxLength: 80 }), (entries) => {
      const table = CpuidTable.from(entries);
      expect(cachesOf(table).length).toBeLessThanOrEqual(32);
      expect(topologyOf(table)?.levels.length ?? 2).toBeLessThanOrEqual(9);
      expect(topologyOf(table)?.coresPerPackage ?? 1).toBeGreaterThanOrEqual(1);
    }),
  );
});

test.each([vendorOf, brandOf, signatureOf, addressSizesOf, cachesOf, topologyOf])(
  "%o refuses an argument that is not a list of entries",
  (of) => {
    expect(() => of(5 as never)).toThrow("expected an array or another iterable, got 5");
  },
);
