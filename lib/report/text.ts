/** A report for a person at a terminal: one line per claim when it is judged, then the details. */
import { printable, printableLines } from "./printable.ts";
import { count, judged, type Report, type Result, type Verdict } from "./result.ts";

/** Functions that colour text; without colours each returns it unchanged. */
export interface Paint {
  readonly green: (text: string) => string;
  readonly red: (text: string) => string;
  readonly yellow: (text: string) => string;
  readonly dim: (text: string) => string;
}

const wrap =
  (code: number) =>
  (text: string): string =>
    `\u001b[${code}m${text}\u001b[0m`;
const plain = (text: string): string => text;

/** Returns the colours of a terminal, or none. */
export function paint(colours: boolean): Paint {
  return colours
    ? { green: wrap(32), red: wrap(31), yellow: wrap(33), dim: wrap(2) }
    : { green: plain, red: plain, yellow: plain, dim: plain };
}

const MARKS: Readonly<Record<Verdict, (p: Paint) => string>> = {
  pass: (p) => p.green("  ok      "),
  fail: (p) => p.red("  FAIL    "),
  skip: (p) => p.dim("  skip    "),
  deviation: (p) => p.yellow("  deviates"),
};

/** Formats one claim's line, and below it the reason of a failure or a skip; {@link summary} has the deviations. */
export function claimLine(result: Result, p: Paint): string {
  const number = result.number === undefined ? "   " : String(result.number).padStart(3);
  const claim = printable(`${result.id}: ${result.title}`);
  const line = `${MARKS[result.verdict](p)} ${p.dim(number)} ${claim}`;
  if (result.reason === undefined || result.verdict === "deviation") return line;
  const reason = printableLines(result.reason)
    .split("\n")
    .map((text) => `                 ${text}`);
  return `${line}\n${(result.verdict === "fail" ? p.red : p.dim)(reason.join("\n"))}`;
}

/** Writes a number and what it counts: `1 claim`, `2 claims`. */
export function counted(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** Formats the closing lines: the kernel, the deviations by name, the counts. */
export function summary(report: Report, p: Paint): string {
  const counts = count(report.results);
  const deviations = report.results.filter(({ verdict }) => verdict === "deviation");
  const vendor = printable(report.vendor);
  const lines = [
    `${counted(judged(report), "claim")} judged on Linux ${printable(report.kernel)}, ${vendor}: ` +
      [
        p.green(`${counts.pass} hold`),
        counts.fail > 0 ? p.red(`${counts.fail} FAIL`) : "0 fail",
        `${counts.deviation} deviate`,
        `${counts.skip} skipped`,
      ].join(", "),
  ];
  if (deviations.length > 0) {
    lines.push("", `Known deviations of ${vendor}:`);
    for (const { id, reason } of deviations) {
      lines.push(`  ${p.yellow(printable(id))}: ${printable(reason ?? "")}`);
    }
  }
  return lines.join("\n");
}
