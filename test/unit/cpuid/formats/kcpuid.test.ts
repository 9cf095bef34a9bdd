/** Tests of the text of `kcpuid -r`. */
import { describe, expect, test } from "vitest";
import { CpuidTable, detectFormat, formatCpuid } from "../../../../lib/cpuid/index.ts";
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
