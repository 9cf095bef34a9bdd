/**
 * The JSON Schema of a saved state, generated from the rows of parts.ts and the layouts of abi/. json.ts writes
 * documents with this schema. json-reader.ts checks documents without the schema, and has additional checks.
 */
import { CpuidEntry2 } from "../abi/generated/structs.ts";
import type { FieldType, Layout, Scalar } from "../abi/struct.ts";
import { type Part, VCPU_PARTS, VM_PARTS } from "./parts.ts";
import { mostOf, type Shape } from "./shape.ts";
import { STATE_FORMAT, STATE_VERSION } from "./state.ts";

type Schema = Readonly<Record<string, unknown>>;

/** Returns the JSON Schema (2020-12) of the documents of `stateToJson`. */
export function stateSchema(): Readonly<Record<string, unknown>> {
  const structs = new Map<string, Schema>();
  const vcpu: Schema = {
    ...object({ id: integer("u32"), ...parts(VCPU_PARTS, structs) }, ["id"]),
    not: { required: ["sregs", "sregs2"] },
  };
  const source = object({ kernel: { type: "string" }, vendor: { type: "string" } }, ["kernel"]);
  const properties = {
    format: { const: STATE_FORMAT },
    version: { const: STATE_VERSION },
    source,
    ...parts(VM_PARTS, structs),
    vcpus: { type: "array", items: { $ref: "#/$defs/vcpu" } },
  };
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "The state of a KVM virtual machine, without its memory",
    ...object(properties, ["format", "version", "source", "vcpus"]),
    $defs: { vcpu, ...Object.fromEntries(structs) },
  };
}

/** Describes parts, and adds their structs to `structs`. */
function parts(all: readonly Part[], structs: Map<string, Schema>): Schema {
  return Object.fromEntries(
    all.map(({ name, shape, get, set }) => [
      name,
      { $comment: `${get.name}, ${set.name}`, ...ofShape(shape, structs) },
    ]),
  );
}

function ofShape(shape: Shape, structs: Map<string, Schema>): Schema {
  switch (shape.kind) {
    case "struct":
      return ofStruct(shape.layout, structs);
    case "list":
      return { type: "array", items: ofStruct(shape.element, structs) };
    case "bytes":
      return bytes(shape.least);
    case "u32":
      return { ...integer("u32"), maximum: mostOf(shape) };
    default:
      throw shape satisfies never;
  }
}

function ofStruct(layout: Layout, structs: Map<string, Schema>): Schema {
  if (!structs.has(layout.name)) {
    const fields = layout.fields.map(({ name, type }) => [name, ofType(type, structs)] as const);
    const isEntry = layout === CpuidEntry2;
    const names = fields.map(([name]) => name).filter((name) => !(isEntry && name === "padding"));
    const own = isEntry ? fields.map(([name, one]) => [name, orText(one)] as const) : fields;
    structs.set(layout.name, object(Object.fromEntries(own), names));
  }
  return { $ref: `#/$defs/${layout.name}` };
}

function ofType(type: FieldType, structs: Map<string, Schema>): Schema {
  if (typeof type === "string") return integer(type);
  if (!("of" in type)) return ofStruct(type, structs);
  const { of, count } = type;
  if (of === "u8") return bytes(count, count);
  return { type: "array", items: ofType(of, structs), minItems: count, maxItems: count };
}

function object(properties: Schema, required: readonly string[]): Schema {
  return { type: "object", properties, required, additionalProperties: false };
}

function integer(type: Scalar): Schema {
  const width = Number(type.slice(1));
  const isSigned = type.startsWith("s");
  if (width === 64) return { type: "string", pattern: `^${isSigned ? "-?" : ""}0x[0-9a-f]{1,16}$` };
  const values = 2 ** width;
  const minimum = isSigned ? -values / 2 : 0;
  return { type: "integer", minimum, maximum: minimum + values - 1 };
}

/** Adds the text form of a number of a CPUID entry, as CpuidTable.toJSON() writes it. */
function orText(one: Schema): Schema {
  if (one["type"] !== "integer") return one;
  return { anyOf: [one, { type: "string", pattern: "^0x[0-9a-f]{1,8}$" }] };
}

const encodedLength = (count: number): number => Math.ceil(count / 3) * 4;

function bytes(least: number, most?: number): Schema {
  return {
    type: "string",
    contentEncoding: "base64",
    pattern: "^[A-Za-z0-9+/]*={0,2}$",
    minLength: encodedLength(least),
    ...(most === undefined ? {} : { maxLength: encodedLength(most) }),
  };
}
