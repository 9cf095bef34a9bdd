/** Claims about the table of one vCPU, made from the supported entries. */
import { expect, test } from "vitest";
import { CpuidTable, diff, fromSupported } from "../../../lib/cpuid/index.ts";

const supported = CpuidTable.from([
  { function: 1, ebx: 0x05100800, ecx: 1 },
  { function: 7, flags: 1, edx: 5 },
  { function: 0xb, flags: 1, edx: 5 },
  { function: 0xb, index: 1, flags: 1, edx: 5 },
  { function: 0xd, flags: 1, ebx: 0x340 },
  { function: 0xd, index: 1, flags: 1, ebx: 0x340 },
  { function: 0x1f, flags: 1, edx: 5 },
  { function: 0x40000000, ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d },
  { function: 0x40000001, eax: 0x80 },
  { function: 0x8000001e, eax: 5, ebx: 5 },
  { function: 0x80000026, edx: 5 },
]);

test("the APIC id is 0 by default", () => {
  expect(fromSupported(supported).get("local_apic_id")).toBe(0);
});

test("the APIC id is set in each leaf that has it", () => {
  const table = fromSupported(supported, { apicId: 300 });
  const ids = [
    table.get("local_apic_id"),
    table.get("x2apic_id"),
    table.get("x2apic_id", 1),
    table.get("x2apic_id_1f"),
    table.get("ext_apic_id"),
    table.get("x2apic_id_80000026"),
  ];
  expect(ids).toEqual([300 & 0xff, 300, 300, 300, 300, 300]);
});

test("only the APIC id is changed", () => {
  const changed = diff(supported, fromSupported(supported, { apicId: 9 })).map((c) => c.where);
  expect(changed).toEqual([
    "0x1.0:ebx[31:24]",
    "0xb.0:edx[31:0]",
    "0xb.1:edx[31:0]",
    "0x1f.0:edx[31:0]",
    "0x8000001e.0:eax[31:0]",
    "0x80000026.0:edx[31:0]",
  ]);
});

test.each([-1, 0.5, 2 ** 32])("apicId %d is refused", (apicId) => {
  const wrong = new RangeError(`apicId ${apicId} is not an unsigned 32-bit integer`);
  expect(() => fromSupported(supported, { apicId })).toThrow(wrong);
});
