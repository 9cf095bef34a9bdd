/**
 * A report as signals of LAVA, which a job prints on its console: lava-test-case of LAVA's overlay prints the same
 * lines. LAVA's dispatcher splits a signal at blanks, so an id consists of letters, digits, `.`, `_` and `-`.
 */
import { type Matrix, troubles } from "./matrix.ts";
import { printableLines } from "./printable.ts";
import type { Report, Result, Verdict } from "./result.ts";

/** LAVA has no verdict for a known deviation; the line above the signal has the reason. */
const RESULTS: Readonly<Record<Verdict, string>> = {
  pass: "pass",
  fail: "fail",
  skip: "skip",
  deviation: "pass",
};

/** Formats a report as signals: one test case for each claim. */
export function toLava(report: Report): string {
  return linesOf(setLines(`${report.kernel}-${report.vendor}`, report.results));
}

/**
 * Formats a matrix as signals: one test set for each kernel. A failure that is not a failure of a claim is the test case
 * `machine`.
 */
export function matrixToLava(matrix: Matrix): string {
  return linesOf(
    matrix.columns.flatMap((column, i) =>
      setLines(column.name, column.report?.results ?? [], machineLines(troubles(matrix, i))),
    ),
  );
}

function setLines(
  name: string,
  results: readonly Result[],
  machine: readonly string[] = [],
): readonly string[] {
  return [
    `<LAVA_SIGNAL_TESTSET START ${idOf(`node-kvm-${name}`)}>`,
    ...results.flatMap(caseLines),
    ...machine,
    "<LAVA_SIGNAL_TESTSET STOP>",
  ];
}

function caseLines({ id, verdict, reason }: Result): readonly string[] {
  const word = verdict === "deviation" ? "known deviation: " : "";
  const why = reason === undefined ? [] : textLines(`${id}: ${word}${reason}`);
  return [...why, signal(id, RESULTS[verdict])];
}

function machineLines(wrong: readonly string[]): readonly string[] {
  return wrong.length === 0 ? [] : [...wrong.flatMap(textLines), signal("machine", "fail")];
}

function signal(id: string, result: string): string {
  return `<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=${idOf(id)} RESULT=${result}>`;
}

/** Returns the lines of a text. A line cannot be taken for a signal, because it has no `<`. */
function textLines(text: string): readonly string[] {
  return printableLines(text).replaceAll("<", "&lt;").split("\n");
}

function idOf(text: string): string {
  return text.replaceAll(/[^\w.-]+/g, "-") || "-";
}

function linesOf(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join("");
}
