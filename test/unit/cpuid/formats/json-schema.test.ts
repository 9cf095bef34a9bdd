/**
 * Tests of docs/cpuid-table.schema.json: the schema accepts the files that the package writes, and rejects the files
 * for which the reader reports a fault.
 */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CpuidTable, formatCpuid, readCpuid } from "../../../../lib/cpuid/index.ts";
import { anyTables, oneCpu, twoCpus } from "./sample-tables.ts";

type Schema = Readonly<Record<string, unknown>>;

const path = new URL("../../../../docs/cpuid-table.schema.json", import.meta.url);
const schema = JSON.parse(readFileSync(path, "utf8")) as Schema;
const definitions = schema["$defs"] as Readonly<Record<string, Schema | undefined>>;

/**
 * Implements the keywords that the schema uses, as JSON Schema 2020-12 defines them. A keyword accepts each value of a
 * type that the keyword does not describe.
 */
const KEYWORDS: Readonly<
  Record<string, (value: never, given: unknown, schema: Schema) => boolean>
> = {
  $schema: () => true,
  $defs: () => true,
  title: () => true,
  description: () => true,
  $ref: (value: string, given) => fits(definitions[value.replace("#/$defs/", "")], given),
  oneOf: (value: readonly Schema[], given) => value.filter((one) => fits(one, given)).length === 1,
  anyOf: (value: readonly Schema[], given) => value.some((one) => fits(one, given)),
  type: (value: string, given) => typeOf(given) === value,
  minimum: (value: number, given) => typeof given !== "number" || given >= value,
  maximum: (value: number, given) => typeof given !== "number" || given <= value,
  pattern: (value: string, given) => typeof given !== "string" || new RegExp(value).test(given),
  minItems: (value: number, given) => !Array.isArray(given) || given.length >= value,
  maxItems: (value: number, given) => !Array.isArray(given) || given.length <= value,
  items: (value: Schema, given) => !Array.isArray(given) || given.every((one) => fits(value, one)),
  required: (value: readonly string[], given) =>
    !isObject(given) || value.every((name) => Object.hasOwn(given, name)),
  properties: (value: Readonly<Record<string, Schema>>, given) =>
    !isObject(given) || Object.entries(value).every(([name, one]) => hasNot(given, name, one)),
  additionalProperties: (value: boolean, given, { properties }) =>
    value ||
    !isObject(given) ||
    Object.keys(given).every((name) => Object.hasOwn(properties as object, name)),
};

const isObject = (given: unknown): given is Record<string, unknown> =>
  typeof given === "object" && given !== null && !Array.isArray(given);

/** Returns whether an object does not have a member, or has a member that fits the schema. */
const hasNot = (given: Record<string, unknown>, name: string, one: Schema): boolean =>
  !Object.hasOwn(given, name) || fits(one, given[name]);

function fits(one: Schema | undefined, given: unknown): boolean {
  if (one === undefined) throw new Error("a reference to no definition");
  return Object.entries(one).every(([keyword, value]) => {
    const check = KEYWORDS[keyword];
    if (check === undefined) throw new Error(`keyword ${keyword}`);
    return check(value as never, given, one);
  });
}

function typeOf(given: unknown): string {
  if (Array.isArray(given)) return "array";
  if (Number.isInteger(given)) return "integer";
  return given === null ? "null" : typeof given;
}

const written = (tables: typeof oneCpu): unknown =>
  JSON.parse(new TextDecoder().decode(formatCpuid(tables, "json")));

const table = CpuidTable.from([{ function: 7, index: 1, flags: 1, eax: 16 }]);
const [entry] = table.toJSON().entries;
const withEntry = (changes: object): object => ({ entries: [{ ...entry, ...changes }] });

/** Documents with exactly one fault each. */
const WRONG: readonly (readonly [what: string, document: unknown])[] = [
  ["without entries", {}],
  ["that is a number", 5],
  ["that is text", "entries"],
  ["with entries that are an object", { entries: {} }],
  ["with an entry that is a number", { entries: [7] }],
  ["with an entry without a function", { entries: [{ eax: 1 }] }],
  ["with an unknown member of an entry", withEntry({ leaf: 7 })],
  ["with a negative register", withEntry({ eax: -1 })],
  ["with a register of 33 bits", withEntry({ ebx: 0x1_0000_0000 })],
  ["with a text of 33 bits", withEntry({ ebx: "0x100000000" })],
  ["with a register that is a fraction", withEntry({ ecx: 0.5 })],
  ["with a register that is no number", withEntry({ edx: "eax" })],
  ["with a register that is null", withEntry({ edx: null })],
  ["with flags that are true", withEntry({ flags: true })],
  ["with two words of padding", withEntry({ padding: [0, 0] })],
  ["with four words of padding", withEntry({ padding: [0, 0, 0, 0] })],
  ["with padding that is text", withEntry({ padding: ["x", 0, 0] })],
  ["with a padding that is a number", withEntry({ padding: 0 })],
  ["with an unknown member", { ...table.toJSON(), vendor: "intel" }],
  ["with a CPU's number that is text", { ...table.toJSON(), cpu: "first" }],
  ["with a complete that is a number", { ...table.toJSON(), complete: 1 }],
  ["with a source that is text", { ...table.toJSON(), source: "here" }],
  ["with tables and entries", { tables: [table.toJSON()], entries: [] }],
  ["with tables and a CPU's number", { tables: [table.toJSON()], cpu: 1 }],
  ["with tables that are an object", { tables: table.toJSON() }],
  ["with a table that is an array", { tables: [table.toJSON().entries] }],
  ["with a table without entries", { tables: [table.toJSON(), { cpu: 1 }] }],
  ["with an unknown member of a table", { tables: [{ ...table.toJSON(), tables: [] }] }],
];

/** Documents without a fault. */
const RIGHT: readonly (readonly [what: string, document: unknown])[] = [
  ["of a table", table.toJSON()],
  [
    "with the members of a file",
    { ...table.toJSON(), cpu: 0, complete: true, source: { os: "x" } },
  ],
  ["with a reference to the schema", { $schema: "cpuid-table.schema.json", ...table.toJSON() }],
  ["with numbers", withEntry({ function: 7, eax: 4294967295, padding: [1, 2, 3] })],
  ["with decimal text", withEntry({ eax: "16", index: "0x1" })],
  ["of two CPUs", { source: {}, tables: [{ cpu: 0, ...table.toJSON() }, table.toJSON()] }],
];

const encoded = (document: unknown): string => JSON.stringify(document);
const problemsOf = (document: unknown): readonly unknown[] =>
  readCpuid(encoded(document), { format: "json" }).problems;

describe("the JSON schema of CPUID tables", () => {
  test.each([
    ["one CPU", oneCpu],
    ["two CPUs", twoCpus],
  ])("accepts the written file of %s", (_, tables) => {
    expect(fits(schema, written(tables))).toBe(true);
  });

  test("accepts the written file of any tables", () => {
    fc.assert(
      fc.property(anyTables, (tables) => {
        expect(fits(schema, written(tables))).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  test("accepts padding, and the JSON of a table alone", () => {
    const padded = CpuidTable.from([{ function: 1, padding: [1, 2, 0xffff_ffff] }]);
    expect(fits(schema, JSON.parse(JSON.stringify(padded)))).toBe(true);
  });

  test.each(RIGHT)("accepts a document %s, and so does the reader", (_, document) => {
    expect(fits(schema, document)).toBe(true);
    expect(problemsOf(document)).toEqual([]);
  });

  test.each(WRONG)("rejects a document %s, and so does the reader", (_, document) => {
    expect(fits(schema, document)).toBe(false);
    expect(problemsOf(document)).not.toEqual([]);
  });

  /** Lists the members that the reader accepts at a place, by trying each name of the schema and wrong names. */
  const names = [...JSON.stringify(schema).matchAll(/"([$a-z]+)":/g)].map(([, name = ""]) => name);
  const places: readonly (readonly [string, (name: string) => unknown])[] = [
    ["document", (name) => ({ ...table.toJSON(), [name]: "x" })],
    ["table", (name) => ({ tables: [{ ...table.toJSON(), [name]: "x" }] })],
    ["entry", (name) => withEntry({ [name]: "x" })],
  ];
  test.each(places)("lists the members of a %s that the reader accepts", (place, make) => {
    const known = [...new Set([...names, "leaf", "schema", "vcpus_"])].filter((name) =>
      problemsOf(make(name)).every((problem) => !/unknown member/.test(JSON.stringify(problem))),
    );
    const own = Object.keys(definitions[place]?.["properties"] as object);
    const alternative = place === "document" ? ["tables"] : [];
    expect(new Set(known)).toEqual(new Set([...own, ...alternative]));
  });

  test("is in the published package, whose files include docs/", () => {
    const manifest = readFileSync(new URL("../../../../package.json", import.meta.url), "utf8");
    expect((JSON.parse(manifest) as { files: readonly string[] }).files).toContain("docs");
  });
});
