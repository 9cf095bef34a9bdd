/**
 * Turns the CPUID database into lib/cpuid/generated: fields.ts (names, positions and descriptions) and aliases.ts
 * (names in other programs and in manuals). lib/cpuid/field.ts reads and writes the fields of a table.
 *
 * Sources: gen/facts/cpuid.csv (x86-cpuid-db v3.1, CC0-1.0, verbatim), gen/facts/cpuid-supplement.csv and
 * gen/facts/cpuid-aliases.csv.
 * Usage: node gen/cpuid.js [--out DIR]     DIR gets the files; default lib/cpuid/generated
 *
 * Names. A field has its name of the database. Where the database uses one name in several leaves,
 * the field that sorts first by (native before hypervisor spaces, function, sub-leaf, register, bit) keeps the
 * plain name, and each later one gets its leaf in hexadecimal behind it: fsrs (0x7.1) and fsrs_80000021.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * @typedef {object} Row
 * @property {string} space
 * @property {number} function
 * @property {number} first first sub-leaf
 * @property {number} last last sub-leaf, equal to first for a single one
 * @property {string} register
 * @property {number} low
 * @property {number} high
 * @property {string} name
 * @property {string} description
 */

const HERE = dirname(fileURLToPath(import.meta.url));
const SOURCES = ["cpuid.csv", "cpuid-supplement.csv"];
const ALIASES = "cpuid-aliases.csv";
const SPACES = ["native", "kvm", "hyperv", "xen", "vmware"];
const REGISTERS = ["eax", "ebx", "ecx", "edx"];

/**
 * Reads one CSV: six columns, split at the first five commas only, no quoting.
 * @param {string} file
 * @param {string} text
 * @returns {Row[]}
 */
function parse(file, text) {
  /** @type {Row[]} */
  const rows = [];
  let space = "native";
  text.split("\n").forEach((line, i) => {
    const where = `${file}:${i + 1}`;
    const marker = /^# space: (\w+)$/.exec(line);
    if (marker) space = marker[1];
    if (!SPACES.includes(space)) throw new Error(`${where}: unknown space ${space}`);
    if (line.trim() === "" || line.startsWith("#")) return;
    const row = /^([^,]+),([^,]+),([^,]+),([^,]+),([^,]+),(.*)$/.exec(line);
    if (!row) throw new Error(`${where}: not six columns`);
    const [leaf, indexes, register, bits, name, description] = row.slice(1).map((s) => s.trim());
    const [last, first = last] = indexes.split(":").map(Number);
    const [high, low = high] = bits.split(":").map(Number);
    const numbers = [Number(leaf), first, last, low, high];
    if (!numbers.every(Number.isInteger)) throw new Error(`${where}: not a number`);
    if (first > last || low > high || high > 31) throw new Error(`${where}: reversed or too wide`);
    if (!REGISTERS.includes(register)) throw new Error(`${where}: unknown register ${register}`);
    if (!/^[a-z0-9_]+$/.test(name)) throw new Error(`${where}: odd name ${name}`);
    rows.push({
      space,
      function: Number(leaf),
      first,
      last,
      register,
      low,
      high,
      name,
      description,
    });
  });
  return rows;
}

/**
 * Orders rows for the naming rule and the output.
 * @param {Row} a
 * @param {Row} b
 */
function compare(a, b) {
  return (
    SPACES.indexOf(a.space) - SPACES.indexOf(b.space) ||
    a.function - b.function ||
    a.first - b.first ||
    a.last - b.last ||
    REGISTERS.indexOf(a.register) - REGISTERS.indexOf(b.register) ||
    a.low - b.low
  );
}

/**
 * Gives sorted rows their final names; returns how many names got a leaf as suffix.
 * @param {Row[]} rows
 */
function name(rows) {
  const plain = new Set(rows.map((row) => row.name));
  const taken = new Set();
  let suffixed = 0;
  for (const row of rows) {
    if (taken.has(row.name)) {
      row.name = `${row.name}_${row.function.toString(16)}`;
      suffixed += 1;
      if (plain.has(row.name)) throw new Error(`${row.name} is already a name of the database`);
    }
    if (taken.has(row.name)) throw new Error(`${row.name} occurs twice in one leaf`);
    taken.add(row.name);
  }
  return suffixed;
}

/**
 * Packs quoted names into lines of a union type.
 * @param {string[]} names
 */
function union(names) {
  const lines = [];
  let line = " ";
  for (const word of names.map((n) => ` | "${n}"`)) {
    if (line.length + word.length > 118) {
      lines.push(line);
      line = " ";
    }
    line += word;
  }
  return [...lines, line].join("\n");
}

/** @param {number} n */
const hex = (n) => `0x${n.toString(16)}`;

/** @param {Row} row */
function format(row) {
  const indexes = `${row.first}, ${row.last}`;
  const bits = `"${row.register}", ${row.low}, ${row.high}`;
  return `    ["${row.name}", ${hex(row.function)}, ${indexes}, ${bits}, ${JSON.stringify(row.description)}],`;
}

/** @param {string} file */
const read = (file) => readFileSync(join(HERE, "facts", file), "utf8");

/**
 * Names a source with the checksum of its text.
 * @param {string} file
 */
const stamp = (file) =>
  ` *   gen/facts/${file} sha256 ${createHash("sha256").update(read(file)).digest("hex")}`;

/**
 * Reads a CSV of facts about fields: comments, a line of column names, and rows without quoting. The first column is
 * the name of a field.
 * @param {string} file
 * @param {Row[]} rows the fields
 */
function facts(file, rows) {
  const names = new Set(rows.map((row) => row.name));
  const [columns, ...lines] = read(file)
    .split("\n")
    .map((line, i) => ({ line, where: `${file}:${i + 1}` }))
    .filter(({ line }) => line.trim() !== "" && !line.startsWith("#"))
    .map(({ line, where }) => ({ cells: line.split(",").map((cell) => cell.trim()), where }));
  for (const { cells, where } of lines) {
    if (cells.length !== columns.cells.length) throw new Error(`${where}: wrong number of columns`);
    if (!names.has(cells[0])) throw new Error(`${where}: unknown field ${cells[0]}`);
  }
  return lines;
}

/**
 * Makes the text of aliases.ts.
 * @param {Row[]} rows the fields
 */
function generateAliases(rows) {
  const lines = facts(ALIASES, rows);
  const twice = lines.find((line, i) => lines.findIndex((l) => l.cells[0] === line.cells[0]) < i);
  if (twice) throw new Error(`${twice.where}: a second row of ${twice.cells[0]}`);
  return `/**
 * Generated by gen/cpuid.js; do not edit. The names of CPUID fields in other programs and in manuals, as data; finding a
 * field by them is aliases.ts.
 *
 * Source, with the version of each program:
${stamp(ALIASES)}
 */
import type { CpuidFieldName } from "./fields.ts";

/** Holds a field's names by source; several are separated by a space. */
export type CpuidAliasRow = readonly [
  name: CpuidFieldName,
  linux: string,
  qemu: string,
  libvirt: string,
  manual: string,
  kernel: string,
];

/** Lists the fields that have a name in another source. */
export const CPUID_ALIASES: readonly CpuidAliasRow[] = [
${lines.map(({ cells }) => `  [${cells.map((cell) => JSON.stringify(cell)).join(", ")}],`).join("\n")}
];
`;
}

/** Reads and names all fields. */
function load() {
  const rows = SOURCES.flatMap((file) => parse(file, read(file))).sort(compare);
  return { rows, suffixed: name(rows) };
}

/**
 * Makes the text of fields.ts from the committed sources; the same sources give the same bytes.
 * @param {Row[]} rows
 * @param {number} suffixed the number of names with a leaf
 */
function generate(rows, suffixed) {
  const stamps = SOURCES.map(stamp);
  const spaces = SPACES.map((space) => {
    const own = rows.filter((row) => row.space === space).map(format);
    return `  ${space}: [\n${own.join("\n")}\n  ],`;
  });
  return `/**
 * Generated by gen/cpuid.js; do not edit. The fields of CPUID as data; reading and writing them is field.ts.
 *
 * Source: x86-cpuid-db v3.1 (CC0-1.0, Linux's tools/arch/x86/kcpuid/cpuid.csv) and the project's supplement:
${stamps.join("\n")}
 *
 * ${rows.length} fields. A name is the database's. Where it names fields of several leaves alike, the first by
 * (native first, function, sub-leaf, register, bit) keeps the plain name and ${suffixed} later ones carry their leaf:
 * fsrs is in 0x7.1, fsrs_80000021 in 0x80000021. Hypervisor leaves are relative to the interface's base.
 */

/** Names every field of the database: the key of get, has and with. */
export type CpuidFieldName =
${union(rows.map((row) => row.name).sort())};

/** Holds one field: name, function, first and last sub-leaf, register, lowest and highest bit, description. */
export type CpuidFieldRow = readonly [
  name: CpuidFieldName,
  function: number,
  first: number,
  last: number,
  register: "eax" | "ebx" | "ecx" | "edx",
  low: number,
  high: number,
  description: string,
];

/** Lists the fields of each name space, ordered by function, sub-leaf, register and bit. */
export const CPUID_FIELDS: {
  readonly [space in ${SPACES.map((s) => `"${s}"`).join(" | ")}]: readonly CpuidFieldRow[];
} = {
${spaces.join("\n")}
};
`;
}

const at = process.argv.indexOf("--out");
const out = at > 0 ? process.argv[at + 1] : join(HERE, "..", "lib", "cpuid", "generated");
if (!out) throw new Error("--out needs a directory");
mkdirSync(out, { recursive: true });
const { rows, suffixed } = load();
writeFileSync(join(out, "fields.ts"), generate(rows, suffixed));
writeFileSync(join(out, "aliases.ts"), generateAliases(rows));
