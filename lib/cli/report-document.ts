/** The formats of a report that are documents, and the options that they need. */
import { appendFileSync } from "node:fs";
import { InvalidArgumentError } from "commander";
import { toGithubAnnotations, toGithubSummary } from "../report/github.ts";
import { toHtml } from "../report/html.ts";
import { matrixToJunit, toJunit } from "../report/junit.ts";
import { isKcidbOrigin, toKcidb } from "../report/kcidb.ts";
import { matrixToKtap, toKtap } from "../report/ktap.ts";
import { matrixToLava, toLava } from "../report/lava.ts";
import { type Matrix, toMatrix } from "../report/matrix.ts";
import { printableJson } from "../report/printable.ts";
import type { Report } from "../report/result.ts";
import { CommandError, reasonOf } from "./failure.ts";

/** The formats of documents. */
export const DOCUMENTS = ["ktap", "junit", "json", "html", "kcidb", "lava", "github"] as const;

/** The name of a document's format. */
export type DocumentName = (typeof DOCUMENTS)[number];

/** The choice of evidence: the format, and the option --evidence. */
export interface EvidenceChoice {
  readonly reporter: "text" | DocumentName;
  /** Whether a JSON report has the calls of claims that fail or deviate; an HTML page always has them. */
  readonly evidence?: boolean;
}

/** The description of the option --evidence. */
export const EVIDENCE_HELP =
  "with --reporter json: add the calls and a C file of each claim that fails or deviates, as html does";

/**
 * Whether the calls of claims are recorded. They are not recorded if the format does not contain them, because
 * recording makes a lab run 1.5 times as long.
 */
export function hasEvidence({ reporter, evidence = false }: EvidenceChoice): boolean {
  return reporter === "html" || evidence;
}

/** The facts that some formats need. */
export interface DocumentOptions {
  /** KCIDB's name of the system that submits the report. */
  readonly origin: string | undefined;
  /** The start of the run. */
  readonly started: Date;
}

/** Checks the options of a format before the run. */
export function checkDocument(
  name: string,
  { origin, evidence = false }: Pick<DocumentOptions, "origin"> & Pick<EvidenceChoice, "evidence">,
): void {
  if (evidence && name !== "json" && name !== "html") {
    throw new CommandError("--evidence has an effect only with --reporter json");
  }
  if (name === "kcidb" && origin === undefined) {
    throw new CommandError("--reporter kcidb needs --origin, the name of the submitting system");
  }
  if (name !== "kcidb" && origin !== undefined) {
    throw new CommandError("--origin has an effect only with --reporter kcidb");
  }
}

/** The description of the option --origin. */
export const ORIGIN_HELP = "with --reporter kcidb: KCIDB's name of the submitting system";

/** Parses KCIDB's origin. */
export function toOrigin(text: string): string {
  if (isKcidbOrigin(text)) return text;
  throw new InvalidArgumentError("an origin consists of lower-case letters, digits and _");
}

/** Formats the report of one kernel. */
export function reportDocument(
  report: Report,
  name: DocumentName,
  options: DocumentOptions,
): string {
  switch (name) {
    case "ktap":
      return toKtap(report);
    case "junit":
      return toJunit(report);
    case "json":
      return `${printableJson(report)}\n`;
    case "lava":
      return toLava(report);
    case "html":
    case "kcidb":
    case "github":
      return matrixDocument(asMatrix(report), name, options);
    default:
      return name satisfies never;
  }
}

function asMatrix(report: Report): Matrix {
  const name = `${report.kernel} ${report.vendor}`;
  return toMatrix([{ name, report, warnings: [] }]);
}

/** Formats the reports of several kernels. For `github`, the step's summary is appended to its file, too. */
export function matrixDocument(
  matrix: Matrix,
  name: DocumentName,
  { origin = "", started }: DocumentOptions,
): string {
  switch (name) {
    case "ktap":
      return matrixToKtap(matrix);
    case "junit":
      return matrixToJunit(matrix);
    case "json":
      return `${printableJson(matrix)}\n`;
    case "html":
      return toHtml(matrix, started.toISOString().slice(0, 10));
    case "kcidb":
      return toKcidb(matrix, { origin, start: started.toISOString() });
    case "lava":
      return matrixToLava(matrix);
    case "github":
      addSummary(matrix);
      return toGithubAnnotations(matrix);
    default:
      return name satisfies never;
  }
}

/** Appends the summary to the file that GitHub Actions names; without this variable, there is no summary. */
function addSummary(matrix: Matrix): void {
  const file = process.env["GITHUB_STEP_SUMMARY"];
  if (file === undefined || file === "") return;
  try {
    appendFileSync(file, toGithubSummary(matrix));
  } catch (error) {
    throw new CommandError(`$GITHUB_STEP_SUMMARY: ${file} cannot be written: ${reasonOf(error)}`);
  }
}
