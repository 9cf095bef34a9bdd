/**
 * A report for GitHub Actions: annotations are commands on standard output, and the step's summary is Markdown.
 */
import { complaints, type Matrix, troubles } from "./matrix.ts";
import { printable } from "./printable.ts";
import type { Result, Verdict } from "./result.ts";

/** GitHub shows at most 10 errors and 10 warnings of a step, and drops the others without a message. */
const MOST_SHOWN = 10;

/** GitHub drops a summary of more than 1 MiB; the rest of the limit is left to other steps. */
const MOST_SUMMARY = 900_000;

/**
 * Formats the failures of a matrix as annotations: the first 10 as errors, and the number of the others as a warning.
 * A matrix without a failure has one notice with the numbers of claims.
 */
export function toGithubAnnotations(matrix: Matrix): string {
  const errors = matrix.columns.flatMap(({ name, report }, i) => [
    ...troubles(matrix, i).map((text) => command("error", `node-kvm: ${name}`, text)),
    ...(report?.results ?? [])
      .filter(({ verdict }) => verdict === "fail")
      .map(({ id, title, reason }) =>
        command("error", `node-kvm: ${id} on ${name}`, `${title}: ${reason ?? "it fails"}`),
      ),
  ]);
  const more = errors.length - MOST_SHOWN;
  const lines = errors.slice(0, MOST_SHOWN);
  if (more > 0) lines.push(command("warning", "node-kvm", `${more} more failures are in the log`));
  if (errors.length === 0) lines.push(command("notice", "node-kvm", totalsOf(matrix)));
  return lines.map((line) => `${line}\n`).join("");
}

function totalsOf({ columns }: Matrix): string {
  const results = columns.flatMap(({ report }) => report?.results ?? []);
  const number = (verdict: Verdict): number =>
    results.filter((result) => result.verdict === verdict).length;
  const known = `${number("deviation")} known deviations`;
  return `${columns.length} kernels: ${number("pass")} claims hold, ${known}, ${number("skip")} skipped`;
}

const MARKS: Readonly<Record<Verdict, string>> = {
  pass: "ok",
  fail: "**FAIL**",
  skip: "-",
  deviation: "dev",
};

/**
 * Formats a matrix as the Markdown of a step's summary: a table of claims and kernels, and the reasons of failures. If
 * the whole table exceeds GitHub's limit, it contains only the rows that are not the same on every kernel, or fewer.
 */
export function toGithubSummary(matrix: Matrix): string {
  const { columns, rows } = matrix;
  const head = [
    "### node-kvm",
    "",
    `| claim | ${columns.map(({ name }) => cell(name)).join(" | ")} |`,
    `| --- |${" --- |".repeat(columns.length)}`,
  ];
  const line = ({ id, cells }: Matrix["rows"][number]): string =>
    `| ${cell(id)} | ${cells.map(markOf).join(" | ")} |`;
  const wrong = columns.flatMap(({ name }, i) =>
    complaints(matrix, i).map((text) => `- ${cell(name)}: ${cell(text)}`),
  );
  const isPlain = ({ cells }: Matrix["rows"][number]): boolean =>
    cells.every((each) => each?.verdict === "pass");
  const all = [...rows].sort((a, b) => Number(isPlain(a)) - Number(isPlain(b))).map(line);
  const details = wrong.length === 0 ? [] : ["", ...wrong];
  const room = MOST_SUMMARY - bytesOf([...head, ...details]);
  const kept = fitting(all, room);
  const left = all.length - kept.length;
  const rest = left === 0 ? [] : ["", `${left} more claims are in the log.`];
  return `${[...head, ...kept, ...rest, ...details].join("\n")}\n`.slice(0, MOST_SUMMARY);
}

function markOf(result: Result | undefined): string {
  return result === undefined ? "?" : MARKS[result.verdict];
}

const bytesOf = (lines: readonly string[]): number => Buffer.byteLength(lines.join("\n"));

function fitting(lines: readonly string[], room: number): readonly string[] {
  let used = 0;
  return lines.filter((text) => {
    used += Buffer.byteLength(text) + 1;
    return used <= room;
  });
}

/** Returns a text for a cell of a Markdown table. */
function cell(text: string): string {
  return printable(text.replaceAll(/\s+/g, " "))
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll("|", "&#124;");
}

function command(kind: "error" | "warning" | "notice", title: string, text: string): string {
  const property = escapeData(title).replaceAll(":", "%3A").replaceAll(",", "%2C");
  return `::${kind} title=${property}::${escapeData(text)}`;
}

function escapeData(text: string): string {
  return text
    .replaceAll(/[^\n\r]+/g, printable)
    .replaceAll("%", "%25")
    .replaceAll("\r", "%0D")
    .replaceAll("\n", "%0A");
}
