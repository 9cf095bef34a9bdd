/** Tests that the entries of a dump without flags get correct flags, and that the lint agrees with these flags. */
import { describe, expect, test } from "vitest";
import {
  CpuidTable,
  formatCpuid,
  isIndexed,
  lint,
  readCpuid,
} from "../../../../lib/cpuid/index.ts";
import { readFile, tablesOf } from "./read-table.ts";

const VENDOR = "ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69";
const ZERO = `0x00000000 0x00: eax=0x00000029 ${VENDOR}`;
const XEN = "0x40000000 0x00: eax=0x40000005 ebx=0x566e6558 ecx=0x65584d4d edx=0x4d4d566e";
const row = (leaf: string, index: number, eax: number): string =>
  `${leaf} 0x0${index}: eax=0x0000000${eax} ebx=0x00000001 ecx=0x00000000 edx=0x00000000`;
const file = (...rows: readonly string[]): string => rows.map((one) => `   ${one}\n`).join("");

/**
 * Returns the flags of the entries of a leaf with these sub-leaves. The first two entries of the file are other leaves.
 */
function flagsOf(leaf: string, indexes: readonly number[]): readonly string[] {
  const rows = indexes.map((index) => row(leaf, index, 1));
  const [entries = []] = tablesOf(file(ZERO, XEN, ...rows), "cpuid-r");
  return entries.slice(2).map((entry) => entry.split(" ")[1] ?? "");
}

/** Leaves whose sub-leaves KVM does not give to guests. */
const OTHERS = ["1b", "20", "23", "27", "28", "29", "80000020", "80000026", "40000003"];

describe("the flag of an entry of a dump", () => {
  test.each([
    "4",
    "7",
    "b",
    "d",
    "f",
    "10",
    "12",
    "14",
    "17",
    "18",
    "1d",
    "1e",
    "1f",
    "24",
    "8000001d",
  ])(
    "is set for leaf 0x%s with only sub-leaf 0, because KVM treats the leaf as indexed",
    (leaf) => {
      expect(isIndexed(Number.parseInt(leaf, 16))).toBe(true);
      expect(flagsOf(`0x${leaf}`, [0])).toEqual(["1"]);
    },
  );

  test.each(OTHERS)("is set for all sub-leaves of leaf 0x%s if the file has several", (leaf) => {
    expect(isIndexed(Number.parseInt(leaf, 16))).toBe(false);
    expect(flagsOf(`0x${leaf}`, [0, 1])).toEqual(["1", "1"]);
  });

  test.each(OTHERS)("is clear for leaf 0x%s with only sub-leaf 0", (leaf) => {
    expect(flagsOf(`0x${leaf}`, [0])).toEqual(["0"]);
  });

  test.each(["1", "2", "80000008", "40000001"])(
    "is clear for sub-leaf 0 of leaf 0x%s, which has no sub-leaves, even if the file contains sub-leaf 1",
    (leaf) => {
      expect(flagsOf(`0x${leaf}`, [0, 1])).toEqual(["0", "1"]);
    },
  );

  test("lets KVM's lookup find each sub-leaf of the dump", () => {
    const rows = OTHERS.flatMap((leaf) => [0, 1, 2].map((index) => row(`0x${leaf}`, index, index)));
    const dump = readCpuid(file(ZERO, XEN, ...rows), { format: "cpuid-r" });
    const table = dump.kind === "tables" ? dump.tables[0]?.table : undefined;
    const found = OTHERS.map((leaf) =>
      [0, 1, 2].map((index) => table?.find(Number.parseInt(leaf, 16), index)?.eax),
    );
    expect(found).toEqual(OTHERS.map(() => [0, 1, 2]));
  });

  test.each([[[0]], [[0, 1]], [[1]], [[0, 1, 2]]])(
    "obeys the rules S09, S10 and S16 for the sub-leaves %j of any leaf with sub-leaves",
    (indexes) => {
      const leaves = [...OTHERS, "4", "7", "b", "d", "14", "1d", "1f", "24", "8000001d"];
      const rows = leaves.flatMap((leaf) => indexes.map((index) => row(`0x${leaf}`, index, index)));
      const dump = readCpuid(file(ZERO, XEN, ...rows), { format: "cpuid-r" });
      const [first] = dump.kind === "tables" ? dump.tables : [];
      const findings = lint(first?.table ?? CpuidTable.from([]), { profile: "cpu" }).findings;
      expect(first?.table.length).toBe(2 + rows.length);
      expect(findings.filter(({ rule }) => /^S(?:09|10|16)$/.test(rule))).toEqual([]);
    },
  );

  test("is the flag that the file states, in formats with flags", () => {
    const table = CpuidTable.from([{ function: 4 }, { function: 1, flags: 1 }]);
    for (const format of ["json", "raw", "kvm", "c"] as const) {
      expect(readFile(formatCpuid(table, format)).tables).toEqual([
        ["4.0 0 0 0 0 0", "1.0 1 0 0 0 0"],
      ]);
    }
  });
});
