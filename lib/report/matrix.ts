/**
 * The reports of several kernels side by side: the rows are claims, the columns are kernels. table.ts and html.ts print
 * a matrix.
 */
import { judged, type Report, type Result, type Verdict } from "./result.ts";
import { counted } from "./text.ts";

/** One kernel on one CPU model, with its report. */
export interface Column {
  /** The column's name: `6.12.107 max`, `host`. */
  readonly name: string;
  /** The report; `undefined` if the machine did not finish. */
  readonly report: Report | undefined;
  /** The reason why the report is missing or unreliable: a crash, a hang, a suite that ended too early. */
  readonly problem?: string;
  /** How the machine ended, if it did not finish its report and this is known. */
  readonly end?: "crashed" | "hung" | "no-kvm" | "refused";
  /** A note that is not a failure, such as the restart of a machine. */
  readonly notice?: string;
  /** The WARNING, BUG and Oops lines of the kernel's log, which are failures. */
  readonly warnings: readonly string[];
  /** The words of a command that judges this kernel again; a pattern of claims may follow them. */
  readonly command?: readonly string[];
}

/** The results of one claim on every kernel. A cell is `undefined` if the kernel did not judge the claim. */
export interface Row {
  readonly id: string;
  readonly title: string;
  readonly number: number | undefined;
  readonly cells: readonly (Result | undefined)[];
}

/** A matrix of claims and kernels. */
export interface Matrix {
  readonly columns: readonly Column[];
  readonly rows: readonly Row[];
}

/** One claim with different verdicts on two kernels. */
export interface Difference {
  readonly id: string;
  readonly title: string;
  readonly before: Verdict | "missing";
  readonly after: Verdict | "missing";
  /** The reason of the verdict that is not a plain pass. */
  readonly reason: string | undefined;
}

/** Combines columns to a matrix; the rows have the order of the catalogue, then of first appearance. */
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
  // The sort is stable: claims with the same number keep the order of their file.
  rows.sort((a, b) => (a.number ?? Infinity) - (b.number ?? Infinity));
  return { columns, rows };
}

/** Lists the claims whose verdicts differ between the columns `before` and `after` (positions). */
export function differences(matrix: Matrix, before: number, after: number): readonly Difference[] {
  return matrix.rows.flatMap(({ id, title, cells }) => {
    const [a, b] = [cells[before], cells[after]];
    if (a?.verdict === b?.verdict) return [];
    const reason = b?.reason ?? a?.reason;
    return [{ id, title, before: a?.verdict ?? "missing", after: b?.verdict ?? "missing", reason }];
  });
}

/** The sentence of the case for {@link troubles} in formats that have only cases. */
export const MACHINE_REPORTS: string = "the machine reports, and its kernel log has no warning";

/** Describes the failures of a column that are not failures of a claim: a missing report, warnings of the kernel. */
export function troubles({ columns, rows }: Matrix, position: number): readonly string[] {
  const column = columns[position];
  const missing = rows.filter(({ cells }) => cells[position] === undefined).length;
  return [
    ...(column === undefined ? [] : reasonWithoutVerdicts(column)),
    ...(missing > 0 && column?.report !== undefined
      ? [`${counted(missing, "claim")} ${missing === 1 ? "was" : "were"} not judged`]
      : []),
    ...(column?.warnings ?? []).map((line) => `kernel log: ${line}`),
  ];
}

function reasonWithoutVerdicts({ report, problem }: Column): readonly string[] {
  if (problem !== undefined) return [problem];
  if (report === undefined) return ["the machine did not report"];
  return judged(report) === 0 ? ["no claim was judged"] : [];
}

/** Lists the short names of the claims that fail in a column. */
export function fails({ rows }: Matrix, position: number): readonly string[] {
  return rows.flatMap(({ id, cells }) => (cells[position]?.verdict === "fail" ? [id] : []));
}

/** Describes all failures of a column: those without a claim, then each claim that fails. */
export function complaints(matrix: Matrix, position: number): readonly string[] {
  return [...troubles(matrix, position), ...fails(matrix, position).map((id) => `${id} fails`)];
}

/** Whether every kernel judged claims, and no kernel had an unexpected result. */
export function isGreenMatrix(matrix: Matrix): boolean {
  const isGreen = (column: Column, position: number): boolean =>
    column.report !== undefined && complaints(matrix, position).length === 0;
  return matrix.columns.length > 0 && matrix.columns.every(isGreen);
}
