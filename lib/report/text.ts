/** A report for a person at a terminal: one line per claim when it is judged, then the details. */
import { styleText } from "node:util";
import { commandLines, wrap } from "./lines.ts";
import { printable, printableLines } from "./printable.ts";
import {
  count,
  deviationsByReason,
  judged,
  type Report,
  type Result,
  type Verdict,
} from "./result.ts";

/** Functions that colour text; without colours each returns it unchanged. */
export interface Paint {
  /** Colours a success. */
  readonly green: (text: string) => string;
  /** Colours a failure. */
  readonly red: (text: string) => string;
  /** Colours a known deviation. */
  readonly yellow: (text: string) => string;
  /** Makes details less prominent. */
  readonly dim: (text: string) => string;
}

type Style = keyof Paint;

/** Returns the functions that colour text for a terminal, or functions that change nothing. */
export function paint(colours: boolean): Paint {
  // The caller decides whether the stream gets colours. In Node 20, styleText itself checks at most standard output.
  const style =
    (format: Style) =>
    (text: string): string =>
      colours ? styleText(format, text, { validateStream: false }) : text;
  return { green: style("green"), red: style("red"), yellow: style("yellow"), dim: style("dim") };
}

const MARKS: Readonly<Record<Verdict, (p: Paint) => string>> = {
  pass: (p) => p.green("  ok      "),
  fail: (p) => p.red("  FAIL    "),
  skip: (p) => p.dim("  skip    "),
  deviation: (p) => p.yellow("  deviates"),
};

/** The format of {@link claimLine} and {@link summary}. */
export interface TextOptions {
  /** The width in columns; if omitted, lines are not broken. */
  readonly width?: number;
  /**
   * The words of a command that judges a claim again if the claim's pattern follows; the command is printed below
   * failures.
   */
  readonly command?: readonly string[];
}

/** The indent of the second and later lines of a claim. */
const BELOW = " ".repeat(17);

/** Returns the pattern that selects only the claim with this short name. */
export function patternOf(id: string): string {
  return `${id}:`;
}

/**
 * Formats one claim's line, and below it the reason of a failure or a skip and the command that repeats a failure;
 * {@link summary} has the deviations.
 */
export function claimLine(result: Result, p: Paint, options: TextOptions = {}): string {
  const { width = Infinity, command } = options;
  const number = result.number === undefined ? "   " : String(result.number).padStart(3);
  const claim = printable(`${result.id}: ${result.title}`);
  const first = `${MARKS[result.verdict](p)} ${p.dim(number)} `;
  const lines = [...wrap(claim, width, { first, rest: BELOW })];
  if (result.reason !== undefined && result.verdict !== "deviation") {
    const reason = printableLines(result.reason)
      .split("\n")
      .flatMap((text) => wrap(text, width, { first: BELOW, rest: BELOW }));
    lines.push((result.verdict === "fail" ? p.red : p.dim)(reason.join("\n")));
  }
  if (result.verdict === "fail" && command !== undefined) {
    lines.push(...commandLines([...command, patternOf(result.id)], width, BELOW));
  }
  return lines.join("\n");
}

/** Writes a number and the word for the counted things: `1 claim`, `2 claims`. */
export function counted(number: number, noun: string, plural: string = `${noun}s`): string {
  return `${number} ${number === 1 ? noun : plural}`;
}

/** Formats the last lines of a report: the kernel, the deviations by name, the counts. */
export function summary(report: Report, p: Paint, { width = Infinity }: TextOptions = {}): string {
  const counts = count(report.results);
  const deviations = deviationsByReason(report.results);
  const vendor = printable(report.vendor);
  const numbers = [
    p.green(`${counts.pass} hold`),
    counts.fail > 0 ? p.red(`${counts.fail} FAIL`) : "0 fail",
    `${counts.deviation} deviate`,
    `${counts.skip} skipped`,
  ];
  const kernel = `${counted(judged(report), "claim")} judged on Linux ${printable(report.kernel)}, ${vendor}`;
  const lines = [...wrap(`${kernel}: ${numbers.join(", ")}`, width, { rest: "  " })];
  if (deviations.size > 0) {
    lines.push("", `Known deviations of ${vendor}:`);
    for (const [reason, ids] of deviations) lines.push(...deviationLines(ids, reason, p, width));
  }
  return lines.join("\n");
}

/** Formats the names of claims that deviate for the same reason, and the reason. */
export function deviationLines(
  ids: readonly string[],
  reason: string,
  p: Paint,
  width: number,
): readonly string[] {
  const names = ids.map((id) => p.yellow(printable(id))).join(", ");
  return wrap(`${names}: ${printable(reason)}`, width, { first: "  ", rest: "    " });
}
