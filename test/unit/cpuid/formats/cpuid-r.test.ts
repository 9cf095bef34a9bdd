/** Tests of the text of `cpuid -r`: its forms, the probes that are left out, and `cpuid -f`. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { formatCpuid, readCpuid } from "../../../../lib/cpuid/index.ts";
import { readFile, tablesOf } from "./read-table.ts";
import { oneCpu, twoCpus } from "./sample-tables.ts";

const ROWS = [
  "   0x00000000 0x00: eax=0x00000007 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69",
  "   0x00000007 0x00: eax=0x00000001 ebx=0x00000002 ecx=0x00000003 edx=0x00000004",
  "   0x00000007 0x01: eax=0x00000005 ebx=0x00000000 ecx=0x00000000 edx=0x00000000",
];
const ENTRIES = ["0.0 0 7 756e6547 6c65746e 49656e69", "7.0 1 1 2 3 4", "7.1 1 5 0 0 0"];
const text = (...lines: readonly string[]): string => lines.map((line) => `${line}\n`).join("");

describe("the text of cpuid -r", () => {
  test.each([
    ["CPU 0:", 0],
    ["CPU 17:", 17],
    ["CPU:", undefined],
    ["  cpu 1 :", 1],
  ])("has a CPU after the line %j", (header, cpu) => {
    expect(readFile(text(header, ...ROWS))).toMatchObject({
      ...{ problems: [], cpus: [cpu], tables: [ENTRIES] },
    });
  });

  test.each<[string, (line: string) => string]>([
    ["as the program prints it, without a header", (line) => line],
    ["in upper case", (line) => line.toUpperCase()],
    ["with unpadded numbers", (line) => line.replaceAll(/0x0+(?=[0-9a-f])/g, "0x")],
    ["without 0x", (line) => line.replaceAll("0x", "")],
    ["with commas", (line) => line.replaceAll(/ (?=e[bcd]x)/g, ", ")],
    ["without white space in front", (line) => line.trim()],
    ["with tabs", (line) => line.replaceAll(" ", "\t")],
    ["with CR LF", (line) => `${line}\r`],
  ])("is read %s", (_, change) => {
    expect(tablesOf(text(...ROWS.map(change)))).toEqual([ENTRIES]);
  });

  test("of old versions, which has no sub-leaf column, is read as sub-leaf 0", () => {
    const [first = ""] = ROWS.map((line) => line.replace(" 0x00:", ":"));
    expect(tablesOf(text("CPU:", first))).toEqual([ENTRIES.slice(0, 1)]);
  });

  test("of several CPUs without headers has a new CPU at each leaf 0", () => {
    expect(tablesOf(text(...ROWS, ...ROWS))).toEqual([ENTRIES, ENTRIES]);
  });

  test.each([
    ["20000000", "0x20000000", "0x00000007"],
    ["40000100", "0x40000100", "0x00000007"],
    ["80860000", "0x80860000", "0x00000007"],
    ["c0000000", "0xc0000000", "0x00000007"],
    ["40000000 with a maximum of another block", "0x40000000", "0x40000100"],
  ])("omits the probe %s of a range that the CPU does not support", (_, leaf, eax) => {
    const probe = `   ${leaf} 0x00: eax=${eax} ebx=0x00000340 ecx=0x00000340 edx=0x00000000`;
    const read = readFile(text(...ROWS, probe));
    expect(read.tables).toEqual([ENTRIES]);
    expect(read.notes).toEqual([
      `the leaves ${leaf} are left out: they are outside of the CPU's ranges`,
    ]);
  });

  test.each([
    ["a hypervisor", "0x40000000", "0x40000001", "40000000.0 0 40000001 1 0 0"],
    ["KVM before 2.6.38", "0x40000000", "0x00000000", "40000000.0 0 0 1 0 0"],
    ["Centaur", "0xc0000000", "0xc0000004", "c0000000.0 0 c0000004 1 0 0"],
  ])("keeps the first leaf of a range: %s", (_, leaf, eax, entry) => {
    const row = `   ${leaf} 0x00: eax=${eax} ebx=0x00000001 ecx=0x00000000 edx=0x00000000`;
    expect(readFile(text(...ROWS, row)).tables).toEqual([[...ENTRIES, entry]]);
  });

  test.each([
    ["   0x00000007 0x00: eax=0x1 ebx=0x2 ecx=0x3", "three registers"],
    ["   0x00000007 0x00: eax=0x100000000 ebx=0x2 ecx=0x3 edx=0x4", "a register of 33 bits"],
    ["   0x00000007 0x00: ebx=0x1 eax=0x2 ecx=0x3 edx=0x4", "another order"],
    ["   0x00000007 0x00: eax=0x1 ebx=0x2 ecx=0x3 edx=0x4 more", "text behind it"],
  ])("has a fault at the line %j, because it has %s", (line) => {
    const read = readFile(text(...ROWS, line), "cpuid-r");
    expect(read.tables).toEqual([ENTRIES]);
    expect(read.problems).toEqual([`4: the line is not an entry: ${JSON.stringify(line.trim())}`]);
  });

  test.each([
    ["ebx=0x756e6547", "ebx=0x756e654", "2:42 ebx=756e654 has 7 digits instead of 8"],
    ["edx=0x49656e69", "edx=49656e6", "2:70 edx=49656e6 has 7 digits instead of 8"],
    ["0x00000000 0x00", "0x0000000 0x00", "2:6 the leaf 0000000 has 7 digits instead of 8"],
  ])("has a fault with a column if %s lost a digit: %s", (whole, part, fault) => {
    const { problems } = readCpuid(text("CPU 0:", ...ROWS).replace(whole, part));
    expect(problems.map((p) => `${p.line}:${p.column} ${p.message}`)).toEqual([fault]);
  });

  test("has a fault at a line that occurs again for the same CPU", () => {
    const read = readFile(text("CPU 0:", ...ROWS, ROWS[1] ?? "", "CPU 1:", ...ROWS));
    expect(read.tables).toEqual([ENTRIES, ENTRIES]);
    expect(read.problems).toEqual([
      "5: the leaf 0x7, sub-leaf 0 occurs again; the first is in line 3",
    ]);
  });

  test("with flags keeps an entry that occurs again, because a table of KVM can have one", () => {
    const row = `${ROWS[1]} flags=1`;
    expect(tablesOf(text(row, row))[0]).toHaveLength(2);
  });

  test("is written in the form that cpuid -f reads", () => {
    const lines = new TextDecoder().decode(formatCpuid(oneCpu, "cpuid-r")).split("\n");
    expect(lines.slice(0, 2)).toEqual([
      "CPU:",
      "   0x00000000 0x00: eax=0x0000000d ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69",
    ]);
  });
});

const missing = spawnSync("cpuid", ["--version"]).error !== undefined;

describe.skipIf(missing)("cpuid -f (skipped without the program of the package cpuid)", () => {
  /** Runs `cpuid -r -f` on a written text, and returns the output. */
  function reprinted(written: Uint8Array): string {
    const folder = mkdtempSync(join(tmpdir(), "cpuid-r-"));
    try {
      writeFileSync(join(folder, "table"), written);
      return execFileSync("cpuid", ["-r", "-f", join(folder, "table")], { encoding: "utf8" });
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  test.each([
    ["one CPU", oneCpu],
    ["two CPUs", twoCpus],
  ])("prints the written table of %s unchanged", (_, tables) => {
    const written = formatCpuid(tables, "cpuid-r");
    expect(reprinted(written).replace(/^CPU 0:$/m, "CPU:")).toBe(
      new TextDecoder().decode(written).replace(/^CPU 0:$/m, "CPU:"),
    );
  });
});
