/** A report as KTAP version 1 (Documentation/dev-tools/ktap.rst), what kernel tools read. */
import type { Report, Result } from "./result.ts";

/** Prints the whole report. A deviation is `ok` with a `# TODO`-free comment line that says why. */
export function toKtap(report: Report): string {
  const lines = ["KTAP version 1", `# Linux ${report.kernel}, ${report.vendor}`];
  lines.push(`1..${report.results.length}`);
  for (const [i, result] of report.results.entries()) lines.push(...testLines(result, i + 1));
  return `${lines.join("\n")}\n`;
}

function testLines(result: Result, number: number): readonly string[] {
  const status = result.verdict === "fail" ? "not ok" : "ok";
  // `#` begins a directive and a newline ends the line, so a name must not hold them.
  const name = oneLine(`${result.id}: ${result.title}`).replaceAll("#", "");
  const directive = result.verdict === "skip" ? ` # SKIP ${oneLine(result.reason)}` : "";
  const line = `${status} ${number} ${name}${directive}`;
  if (result.reason === undefined || result.verdict === "skip") return [line];
  const word = result.verdict === "deviation" ? "known deviation: " : "";
  return [...(word + result.reason).split("\n").map((text) => `# ${text}`), line];
}

function oneLine(text: string | undefined): string {
  return (text ?? "").replaceAll(/\s+/g, " ");
}
