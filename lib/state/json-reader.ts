/**
 * Reads a saved state from JSON, and checks all of its values with the rows of parts.ts and the layouts of abi/.
 * json.ts writes the JSON.
 *
 * The reader accepts two forms of CPUID entries. json.ts writes numbers, because version 0.2 and older read only
 * numbers. CpuidTable.toJSON() writes the same members as hexadecimal text, and omits padding of zeros.
 */
import { isBytes } from "../abi/bytes.ts";
import { CpuidEntry2 } from "../abi/generated/structs.ts";
import type { FieldType, Layout, Scalar } from "../abi/struct.ts";
import { describe } from "../options.ts";
import { fromBase64 } from "./encoding.ts";
import { Complaints, StateDocumentError, shownName } from "./error.ts";
import { type Part, VCPU_PARTS, VM_PARTS } from "./parts.ts";
import { mostOf, type NumberShape, type Shape } from "./shape.ts";
import { contradictions, STATE_FORMAT, STATE_VERSION, type VmState } from "./state.ts";

type Members = Readonly<Record<string, unknown>>;

/**
 * Reads a state from JSON.
 *
 * The required time is linear in the length of the text, and the JSON may be nested to any depth.
 *
 * @throws {@link StateDocumentError} with the first 100 complaints and the number of all: a value of the wrong type or
 *   size, an unknown or a missing field, another format or version.
 */
export function stateFromJson(text: string): VmState {
  if (typeof text !== "string" && !isBytes(text)) {
    throw new TypeError(`stateFromJson(): expected a string, got ${describe(text)}`);
  }
  const reader = new Reader();
  const state = reader.document(parse(text));
  const { complaints } = reader;
  if (state !== undefined && complaints.count === 0) contradictions(state, complaints);
  if (state !== undefined && complaints.count === 0) return state;
  throw new StateDocumentError(complaints.kept, complaints.count);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new StateDocumentError([`not JSON: ${(error as Error).message}`]);
  }
}

/** Converts parsed JSON into values, and collects complaints about faults of the JSON. */
class Reader {
  readonly complaints: Complaints = new Complaints();

  /** Reads a whole document. If the document has another format or version, its content is not checked. */
  document(given: unknown): VmState | undefined {
    const members = this.#members(given, "");
    if (members === undefined) return undefined;
    const { format, version } = members;
    if (format !== STATE_FORMAT) return this.#expect("format", `"${STATE_FORMAT}"`, format);
    if (version !== STATE_VERSION) return this.#expect("version", `${STATE_VERSION}`, version);
    const source = this.#source(members["source"]);
    const parts = this.#parts(VM_PARTS, members, "", ["format", "version", "source", "vcpus"]);
    const vcpus = this.#elements(members["vcpus"], "vcpus", (one, path) => this.#vcpu(one, path));
    // After a complaint, members of the result may be missing, but the caller then throws an error.
    const document: Members = { format, version, source, ...parts, vcpus };
    return document as unknown as VmState;
  }

  #source(given: unknown): Members | undefined {
    const members = this.#members(given, "source");
    if (members === undefined) return undefined;
    this.#refuseOthers(members, "source.", ["kernel", "vendor"]);
    const names = Object.hasOwn(members, "vendor") ? ["kernel", "vendor"] : ["kernel"];
    for (const name of names) {
      if (typeof members[name] === "string") continue;
      this.#expect(`source.${name}`, "a string", members[name]);
    }
    return Object.fromEntries(names.map((name) => [name, members[name]]));
  }

  #vcpu(given: unknown, path: string): Members | undefined {
    const members = this.#members(given, path);
    if (members === undefined) return undefined;
    const id = this.#integer("u32", members["id"], `${path}.id`);
    return { id, ...this.#parts(VCPU_PARTS, members, `${path}.`, ["id"]) };
  }

  #parts(all: readonly Part[], members: Members, path: string, others: readonly string[]): Members {
    this.#refuseOthers(members, path, [...all.map(({ name }) => name), ...others]);
    return Object.fromEntries(
      all
        .filter(({ name }) => Object.hasOwn(members, name))
        .map(({ name, shape }) => [name, this.#part(shape, members[name], `${path}${name}`)]),
    );
  }

  #part(shape: Shape, given: unknown, path: string): unknown {
    switch (shape.kind) {
      case "struct":
        return this.#struct(shape.layout, given, path);
      case "list":
        return this.#elements(given, path, (one, at) => this.#struct(shape.element, one, at));
      case "bytes":
        return this.#bytes(given, path, shape.least);
      case "u32":
        return this.#number(shape, given, path);
      default:
        throw shape satisfies never;
    }
  }

  #struct(layout: Layout, given: unknown, path: string): Members | undefined {
    const own = this.#members(given, path);
    if (own === undefined) return undefined;
    const members = layout === CpuidEntry2 ? entryMembers(own) : own;
    const names = layout.fields.map(({ name }) => name);
    this.#refuseOthers(members, `${path}.`, names);
    return Object.fromEntries(
      layout.fields.map(({ name, type }) => [
        name,
        this.#value(type, members[name], `${path}.${name}`),
      ]),
    );
  }

  #value(type: FieldType, given: unknown, path: string): unknown {
    if (typeof type === "string") return this.#integer(type, given, path);
    if (!("of" in type)) return this.#struct(type, given, path);
    const { of, count } = type;
    if (of === "u8") return this.#bytes(given, path, count, count);
    return this.#elements(given, path, (one, at) => this.#value(of, one, at), count);
  }

  #integer(type: Scalar, given: unknown, path: string): number | bigint | undefined {
    const width = Number(type.slice(1));
    const isSigned = type.startsWith("s");
    const exact = width === 64 ? exactOf(given) : Number.isInteger(given) && BigInt(Number(given));
    if (typeof exact === "bigint") {
      const wrapped = isSigned ? BigInt.asIntN(width, exact) : BigInt.asUintN(width, exact);
      if (wrapped === exact) return width === 64 ? exact : Number(exact);
    }
    const kind = `${isSigned ? "a signed" : "an unsigned"} ${width}-bit number`;
    return this.#expect(path, width === 64 ? `"0x…", ${kind} in lower case` : kind, given);
  }

  #number(shape: NumberShape, given: unknown, path: string): unknown {
    const value = this.#integer("u32", given, path);
    if (value === undefined || value <= mostOf(shape)) return value;
    return this.#expect(path, `at most ${mostOf(shape)}`, given);
  }

  #bytes(given: unknown, path: string, least: number, most?: number): Uint8Array | undefined {
    const wanted = most === undefined ? `${least} bytes or more` : `${least} bytes`;
    const bytes = typeof given === "string" ? fromBase64(given) : undefined;
    if (bytes === undefined) return this.#expect(path, `${wanted} in base64`, given);
    if (bytes.length >= least && bytes.length <= (most ?? bytes.length)) return bytes;
    return this.complaints.add(`${path}: expected ${wanted}, got ${bytes.length}`);
  }

  #elements(
    given: unknown,
    path: string,
    read: (one: unknown, path: string) => unknown,
    count?: number,
  ): readonly unknown[] | undefined {
    const wanted = count === undefined ? "an array" : `an array of ${count}`;
    if (!Array.isArray(given)) return this.#expect(path, wanted, given);
    if (count !== undefined && given.length !== count) {
      return this.complaints.add(`${path}: expected ${wanted}, got ${given.length}`);
    }
    return given.map((one, i) => read(one, `${path}[${i}]`));
  }

  #members(given: unknown, path: string): Members | undefined {
    const isObject = typeof given === "object" && given !== null && !Array.isArray(given);
    // The prototype of the parsed object is removed, so that a lookup does not find members of Object.prototype.
    if (isObject) return Object.setPrototypeOf(given, null) as Members;
    return this.#expect(path === "" ? "the document" : path, "an object", given);
  }

  /** `path` is empty, or ends with a dot that separates it from the name. */
  #refuseOthers(members: Members, path: string, known: readonly string[]): void {
    for (const name of Object.keys(members)) {
      if (!known.includes(name)) this.complaints.add(`${path}${shownName(name)}: unknown field`);
    }
  }

  #expect(path: string, wanted: string, given: unknown): undefined {
    return this.complaints.add(`${path}: expected ${wanted}, got ${shown(given)}`);
  }
}

/**
 * Returns the members of a CPUID entry in the form of a saved state: all values are numbers, and the padding is always
 * present.
 */
function entryMembers(members: Members): Members {
  const numbers = Object.entries(members).map(([name, value]) => {
    const isText = typeof value === "string" && /^0x[0-9a-f]{1,8}$/.test(value);
    return [name, isText ? Number(value) : value] as const;
  });
  const own = { padding: [0, 0, 0], ...Object.fromEntries(numbers) };
  return Object.setPrototypeOf(own, null) as Members;
}

/** Returns the number that a hexadecimal text represents; `undefined` if the text is invalid. */
function exactOf(given: unknown): bigint | undefined {
  if (typeof given !== "string" || !/^-?0x[0-9a-f]{1,16}$/.test(given)) return undefined;
  return given.startsWith("-") ? -BigInt(given.slice(1)) : BigInt(given);
}

/** The maximum number of printed characters of a wrong text. */
const SHOWN_LENGTH = 40;

/**
 * Describes a wrong value briefly; a missing value is "nothing". The content of an array or an object is not printed,
 * because it may have any size and depth.
 */
function shown(given: unknown): string {
  if (given === undefined) return "nothing";
  if (Array.isArray(given)) return given.length === 0 ? "[]" : `an array of ${given.length}`;
  if (typeof given === "object" && given !== null) {
    return Object.keys(given).length === 0 ? "{}" : "an object";
  }
  if (typeof given !== "string") return String(given);
  const text = JSON.stringify(given.slice(0, SHOWN_LENGTH));
  return given.length > SHOWN_LENGTH ? `${text}…` : text;
}
