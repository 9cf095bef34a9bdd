/** A matrix for a terminal: one line per claim with one mark per kernel, then the details. */
import { commandLines, cut, DEFAULT_WIDTH, wrap } from "./lines.ts";
import { complaints, differences, fails, type Matrix, type Row } from "./matrix.ts";
import { printable } from "./printable.ts";
import { deviationsByReason, type Result, type Verdict } from "./result.ts";
import { counted, deviationLines, type Paint, patternOf } from "./text.ts";

const MARKS: Readonly<Record<Verdict | "missing", string>> = {
  pass: "ok",
  fail: "FAIL",
  deviation: "dev",
  skip: "-",
  missing: "?",
};

/** The number of columns for the number of a row, with the space after it. */
const NUMBER = 4;
/** The part of the table's width that a claim's name may take. */
const MOST_LABEL = 0.6;

/**
 * Formats a whole matrix as text.
 *
 * If the matrix is wider than `width`, numbers stand for the kernels' names, the matrix is split into several tables,
 * and rows with the same expected verdict on all kernels are only counted.
 */
export function toTable(matrix: Matrix, p: Paint, width: number = DEFAULT_WIDTH): string {
  const names = matrix.columns.map(({ name }) => printable(name));
  const positions = names.map((_, position) => position);
  const end = [...notes(matrix, p, width), ...changes(matrix, width)];
  const label = labelOf(matrix.rows);
  const cell = cellOf(names);
  if (label + names.length * cell <= width) {
    return [...table(matrix.rows, positions, names, { label, cell }, p), ...end].join("\n");
  }
  const numbers = positions.map((i) => `[${i + 1}]`);
  const reported = positions.filter((i) => matrix.columns[i]?.report !== undefined);
  const rows =
    reported.length < 2 ? matrix.rows : matrix.rows.filter((row) => isNotable(row, reported));
  const narrow = cellOf(numbers);
  const widths = {
    label: Math.max(
      NUMBER,
      Math.min(labelOf(rows), Math.floor(width * MOST_LABEL), width - narrow),
    ),
    cell: narrow,
  };
  const most = Math.max(1, Math.floor((width - widths.label) / narrow));
  const tables =
    rows.length === 0
      ? []
      : positions
          .filter((i) => i % most === 0)
          .flatMap((first) =>
            table(rows, positions.slice(first, first + most), numbers, widths, p),
          );
  const same = matrix.rows.length - rows.length;
  const omitted =
    same === 0
      ? []
      : [...wrap(`${counted(same, "claim")} with ${SAME}`, width, { rest: "  " }), ""];
  return [
    ...names.flatMap((name, i) => wrap(`${numbers[i]} ${name}`, width, { rest: "    " })),
    "",
    ...tables,
    ...omitted,
    ...end,
  ].join("\n");
}

const SAME = "the same result on all kernels that reported";

/** Whether a row has two verdicts in these columns, or one unexpected verdict. */
function isNotable({ cells }: Row, columns: readonly number[]): boolean {
  const verdicts = new Set(columns.map((i) => cells[i]?.verdict));
  return verdicts.size > 1 || verdicts.has("fail") || verdicts.has(undefined);
}

interface Widths {
  readonly label: number;
  readonly cell: number;
}

/** Formats the given columns of the given rows. */
function table(
  rows: readonly Row[],
  columns: readonly number[],
  heads: readonly string[],
  { label, cell }: Widths,
  p: Paint,
): readonly string[] {
  const head = columns.map((i) => (heads[i] ?? "").padEnd(cell)).join("");
  const lines = rows.map(({ id, number, cells }) => {
    const name = cut(`${String(number ?? "").padStart(NUMBER - 1)} ${printable(id)}`, label - 1);
    return (name.padEnd(label) + columns.map((i) => mark(cells[i], cell, p)).join("")).trimEnd();
  });
  return [`${"claim".padEnd(label)}${head}`.trimEnd(), ...lines, ""];
}

function labelOf(rows: readonly Row[]): number {
  return Math.max(5, ...rows.map(({ id }) => printable(id).length)) + NUMBER + 1;
}

function cellOf(names: readonly string[]): number {
  return Math.max(5, ...names.map((name) => name.length)) + 2;
}

function mark(cell: Result | undefined, width: number, p: Paint): string {
  const verdict = cell?.verdict ?? "missing";
  const text = MARKS[verdict].padEnd(width);
  if (verdict === "pass") return p.green(text);
  if (verdict === "deviation") return p.yellow(text);
  return verdict === "skip" ? p.dim(text) : p.red(text);
}

function notes(matrix: Matrix, p: Paint, width: number): readonly string[] {
  const below = (text: string): readonly string[] =>
    wrap(text, width, { first: "  ", rest: "    " });
  return matrix.columns.flatMap(({ name, notice, report, command }, position) => {
    const wrong = complaints(matrix, position);
    const failed = fails(matrix, position);
    const again = (...pattern: readonly string[]): readonly string[] =>
      command === undefined ? [] : commandLines([...command, ...pattern], width, "    ");
    const groups = deviationsByReason(matrix.rows.map(({ cells }) => cells[position]));
    const deviations = Array.from(groups).flatMap(([reason, ids]) =>
      deviationLines(ids, reason, p, width),
    );
    const state = wrong.length === 0 ? p.green("as expected") : p.red(`${wrong.length} unexpected`);
    const vendor = printable(report?.vendor ?? "no report");
    // The claims that fail are listed after the other complaints.
    const others = wrong.slice(0, wrong.length - failed.length);
    return [
      ...wrap(`${printable(name)} (${vendor}): ${state}`, width, { rest: "  " }),
      ...(notice === undefined ? [] : below(printable(notice))),
      ...others.flatMap((text) => below(printable(text)).map(p.red)),
      ...(others.length === 0 ? [] : again()),
      ...failed.flatMap((id) => [
        ...below(`${printable(id)} fails`).map(p.red),
        ...again(patternOf(id)),
      ]),
      ...deviations,
    ];
  });
}

/** Lists the differences between each kernel and the next one, if any. */
function changes(matrix: Matrix, width: number): readonly string[] {
  return matrix.columns.slice(1).flatMap(({ name }, i) => {
    const list = differences(matrix, i, i + 1);
    if (list.length === 0) return [];
    const heading = `${printable(matrix.columns[i]?.name ?? "")} -> ${printable(name)}:`;
    const lines = list.flatMap(({ id, before, after }) =>
      wrap(`${printable(id)}: ${MARKS[before]} -> ${MARKS[after]}`, width, {
        first: "  ",
        rest: "    ",
      }),
    );
    return ["", ...wrap(heading, width, { rest: "  " }), ...lines];
  });
}
