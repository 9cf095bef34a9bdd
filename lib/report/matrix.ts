/** Many kernels' reports side by side: rows are claims, columns kernels. Drawing it is table, html. */
import { judged, type Report, type Result, type Verdict } from "./result.ts";

/** One kernel on one CPU model, and what became of it. */
export interface Column {
  /** What it is called: `6.12.107 max`, `host`. */
  readonly name: string;
  /** The report; `undefined` when the machine never got so far. */
  readonly report: Report | undefined;
  /** Why there is no report, or none to rely on: a crash, a hang, a suite that ended too early. */
  readonly problem?: string;
  /** What to know that is not wrong: a machine that had to be started again. */
  readonly notice?: string;
  /** WARNING, BUG and Oops lines of its kernel log: a failure of their own. */
  readonly warnings: readonly string[];
}

/** One claim on every kernel. A cell is `undefined` where the claim was not reached. */
export interface Row {
  readonly id: string;
  readonly title: string;
  readonly number: number | undefined;
  readonly cells: readonly (Result | undefined)[];
}

/** Claims by kernels. */
export interface Matrix {
  readonly columns: readonly Column[];
  readonly rows: readonly Row[];
}

/** One claim that two kernels answer differently. */
export interface Difference {
  readonly id: string;
  readonly title: string;
  readonly before: Verdict | "missing";
  readonly after: Verdict | "missing";
  /** The reason of whichever is not a plain pass. */
  readonly reason: string | undefined;
}

/** Puts columns side by side; rows are in the order of the catalogue, then of first appearance. */
export function toMatrix(columns: readonly Column[]): Matrix {
  const titles = new Map<string, Pick<Row, "title" | "number">>();
  for (const { report } of columns) {
    for (const { id, title, number } of report?.results ?? []) {
      if (!titles.has(id)) titles.set(id, { title, number });
    }
  }
  const byId = columns.map(
    ({ report }) => new Map(report?.results.map((result) => [result.id, result])),
  );
  const rows = Array.from(titles, ([id, { title, number }]) => ({
    id,
    title,
    number,
    cells: byId.map((results) => results.get(id)),
  }));
  // Sorting is stable: claims of one number stay in the order of their file.
  rows.sort((a, b) => (a.number ?? Infinity) - (b.number ?? Infinity));
  return { columns, rows };
}

/** Lists the claims that columns `before` and `after` (positions) answer differently. */
export function differences(matrix: Matrix, before: number, after: number): readonly Difference[] {
  return matrix.rows.flatMap(({ id, title, cells }) => {
    const [a, b] = [cells[before], cells[after]];
    if (a?.verdict === b?.verdict) return [];
    const reason = b?.reason ?? a?.reason;
    return [{ id, title, before: a?.verdict ?? "missing", after: b?.verdict ?? "missing", reason }];
  });
}

/** What is wrong with a column beside its claims, in words: no report, kernel warnings. */
export function troubles({ columns, rows }: Matrix, position: number): readonly string[] {
  const column = columns[position];
  const missing = rows.filter(({ cells }) => cells[position] === undefined).length;
  const isEmpty = column?.report !== undefined && judged(column.report) === 0;
  const empty = isEmpty ? ["no claim was judged"] : [];
  return [
    ...(column?.problem === undefined ? empty : [column.problem]),
    ...(missing > 0 && column?.report !== undefined ? [`${missing} claims were not judged`] : []),
    ...(column?.warnings ?? []).map((line) => `kernel log: ${line}`),
  ];
}

/** All that is wrong with a column, in words: its troubles, then each claim that fails. */
export function complaints(matrix: Matrix, position: number): readonly string[] {
  const failed = matrix.rows.filter(({ cells }) => cells[position]?.verdict === "fail");
  return [...troubles(matrix, position), ...failed.map(({ id }) => `${id} fails`)];
}

/** Whether every kernel judged something, and nothing unexpected happened on any. */
export function isGreenMatrix(matrix: Matrix): boolean {
  const isGreen = (column: Column, position: number): boolean =>
    column.report !== undefined && complaints(matrix, position).length === 0;
  return matrix.columns.length > 0 && matrix.columns.every(isGreen);
}
