/** Tests of the text of `kcpuid -r`. */
import { describe, expect, test } from "vitest";
import {
  type CpuidDump,
  CpuidTable,
  detectFormat,
  formatCpuid,
  readCpuid,
} from "../../../../lib/cpuid/index.ts";
import { readFile, tablesOf } from "./read-table.ts";
import { twoCpus } from "./sample-tables.ts";

const TEXT = `Basic Leafs :
================
0x00000000: EAX=0x00000007, EBX=0x756e6547, ECX=0x6c65746e, EDX=0x49656e69
0x00000004: subleafs:
  0: EAX=0x1c004121, EBX=0x01c0003f, ECX=0x0000003f, EDX=0x00000000
  3: EAX=0x1c03c163, EBX=0x03c0003f, ECX=0x00002fff, EDX=0x00000006
0x00000007: EAX=0x00000000, EBX=0x00000021, ECX=0x00000000, EDX=0x00000000
Extended Leafs :
================
0x80000000: EAX=0x80000008, EBX=0x00000000, ECX=0x00000000, EDX=0x00000000
`;
const ENTRIES = [
  "0.0 0 7 756e6547 6c65746e 49656e69",
  "4.0 1 1c004121 1c0003f 3f 0",
  "4.3 1 1c03c163 3c0003f 2fff 6",
  "7.0 1 0 21 0 0",
  "80000000.0 0 80000008 0 0 0",
];

describe("the text of kcpuid -r", () => {
  test("is detected, and read with leaves and sub-leaves", () => {
    expect(tablesOf(TEXT)).toEqual([ENTRIES]);
    expect(detectFormat(TEXT)?.name).toBe("kcpuid");
  });

  test.each<[string, (text: string) => string]>([
    ["without titles", (text) => text.replaceAll(/^(?:.* Leafs :|=+)\n/gm, "")],
    ["without commas", (text) => text.replaceAll(",", "")],
    ["with the newer words", (text) => text.replaceAll(/Leafs|leafs/g, "leaves")],
    ["with CR LF", (text) => text.replaceAll("\n", "\r\n")],
    ["with empty lines", (text) => text.replaceAll("\n", "\n\n")],
  ])("is read %s", (_, change) => {
    expect(tablesOf(change(TEXT), "kcpuid")).toEqual([ENTRIES]);
  });

  test.each([
    [
      "below no leaf",
      "  1: EAX=0x1, EBX=0x0, ECX=0x0, EDX=0x0\n",
      "sub-leaf 1 follows no line that names its leaf",
    ],
    [
      "that does not count up",
      "0x4: subleafs:\n 2: EAX=0x1, EBX=0x0, ECX=0x0, EDX=0x0\n 2: EAX=0x2, EBX=0x0, ECX=0x0, EDX=0x0\n",
      "sub-leaf 2 follows sub-leaf 2, so a line that names its leaf is missing",
    ],
    [
      "of 33 bits",
      "0x4: subleafs:\n 4294967296: EAX=0x1, EBX=0x0, ECX=0x0, EDX=0x0\n",
      "sub-leaf 4294967296 does not fit 32 bits",
    ],
  ])("has a fault at a sub-leaf %s", (_, text, message) => {
    const { problems } = readFile(text, "kcpuid");
    expect(problems.map((problem) => problem.replace(/^\d+: /, ""))).toContain(message);
  });

  test.each([
    ["EBX=0x756e6547", "EBX=0x756e654", "3:35 EBX=756e654 has 7 digits instead of 8", 4],
    ["  3: EAX=0x1c03c163", "  3: EAX=0x1c03c16", "6:12 EAX=1c03c16 has 7 digits instead of 8", 4],
    ["0x80000000:", "0x8000000:", "10:3 the leaf 8000000 has 7 digits instead of 8", 4],
    ["0x00000004:", "0x0000004:", "4:3 the leaf 0000004 has 7 digits instead of 8", 3],
  ])("has a fault if %s lost a digit, and the other lines are read", (whole, part, fault, rest) => {
    const { problems, tables } = readCpuid(TEXT.replace(whole, part)) as CpuidDump & {
      kind: "tables";
    };
    expect(problems.map((p) => `${p.line}:${p.column} ${p.message}`)[0]).toBe(fault);
    expect(tables[0]?.table).toHaveLength(rest);
  });

  test("has a fault at a leaf that occurs again", () => {
    const line = "0x00000007: EAX=0x00000000, EBX=0x00000021, ECX=0x00000000, EDX=0x00000000\n";
    const read = readFile(TEXT.replace("Extended", `${line}Extended`));
    expect(read.tables).toEqual([ENTRIES]);
    expect(read.problems).toEqual([
      "8: the leaf 0x7, sub-leaf 0 occurs again; the first is in line 7",
    ]);
  });

  test("has a fault at each sub-leaf that occurs again below a repeated line of its leaf", () => {
    const rows = TEXT.split("\n").slice(3, 6).join("\n");
    const read = readFile(TEXT.replace("Extended", `${rows}\nExtended`));
    expect(read.tables).toEqual([ENTRIES]);
    expect(read.problems).toEqual([
      "9: the leaf 0x4, sub-leaf 0 occurs again; the first is in line 5",
      "10: the leaf 0x4, sub-leaf 3 occurs again; the first is in line 6",
    ]);
  });

  test("of two CPUs has a new CPU at the second leaf 0", () => {
    expect(tablesOf(TEXT + TEXT)).toEqual([ENTRIES, ENTRIES]);
  });

  test("is written in two sections, sorted by leaf and sub-leaf, with entries of zeros but without later duplicates", () => {
    const table = CpuidTable.from([
      { function: 0x80000000, eax: 0x80000001 },
      { function: 0, eax: 7 },
      { function: 4, index: 2, flags: 1, eax: 3 },
      { function: 1 },
      { function: 4, flags: 1, eax: 1 },
      { function: 4, index: 1, flags: 1 },
      { function: 1, eax: 5 },
    ]);
    const written = formatCpuid(table, "kcpuid");
    expect(readFile(written).problems).toEqual([]);
    expect(new TextDecoder().decode(written)).toBe(`Basic Leafs :
================
0x00000000: EAX=0x00000007, EBX=0x00000000, ECX=0x00000000, EDX=0x00000000
0x00000001: EAX=0x00000000, EBX=0x00000000, ECX=0x00000000, EDX=0x00000000
0x00000004: subleafs:
  0: EAX=0x00000001, EBX=0x00000000, ECX=0x00000000, EDX=0x00000000
  1: EAX=0x00000000, EBX=0x00000000, ECX=0x00000000, EDX=0x00000000
  2: EAX=0x00000003, EBX=0x00000000, ECX=0x00000000, EDX=0x00000000
Extended Leafs :
================
0x80000000: EAX=0x80000001, EBX=0x00000000, ECX=0x00000000, EDX=0x00000000
`);
  });

  test("is written for one CPU only", () => {
    expect(() => formatCpuid(twoCpus, "kcpuid")).toThrow(
      "formatCpuid(): kcpuid is for one CPU, and there are 2",
    );
  });
});
