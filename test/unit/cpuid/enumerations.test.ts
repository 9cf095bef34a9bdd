/** Tests of the names of field values, of KVM's treatment of a field, and of the types of values. */
import { expect, test } from "vitest";
import {
  type CpuidFieldName,
  type CpuidFieldValuesInput,
  CpuidTable,
  describeValue,
  fields,
  kvmTreatmentOf,
  printTable,
  valuesOf,
} from "../../../lib/cpuid/index.ts";

test.each([
  ["cache_type", 3, "unified"],
  ["cache_type_8000001d", 1, "data"],
  ["domain_type_1f", 5, "die"],
  ["domain_type_80000026", 2, "complex"],
  ["cpu_type", 1, "OverDrive processor"],
  ["l2_assoc", 6, "8-way"],
  ["l1_dcache_assoc", 255, "fully associative"],
  ["core_type", 0x40, "Core (performance core)"],
  ["hv_isolation_type", 2, "SNP"],
  ["hv_interface_id", 0x31237648, "Hv#1"],
  ["desc8", 0x4d, "L3 cache 16 MiB 16-way 64-byte lines"],
  ["desc1", 0xff, "no cache information here: see leaf 4"],
  ["cache_type", 9, undefined],
  ["stepping", 1, undefined],
] as const)("describeValue() names %s %i as %s", (name, value, text) => {
  expect(describeValue(name, value)).toBe(text);
});

test("each named value fits its field", () => {
  const wide = fields().flatMap(({ name, low, high }) =>
    [...valuesOf(name).keys()]
      .filter((value) => !name.startsWith("desc") && value >= 2 ** (high - low + 1))
      .map((value) => `${name} ${value}`),
  );
  expect(wide).toEqual([]);
});

test("changing a copy of the named values does not change the database", () => {
  (valuesOf("cache_type") as Map<number, string>).clear();
  expect(describeValue("cache_type", 1)).toBe("data");
});

test("a field or a value of a wrong type is refused", () => {
  expect(() => describeValue("cach_type" as CpuidFieldName, 1)).toThrow("did you mean cache_type");
  expect(() => describeValue("cache_type", "1" as never)).toThrow("value: expected a number");
});

test("printed fields have the names of their values", () => {
  const text = printTable([...CpuidTable.from([{ function: 4, flags: 1, eax: 0x121 }])], {
    format: "fields",
  });
  expect(text).toContain("cache_type = 1 (data)");
});

test.each([
  ["avx2", "host"],
  ["x2apic", "emulated"],
  ["vmx", "vendor"],
  ["la57", "passthrough"],
  ["constant_tsc", "scattered"],
  ["lm", "64-bit"],
  ["srso_no", "synthesized"],
  ["e_fpu", "aliased"],
  ["osxsave", "runtime"],
] as const)("KVM's treatment of %s is %s", (name, treatment) => {
  expect(kvmTreatmentOf(name)?.treatment).toBe(treatment);
});

test("Linux 7.2 declares these numbers of CPUID features, 261 in total", () => {
  const counts = new Map<string, number>();
  for (const { name, low, high } of fields()) {
    const treatment = low === high ? kvmTreatmentOf(name)?.treatment : undefined;
    const key = treatment ?? "none";
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  expect(Object.fromEntries(counts)).toMatchObject({
    host: 191,
    vendor: 23,
    aliased: 18,
    emulated: 7,
    synthesized: 7,
    scattered: 5,
    "64-bit": 5,
    runtime: 3,
    passthrough: 2,
  });
});

test("kvmTreatmentOf() marks a bit as owned even if KVM also reports it", () => {
  expect([kvmTreatmentOf("apic"), kvmTreatmentOf("ss")?.isOwned]).toMatchObject([
    { treatment: "host", isOwned: true },
    false,
  ]);
  expect(kvmTreatmentOf("stepping")).toBeUndefined();
});

test("the compiler accepts 0 and 1 for one bit, numbers for wider fields, and known names only", () => {
  const bit = (avx2: 0 | 1): CpuidFieldValuesInput => ({ avx2 });
  const wide = (bits: number): CpuidFieldValuesInput => ({ phys_addr_bits: bits });
  // @ts-expect-error: a number may not fit one bit.
  const anyNumber = (avx2: number): CpuidFieldValuesInput => ({ avx2 });
  expect([bit(1), wide(46), anyNumber(1)]).toEqual([
    { avx2: 1 },
    { phys_addr_bits: 46 },
    { avx2: 1 },
  ]);
  const table = CpuidTable.from([{ function: 7, flags: 1 }]);
  expect(table.with({ avx2: 1 }).has("avx2")).toBe(true);
  // @ts-expect-error: 2 does not fit one bit.
  expect(() => table.with({ avx2: 2 })).toThrow("2 does not fit 1 bit");
  // @ts-expect-error: the database has no such name.
  expect(() => table.with({ avx3: 1 })).toThrow("did you mean avx, avx2?");
});
