/**
 * Parses JSON and stores the place of each value, because a fault in a file is reported with line and column. Never
 * throws.
 */
import { quoted } from "../../options.ts";

/** The members that all values have. */
interface JsonBase {
  /** The offset of the value's first character in the text. */
  readonly offset: number;
}

/** A member of a JSON object. */
export interface JsonMember {
  readonly name: string;
  /** The offset of the name's quotation mark. */
  readonly offset: number;
  readonly value: JsonValue;
}

/** A value of a JSON text. */
export type JsonValue = JsonBase &
  (
    | { readonly kind: "object"; readonly members: readonly JsonMember[] }
    | { readonly kind: "array"; readonly items: readonly JsonValue[] }
    | { readonly kind: "string"; readonly text: string }
    | { readonly kind: "number"; readonly value: number; readonly text: string }
    | { readonly kind: "literal"; readonly value: boolean | null }
  );

/** The result of {@link readJson}: a value, or the first fault. */
export type JsonResult =
  | { readonly value: JsonValue; readonly fault?: never }
  | {
      readonly value?: never;
      readonly fault: { readonly offset: number; readonly message: string };
    };

/** The maximum nesting; a table needs 4 levels. */
const DEEPEST = 64;
/** The maximum number of values; enough for 4096 CPUs with 30 entries each. */
const MOST_VALUES = 2_000_000;

/** The fault of a text, as an exception that {@link readJson} catches. */
class Fault extends Error {
  readonly offset: number;
  constructor(offset: number, message: string) {
    super(message);
    this.offset = offset;
  }
}

const SPACE = /[ \t\r\n]*/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const LITERAL = /true|false|null/y;
const [QUOTE, BACKSLASH] = [0x22, 0x5c];
const LITERALS: Readonly<Record<string, boolean | null>> = { true: true, false: false, null: null };

class Reader {
  readonly #text: string;
  #at = 0;
  #values = 0;

  constructor(text: string) {
    this.#text = text;
  }

  document(): JsonValue {
    const value = this.#value(0);
    this.#match(SPACE);
    if (this.#at < this.#text.length) throw this.#expected("the end of the file");
    return value;
  }

  /** Matches a pattern at the current offset and moves behind the match; returns undefined if it does not match. */
  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  /** Skips spaces, and then one character if it equals `character`. */
  #takes(character: string): boolean {
    this.#match(SPACE);
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  #expected(what: string): Fault {
    const next = this.#text[this.#at];
    const found = next === undefined ? "the file ends" : `found ${quoted(next)}`;
    return new Fault(this.#at, `the JSON is broken: expected ${what}, ${found}`);
  }

  #value(depth: number): JsonValue {
    this.#match(SPACE);
    const offset = this.#at;
    this.#values += 1;
    if (this.#values > MOST_VALUES) throw new Fault(offset, `more than ${MOST_VALUES} JSON values`);
    if (depth > DEEPEST) throw new Fault(offset, `JSON nested more than ${DEEPEST} deep`);
    if (this.#takes("{")) return { kind: "object", offset, members: this.#members(depth) };
    if (this.#takes("[")) return { kind: "array", offset, items: this.#items(depth) };
    const string = this.#string();
    if (string !== undefined) return { kind: "string", offset, text: string };
    const number = this.#match(NUMBER);
    if (number !== undefined)
      return { kind: "number", offset, value: Number(number), text: number };
    const literal = this.#match(LITERAL);
    if (literal !== undefined) return { kind: "literal", offset, value: LITERALS[literal] ?? null };
    throw this.#expected("a value");
  }

  /** Reads a string; undefined if there is no string at the current offset. */
  #string(): string | undefined {
    const start = this.#at;
    if (this.#text[start] !== '"') return undefined;
    for (let at = start + 1; at < this.#text.length; at += 1) {
      const code = this.#text.charCodeAt(at);
      if (code === BACKSLASH) {
        at += 1;
      } else if (code === QUOTE) {
        this.#at = at + 1;
        return unescaped(this.#text.slice(start, this.#at), start);
      } else if (code < 0x20) {
        throw new Fault(at, "the JSON is broken: a string contains a control character");
      }
    }
    throw new Fault(start, "the JSON is broken: the string has no end");
  }

  #members(depth: number): readonly JsonMember[] {
    const members: JsonMember[] = [];
    const names = new Set<string>();
    if (this.#takes("}")) return members;
    do {
      this.#match(SPACE);
      const offset = this.#at;
      const name = this.#string();
      if (name === undefined) throw this.#expected("a name in quotation marks");
      if (!this.#takes(":")) throw this.#expected('":"');
      const member = { name, offset, value: this.#value(depth + 1) };
      if (names.has(member.name)) {
        throw new Fault(offset, `the member ${quoted(shortened(member.name))} occurs twice`);
      }
      names.add(member.name);
      members.push(member);
    } while (this.#takes(","));
    if (!this.#takes("}")) throw this.#expected('"," or "}"');
    return members;
  }

  #items(depth: number): readonly JsonValue[] {
    const items: JsonValue[] = [];
    if (this.#takes("]")) return items;
    do items.push(this.#value(depth + 1));
    while (this.#takes(","));
    if (!this.#takes("]")) throw this.#expected('"," or "]"');
    return items;
  }
}

const shortened = (name: string): string => (name.length > 60 ? `${name.slice(0, 60)}…` : name);

/** Returns the characters of a string literal. */
function unescaped(literal: string, offset: number): string {
  if (!literal.includes("\\")) return literal.slice(1, -1);
  try {
    const value: unknown = JSON.parse(literal);
    return String(value);
  } catch {
    throw new Fault(offset, "the JSON is broken: a string has an unknown escape");
  }
}

/**
 * Reads a JSON text. A member that occurs twice in an object is a fault. The time is linear in the length of the text.
 *
 * @returns the value, or the first fault with its offset.
 */
export function readJson(text: string): JsonResult {
  try {
    return { value: new Reader(text).document() };
  } catch (error) {
    if (error instanceof Fault) return { fault: { offset: error.offset, message: error.message } };
    throw error;
  }
}

/** Returns a member's value; undefined if the value is no object or has no such member. */
export function memberOf(value: JsonValue | undefined, name: string): JsonValue | undefined {
  if (value?.kind !== "object") return undefined;
  return value.members.find((member) => member.name === name)?.value;
}

/** Names the kind of a value for a message: `an object`, `"text"`, `5`. */
export function describeJson(value: JsonValue): string {
  switch (value.kind) {
    case "object":
      return "an object";
    case "array":
      return "an array";
    case "string":
      return quoted(shortened(value.text));
    case "number":
      return shortened(value.text);
    case "literal":
      return String(value.value);
    default:
      return value satisfies never;
  }
}
