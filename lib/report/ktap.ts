/** A report as KTAP version 1 (Documentation/dev-tools/ktap.rst) for kernel tools. */
import { complaints, type Matrix } from "./matrix.ts";
import { printable, printableLines } from "./printable.ts";
import type { Report, Result } from "./result.ts";

/** Formats a whole report as KTAP. A deviation is `ok` with a comment line for the reason, without `# TODO`. */
export function toKtap(report: Report): string {
  return `${["KTAP version 1", ...reportLines(report)].join("\n")}\n`;
}

/** Formats a matrix as KTAP: one test per kernel, with the claims as subtests. */
export function matrixToKtap(matrix: Matrix): string {
  const lines = ["KTAP version 1", `1..${matrix.columns.length}`];
  for (const [i, { name, report }] of matrix.columns.entries()) {
    const wrong = complaints(matrix, i);
    if (report !== undefined) {
      lines.push(...["KTAP version 1", ...reportLines(report)].map((line) => `  ${line}`));
    }
    lines.push(...wrong.map((text) => `# ${oneLine(text)}`));
    const status = wrong.length === 0 ? "ok" : "not ok";
    lines.push(`${status} ${i + 1} ${oneLine(name).replaceAll("#", "")}`);
  }
  return `${lines.join("\n")}\n`;
}

function reportLines(report: Report): readonly string[] {
  return [
    `# ${oneLine(`Linux ${report.kernel}, ${report.vendor}`)}`,
    `1..${report.results.length}`,
    ...report.results.flatMap((result, i) => testLines(result, i + 1)),
  ];
}

function testLines(result: Result, number: number): readonly string[] {
  const status = result.verdict === "fail" ? "not ok" : "ok";
  // In KTAP, `#` begins a directive and a newline ends the line, so a name must not contain them.
  const name = oneLine(`${result.id}: ${result.title}`).replaceAll("#", "");
  const directive = result.verdict === "skip" ? ` # SKIP ${oneLine(result.reason)}` : "";
  const line = `${status} ${number} ${name}${directive}`;
  if (result.reason === undefined || result.verdict === "skip") return [line];
  const word = result.verdict === "deviation" ? "known deviation: " : "";
  return [...commentLines(word + result.reason), line];
}

function commentLines(text: string): readonly string[] {
  return printableLines(text)
    .split("\n")
    .map((line) => `# ${line}`);
}

function oneLine(text: string | undefined): string {
  return printable((text ?? "").replaceAll(/\s+/g, " "));
}
