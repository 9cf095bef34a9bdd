/** Tests of fromSupported(), which makes the CPUID table of one vCPU from the entries that KVM supports. */
import { expect, test } from "vitest";
import { diff, fromSupported } from "../../../lib/cpuid/index.ts";
import { supported } from "./supported-table.ts";

test("the APIC id is 0 by default", () => {
  expect(fromSupported(supported).get("local_apic_id")).toBe(0);
});

test("the APIC id is set in each leaf that contains it", () => {
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

test("the APIC id is the only change", () => {
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

test.each([-1, 0.5, 2 ** 32])("fromSupported() refuses the APIC id %d", (apicId) => {
  const wrong = new RangeError(`apicId ${apicId} is not an unsigned 32-bit integer`);
  expect(() => fromSupported(supported, { apicId })).toThrow(wrong);
});
