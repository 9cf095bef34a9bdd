/** Tests of the raw data of libcpuid. */
import { describe, expect, test } from "vitest";
import { CpuidTable, detectFormat, formatCpuid } from "../../../../lib/cpuid/index.ts";
import { readFile, tablesOf } from "./read-table.ts";
import { oneCpu, twoCpus } from "./sample-tables.ts";

const VENDOR = "756e6547 6c65746e 49656e69";
const CPU = `basic_cpuid[0]=0000000b ${VENDOR}
basic_cpuid[1]=000906ea 00100800 7ffafbbf bfebfbff
basic_cpuid[4]=1c004121 01c0003f 0000003f 00000000
basic_cpuid[12]=00000007 00000340 00000340 00000000
ext_cpuid[0]=80000001 00000000 00000000 00000000
ext_cpuid[1]=00000000 00000000 00000121 2c100800
ext_cpuid[9]=00000007 00000340 00000340 00000000
intel_fn4[0]=1c004121 01c0003f 0000003f 00000000
intel_fn4[1]=1c03c163 03c0003f 00002fff 00000006
intel_fn11[1]=00000004 00000010 00000201 00000000
`;
const ENTRIES = [
  `0.0 0 b ${VENDOR}`,
  "1.0 0 906ea 100800 7ffafbbf bfebfbff",
  "4.0 1 1c004121 1c0003f 3f 0",
  "4.1 1 1c03c163 3c0003f 2fff 6",
  "b.1 1 4 10 201 0",
  "80000000.0 0 80000001 0 0 0",
  "80000001.0 0 0 0 121 2c100800",
];

const header = (cpu: number): string => `_________________ Logical CPU #${cpu} _________________\n`;

describe("the raw data of libcpuid", () => {
  test("is detected, has sub-leaves below their leaf, and has no leaf above the highest leaf", () => {
    const read = readFile(`version=0.7.0\n${header(0)}${CPU}`);
    expect(read).toMatchObject({ problems: [], cpus: [0], tables: [ENTRIES], complete: [false] });
    expect(read.notes).toEqual([
      "leaves above the highest one of the CPU are left out: they repeat another leaf",
    ]);
    expect(detectFormat(CPU)?.name).toBe("libcpuid");
  });

  test("of two CPUs has a table for each CPU", () => {
    const read = readFile(`${header(0)}${CPU}${header(5)}${CPU}`);
    expect(read).toMatchObject({ cpus: [0, 5], tables: [ENTRIES, ENTRIES] });
  });

  test.each([
    ["intel_fn4", "4"],
    ["intel_fn11", "b"],
    ["intel_fn12h", "12"],
    ["intel_fn14h", "14"],
    ["amd_fn8000001dh", "8000001d"],
    ["amd_fn80000026h", "80000026"],
  ])("has the sub-leaves of the array %s in leaf 0x%s", (name, leaf) => {
    expect(tablesOf(`${name}[3]=00000001 00000002 00000003 00000004\n`, "libcpuid")).toEqual([
      [`${leaf}.3 1 1 2 3 4`],
    ]);
  });

  test.each([
    ["basic_cpuid[32]=0 0 0 0", 'the line is not an entry: "basic_cpuid[32]=0 0 0 0"'],
    [
      `basic_cpuid[32]=00000000 ${VENDOR}`,
      "basic_cpuid has at most 32 elements, and this is number 32",
    ],
    [`intel_fn5[0]=00000000 ${VENDOR}`, "the array intel_fn5 is not known"],
    [`constructor[0]=00000000 ${VENDOR}`, "the array constructor is not known"],
  ])("has a fault at the line %s", (line, message) => {
    const read = readFile(`${CPU}${line}\n`, "libcpuid");
    expect(read.tables).toEqual([ENTRIES]);
    expect(read.problems).toEqual([`11: ${message}`]);
  });

  test("of a test file ends where the expected values of the test begin", () => {
    const read = readFile(`${CPU}${"-".repeat(80)}\n6\n14\nx86\n`);
    expect(read).toMatchObject({ problems: [], tables: [ENTRIES] });
    expect(read.notes).toContain("the values that a test expects, from line 11 on, are skipped");
  });

  test("of an ARM CPU has no table", () => {
    const read = readFile("version=0.7.0\narm_midr=00000000410fd0c0\n", "libcpuid");
    expect(read.tables).toEqual([]);
    expect(read.notes).toEqual(["the file has registers of an ARM CPU, which has no CPUID"]);
  });

  test("that is written from a table has all entries in the same order, except entries for which the format has no array", () => {
    const absent = ["d.1", "d.2"];
    const [all = []] = tablesOf(formatCpuid(oneCpu, "raw"));
    const [own = []] = tablesOf(formatCpuid(oneCpu, "libcpuid"));
    expect(own).toEqual(all.filter((entry) => !absent.includes(entry.split(" ")[0] ?? "")));
    expect(own).toContainEqual(expect.stringMatching(/^4\.1 /));
  });

  test("is written with the numbers of the CPUs", () => {
    expect(readFile(formatCpuid(twoCpus, "libcpuid")).cpus).toEqual([0, 1]);
  });

  test("is written without leaves for which the format has no array", () => {
    const table = CpuidTable.from([{ function: 0x20 }, { function: 0x40000000 }]);
    expect(new TextDecoder().decode(formatCpuid(table, "libcpuid"))).toBe(
      `version=0.7.0\n${header(0)}`,
    );
  });
});
