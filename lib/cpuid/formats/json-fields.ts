/**
 * Reads the members of JSON values for formats of other programs; each wrong member is a fault with its path, line and
 * column.
 */
import { quoted, suggestion } from "../../options.ts";
import type { TableCollector } from "./collect.ts";
import { describeJson, type JsonValue, readJson } from "./json-text.ts";
import { TextPlaces } from "./problems.ts";

/** A list to which faults are added. */
export interface ProblemSink {
  /** The number of faults so far. */
  readonly length: number;
  /** Adds a fault. */
  add(line: number, column: number, message: string): void;
}

/** Passes each fault to the collector of a file's tables, which counts the faults. */
export class CollectorSink implements ProblemSink {
  readonly #into: TableCollector;

  /** Adds faults to `into`. */
  constructor(into: TableCollector) {
    this.#into = into;
  }

  /** The number of faults so far. */
  get length(): number {
    return this.#into.problems;
  }

  /** Adds a fault. */
  add(line: number, column: number, message: string): void {
    this.#into.problem(line, column, message);
  }
}

/** The members of an object by name. */
export type JsonMembers = ReadonlyMap<string, JsonValue>;

/**
 * Reads JSON values of one text, and adds their faults to the file's list of faults. A path has the form
 * `cpuid_modifiers[3].leaf`.
 */
export class JsonFields {
  readonly #text: string;
  readonly #places: TextPlaces;
  readonly #problems: ProblemSink;

  /** Reads values of `text`, and adds faults to `problems`. */
  constructor(text: string, problems: ProblemSink) {
    this.#text = text;
    this.#places = new TextPlaces(text);
    this.#problems = problems;
  }

  /** Reads the whole text; adds a fault and returns undefined if it is not JSON. */
  document(): JsonValue | undefined {
    const { value, fault } = readJson(this.#text);
    return fault ? this.problem(fault.offset, fault.message) : value;
  }

  /** Adds a fault at an offset and returns undefined. */
  problem(offset: number, message: string): undefined {
    const { line, column } = this.#places.at(offset);
    this.#problems.add(line, column, message);
  }

  /** Returns the line of a value. */
  line(value: JsonValue): number {
    return this.#places.at(value.offset).line;
  }

  #expected(path: string, what: string, value: JsonValue): undefined {
    const where = path === "" ? "" : `${path}: `;
    return this.problem(value.offset, `${where}expected ${what}, got ${describeJson(value)}`);
  }

  /**
   * Returns the members of an object; the members in `required` must be present. If the caller gives `optional`, a
   * member in neither list is a fault.
   */
  object(
    value: JsonValue,
    path: string,
    required: readonly string[],
    optional?: readonly string[],
  ): JsonMembers | undefined {
    if (value.kind !== "object") return this.#expected(path, "an object", value);
    const members = new Map(value.members.map((member) => [member.name, member.value]));
    const missing = required.filter((name) => !members.has(name));
    const where = path === "" ? "" : `${path}: `;
    if (missing.length > 0) this.problem(value.offset, `${where}there is no ${missing.join(", ")}`);
    const known = [...required, ...(optional ?? [])];
    for (const { name, offset } of optional === undefined ? [] : value.members) {
      if (known.includes(name)) continue;
      const shown = quoted(name.slice(0, 60));
      this.problem(offset, `${where}unknown member ${shown}${suggestion(name, known)}`);
    }
    return missing.length > 0 ? undefined : members;
  }

  /** Returns the items of an array with their paths; adds a fault and returns no items if the value is not an array. */
  items(value: JsonValue | undefined, path: string): readonly (readonly [JsonValue, string])[] {
    if (value === undefined) return [];
    if (value.kind !== "array") {
      this.#expected(path, "an array", value);
      return [];
    }
    return value.items.map((item, i) => [item, `${path}[${i}]`]);
  }

  /** Returns a text. */
  text(value: JsonValue | undefined, path: string): string | undefined {
    if (value === undefined) return undefined;
    return value.kind === "string" ? value.text : this.#expected(path, "text", value);
  }

  /** Returns an unsigned 32-bit integer that the file contains as a number. */
  u32(value: JsonValue | undefined, path: string): number | undefined {
    if (value === undefined) return undefined;
    if (value.kind !== "number" || !Number.isInteger(value.value)) {
      return this.#expected(path, "an integer", value);
    }
    return this.#within(value.value, path, value);
  }

  /** Returns an unsigned 32-bit integer that the file contains as text with the prefix `0x` or `0b`. */
  prefixed(value: JsonValue | undefined, path: string): number | undefined {
    const text = this.text(value, path);
    if (text === undefined || value === undefined) return undefined;
    const isNumber = /^(?:0x[0-9a-fA-F]+|0b[01]+)$/.test(text) && text.length <= 80;
    if (!isNumber) return this.#expected(path, "a number with the prefix 0x or 0b", value);
    return this.#within(Number(text), path, value);
  }

  #within(number: number, path: string, value: JsonValue): number | undefined {
    if (number >= 0 && number <= 0xffffffff) return number;
    return this.problem(value.offset, `${path}: ${describeJson(value)} does not fit 32 bits`);
  }
}
