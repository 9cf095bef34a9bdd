/**
 * A report as KTAP version 1 (Documentation/dev-tools/ktap.rst) for kernel tools, with the directives and the last line
 * of the kernel's kselftest.h.
 */
import { type Column, complaints, type Matrix, troubles } from "./matrix.ts";
import { printable, printableLines } from "./printable.ts";
import { type Counts, count, type Report, type Result } from "./result.ts";

/** The exit status of a selftest that could not judge anything (KSFT_SKIP of kselftest.h). */
export const KSFT_SKIP = 4;

/**
 * Formats a whole report as KTAP. The name of a test is the claim's id, because tools make paths of it; the sentence is
 * a line above the result. A deviation is `ok` with `# XFAIL`.
 */
export function toKtap(report: Report): string {
  return `${["KTAP version 1", ...reportLines(report), totals(count(report.results), 0)].join("\n")}\n`;
}

/**
 * Formats a matrix as KTAP: one test per kernel, with the claims as subtests. A machine that hung is `# TIMEOUT`, and a
 * machine that did not report for another reason is `# ERROR`. In the totals, each kernel with a failure that is not a
 * failure of a claim, such as a warning in its log, is an error.
 */
export function matrixToKtap(matrix: Matrix): string {
  const lines = ["KTAP version 1", `1..${matrix.columns.length}`];
  for (const [i, column] of matrix.columns.entries()) {
    const { report } = column;
    if (report !== undefined) {
      lines.push(...["KTAP version 1", ...reportLines(report)].map((line) => `  ${line}`));
    }
    const wrong = complaints(matrix, i);
    lines.push(...wrong.map((text) => comment(oneLine(text))));
    const status = wrong.length === 0 ? "ok" : "not ok";
    lines.push(`${status} ${i + 1} ${nameOf(column.name)}${directive(matrix, i, column)}`);
  }
  const counts = matrix.columns.map(({ report }) => count(report?.results ?? []));
  const sum = (verdict: keyof Counts): number =>
    counts.reduce((total, each) => total + each[verdict], 0);
  const all = {
    pass: sum("pass"),
    fail: sum("fail"),
    skip: sum("skip"),
    deviation: sum("deviation"),
  };
  const errors = matrix.columns.filter((_, i) => troubles(matrix, i).length > 0).length;
  lines.push(totals(all, errors));
  return `${lines.join("\n")}\n`;
}

/** The directive of a machine; a machine whose claims fail has none. */
function directive(matrix: Matrix, position: number, { report, end }: Column): string {
  if (report !== undefined) return "";
  const why = oneLine(troubles(matrix, position)[0]);
  return ` # ${end === "hung" ? "TIMEOUT" : "ERROR"} ${why}`;
}

function totals({ pass, fail, skip, deviation }: Counts, errors: number): string {
  return `# Totals: pass:${pass} fail:${fail} xfail:${deviation} xpass:0 skip:${skip} error:${errors}`;
}

function reportLines(report: Report): readonly string[] {
  return [
    comment(oneLine(`Linux ${report.kernel}, ${report.vendor}`)),
    `1..${report.results.length}`,
    ...report.results.flatMap((result, i) => testLines(result, i + 1)),
  ];
}

function testLines(result: Result, number: number): readonly string[] {
  const { id, title, verdict, reason } = result;
  const status = verdict === "fail" ? "not ok" : "ok";
  const line = `${status} ${number} ${nameOf(id)}`;
  const sentence = comment(oneLine(title));
  if (verdict === "skip") return [sentence, `${line} # SKIP ${oneLine(reason)}`];
  if (verdict === "deviation") return [sentence, `${line} # XFAIL ${oneLine(reason)}`];
  const why = reason === undefined ? [] : commentLines(reason);
  return [sentence, ...why, line];
}

/** In KTAP, `#` begins a directive and a newline ends the line, so a name contains neither of them. */
function nameOf(text: string): string {
  return oneLine(text.replaceAll("#", ""));
}

function commentLines(text: string): readonly string[] {
  return printableLines(text)
    .split("\n")
    .map((line) => comment(withoutMarks(line)));
}

/** Returns a diagnostic line. For kunit_parser.py, `# Subtest: ` with one blank before the word begins subtests. */
function comment(text: string): string {
  return text.startsWith("Subtest: ") ? `#  ${text}` : `# ${text}`;
}

function oneLine(text: string | undefined): string {
  return withoutMarks(printable((text ?? "").replaceAll(/\s+/g, " ")));
}

/**
 * Escapes one character of each text that changes the meaning of any line for tools/testing/kunit/kunit_parser.py: the
 * last messages of a kernel, after which it reads no further line, and a second directive of a result.
 */
function withoutMarks(text: string): string {
  return text
    .replaceAll(/(?<=List of all partitions):/g, "\\x3a")
    .replaceAll(/(?<=Kernel panic - not syncing):(?= VFS:)/g, "\\x3a")
    .replaceAll(/(?<=reboot):(?= System halted)/g, "\\x3a")
    .replaceAll(/#(?= SKIP)/g, "\\x23");
}
