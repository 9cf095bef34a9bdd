/** Tests of reports of AIDA64, EVEREST and InstLatx64: the headers, the rows, and the parts that are skipped. */
import { describe, expect, test } from "vitest";
import { detectFormat, formatCpuid } from "../../../../lib/cpuid/index.ts";
import { readFile, tablesOf } from "./read-table.ts";
import { twoCpus } from "./sample-tables.ts";

const ROW_0 = "CPUID 00000000: 00000007-756E6547-6C65746E-49656E69 [GenuineIntel]";
const ROW_1 = "CPUID 00000001: 000906EA-00100800-7FFAFBBF-BFEBFBFF";
const LEAF_0 = "0.0 0 7 756e6547 6c65746e 49656e69";
const LEAF_1 = "1.0 0 906ea 100800 7ffafbbf bfebfbff";

describe("a CPU of an AIDA64 report begins at the line", () => {
  test.each([
    ["------[ CPUID Registers / Logical CPU #3 ]------", 3],
    ["------[ Logical CPU #12 ]------", 12],
    ["CPUID Registers (CPU #1):", 1],
    ["CPUID Registers (CPU #2 Virtual):", 2],
    ["CPU#005 AffMask: 0x0000000000000020", 5],
  ])("%s", (header, cpu) => {
    const read = readFile(`${header}\n\n${ROW_0}\n${ROW_1}\n`);
    expect(read).toMatchObject({ problems: [], cpus: [cpu], tables: [[LEAF_0, LEAF_1]] });
  });
});

describe("a row of an AIDA64 report", () => {
  test.each([
    ["with a colon", "CPUID 00000001: 000906EA-00100800-7FFAFBBF-BFEBFBFF"],
    ["with spaces", "CPUID 00000001   000906EA-00100800-7FFAFBBF-BFEBFBFF"],
    ["with a tab", "CPUID 00000001\t000906EA-00100800-7FFAFBBF-BFEBFBFF"],
    ["with spaces between registers", "CPUID 00000001 000906EA 00100800 7FFAFBBF BFEBFBFF"],
    ["with a colon after a space", "CPUID 00000001 :000906EA-00100800-7FFAFBBF-BFEBFBFF"],
    ["with white space around it", "  CPUID 00000001: 000906EA-00100800-7FFAFBBF-BFEBFBFF  "],
    ["in lower case", "cpuid 00000001: 000906ea-00100800-7ffafbbf-bfebfbff"],
    ["with a remark", "CPUID 00000001: 000906EA-00100800-7FFAFBBF-BFEBFBFF [a remark]"],
  ])("is read %s", (_, row) => {
    expect(tablesOf(`${row}\n`, "aida64")).toEqual([[LEAF_1]]);
  });

  test.each([
    ["CPUID 00000001: 000906EA-00100800-7FFAFBBF", "three registers"],
    ["CPUID 00000001: 000906EA-00100800-7FFAFBBF-BFEBFBF", "a register of 7 digits"],
    ["CPUID 00000001: 000906EA-00100800-7FFAFBBF-BFEBFBFG", "a digit that is none"],
    ["CPUID 0000001: 000906EA-00100800-7FFAFBBF-BFEBFBFF", "a leaf of 7 digits"],
    ["CPUID 00000004: 000906EA-00100800-7FFAFBBF-BFEBFBFF [SL xy]", "a sub-leaf that is no number"],
  ])("such as %s is a fault, because it has %s", (row) => {
    const read = readFile(`${ROW_0}\n${row}\n`, "aida64");
    expect(read.tables).toEqual([[LEAF_0]]);
    expect(read.problems).toEqual([expect.stringMatching(/^2: /)]);
  });
});

describe("the sub-leaf of an AIDA64 row", () => {
  const row = (leaf: string, eax: number, note = ""): string =>
    `CPUID ${leaf}: 0000000${eax}-00000000-00000000-00000000${note}\n`;

  test("is the hexadecimal number after SL", () => {
    const text = row("0000000D", 1, " [SL 00]") + row("0000000D", 2, " [SL 0A]");
    expect(tablesOf(text, "aida64")).toEqual([["d.0 1 1 0 0 0", "d.a 1 2 0 0 0"]]);
  });

  test("counts up if a leaf with sub-leaves is repeated without a number", () => {
    const text = row("00000004", 1) + row("00000004", 2) + row("80000026", 3) + row("80000026", 4);
    expect(tablesOf(text, "aida64")).toEqual([
      ["4.0 1 1 0 0 0", "4.1 1 2 0 0 0", "80000026.0 1 3 0 0 0", "80000026.1 1 4 0 0 0"],
    ]);
  });

  test("is a fault if a leaf without sub-leaves is repeated", () => {
    const read = readFile(row("00000002", 1) + row("00000002", 2), "aida64");
    expect(read.tables).toEqual([["2.0 0 1 0 0 0"]]);
    expect(read.problems).toEqual(["2: the leaf 2 occurs again without a sub-leaf"]);
  });

  test("is a fault if only some rows of the leaf have a number", () => {
    const read = readFile(row("00000004", 1, " [SL 00]") + row("00000004", 2), "aida64");
    expect(read.problems).toEqual(["2: the leaf 4 occurs again without a sub-leaf"]);
  });
});

describe("an AIDA64 report", () => {
  const report = (number: number): string =>
    `------[ CPUID Registers / Logical CPU #${number} ]------\n\nallcpu: Package 0 / Core 0 / Thread ${number}: Valid\n\n${ROW_0}\n${ROW_1}\n\n`;

  test("with CR LF and Latin-1 is read", () => {
    const text = `Gerät: Prüfung\n${report(0)}`.replaceAll("\n", "\r\n");
    const latin1 = Uint8Array.from(text, (character) => character.charCodeAt(0));
    expect(tablesOf(latin1)).toEqual([[LEAF_0, LEAF_1]]);
    expect(detectFormat(latin1)?.name).toBe("aida64");
  });

  test("of several CPUs has a table for each CPU", () => {
    const read = readFile(report(0) + report(1) + report(2));
    expect(read).toMatchObject({ cpus: [0, 1, 2], problems: [] });
    expect(read.tables).toEqual(Array.from({ length: 3 }, () => [LEAF_0, LEAF_1]));
  });

  test("without headers has a CPU for each leaf 0, with a note", () => {
    const read = readFile(`${ROW_0}\n${ROW_1}\n${ROW_0}\n${ROW_1}\n`);
    expect(read.tables).toEqual([
      [LEAF_0, LEAF_1],
      [LEAF_0, LEAF_1],
    ]);
    expect(read.notes).toEqual(["a CPU begins at line 3 without a line that names the CPU"]);
  });

  test("has no entries from its MSR section", () => {
    const msrs = [
      "------[ MSR Registers ]------",
      "",
      "MSR 0000001B: 0000-0000-FEE0-0900 [S200]",
      "MSR 000000CE: 0804-083F-F101-2200 [eD = 0]",
      "MSR 00000198: < FAILED >",
    ].join("\n");
    const read = readFile(`${report(0)}${msrs}\n`);
    expect(read).toMatchObject({ problems: [], tables: [[LEAF_0, LEAF_1]] });
  });

  test("omits leaves that the program queried although the CPU does not support them", () => {
    const probe = "CPUID C0000000: 00000007-00000340-00000340-00000000";
    const read = readFile(`${ROW_0}\n${probe}\n`, "aida64");
    expect(read.tables).toEqual([[LEAF_0]]);
    expect(read.notes).toEqual([
      "the leaves 0xc0000000 are left out: they are outside of the CPU's ranges",
    ]);
  });

  test("is written with CR LF, a header for each CPU, and the sub-leaf of flagged entries", () => {
    const lines = new TextDecoder().decode(formatCpuid(twoCpus, "aida64")).split("\r\n");
    expect(lines.slice(0, 5)).toEqual([
      "------[ CPUID Registers / Logical CPU #0 ]------",
      "",
      "CPUID 00000000: 0000000D-756E6547-6C65746E-49656E69",
      "CPUID 00000001: 000906EA-00100800-7FFAFBBF-00000000",
      "CPUID 00000004: 1C004121-01C0003F-0000003F-00000000 [SL 00]",
    ]);
    expect(lines.filter((line) => line.includes("Logical CPU"))).toHaveLength(2);
  });
});
