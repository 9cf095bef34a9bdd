/**
 * Turns the CPUID database into lib/cpuid/generated: fields.ts (names, positions and descriptions), bits.ts (names of
 * one-bit fields), aliases.ts (names in other programs and in manuals), values.ts (names of values) and kvm.ts (KVM's
 * treatment of fields). lib/cpuid/field.ts reads and writes the fields of a table.
 *
 * Sources: gen/facts/cpuid.csv (x86-cpuid-db v3.1, CC0-1.0, verbatim), gen/facts/cpuid-supplement.csv, and
 * the facts about fields in gen/facts/cpuid-{aliases,values,descriptors,kvm}.csv.
 * Usage: node gen/cpuid.js [--out DIR]     DIR gets the files; default lib/cpuid/generated
 *
 * Names: a field has its name in the database. If the database uses one name in several leaves, only the first field
 * has the plain name; each later field gets its leaf in hexadecimal as a suffix: fsrs (0x7.1) and fsrs_80000021. The
 * order is: native before hypervisor spaces, then function, sub-leaf, register, bit.
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
const VALUES = "cpuid-values.csv";
const KVM = "cpuid-kvm.csv";
const DESCRIPTORS = "cpuid-descriptors.csv";
const SPACES = ["native", "kvm", "hyperv", "xen", "vmware"];
const REGISTERS = ["eax", "ebx", "ecx", "edx"];

/**
 * Reads one CSV file with six columns and without quoting; lines are split only at the first five commas.
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
 * Gives sorted rows the final names of their fields; returns the number of names with a leaf as suffix.
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
  if (/[\\`$]/.test(row.description)) throw new Error(`${row.name}: its description needs escapes`);
  const bits = `${row.register} ${row.low} ${row.high}`;
  return `${row.name} ${hex(row.function)} ${row.first} ${row.last} ${bits} ${row.description}`;
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
 * Reads a CSV file of facts: comments, a line of column names, and rows without quoting.
 * @param {string} file
 * @param {Row[]} [rows] the fields; if given, the first column has names of fields, separated by spaces
 */
function facts(file, rows) {
  const names = new Set(rows?.map((row) => row.name));
  const [columns, ...lines] = read(file)
    .split("\n")
    .map((line, i) => ({ line, where: `${file}:${i + 1}` }))
    .filter(({ line }) => line.trim() !== "" && !line.startsWith("#"))
    .map(({ line, where }) => ({ cells: line.split(",").map((cell) => cell.trim()), where }));
  for (const { cells, where } of lines) {
    if (cells.length !== columns.cells.length) throw new Error(`${where}: wrong number of columns`);
    const unknown = rows && cells[0].split(" ").find((name) => !names.has(name));
    if (unknown) throw new Error(`${where}: unknown field ${unknown}`);
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
/**
 * The fields that have a name in another source, as text. Each line is a field: its name, and its names in Linux, QEMU,
 * libvirt, the manuals and the kernel's headers, separated by semicolons; several names of one source are separated by
 * a space.
 */
export const CPUID_ALIASES: string = \`
${lines.map(({ cells }) => cells.join(";")).join("\n")}\`;
`;
}

/**
 * Makes the text of values.ts.
 * @param {Row[]} rows the fields
 */
function generateValues(rows) {
  /** @type {Map<string, string[]>} */
  const byField = new Map();
  for (const { cells, where } of facts(VALUES, rows)) {
    const [names, value, text] = cells;
    if (!Number.isInteger(Number(value))) throw new Error(`${where}: not a number`);
    for (const each of names.split(" ")) {
      const pairs = byField.get(each) ?? [];
      byField.set(each, [...pairs, `[${value}, ${JSON.stringify(text)}]`]);
    }
  }
  /** @type {Map<string, string[]>} */
  const byPairs = new Map();
  for (const [each, pairs] of byField) {
    const key = pairs.join(", ");
    byPairs.set(key, [...(byPairs.get(key) ?? []), each]);
  }
  const values = [...byPairs].map(([pairs, names]) => `  [${JSON.stringify(names)}, [${pairs}]],`);
  const descriptors = facts(DESCRIPTORS).map(({ cells }) => {
    const [value, kind, size, ways, line, text] = cells;
    return `  [${value}, "${kind}", ${size || 0}, ${ways || 0}, ${line || 0}, ${JSON.stringify(text)}],`;
  });
  return `/**
 * Generated by gen/cpuid.js; do not edit. The names of values of CPUID fields, and the descriptors of leaf 2, as data;
 * enumerations.ts and cache-values.ts read them.
 *
 * Source, with the manual of each row:
${stamp(VALUES)}
${stamp(DESCRIPTORS)}
 */
import type { CpuidFieldName } from "./fields.ts";

/** Holds the names of values that some fields share: the fields, and pairs of a value and its name. */
export type CpuidValuesRow = readonly [
  names: readonly CpuidFieldName[],
  values: readonly (readonly [value: number, text: string])[],
];

/** Lists the fields whose values have names. */
export const CPUID_VALUES: readonly CpuidValuesRow[] = [
${values.join("\n")}
];

/** Holds a descriptor of leaf 2: the byte, its kind, size in KiB, ways and line size of a cache or zeros, and its text. */
export type CpuidDescriptorRow = readonly [
  value: number,
  kind: "none" | "tlb" | "prefetch" | "trace" | "L1i" | "L1d" | "L2" | "L3",
  kib: number,
  ways: number,
  lineSize: number,
  text: string,
];

/** Lists the descriptors of leaf 2. */
export const CPUID_DESCRIPTORS: readonly CpuidDescriptorRow[] = [
${descriptors.join("\n")}
];
`;
}

/**
 * Makes the text of bits.ts.
 * @param {Row[]} rows the fields
 */
function generateBits(rows) {
  const bits = rows.filter((row) => row.low === row.high).map((row) => row.name);
  return `/** Generated by gen/cpuid.js; do not edit. The names of the CPUID fields that are one bit wide. */

/** Names every field of one bit: its values are 0 and 1. */
export type CpuidBitName =
${union(bits.sort())};
`;
}

/** The treatments of cpuid-kvm.csv. */
const TREATMENTS = [
  ...["host", "vendor", "scattered", "64-bit", "emulated"],
  ...["synthesized", "passthrough", "aliased", "runtime"],
];

/**
 * Makes the text of kvm.ts.
 * @param {Row[]} rows the fields
 */
function generateKvm(rows) {
  const lines = facts(KVM, rows).map(({ cells, where }) => {
    const [field, treatment] = cells;
    if (!TREATMENTS.includes(treatment)) throw new Error(`${where}: unknown ${treatment}`);
    return `  ["${field}", "${treatment}"],`;
  });
  return `/**
 * Generated by gen/cpuid.js; do not edit. What KVM does with CPUID fields, as data; kvm-treatment.ts reads it.
 *
 * Source: kvm_initialize_cpu_caps() of Linux 7.2, as facts in:
${stamp(KVM)}
 */
import type { CpuidFieldName } from "./fields.ts";

/** Holds a field and how KVM declares it. */
export type CpuidKvmRow = readonly [
  name: CpuidFieldName,
  treatment: ${TREATMENTS.map((each) => `"${each}"`).join(" | ")},
];

/** Lists the fields that KVM declares. */
export const CPUID_KVM: readonly CpuidKvmRow[] = [
${lines.join("\n")}
];
`;
}

/** Reads and names all fields. */
function load() {
  const rows = SOURCES.flatMap((file) => parse(file, read(file))).sort(compare);
  return { rows, suffixed: name(rows) };
}

/**
 * Makes the text of fields.ts from the committed sources; the same sources always result in the same bytes.
 * @param {Row[]} rows
 * @param {number} suffixed the number of names with a leaf
 */
function generate(rows, suffixed) {
  const stamps = SOURCES.map(stamp);
  const spaces = SPACES.map((space) => {
    const own = rows.filter((row) => row.space === space).map(format);
    return `  ${space}: \`\n${own.join("\n")}\`,`;
  });
  return `/**
 * Generated by gen/cpuid.js; do not edit. The fields of CPUID as data; field.ts reads and writes them.
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

/**
 * The fields of each name space as text, ordered by function, sub-leaf, register and bit. Each line is a field: name,
 * function, first and last sub-leaf, register, lowest and highest bit, description. Text is read by the compiler of
 * JavaScript in a fraction of the time that arrays take, and most programs need a few fields.
 */
export const CPUID_FIELDS: {
  readonly [space in ${SPACES.map((s) => `"${s}"`).join(" | ")}]: string;
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
writeFileSync(join(out, "bits.ts"), generateBits(rows));
writeFileSync(join(out, "kvm.ts"), generateKvm(rows));
writeFileSync(join(out, "values.ts"), generateValues(rows));
