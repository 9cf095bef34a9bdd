/** A report as JUnit XML, what CI servers read. */
import { count, type Report, type Result } from "./result.ts";

/** Prints the whole report. A deviation is a passed case with a property that says why. */
export function toJunit(report: Report): string {
  const counts = count(report.results);
  const seconds = report.results.reduce((sum, { duration }) => sum + duration, 0) / 1000;
  const attributes = [
    `name="node-kvm on Linux ${escapeXml(report.kernel)}, ${escapeXml(report.vendor)}"`,
    `tests="${report.results.length}"`,
    `failures="${counts.fail}"`,
    `skipped="${counts.skip}"`,
    `time="${seconds.toFixed(3)}"`,
  ].join(" ");
  const cases = report.results.map(testCase).join("\n");
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n<testsuite ${attributes}>\n${cases}\n</testsuite>\n</testsuites>\n`;
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
      .replaceAll("&", "&amp;")
      .replaceAll("<", "&lt;")
      .replaceAll(">", "&gt;")
      .replaceAll('"', "&quot;")
      // biome-ignore lint/suspicious/noControlCharactersInRegex: XML 1.0 has no way to write these
      .replaceAll(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|\p{Surrogate}/gu, "")
      .replaceAll(/[\t\n\r]/g, (space) => `&#${space.charCodeAt(0)};`)
  );
}
