/**
 * Writes a saved state as JSON: 64-bit numbers as "0x…", bytes as base64, other numbers as numbers. json-reader.ts
 * reads the JSON; binary.ts writes a state as bytes.
 */
import { isBytes } from "../abi/bytes.ts";
import type { FieldType } from "../abi/struct.ts";
import { base64 } from "./encoding.ts";
import { type Part, VCPU_PARTS, VM_PARTS } from "./parts.ts";
import { fromBytes, type Shape, toBytes } from "./shape.ts";
import { refuseUnwritable } from "./shapeless.ts";
import type { VmState } from "./state.ts";

type Members = Readonly<Record<string, unknown>>;

/**
 * Writes a state as JSON.
 *
 * @throws TypeError for a value of a wrong type
 * @throws RangeError for a number or an array that does not fit its field
 */
export function stateToJson(state: VmState): string {
  refuseUnwritable("stateToJson()", state);
  const { format, version, source, vcpus } = state;
  const document = {
    format,
    version,
    source,
    ...plainParts(VM_PARTS, state),
    vcpus: vcpus.map((vcpu) => ({ id: vcpu.id, ...plainParts(VCPU_PARTS, vcpu) })),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

function plainParts(parts: readonly Part[], owner: object): Members {
  return Object.fromEntries(
    parts.flatMap(({ name, shape }) => {
      const value = (owner as Members)[name];
      // The conversion to the kernel's bytes and back checks the value, and sets omitted fields to zero.
      return value === undefined
        ? []
        : [[name, plain(shape, fromBytes(shape, toBytes(shape, value)))]];
    }),
  );
}

function plain(shape: Shape, value: unknown): unknown {
  switch (shape.kind) {
    case "struct":
      return plainValue(shape.layout, value);
    case "list":
      return (value as readonly unknown[]).map((one) => plainValue(shape.element, one));
    case "bytes":
      return base64(value as Uint8Array);
    case "u32":
      return value;
    default:
      throw shape satisfies never;
  }
}

function plainValue(type: FieldType, value: unknown): unknown {
  if (isBytes(value)) return base64(value);
  if (typeof value === "bigint") return hex(value);
  if (typeof type === "string") return value;
  if ("of" in type) return (value as readonly unknown[]).map((one) => plainValue(type.of, one));
  const members = value as Members;
  return Object.fromEntries(
    type.fields.map(({ name, type: inner }) => [name, plainValue(inner, members[name])]),
  );
}

const hex = (value: bigint): string =>
  value < 0n ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`;
