/** Tests that each format that is marked lossless gives back the tables that it wrote. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CPUID_FORMATS, detectFormat, readCpuid } from "../../../../lib/cpuid/index.ts";
import { anyTables, oneCpu, twoCpus } from "./sample-tables.ts";

/** The formats of dumps and tables; those of other files have tests of their own. */
const OWN = ["json", "raw", "cpuid-r", "aida64", "kcpuid", "kvm", "libcpuid", "c"];

const written = CPUID_FORMATS.flatMap(({ name, isLossless, parse, format }) =>
  OWN.includes(name) && format !== undefined ? [{ name, isLossless, parse, format }] : [],
);

/** Returns the entries of each table of a file; none if the file has no tables. */
function tablesIn(dump: ReturnType<typeof readCpuid>): readonly unknown[] {
  if (dump.kind !== "tables") return [];
  return dump.tables.map(({ cpu, table }) => ({ cpu, entries: [...table] }));
}

const entriesOf = (tables: typeof oneCpu): readonly unknown[] =>
  tables.map(({ cpu, table }) => ({ cpu, entries: [...table] }));

test("at least the own JSON, the raw text, the bytes of KVM and C arrays are lossless", () => {
  const names = written.filter(({ isLossless }) => isLossless).map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(["json", "raw", "kvm", "c"]));
});

describe.each(written.filter(({ isLossless }) => isLossless))(
  "the lossless format $name",
  ({ parse, format }) => {
    test("gives back any tables: order, duplicates, flags, sub-leaves and CPUs", () => {
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

describe.each(written)("the written format $name", ({ name, parse, format }) => {
  test("gives back the table of a CPU, and marks it complete if it can be", () => {
    const dump = parse(format(oneCpu));
    expect(dump.problems).toEqual([]);
    expect(dump.kind === "tables" && dump.tables.length).toBe(1);
  });

  test("is detected from its own output", () => {
    expect(detectFormat(format(oneCpu))?.name).toBe(name);
    expect(readCpuid(format(oneCpu)).format).toBe(name);
  });

  test("reads what it wrote to the same bytes", () => {
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
