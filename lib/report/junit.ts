/** A report as JUnit XML for CI servers. */
import { MACHINE_REPORTS, type Matrix, troubles } from "./matrix.ts";
import { printable } from "./printable.ts";
import { count, type Report, type Result } from "./result.ts";

/**
 * Formats a whole report as JUnit XML. The class of a case contains the kernel and the vendor module, because GitLab shows
 * the class and not the name of the suite. A deviation is a case that passed, with a property for the reason.
 */
export function toJunit(report: Report): string {
  const name = `node-kvm on Linux ${report.kernel}, ${report.vendor}`;
  return document([suite(name, classOf(`${report.kernel} ${report.vendor}`), report.results, [])]);
}

/**
 * Formats a matrix as JUnit XML: one suite per kernel. The class of a case contains the kernel and the CPU model. A failure
 * that is not a failure of a claim is an error, and has its own case.
 */
export function matrixToJunit(matrix: Matrix): string {
  return document(
    matrix.columns.map(({ name, report }, position) =>
      suite(name, classOf(name), report?.results ?? [], machine(matrix, position)),
    ),
  );
}

/** Lists the failures of a column that are not failures of a claim as results. */
function machine(matrix: Matrix, position: number): readonly Result[] {
  return troubles(matrix, position).map((reason) => ({
    ...{ id: "machine", title: MACHINE_REPORTS, number: undefined, duration: 0 },
    verdict: "fail",
    reason,
  }));
}

/** Returns the class of a column's cases; Jenkins makes a tree of the parts between dots. */
function classOf(column: string): string {
  return `node-kvm.${column.replaceAll(/\s+/g, ".")}`;
}

function document(suites: readonly string[]): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n${suites.join("\n")}\n</testsuites>\n`;
}

function suite(
  name: string,
  className: string,
  claims: readonly Result[],
  others: readonly Result[],
): string {
  const results = [...claims, ...others];
  const counts = count(results);
  const seconds = results.reduce((sum, { duration }) => sum + duration, 0) / 1000;
  const attributes = [
    `name="${escapeXml(name)}"`,
    `tests="${results.length}"`,
    `failures="${counts.fail - others.length}"`,
    `errors="${others.length}"`,
    `skipped="${counts.skip}"`,
    `time="${seconds.toFixed(3)}"`,
  ].join(" ");
  const cases = [
    ...claims.map((result) => testCase(result, className, "failure")),
    ...others.map((result) => testCase(result, className, "error")),
  ];
  return `<testsuite ${attributes}>\n${cases.join("\n")}\n</testsuite>`;
}

function testCase(result: Result, className: string, failure: "failure" | "error"): string {
  const name = escapeXml(`${result.id}: ${result.title}`);
  const place = result.file === undefined ? "" : ` file="${escapeXml(result.file)}"`;
  const seconds = (result.duration / 1000).toFixed(3);
  const open = `<testcase classname="${escapeXml(className)}" name="${name}"${place} time="${seconds}"`;
  const reason = escapeXml(result.reason ?? "");
  switch (result.verdict) {
    case "pass":
      return `${open}/>`;
    case "skip":
      return `${open}><skipped message="${reason}"/></testcase>`;
    case "deviation":
      return `${open}><properties><property name="deviation" value="${reason}"/></properties></testcase>`;
    case "fail":
      return `${open}><${failure} message="${reason}">${reason}</${failure}></testcase>`;
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
