/**
 * Compares the fields of lib/cpuid with Debian's `cpuid` program, on raw tables as `cpuid -r` prints them. For each
 * native field of a table, the script changes the lowest bit of the field and decodes both tables with the program.
 * Then the script compares the number in the line that changed with the old and the new value of the field. The script
 * prints the fields whose line shows other numbers, and the fields whose change affects no line or several lines. `npm
 * run build` comes first.
 *
 *   node scripts/cpuid-program.js [--all] FILE...
 *
 * With --all, the script also lists the fields for which the program prints no separate line.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { fields, formatBits, readField, writeField } from "../dist/cpuid/index.js";

/** The number of tables that one run of the program decodes. */
const CHUNK = 30;

/** @typedef {{ function: number, index: number, eax: number, ebx: number, ecx: number, edx: number }} Row */

/**
 * Reads the lines of one table.
 * @param {string} file
 * @returns {Row[]}
 */
function load(file) {
  const lines = readFileSync(file, "utf8").split("\n");
  const words = lines.map((line) => (line.match(/0x[0-9a-f]+/g) ?? []).map(Number));
  return words
    .filter((row) => row.length === 6)
    .map(([fn, index, eax, ebx, ecx, edx]) => ({ function: fn, index, eax, ebx, ecx, edx }));
}

/** @param {number} n */
const hex = (n) => `0x${n.toString(16).padStart(8, "0")}`;

/** @param {Row} row */
const line = (row) => {
  const registers = `eax=${hex(row.eax)} ebx=${hex(row.ebx)} ecx=${hex(row.ecx)} edx=${hex(row.edx)}`;
  return `   ${hex(row.function)} 0x${row.index.toString(16).padStart(2, "0")}: ${registers}`;
};

/**
 * Decodes tables with the program.
 * @param {Row[][]} tables
 * @returns {string[][] | undefined} the lines of each; undefined if the program ends with a signal
 */
function decode(tables) {
  const folder = mkdtempSync(join(tmpdir(), "cpuid-program-"));
  try {
    const file = join(folder, "raw");
    const texts = tables.map((rows, i) => [`CPU ${i}:`, ...rows.map(line)].join("\n"));
    writeFileSync(file, `${texts.join("\n")}\n`);
    const { status, signal, stdout, stderr, error } = spawnSync("cpuid", ["-f", file], {
      encoding: "utf8",
      maxBuffer: 1 << 30,
    });
    if (error) throw error;
    if (signal !== null) return undefined;
    if (status !== 0) throw new Error(`cpuid ended with ${status}: ${stderr.split("\n")[0]}`);
    const parts = stdout.split(/^CPU \d+:\n/m).slice(1);
    if (parts.length !== tables.length) throw new Error(`cpuid decoded ${parts.length} tables`);
    return parts.map((part) => part.split("\n"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * Reads the number of a decoded line: true and false are 1 and 0; `0x10 (16)` is the number in parentheses.
 * @param {string} text
 */
function numberIn(text) {
  const value = text.slice(text.lastIndexOf(" = ") + 3).trim();
  if (value === "true" || value === "false") return value === "true" ? 1 : 0;
  const found = /\((?:0x)?(\d+)\)$/.exec(value) ?? /^(0x[0-9a-f]+|\d+)$/.exec(value);
  return found ? Number(found[1]) : undefined;
}

/**
 * Returns the relation between the numbers of two lines and the two values of the field.
 * @param {readonly number[]} values
 * @param {readonly (number | undefined)[]} shown
 */
function relation(values, shown) {
  /** @type {readonly (readonly [string, (v: number) => number])[]} */
  const known = [
    ["equal", (v) => v],
    ["value + 1", (v) => v + 1],
    ["inverted", (v) => 1 - v],
  ];
  const found = known.find(([, of]) => values.every((v, i) => of(v) === shown[i]));
  return found ? found[0] : shown.every((n) => n === undefined) ? "text" : "other";
}

/**
 * Compares the fields of one table.
 * @param {Row[]} rows
 */
function compare(rows) {
  const cases = fields()
    .filter(({ space }) => space === "native")
    .flatMap((field) => {
      const { first, last } =
        typeof field.index === "number" ? { first: field.index, last: field.index } : field.index;
      return rows.flatMap((row, at) => {
        const isOwn = row.function === field.function && first <= row.index && row.index <= last;
        if (!isOwn) return [];
        const { register, low, high } = field;
        const value = readField(row[register], low, high);
        const changed = { ...row, [register]: writeField(row[register], low, high, value ^ 1) };
        const place = formatBits({ function: row.function, index: row.index, register, low, high });
        return [
          { name: field.name, place, values: [value, value ^ 1], rows: rows.with(at, changed) },
        ];
      });
    });
  const results = [];
  for (let i = 0; i < cases.length; i += CHUNK) {
    const chunk = cases.slice(i, i + CHUNK);
    const base = decode([rows])?.[0];
    if (base === undefined) throw new Error("cpuid ends with a signal");
    const together = decode(chunk.map((each) => each.rows));
    const decoded = together ?? chunk.map((each) => decode([each.rows])?.[0]);
    for (const [j, { name, place, values }] of chunk.entries()) {
      const lines = decoded[j];
      if (lines === undefined) {
        results.push({ name, place, values, kind: "program crashes", texts: [] });
        continue;
      }
      const differ = base.flatMap((text, k) => (text === lines[k] ? [] : [k]));
      // A line "(... synth)" is skipped, because the program derives it from several fields.
      const own = differ.filter((k) => !/synth/.test(base[k]));
      const isOne = lines.length === base.length && own.length === 1;
      const texts = isOne ? [base[own[0]], lines[own[0]]].map((text) => text.trim()) : [];
      const kind = isOne
        ? relation(values, texts.map(numberIn))
        : differ.length === 0 && lines.length === base.length
          ? "not shown"
          : "several lines";
      results.push({ name, place, values, kind, texts });
    }
  }
  return results;
}

const { values: options, positionals } = parseArgs({
  options: { all: { type: "boolean", default: false } },
  allowPositionals: true,
});
if (positionals.length === 0) {
  process.stderr.write("usage: node scripts/cpuid-program.js [--all] FILE...\n");
  process.exit(2);
}
/** @type {Map<string, number>} */
const total = new Map();
/** @type {Map<string, Set<string>>} */
const listed = new Map();
for (const file of positionals) {
  const results = compare(load(file));
  const counts = new Map();
  for (const { name, place, kind, texts, values } of results) {
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
    total.set(kind, (total.get(kind) ?? 0) + 1);
    const isListed = options.all ? kind !== "equal" : texts.length > 0 && kind !== "equal";
    if (!isListed) continue;
    const key = `${kind}: ${name} ${place}`;
    const tables = listed.get(key) ?? new Set();
    tables.add(`${basename(file)}: ${values.join(" then ")}: ${texts.join(" | ")}`);
    listed.set(key, tables);
  }
  const shown = [...counts].map(([kind, count]) => `${count} ${kind}`).join(", ");
  console.log(`${basename(file)}: ${shown}`);
}
console.log(`total: ${[...total].map(([kind, count]) => `${count} ${kind}`).join(", ")}`);
for (const [key, tables] of [...listed].sort(([a], [b]) => (a < b ? -1 : 1))) {
  console.log(`${key} (${tables.size} tables)\n  ${[...tables][0]}`);
}
