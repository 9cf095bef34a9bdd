/** Tests of the text formats of a table. */
import { expect, test } from "vitest";
import { CpuidTable, printDiff, printTable } from "../../../lib/cpuid/index.ts";

const table = CpuidTable.from([
  { function: 1, eax: 0x906ea, ecx: 0x10003 },
  { function: 7, index: 0, flags: 1, ebx: 0x28 },
]);

test("the raw form has one line of hexadecimal per entry", () => {
  expect(printTable(table)).toBe(
    [
      "0x00000001 0x00: eax=0x000906ea ebx=0x00000000 ecx=0x00010003 edx=0x00000000 flags=0",
      "0x00000007 0x00: eax=0x00000000 ebx=0x00000028 ecx=0x00000000 edx=0x00000000 flags=1",
    ].join("\n"),
  );
});

test("the raw form is aligned even if an index is wide", () => {
  const wide = printTable(table.append({ function: 7, index: 0x1234 })).split("\n");
  expect(new Set(wide.map((line) => line.length)).size).toBe(1);
});

test("the fields form names features, wide fields and reserved bits", () => {
  expect(printTable(table, { format: "fields" })).toBe(
    [
      "0x1.0 flags=0",
      "  eax 0x000906ea  stepping = 10, base_model = 14, base_family_id = 6, cpu_type = 0, ext_model = 9, ext_family = 0",
      "  ecx 0x00010003  pni pclmulqdq, reserved [16]",
      "0x7.0 flags=1",
      "  ebx 0x00000028  bmi1 avx2",
    ].join("\n"),
  );
});

test("the number of a level and the x2APIC id are named in every sub-leaf of 0xb and 0x1f", () => {
  const levels = CpuidTable.from([
    { function: 0xb, index: 2, flags: 1, ecx: 2, edx: 5 },
    { function: 0x1f, index: 6, flags: 1, ecx: 6, edx: 5 },
  ]);
  expect(printTable(levels, { format: "fields" })).toBe(
    [
      "0xb.2 flags=1",
      "  ecx 0x00000002  domain_nr = 2, domain_type = 0",
      "  edx 0x00000005  x2apic_id = 0x5",
      "0x1f.6 flags=1",
      "  ecx 0x00000006  domain_level = 6, domain_type_1f = 0",
      "  edx 0x00000005  x2apic_id_1f = 0x5",
    ].join("\n"),
  );
});

test("reserved bits are printed as ranges and single bits, separated by spaces", () => {
  const reserved = CpuidTable.from([{ function: 1, eax: 0xf000c000 }]);
  expect(printTable(reserved, { format: "fields" }).split("\n")[1]).toMatch(
    /, reserved \[15:14\] \[31:28\]$/,
  );
});

test("the fields of a hypervisor are printed by name at any base", () => {
  const kvm = CpuidTable.from([
    { function: 0x40000100, ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d },
    { function: 0x40000101, eax: 0x80 },
  ]);
  expect(printTable(kvm, { format: "fields" })).toMatch(/ {2}eax 0x00000080 {2}kvm_pv_unhalt$/);
});

test("an empty table is printed as an empty string", () => {
  expect(printTable([])).toBe("");
});

test("an empty list of changes is printed as an empty string", () => {
  expect(printDiff([])).toBe("");
});
