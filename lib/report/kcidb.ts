/**
 * A report in the I/O schema of KCIDB, version 5.3 (kcidb_io/schema/v05_03.py of kcidb-io). Each column is a checkout
 * with a build and a test for each claim. A known deviation is a failed test with an issue and an incident, which is
 * KCIDB's form of a known failure.
 */
import { createHash } from "node:crypto";
import { type Column, MACHINE_REPORTS, type Matrix, troubles } from "./matrix.ts";
import type { Result } from "./result.ts";

/** The facts about a run that a matrix does not contain. */
export interface KcidbRun {
  /** The name of the system that submits reports: lower-case letters, digits and `_`. */
  readonly origin: string;
  /** The start of the run, as in RFC 3339. It distinguishes the run from other runs of the same kernels. */
  readonly start: string;
}

type Status = "PASS" | "FAIL" | "SKIP" | "ERROR" | "MISS";

/** The maximum length of an excerpt in the schema. */
const MOST_EXCERPT = 16_384;

/** Returns whether the schema allows a name of a submitting system. */
export function isKcidbOrigin(name: string): boolean {
  return /^[a-z0-9_]+$/.test(name);
}

/**
 * Formats a matrix for KCIDB. All ids are derived from the run, so the same document may be submitted several times.
 *
 * @throws TypeError if the origin has another form than the schema requires.
 */
export function toKcidb(matrix: Matrix, run: KcidbRun): string {
  const { origin } = run;
  if (!isKcidbOrigin(origin)) {
    throw new TypeError(`the origin "${origin}" must consist of lower-case letters, digits and _`);
  }
  const parts = matrix.columns.map((column, i) => columnParts(matrix, i, column, run));
  const issues = new Map(
    parts.flatMap(({ issues: own }) => own).map((issue) => [issue.id, issue] as const),
  );
  const document = {
    version: { major: 5, minor: 3 },
    checkouts: parts.map(({ checkout }) => checkout),
    builds: parts.map(({ build }) => build),
    tests: parts.flatMap(({ tests }) => tests),
    issues: Array.from(issues.values()),
    incidents: parts.flatMap(({ incidents }) => incidents),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

interface Issue {
  readonly id: string;
  readonly [member: string]: unknown;
}

interface ColumnParts {
  readonly checkout: object;
  readonly build: object;
  readonly tests: readonly object[];
  readonly issues: readonly Issue[];
  readonly incidents: readonly object[];
}

function columnParts(
  matrix: Matrix,
  position: number,
  column: Column,
  { origin, start }: KcidbRun,
): ColumnParts {
  const { name, report } = column;
  const key = hash([start, String(position), name, report?.kernel ?? "", report?.vendor ?? ""]);
  const [checkout_id, build_id] = [`${origin}:${key}`, `${origin}:${key}`];
  const about = report === undefined ? name : `Linux ${report.kernel}, ${report.vendor}`;
  const test = (id: string, path: string, status: Status, more: object): object => ({
    ...{ id: `${origin}:${key}${id}`, origin, build_id, path, status, start_time: start },
    environment: { comment: plain(name), misc: { vendor_module: report?.vendor ?? "unknown" } },
    ...more,
  });
  const claims = matrix.rows.map(({ id, title, cells }) => {
    const result = cells[position];
    const path = `node-kvm.${word(stem(result, matrix, id))}.${word(id)}`;
    return test(`-${idPart(id)}`, path, statusOf(result), {
      comment: plain(title),
      ...excerpt(result),
    });
  });
  const wrong = troubles(matrix, position);
  const machine =
    wrong.length === 0 && report !== undefined
      ? []
      : [
          test(".machine", "node-kvm.machine", column.end === "crashed" ? "FAIL" : "ERROR", {
            comment: MACHINE_REPORTS,
            log_excerpt: plain(wrong.join("\n").slice(0, MOST_EXCERPT)),
          }),
        ];
  const known = (report?.results ?? []).filter(({ verdict }) => verdict === "deviation");
  const issueOf = ({ id, reason = "" }: Result): Issue => ({
    id: `${origin}:deviation-${idPart(id)}-${hash([reason]).slice(0, 12)}`,
    ...{ origin, version: 1, report_subject: plain(`${id}: ${reason}`.slice(0, 200)) },
    culprit: { code: true, tool: false, harness: false },
    comment: plain(reason),
  });
  return {
    checkout: { id: checkout_id, origin, valid: true, start_time: start, comment: plain(about) },
    build: { id: build_id, origin, checkout_id, architecture: "x86_64", comment: plain(about) },
    tests: [...claims, ...machine],
    issues: known.map(issueOf),
    incidents: known.map((result) => {
      const { id: issue_id } = issueOf(result);
      const test_id = `${origin}:${key}-${idPart(result.id)}`;
      const id = `${test_id}-known`;
      return { id, origin, issue_id, issue_version: 1, test_id, present: true };
    }),
  };
}

/** A claim that was not judged, such as a claim after the end of its machine, is MISS. */
function statusOf(result: Result | undefined): Status {
  if (result === undefined) return "MISS";
  switch (result.verdict) {
    case "pass":
      return "PASS";
    case "skip":
      return "SKIP";
    case "fail":
    case "deviation":
      return "FAIL";
    default:
      return result.verdict satisfies never;
  }
}

function excerpt(result: Result | undefined): object {
  if (result === undefined) return {};
  const seconds = { duration: result.duration / 1000 };
  if (result.reason === undefined) return seconds;
  return { ...seconds, log_excerpt: plain(result.reason.slice(0, MOST_EXCERPT)) };
}

/** Returns the name of the claim's file without its endings; any column may have it. */
function stem(result: Result | undefined, { rows }: Matrix, id: string): string {
  const cells = rows.find((row) => row.id === id)?.cells ?? [];
  const file = result?.file ?? cells.find((each) => each?.file !== undefined)?.file;
  return file?.replace(/(\.(test|claims))?\.[cm]?[jt]s$/, "") ?? "claims";
}

/** Returns a claim's id for an id of KCIDB. A name that no claim may have, as in a report from outside, is hashed. */
function idPart(id: string): string {
  return /^[\w-]{1,80}$/.test(id) ? id : hash([id]);
}

/** The schema allows letters, digits, `_` and `-` in a part of a path. */
function word(text: string): string {
  return text.replaceAll(/[^\w-]+/g, "_") || "_";
}

/** The schema forbids NUL characters; half of a surrogate pair is not Unicode text. */
function plain(text: string): string {
  return text.replaceAll(/\0|\p{Surrogate}/gu, "\ufffd");
}

function hash(parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32);
}
