/** Formats findings of lint as text and as GitHub annotations. sarif.ts formats SARIF. */
import { refuseMissing, refuseUnknown } from "../../options.ts";
import type { CpuidLintFinding, CpuidLintResult } from "./lint.ts";
import type { CpuidLintSeverity } from "./rule.ts";

/** The options of {@link formatLint} and {@link formatLintAnnotations}. */
export interface FormatLintOptions {
  /** The name of the linted file. If omitted, places are printed as lines alone, and annotations have no place. */
  readonly file?: string;
}

/** The members of a result that are formatted. */
export const RESULT_MEMBERS: readonly string[] = [
  "findings",
  "judged",
  "notJudged",
  "omitted",
  "verdict",
];

const count = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? "" : "s"}`;

const SEVERITIES: readonly CpuidLintSeverity[] = ["error", "warning", "info"];

/** Names the CPUs of a finding, except if it is only CPU 0. */
function cpusOf({ cpus }: CpuidLintFinding): string {
  if (cpus.length === 1 && cpus[0] === 0) return "";
  const shown = cpus.slice(0, 8).join(", ");
  return ` (CPU ${shown}${cpus.length > 8 ? `, and ${cpus.length - 8} more` : ""})`;
}

/** Replaces control characters, which would change the lines of the output. */
const printable = (text: string): string => text.replaceAll(/\p{Cc}/gu, "?");

/**
 * Formats a result as text. Each finding has a line such as `file:12: error S09 0x7.0: …` and a line with the remedy;
 * the last line has the counts. Rules that were not judged are only counted; if no rule was judged, the text contains a
 * line about this.
 *
 * @throws TypeError for an unknown option.
 */
export function formatLint(result: CpuidLintResult, options: FormatLintOptions = {}): string {
  refuseMissing("formatLint()", result, RESULT_MEMBERS);
  refuseUnknown("formatLint()", options, ["file"]);
  const lines = result.findings.flatMap((finding) => {
    const { rule, severity, message, remedy, line } = finding;
    const file = options.file === undefined ? "" : printable(options.file);
    const at = line === undefined ? "" : `${line}`;
    const place = [file, file === "" && at !== "" ? `line ${at}` : at].filter(
      (part) => part !== "",
    );
    const start = place.length === 0 ? "" : `${place.join(":")}: `;
    return [`${start}${severity} ${rule} ${message}${cpusOf(finding)}`, `    ${remedy}`];
  });
  const counts = SEVERITIES.map((severity) => {
    const n = result.findings.filter((finding) => finding.severity === severity).length;
    return severity === "info" ? `${n} info` : count(n, severity);
  });
  const more = result.omitted === 0 ? "" : `, ${count(result.omitted, "finding")} more`;
  const judged = `${count(result.judged.length, "rule")} judged, ${result.notJudged.length} not judged`;
  const end =
    result.verdict === "nothing judged"
      ? `no rule was judged: ${count(result.notJudged.length, "rule")} lack an input or are off`
      : `${counts.join(", ")}${more}; ${judged}`;
  return [...lines, end, ""].join("\n");
}

/** The commands of GitHub Actions by severity. */
const COMMANDS: Readonly<Record<CpuidLintSeverity, string>> = {
  error: "error",
  warning: "warning",
  info: "notice",
};

/** Escapes the message of a workflow command. Source: GitHub Actions, workflow commands. */
const escapeData = (text: string): string =>
  text.replaceAll("%", "%25").replaceAll("\r", "%0D").replaceAll("\n", "%0A");

/** Escapes a property of a workflow command. */
const escapeProperty = (text: string): string =>
  escapeData(text).replaceAll(":", "%3A").replaceAll(",", "%2C");

/**
 * Formats the findings as workflow commands of GitHub Actions, one per line: `::error
 * file=…,line=…,title=S09::message`. A finding of severity "info" becomes a notice. If no rule was judged, the output
 * is one error.
 *
 * @throws TypeError for an unknown option.
 */
export function formatLintAnnotations(
  result: CpuidLintResult,
  options: FormatLintOptions = {},
): string {
  refuseMissing("formatLintAnnotations()", result, RESULT_MEMBERS);
  refuseUnknown("formatLintAnnotations()", options, ["file"]);
  if (result.verdict === "nothing judged") return "::error title=lint::no rule was judged\n";
  return result.findings
    .map((finding) => {
      const { rule, severity, message, remedy, line } = finding;
      const properties = [
        ...(options.file === undefined ? [] : [`file=${escapeProperty(options.file)}`]),
        ...(options.file === undefined || line === undefined ? [] : [`line=${line}`]),
        `title=${escapeProperty(rule)}`,
      ];
      const text = escapeData(`${message}${cpusOf(finding)}. ${remedy}.`);
      return `::${COMMANDS[severity]} ${properties.join(",")}::${text}\n`;
    })
    .join("");
}
