/** Tests of C names: they equal the names in the headers, for every field of every struct. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Regs, Run, Sregs } from "../../../lib/abi/generated/structs.ts";
import { cName, leafValue, leavesOf } from "../../../lib/trace/leaf.ts";

interface CField {
  readonly name: string;
  readonly fields?: readonly CField[];
}
const FACTS = join(import.meta.dirname, "../../../gen/facts/kvm-abi.json");
const { structs } = JSON.parse(readFileSync(FACTS, "utf8")) as {
  structs: Readonly<Record<string, { readonly fields: readonly CField[] }>>;
};

const namesOf = (fields: readonly CField[]): readonly string[] =>
  fields.flatMap(({ name, fields: inner = [] }) => [name, ...namesOf(inner)]);
/** Converts a C name to this package's name, by the same rule as gen/abi. */
const ours = (name: string): string =>
  name.replace(/_+([a-z0-9])/g, (_, next: string) => next.toUpperCase());

describe("the C name of a field", () => {
  test("is derived from this package's name, for each field of the headers", () => {
    const names = Object.values(structs).flatMap(({ fields }) => namesOf(fields));
    expect(names.length).toBeGreaterThan(500);
    expect(names.filter((name) => cName(ours(name)) !== name)).toEqual([]);
  });
});

describe("the leaves of a struct for a comparison in C", () => {
  test("are its integers with their paths", () => {
    const leaves = leavesOf(Sregs).map(({ path }) => path);
    expect(leaves.slice(0, 3)).toEqual(["cs.base", "cs.limit", "cs.selector"]);
    expect(leaves).toContain("interrupt_bitmap");
    expect(leavesOf(Run).find(({ path }) => path === "io.port")).toMatchObject({ offset: 34 });
  });

  test("are read with their types", () => {
    const bytes = new DataView(new ArrayBuffer(144));
    bytes.setBigUint64(8, 0xffff_ffff_ffff_fff0n, true);
    const rbx = leavesOf(Regs).find(({ path }) => path === "rbx");
    expect(rbx && leafValue(rbx, bytes)).toBe(0xffff_ffff_ffff_fff0n);
  });
});
