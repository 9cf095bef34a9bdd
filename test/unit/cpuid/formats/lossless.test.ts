/** Tests that reading a file of a lossless format returns the tables that were written. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CPUID_FORMATS, detectFormat, readCpuid } from "../../../../lib/cpuid/index.ts";
import { anyTables, oneCpu, twoCpus } from "./sample-tables.ts";

/** The formats of dumps and tables; other test files cover the remaining formats. */
const OWN = ["json", "raw", "cpuid-r", "aida64", "kcpuid", "kvm", "libcpuid", "c"];

const written = CPUID_FORMATS.flatMap(({ name, isLossless, parse, format }) =>
  OWN.includes(name) && format !== undefined ? [{ name, isLossless, parse, format }] : [],
);

/** Returns the entries of each table in a file, or an empty list if the file has no tables. */
function tablesIn(dump: ReturnType<typeof readCpuid>): readonly unknown[] {
  if (dump.kind !== "tables") return [];
  return dump.tables.map(({ cpu, table }) => ({ cpu, entries: [...table] }));
}

const entriesOf = (tables: typeof oneCpu): readonly unknown[] =>
  tables.map(({ cpu, table }) => ({ cpu, entries: [...table] }));

test("at least the package's JSON, the raw text, KVM's bytes and C arrays are lossless", () => {
  const names = written.filter(({ isLossless }) => isLossless).map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(["json", "raw", "kvm", "c"]));
});

describe.each(written.filter(({ isLossless }) => isLossless))(
  "the lossless format $name",
  ({ parse, format }) => {
    test("preserves every table: order, duplicates, flags, sub-leaves and CPUs", () => {
      fc.assert(
        fc.property(anyTables, (tables) => {
          const dump = parse(format(tables));
          expect(dump.problems).toEqual([]);
          expect(tablesIn(dump)).toEqual(entriesOf(tables));
        }),
      );
    });
  },
);

describe.each(written)("the output format $name", ({ name, parse, format }) => {
  test("preserves the table of a CPU, and marks the table complete if the format can express this", () => {
    const dump = parse(format(oneCpu));
    expect(dump.problems).toEqual([]);
    expect(dump.kind === "tables" && dump.tables.length).toBe(1);
  });

  test("is detected in a written file", () => {
    expect(detectFormat(format(oneCpu))?.name).toBe(name);
    expect(readCpuid(format(oneCpu)).format).toBe(name);
  });

  test("gives the same bytes when it is read and written again", () => {
    const bytes = format(oneCpu);
    const dump = parse(bytes);
    expect(dump.kind === "tables" && [...format(dump.tables)]).toEqual([...bytes]);
  });
});

const several = written.filter(({ name }) => name !== "kcpuid");
test.each(several)("the format $name keeps the two CPUs and their numbers", ({ parse, format }) => {
  const dump = parse(format(twoCpus));
  expect(dump.problems).toEqual([]);
  expect(dump.kind === "tables" && dump.tables.map(({ cpu }) => cpu)).toEqual([0, 1]);
});
