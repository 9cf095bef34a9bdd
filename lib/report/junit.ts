/** A report as JUnit XML for CI servers. */
import type { Column, Matrix } from "./matrix.ts";
import { printable } from "./printable.ts";
import { count, type Report, type Result } from "./result.ts";

/** Formats a whole report as JUnit XML. A deviation is a case that passed, with a property for the reason. */
export function toJunit(report: Report): string {
  const name = `node-kvm on Linux ${report.kernel}, ${report.vendor}`;
  return document([suite(name, report.results, [])]);
}

/** Formats a matrix as JUnit XML: one suite per kernel. Failures that are not of a claim have a case of their own. */
export function matrixToJunit(matrix: Matrix): string {
  return document(
    matrix.columns.map((column) =>
      suite(column.name, column.report?.results ?? [], machine(column)),
    ),
  );
}

/** Lists the failures of a kernel that are not of a claim: a missing report, or problems in the kernel's log. */
function machine({ problem, warnings }: Column): readonly Result[] {
  const failures = [...(problem === undefined ? [] : [problem]), ...warnings];
  const title = "the machine reports, and its kernel log has no warning";
  return failures.map((reason) => ({
    ...{ id: "machine", title, number: undefined, duration: 0 },
    verdict: "fail",
    reason,
  }));
}

function document(suites: readonly string[]): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n${suites.join("\n")}\n</testsuites>\n`;
}

function suite(name: string, claims: readonly Result[], others: readonly Result[]): string {
  const results = [...claims, ...others];
  const counts = count(results);
  const seconds = results.reduce((sum, { duration }) => sum + duration, 0) / 1000;
  const attributes = [
    `name="${escapeXml(name)}"`,
    `tests="${results.length}"`,
    `failures="${counts.fail}"`,
    `skipped="${counts.skip}"`,
    `time="${seconds.toFixed(3)}"`,
  ].join(" ");
  return `<testsuite ${attributes}>\n${results.map(testCase).join("\n")}\n</testsuite>`;
}

function testCase(result: Result): string {
  const name = escapeXml(`${result.id}: ${result.title}`);
  const open = `<testcase classname="node-kvm" name="${name}" time="${(result.duration / 1000).toFixed(3)}"`;
  const reason = escapeXml(result.reason ?? "");
  switch (result.verdict) {
    case "pass":
      return `${open}/>`;
    case "skip":
      return `${open}><skipped message="${reason}"/></testcase>`;
    case "deviation":
      return `${open}><properties><property name="deviation" value="${reason}"/></properties></testcase>`;
    case "fail":
      return `${open}><failure message="${reason}"/></testcase>`;
    default:
      return result.verdict satisfies never;
  }
}

function escapeXml(text: string): string {
  return (
    text
      // XML 1.0 cannot represent most control characters; white space is written as references below.
      .replaceAll(/[^\t\n\r]+/g, printable)
      .replaceAll("&", "&amp;")
      .replaceAll("<", "&lt;")
      .replaceAll(">", "&gt;")
      .replaceAll('"', "&quot;")
      .replaceAll(/[\t\n\r]/g, (space) => `&#${space.charCodeAt(0)};`)
  );
}
