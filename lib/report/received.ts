/** Reads a report from outside, such as a guest's output, and checks its members. */
import { printable } from "./printable.ts";
import type { Report, Result, Verdict } from "./result.ts";

/** Reports a fault of a received report. */
export class MalformedReport extends Error {
  override readonly name: string = "MalformedReport";
}

const VERDICTS: readonly Verdict[] = ["pass", "fail", "skip", "deviation"];

/** The maximum length of a text in UTF-16 units; the suite's own texts are a tenth of it. */
const LONGEST = { name: 200, title: 2000, reason: 2 ** 20 } as const;
const MOST_RESULTS = 10_000;

/**
 * Reads a report of the suite's JSON reporter.
 *
 * @returns a copy that has only the known members.
 * @throws {@link MalformedReport} with the first invalid member.
 */
export function readReport(text: string): Report {
  const report = asObject(parse(text), "the report");
  const { results } = report;
  if (!Array.isArray(results)) throw malformed("results", results, "an array");
  if (results.length > MOST_RESULTS) {
    throw new MalformedReport(
      `results has ${results.length} members; at most ${MOST_RESULTS} are allowed`,
    );
  }
  const read = results.map((result: unknown, i) => readResult(result, `results[${i}]`));
  const ids = new Set<string>();
  for (const { id } of read) {
    if (ids.has(id)) throw new MalformedReport(`${shown(id)} has two results`);
    ids.add(id);
  }
  return {
    kernel: asText(report["kernel"], "kernel", LONGEST.name),
    vendor: asText(report["vendor"], "vendor", LONGEST.name),
    results: read,
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new MalformedReport("it is not JSON", { cause });
  }
}

function readResult(value: unknown, at: string): Result {
  const result = asObject(value, at);
  const { id, title, number, file, verdict, reason, duration } = result;
  const known = VERDICTS.find((one) => one === verdict);
  if (known === undefined) throw malformed(`${at}.verdict`, verdict, VERDICTS.join(", "));
  return {
    id: asText(id, `${at}.id`, LONGEST.name),
    title: asText(title, `${at}.title`, LONGEST.title),
    number: number === undefined ? undefined : asNumber(number, `${at}.number`),
    ...(file === undefined ? {} : { file: asText(file, `${at}.file`, LONGEST.name) }),
    verdict: known,
    reason: reason === undefined ? undefined : asText(reason, `${at}.reason`, LONGEST.reason),
    duration: asNumber(duration, `${at}.duration`),
  };
}

function asObject(value: unknown, at: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw malformed(at, value, "an object");
  }
  // Only own members are read: JSON can make `__proto__` an own member, and members of the prototype do not belong to
  // the report.
  return Object.assign(Object.create(null) as Record<string, unknown>, value);
}

function asText(value: unknown, at: string, longest: number): string {
  if (typeof value !== "string" || value.length > longest) {
    throw malformed(at, value, `a string of at most ${longest} characters`);
  }
  return value;
}

function asNumber(value: unknown, at: string): number {
  // JSON can contain 1e999, which is read as Infinity.
  if (typeof value !== "number" || !Number.isFinite(value) || value < 0) {
    throw malformed(at, value, "a number that is not negative");
  }
  return value;
}

function malformed(at: string, value: unknown, expected: string): MalformedReport {
  return new MalformedReport(`${at} is ${shown(value)}, not ${expected}`);
}

/** Writes a value of the report briefly, for an error. */
function shown(value: unknown): string {
  if (typeof value === "object" && value !== null)
    return Array.isArray(value) ? "an array" : "an object";
  if (typeof value !== "string") return String(value);
  const start = value.length > 60 ? `${value.slice(0, 60)}…` : value;
  return `"${printable(start)}"`;
}
