/** Tests of the output of util.inspect for a CPUID table. */
import { inspect } from "node:util";
import { expect, test } from "vitest";
import { CpuidTable, entry } from "../../../lib/cpuid/index.ts";

const word = (text: string): number => Buffer.from(text.padEnd(4, "\0")).readUInt32LE(0);
const words = (text: string): Record<"eax" | "ebx" | "ecx" | "edx", number> => ({
  eax: word(text.slice(0, 4)),
  ebx: word(text.slice(4, 8)),
  ecx: word(text.slice(8, 12)),
  edx: word(text.slice(12, 16)),
});
const table = CpuidTable.from([
  { function: 0, eax: 7, ebx: word("Genu"), edx: word("ineI"), ecx: word("ntel") },
  { function: 7, index: 1, flags: 1, eax: 0x10 },
  { function: 0x8000_0002, ...words("  Some CPU, 3.0 ") },
  { function: 0x8000_0003, ...words("GHz") },
  { function: 0x8000_0004 },
]);
const ENTRIES = [
  "0x0.0: eax=0x00000007 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69",
  "0x7.1: eax=0x00000010 ebx=0x00000000 ecx=0x00000000 edx=0x00000000 flags=1",
];

test("a table shows its vendor and brand as text, and its entries by leaf", () => {
  const lines = inspect(table).split("\n");
  expect(lines.slice(0, 6)).toEqual([
    "CpuidTable {",
    "  vendor: 'GenuineIntel',",
    "  brand: 'Some CPU, 3.0 GHz',",
    "  entries: [",
    ...ENTRIES.map((text) => `    ${text},`),
  ]);
  expect(lines).toHaveLength(11);
});

test("a table without vendor and brand leaves shows only its entries", () => {
  const text = inspect(CpuidTable.from([{ function: 7, index: 1, flags: 1, eax: 0x10 }]));
  expect(text).toBe(`CpuidTable {\n  entries: [\n    ${ENTRIES[1]}\n  ]\n}`);
});

test("control characters in a vendor are escaped", () => {
  const text = inspect(CpuidTable.from([{ function: 0, ebx: word("\u001b[2J") }]));
  expect(text).toContain("vendor: '\\x1B[2J'");
});

test("the options depth, maxArrayLength and colors are respected", () => {
  expect(inspect([[table]], { depth: 1 })).toBe("[ [ [CpuidTable] ] ]");
  expect(inspect(table, { depth: 0 })).toContain("entries: [Array]");
  expect(inspect(table, { maxArrayLength: 2 })).toContain("... 3 more items");
  expect(inspect(table, { colors: true })).toContain("\u001b[33meax=0x00000007\u001b[39m");
});

test("an entry is shown as a plain object", () => {
  const made = entry({ function: 7, ebx: 1 });
  expect(Reflect.ownKeys(made)).toEqual([
    "function",
    "index",
    "flags",
    "eax",
    "ebx",
    "ecx",
    "edx",
    "padding",
  ]);
  expect(Object.getPrototypeOf(made)).toBe(Object.prototype);
});
