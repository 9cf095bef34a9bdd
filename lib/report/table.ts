/** A matrix for a terminal: one line per claim, one mark per kernel; then the details. */
import { complaints, differences, type Matrix } from "./matrix.ts";
import { printable } from "./printable.ts";
import type { Result, Verdict } from "./result.ts";
import type { Paint } from "./text.ts";

const MARKS: Readonly<Record<Verdict | "missing", string>> = {
  pass: "ok",
  fail: "FAIL",
  deviation: "dev",
  skip: "-",
  missing: "?",
};

/** The width of a terminal that every table fits. */
const COLUMNS = 80;

/** Formats the whole matrix; if it is wider than 80 columns, it is split, with numbers for the kernels' names. */
export function toTable(matrix: Matrix, p: Paint): string {
  const names = matrix.columns.map(({ name }) => printable(name));
  const positions = names.map((_, position) => position);
  const label = Math.max(5, ...matrix.rows.map(({ id }) => printable(id).length)) + 5;
  const wide = widthOf(names);
  const part = (shown: readonly number[], heads: readonly string[], width: number): string[] => [
    `${"claim".padEnd(label)}${shown.map((i) => (heads[i] ?? "").padEnd(width)).join("")}`.trimEnd(),
    ...matrix.rows.map(({ id, number, cells }) => {
      const name = `${String(number ?? "").padStart(3)} ${printable(id)}`.padEnd(label);
      return (name + shown.map((i) => mark(cells[i], width, p)).join("")).trimEnd();
    }),
    "",
  ];
  const end = [...notes(matrix, p), ...changes(matrix)];
  if (label + names.length * wide <= COLUMNS) {
    return [...part(positions, names, wide), ...end].join("\n");
  }
  const numbers = positions.map((i) => `[${i + 1}]`);
  const narrow = widthOf(numbers);
  const most = Math.max(1, Math.floor((COLUMNS - label) / narrow));
  const parts = positions
    .filter((i) => i % most === 0)
    .flatMap((first) => part(positions.slice(first, first + most), numbers, narrow));
  return [...names.map((name, i) => `${numbers[i]} ${name}`), "", ...parts, ...end].join("\n");
}

function widthOf(names: readonly string[]): number {
  return Math.max(5, ...names.map((name) => name.length)) + 2;
}

function mark(cell: Result | undefined, width: number, p: Paint): string {
  const verdict = cell?.verdict ?? "missing";
  const text = MARKS[verdict].padEnd(width);
  if (verdict === "pass") return p.green(text);
  if (verdict === "deviation") return p.yellow(text);
  return verdict === "skip" ? p.dim(text) : p.red(text);
}

function notes(matrix: Matrix, p: Paint): readonly string[] {
  return matrix.columns.flatMap(({ name, notice, report }, position) => {
    const wrong = complaints(matrix, position);
    const deviations = matrix.rows.flatMap(({ id, cells }) => {
      const cell = cells[position];
      return cell?.verdict === "deviation"
        ? [note(printable(id), printable(cell.reason ?? ""), p)]
        : [];
    });
    const state = wrong.length === 0 ? p.green("as expected") : p.red(`${wrong.length} unexpected`);
    const known = notice === undefined ? [] : [`  ${printable(notice)}`];
    return [
      `${printable(name)} (${printable(report?.vendor ?? "no report")}): ${state}`,
      ...known,
      ...wrong.map((text) => p.red(wrap(printable(text)))),
      ...deviations,
    ];
  });
}

/** A deviation: the claim's name, coloured, and its reason. */
function note(id: string, reason: string, p: Paint): string {
  return wrap(`${id}: ${reason}`).replace(id, () => p.yellow(id));
}

/** Breaks text into lines of at most 80 columns, indented below the kernel that it is about. */
function wrap(text: string): string {
  const lines: string[] = [];
  for (const part of text.split("\n")) {
    let isNew = true;
    for (const word of part.split(" ")) {
      const last = lines.at(-1);
      if (isNew || last === undefined || last.length + 1 + word.length > COLUMNS) {
        lines.push(`${lines.length === 0 ? "  " : "    "}${word}`);
      } else lines[lines.length - 1] = `${last} ${word}`;
      isNew = false;
    }
  }
  return lines.join("\n");
}

/** The differences between each kernel and the next, if any. */
function changes(matrix: Matrix): readonly string[] {
  return matrix.columns.slice(1).flatMap(({ name }, i) => {
    const list = differences(matrix, i, i + 1);
    if (list.length === 0) return [];
    const lines = list.map(
      ({ id, before, after }) => `  ${printable(id)}: ${MARKS[before]} -> ${MARKS[after]}`,
    );
    return ["", `${printable(matrix.columns[i]?.name ?? "")} -> ${printable(name)}:`, ...lines];
  });
}
