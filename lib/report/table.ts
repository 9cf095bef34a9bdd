/** A matrix for a terminal: a line a claim, a mark a kernel; then what to know. */
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

/** Prints the whole matrix. */
export function toTable(matrix: Matrix, p: Paint): string {
  const names = matrix.columns.map(({ name }) => printable(name));
  const width = widest(names) + 2;
  const label = widest(matrix.rows.map(({ id }) => printable(id))) + 5;
  const head = "claim".padEnd(label) + names.map((name) => name.padEnd(width)).join("");
  const rows = matrix.rows.map(({ id, number, cells }) => {
    const name = `${String(number ?? "").padStart(3)} ${printable(id)}`.padEnd(label);
    return (name + cells.map((cell) => mark(cell, width, p)).join("")).trimEnd();
  });
  return [head, ...rows, "", ...notes(matrix, p), ...changes(matrix)].join("\n");
}

function widest(texts: readonly string[]): number {
  return texts.reduce((width, text) => Math.max(width, text.length), 5);
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
      if (cell?.verdict !== "deviation") return [];
      return [`  ${p.yellow(printable(id))}: ${printable(cell.reason ?? "")}`];
    });
    const state = wrong.length === 0 ? p.green("as expected") : p.red(`${wrong.length} unexpected`);
    const known = notice === undefined ? [] : [`  ${printable(notice)}`];
    return [
      `${printable(name)} (${printable(report?.vendor ?? "no report")}): ${state}`,
      ...known,
      ...wrong.map((text) => `  ${p.red(printable(text))}`),
      ...deviations,
    ];
  });
}

/** What changes from each kernel to the next, where something does. */
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
