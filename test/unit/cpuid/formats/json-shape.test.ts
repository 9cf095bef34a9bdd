/**
 * Tests that entries have the same JSON shape in a table, a file and a saved state: each reader accepts the output of
 * each writer.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CpuidTable, formatCpuid, readCpuid } from "../../../../lib/cpuid/index.ts";
import {
  STATE_FORMAT,
  STATE_VERSION,
  stateFromJson,
  stateToJson,
  type VmState,
} from "../../../../lib/state/index.ts";
import { anyTables, oneCpu } from "./sample-tables.ts";

const state = (cpuid: readonly unknown[]): VmState => ({
  format: STATE_FORMAT,
  version: STATE_VERSION,
  source: { kernel: "6.12" },
  vcpus: [{ id: 0, cpuid: cpuid as NonNullable<VmState["vcpus"][number]["cpuid"]> }],
});

/** The writers; each returns a parsed array of entries. */
const WRITERS: Readonly<Record<string, (table: CpuidTable) => readonly object[]>> = {
  "CpuidTable.toJSON()": (table) => JSON.parse(JSON.stringify(table)).entries,
  'formatCpuid(…, "json")': (table) =>
    JSON.parse(new TextDecoder().decode(formatCpuid(table, "json"))).entries,
  "stateToJson()": (table) => JSON.parse(stateToJson(state([...table]))).vcpus[0].cpuid,
};

/** Returns the entries of the only table of a file. */
function entriesOf(text: string): readonly unknown[] {
  const dump = readCpuid(text);
  expect(dump.problems).toEqual([]);
  expect(dump).toMatchObject({ kind: "tables", tables: [{}] });
  return dump.kind === "tables" ? [...(dump.tables[0]?.table ?? [])] : [];
}

/** The readers; each accepts an array of entries. */
const READERS: Readonly<Record<string, (entries: readonly object[]) => readonly unknown[]>> = {
  "CpuidTable.fromJSON()": (entries) => [...CpuidTable.fromJSON({ entries })],
  "readCpuid() of a table": (entries) => entriesOf(JSON.stringify({ entries })),
  "readCpuid() of an array": (entries) => entriesOf(JSON.stringify(entries)),
  "readCpuid() of a saved state": (entries) => entriesOf(JSON.stringify(state(entries))),
  "stateFromJson()": (entries) => [
    ...(stateFromJson(JSON.stringify(state(entries))).vcpus[0]?.cpuid ?? []),
  ],
};

const pairs = Object.entries(READERS).flatMap(([reader, read]) =>
  Object.entries(WRITERS).map(([writer, write]) => ({ reader, read, writer, write })),
);

describe("the JSON of an entry", () => {
  test.each(pairs)("is read by $reader as $writer wrote it", ({ read, write }) => {
    fc.assert(
      fc.property(anyTables, fc.nat(0xffff_ffff), ([any = oneCpu[0]], word) => {
        const padded = { function: 1, padding: [0, word, 1] };
        const table = CpuidTable.from([...(any?.table ?? []), padded]);
        expect(read(write(table))).toEqual([...table]);
      }),
      { numRuns: 10 },
    );
  });

  test("has the same members in the same order in each writer's output", () => {
    const table = CpuidTable.from([{ function: 7, padding: [1, 2, 3] }]);
    const members = Object.values(WRITERS).map((write) => Object.keys(write(table)[0] ?? {}));
    expect(new Set(members.map((names) => names.join()))).toEqual(
      new Set(["function,index,flags,eax,ebx,ecx,edx,padding"]),
    );
  });

  test("is the same text in the JSON of a table and in a JSON file", () => {
    const table = CpuidTable.from(oneCpu[0]?.table ?? []);
    const file = JSON.parse(new TextDecoder().decode(formatCpuid(table, "json")));
    expect(file.entries).toEqual(table.toJSON().entries);
  });

  test.each([
    ["with 33 bits", { function: "0x100000000" }],
    ["in upper case", { function: "0X1" }],
    ["without a prefix", { function: "1" }],
    ["of a word that is no number", { function: "seven" }],
  ])("is rejected by a saved state if it is text %s", (_, wrong) => {
    const [entry] = CpuidTable.from([{ function: 0 }]).toJSON().entries;
    const text = JSON.stringify(state([{ ...entry, ...wrong }]));
    expect(() => stateFromJson(text)).toThrow(/cpuid\[0\]\.function: expected an unsigned 32-bit/);
  });
});
