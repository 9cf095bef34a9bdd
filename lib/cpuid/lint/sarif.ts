/** Formats findings of lint as SARIF 2.1.0 (OASIS), which code scanning services read. */

import { refuseMissing, refuseUnknown } from "../../options.ts";
import type { CpuidLintResult } from "./lint.ts";
import type { CpuidLintSeverity } from "./rule.ts";
import { CPUID_LINT_RULES } from "./rules.ts";
import { type FormatLintOptions, RESULT_MEMBERS } from "./text.ts";

/** SARIF's levels by severity. Source: SARIF 2.1.0, 3.27.10. */
const LEVELS: Readonly<Record<CpuidLintSeverity, string>> = {
  error: "error",
  warning: "warning",
  info: "note",
};

/**
 * Encodes a path as a relative URI reference; SARIF has no other form of a file's name. A lone surrogate, which no URI
 * can contain, becomes U+FFFD.
 */
const uriOf = (file: string): string =>
  file
    .replaceAll(/\p{Surrogate}/gu, "\ufffd")
    .split("/")
    .map(encodeURIComponent)
    .join("/");

/**
 * Formats a result as the JSON text of a SARIF log with one run. The driver lists all rules, and each result has the
 * index of its rule, a level, and the line if it is known. Rules that were not judged are notifications of the run,
 * whose `executionSuccessful` is false if nothing was judged.
 *
 * @throws TypeError for an unknown option.
 */
export function formatLintSarif(result: CpuidLintResult, options: FormatLintOptions = {}): string {
  refuseMissing("formatLintSarif()", result, RESULT_MEMBERS);
  refuseUnknown("formatLintSarif()", options, ["file"]);
  const indexes = new Map(CPUID_LINT_RULES.map(({ id }, i) => [id, i]));
  const rules = CPUID_LINT_RULES.map(({ id, severity, title, source, remedy }) => ({
    id,
    shortDescription: { text: `${title}.` },
    fullDescription: { text: `${title}. Source: ${source}.` },
    help: { text: `${remedy}.` },
    defaultConfiguration: { level: LEVELS[severity] },
  }));
  const results = result.findings.map((finding) => {
    const { rule, severity, message, where, line, remedy, cpus } = finding;
    const region = line === undefined ? {} : { region: { startLine: line } };
    const file =
      options.file === undefined
        ? {}
        : { physicalLocation: { artifactLocation: { uri: uriOf(options.file) }, ...region } };
    return {
      ruleId: rule,
      ruleIndex: indexes.get(rule) ?? -1,
      level: LEVELS[severity],
      message: { text: `${message}. ${remedy}.` },
      locations: [{ ...file, logicalLocations: [{ fullyQualifiedName: where, kind: "member" }] }],
      properties: { cpus },
    };
  });
  const notifications = result.notJudged.map(({ rule, reason }) => ({
    level: "note",
    message: { text: `${rule} was not judged: ${reason}.` },
    associatedRule: { id: rule, index: indexes.get(rule) ?? -1 },
  }));
  const log = {
    $schema: "https://json.schemastore.org/sarif-2.1.0.json",
    version: "2.1.0",
    runs: [
      {
        tool: { driver: { name: "node-kvm cpuid lint", rules } },
        invocations: [
          {
            executionSuccessful: result.verdict !== "nothing judged",
            toolExecutionNotifications: notifications,
          },
        ],
        results,
      },
    ],
  };
  return `${JSON.stringify(log, null, 2)}\n`;
}
