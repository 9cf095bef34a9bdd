/**
 * Reads and writes this package's JSON of tables; docs/cpuid-table.schema.json is its schema. A document is one table,
 * as CpuidTable.toJSON() returns it, or `{ tables: [...] }`. An array of entries and a saved state are also read: their
 * entries have the same members, with numbers instead of text.
 */
import { quoted, suggestion } from "../../options.ts";
import { CPUID_REGISTERS, type CpuidEntry2Input } from "../entry.ts";
import type { CpuidEntryJson } from "../table.ts";
import { TableCollector } from "./collect.ts";
import type { CpuidDump, CpuidFileTable, CpuidFormat } from "./dump.ts";
import { describeJson, type JsonMember, type JsonValue, memberOf, readJson } from "./json-text.ts";
import { decodeText, headText } from "./lines.ts";
import { TextPlaces } from "./problems.ts";

const NAME = "json";

const ENTRY_MEMBERS: readonly string[] = [
  ...["function", "index", "flags", ...CPUID_REGISTERS, "padding"],
];
const TABLE_MEMBERS: readonly string[] = ["cpu", "complete", "source", "entries"];
const DOCUMENT_MEMBERS: readonly string[] = ["$schema", ...TABLE_MEMBERS, "tables"];

/** Reads the values of one document, and adds its tables and faults to the collector. */
class DocumentReader {
  readonly #into: TableCollector;
  readonly #places: TextPlaces;

  constructor(into: TableCollector, places: TextPlaces) {
    this.#into = into;
    this.#places = places;
  }

  problem(offset: number, message: string): undefined {
    const { line, column } = this.#places.at(offset);
    this.#into.problem(line, column, message);
  }

  document(value: JsonValue): void {
    if (value.kind === "array") {
      this.#into.startCpu(undefined, 1);
      this.#entries(value);
    } else if (value.kind !== "object") {
      this.problem(value.offset, `expected an object with entries, got ${describeJson(value)}`);
    } else if (memberOf(value, "vcpus") !== undefined) {
      this.#state(value);
    } else {
      this.#refuseOthers(value.members, DOCUMENT_MEMBERS);
      const tables = memberOf(value, "tables");
      if (tables === undefined) this.#table(value, DOCUMENT_MEMBERS);
      else this.#tables(value, tables);
    }
  }

  #tables(document: JsonValue, tables: JsonValue): void {
    for (const name of ["entries", "cpu", "complete"]) {
      const extra = memberOf(document, name);
      if (extra) this.problem(extra.offset, `a document with tables has no ${name} of its own`);
    }
    this.#source(memberOf(document, "source"));
    for (const table of this.#items("tables", tables)) this.#table(table, TABLE_MEMBERS);
  }

  #table(table: JsonValue, known: readonly string[]): void {
    if (table.kind !== "object") {
      this.problem(table.offset, `expected a table, got ${describeJson(table)}`);
      return;
    }
    if (known === TABLE_MEMBERS) this.#refuseOthers(table.members, known);
    this.#source(memberOf(table, "source"));
    const cpu = this.#optional(table, "cpu", (value) => this.#u32("cpu", value));
    const isComplete = this.#optional(table, "complete", (value) => this.#boolean(value));
    this.#into.startCpu(cpu, this.#places.at(table.offset).line, isComplete);
    const entries = memberOf(table, "entries");
    if (entries === undefined) this.problem(table.offset, "the table has no entries");
    else this.#entries(entries);
  }

  /** In a saved state, each vCPU has its id and the entries of KVM_GET_CPUID2. */
  #state(document: JsonValue): void {
    this.#into.note("the file is a saved state, of which only the CPUID tables are read");
    const vcpus = memberOf(document, "vcpus");
    for (const vcpu of vcpus ? this.#items("vcpus", vcpus) : []) {
      const cpuid = memberOf(vcpu, "cpuid");
      if (cpuid === undefined) continue;
      const id = this.#optional(vcpu, "id", (value) => this.#u32("id", value));
      this.#into.startCpu(id, this.#places.at(vcpu.offset).line);
      this.#entries(cpuid);
    }
  }

  #entries(entries: JsonValue): void {
    for (const item of this.#items("entries", entries)) {
      const input = this.#entry(item);
      if (input !== undefined) this.#into.add(input, this.#places.at(item.offset).line);
    }
  }

  /** Reads an entry; if the entry has faults, adds these and returns undefined. */
  #entry(item: JsonValue): CpuidEntry2Input | undefined {
    if (item.kind !== "object") {
      return this.problem(item.offset, `expected an entry, got ${describeJson(item)}`);
    }
    const before = this.#into.problems;
    this.#refuseOthers(item.members, ENTRY_MEMBERS);
    const fn = memberOf(item, "function");
    if (fn === undefined) return this.problem(item.offset, "the entry has no function");
    const numbers = Object.fromEntries(
      item.members
        .filter(({ name }) => name !== "padding")
        .map(({ name, value }) => [name, this.#u32(name, value) ?? 0]),
    );
    const padding = this.#optional(item, "padding", (value) => this.#padding(value));
    if (this.#into.problems > before) return undefined;
    const input = { function: 0, ...numbers };
    return padding === undefined ? input : { ...input, padding };
  }

  #padding(value: JsonValue): readonly number[] | undefined {
    const words = this.#items("padding", value);
    if (value.kind === "array" && words.length !== 3) {
      return this.problem(value.offset, `the padding has ${words.length} words, not 3`);
    }
    return words.map((word) => this.#u32("padding", word) ?? 0);
  }

  /** Reads a u32 from a number, decimal text, or hexadecimal text with the prefix 0x. */
  #u32(name: string, value: JsonValue): number | undefined {
    const isText = value.kind === "string" && /^(0x[0-9a-f]{1,16}|\d{1,16})$/i.test(value.text);
    const number = value.kind === "number" ? value.value : isText ? Number(value.text) : Number.NaN;
    if (!Number.isInteger(number)) {
      return this.problem(value.offset, `${name}: expected an integer, got ${describeJson(value)}`);
    }
    if (number >= 0 && number <= 0xffffffff) return number;
    return this.problem(value.offset, `${name}: ${describeJson(value)} does not fit 32 bits`);
  }

  #boolean(value: JsonValue): boolean | undefined {
    if (value.kind === "literal" && value.value !== null) return value.value;
    const found = describeJson(value);
    return this.problem(value.offset, `complete: expected true or false, got ${found}`);
  }

  #source(value: JsonValue | undefined): void {
    if (value === undefined) return;
    if (value.kind !== "object") {
      this.problem(value.offset, `source: expected an object, got ${describeJson(value)}`);
      return;
    }
    const parts = value.members.map((member) => `${member.name} ${describeJson(member.value)}`);
    if (parts.length > 0) this.#into.note(`source: ${parts.slice(0, 8).join(", ")}`);
  }

  #items(name: string, value: JsonValue): readonly JsonValue[] {
    if (value.kind === "array") return value.items;
    this.problem(value.offset, `${name}: expected an array, got ${describeJson(value)}`);
    return [];
  }

  #optional<T>(
    owner: JsonValue,
    name: string,
    readValue: (value: JsonValue) => T | undefined,
  ): T | undefined {
    const value = memberOf(owner, name);
    return value === undefined ? undefined : readValue(value);
  }

  #refuseOthers(members: readonly JsonMember[], known: readonly string[]): void {
    for (const { name, offset } of members) {
      if (known.includes(name)) continue;
      const shown = quoted(name.slice(0, 60));
      this.problem(offset, `unknown member ${shown}${suggestion(name, known)}`);
    }
  }
}

function parse(bytes: Uint8Array): CpuidDump {
  const into = new TableCollector(NAME, { contents: "exact", canBeComplete: true });
  const text = decodeText(bytes);
  const reader = new DocumentReader(into, new TextPlaces(text));
  const { value, fault } = readJson(text);
  if (fault) reader.problem(fault.offset, fault.message);
  else reader.document(value);
  return into.finish();
}

/** Formats an entry on one line; a diff of two files then has one line for each changed entry. */
function entryLine(entry: CpuidEntryJson): string {
  const members = Object.entries(entry).map(
    ([name, value]) => `"${name}": ${JSON.stringify(value)}`,
  );
  return `{ ${members.join(", ")} }`;
}

/** Formats the members of a table without the braces, one member per line. */
function tableLines({ cpu, isComplete, table }: CpuidFileTable, indent: string): readonly string[] {
  const entries = table.toJSON().entries.map((e) => `${indent}  ${entryLine(e)}`);
  const list = entries.length === 0 ? "[]" : `[\n${entries.join(",\n")}\n${indent}]`;
  return [
    ...(cpu === undefined ? [] : [`"cpu": ${cpu}`]),
    `"complete": ${isComplete}`,
    `"entries": ${list}`,
  ];
}

function format(tables: readonly CpuidFileTable[]): Uint8Array {
  const [first] = tables;
  const object = (table: CpuidFileTable, indent: string): string =>
    `{\n${tableLines(table, `${indent}  `)
      .map((line) => `${indent}  ${line}`)
      .join(",\n")}\n${indent}}`;
  const text =
    first !== undefined && tables.length === 1
      ? object(first, "")
      : `{\n  "tables": [\n${tables.map((table) => `    ${object(table, "    ")}`).join(",\n")}\n  ]\n}`;
  return new TextEncoder().encode(`${text}\n`);
}

/** Finds a member name of this package's JSON or of a saved state, in a text that begins with a brace or a bracket. */
const OWN = /"(?:entries|tables|cpuid|function)"\s*:/;

/** The format of CpuidTable.toJSON(), of JSON with several tables, and of saved states. */
export const json: CpuidFormat = {
  name: NAME,
  title: "JSON of node-kvm: tables, or a saved state",
  kind: "tables",
  isLossless: true,
  likelihood: (head) => {
    const text = headText(head).trimStart();
    if (!text.startsWith("{") && !text.startsWith("[")) return 0;
    if (/^\{\s*"format"\s*:\s*"node-kvm-state"/.test(text)) return 1;
    return OWN.test(text) && /"function"\s*:/.test(text) ? 0.9 : OWN.test(text) ? 0.6 : 0.1;
  },
  parse,
  format,
};
