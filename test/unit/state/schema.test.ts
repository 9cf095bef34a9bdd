/** Tests of the JSON Schema: written documents match the schema, and most rejected documents do not. */
import { describe, expect, test } from "vitest";
import { VCPU_PARTS, VM_PARTS } from "../../../lib/state/parts.ts";
import { stateSchema } from "../../../lib/state/schema.ts";
import { changed } from "./any-state.ts";

type Schema = Readonly<Record<string, unknown>>;

const schema = stateSchema();
const definitions = schema["$defs"] as Readonly<Record<string, Schema | undefined>>;

/** Implements the keywords that stateSchema() uses, as JSON Schema 2020-12 defines them. */
const KEYWORDS: Readonly<
  Record<string, (value: never, given: unknown, schema: Schema) => boolean>
> = {
  $schema: () => true,
  $comment: () => true,
  $defs: () => true,
  title: () => true,
  contentEncoding: () => true,
  $ref: (value: string, given) => fits(definitions[value.replace("#/$defs/", "")] ?? {}, given),
  const: (value: unknown, given) => value === given,
  anyOf: (value: readonly Schema[], given) => value.some((one) => fits(one, given)),
  not: (value: Schema, given) => !fits(value, given),
  type: (value: string, given) => typeOf(given) === value,
  minimum: (value: number, given) => Number(given) >= value,
  maximum: (value: number, given) => Number(given) <= value,
  pattern: (value: string, given) => new RegExp(value).test(String(given)),
  minLength: (value: number, given) => String(given).length >= value,
  maxLength: (value: number, given) => String(given).length <= value,
  minItems: (value: number, given) => (given as readonly unknown[]).length >= value,
  maxItems: (value: number, given) => (given as readonly unknown[]).length <= value,
  items: (value: Schema, given) => (given as readonly unknown[]).every((one) => fits(value, one)),
  required: (value: readonly string[], given) =>
    value.every((name) => Object.hasOwn(given as object, name)),
  properties: (value: Readonly<Record<string, Schema>>, given) =>
    Object.entries(given as object).every(([name, one]) => fits(value[name] ?? {}, one)),
  additionalProperties: (value: boolean, given, { properties }) =>
    value ||
    Object.keys(given as object).every((name) => Object.hasOwn(properties as object, name)),
};

function fits(one: Schema, given: unknown): boolean {
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

describe("the JSON schema of a saved state", () => {
  test("is a valid schema of draft 2020-12 with valid references", () => {
    expect(schema["$schema"]).toBe("https://json-schema.org/draft/2020-12/schema");
    const references = JSON.stringify(schema).matchAll(/"#\/\$defs\/([^"]+)"/g);
    const missing = Array.from(references, ([, name = ""]) => name).filter(
      (name) => !definitions[name],
    );
    expect(missing).toEqual([]);
  });

  test("contains every part of the table, and the other required members", () => {
    const properties = Object.keys(schema["properties"] as object);
    const vcpu = Object.keys(definitions["vcpu"]?.["properties"] as object);
    expect(properties).toEqual([
      "format",
      "version",
      "source",
      ...VM_PARTS.map(({ name }) => name),
      "vcpus",
    ]);
    expect(vcpu).toEqual(["id", ...VCPU_PARTS.map(({ name }) => name)]);
  });

  test("accepts a document with all parts", () => {
    expect(fits(schema, changed({}))).toBe(true);
  });

  test("accepts the other struct of the special registers, but not both structs", () => {
    const { vcpus, ...others } = changed({}) as { vcpus: readonly Schema[] };
    const { flags, pdptrs, ...sregs } = (vcpus[0]?.["sregs2"] ?? {}) as Record<string, unknown>;
    const old = { ...sregs, interruptBitmap: ["0x0", "0x0", "0x0", "0x0"] };
    const { sregs2, ...vcpu } = vcpus[0] ?? {};
    const withVcpu = (one: unknown): unknown => ({ ...others, vcpus: [one] });
    expect(fits(schema, withVcpu({ ...vcpu, sregs: old }))).toBe(true);
    expect(fits(schema, withVcpu({ ...vcpu, sregs2, sregs: old }))).toBe(false);
  });

  test.each([
    ["version", 2],
    ["format", "x"],
    ["vcpus.0.regs.rip", 1],
    ["vcpus.0.regs.rip", "0x10000000000000000"],
    ["vcpus.0.regs.rip", "-0x1"],
    ["picMaster.irr", 256],
    ["vcpus.0.tscKhz", 0xffff_f001],
    ["ioapic.redirtbl", ["0x0"]],
    ["vcpus.0.lapic.regs", "AAAA"],
    ["vcpus.0.xsave", ""],
    ["vcpus.0.regs.r16", "0x0"],
    ["vcpus.0.regs.r15", undefined],
    ["apic", {}],
    ["vcpus", undefined],
  ])("rejects a document whose %s is %j", (path, value) => {
    expect(fits(schema, changed({ [path]: value }))).toBe(false);
  });
});
