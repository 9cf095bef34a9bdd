/** Reads a report from outside, such as a guest's output, and checks its members. */
import {
  type Evidence,
  type HostFacts,
  LONGEST_C,
  LONGEST_CALL,
  LONGEST_REASON,
  MOST_C,
  MOST_CALLS,
  MOST_FIELDS,
  MOST_REASONS,
  type TableDifferences,
} from "./evidence.ts";
import { printable } from "./printable.ts";
import type { Report, Result, Verdict } from "./result.ts";

/** Reports a fault of a received report. */
export class MalformedReport extends Error {
  override readonly name: string = "MalformedReport";
}

const VERDICTS: readonly Verdict[] = ["pass", "fail", "skip", "deviation"];

/** The maximum length of a text in UTF-16 units; the suite's own texts are a tenth of it. */
const LONGEST = { name: 200, title: 2000 } as const;
const MOST_RESULTS = 10_000;
/** The maximum number of a module's parameters, and of capabilities; KVM has about 60 parameters. */
const MOST_FACTS = 500;

/**
 * Reads a report of the suite's JSON reporter.
 *
 * @returns a copy that has only the known members.
 * @throws {@link MalformedReport} with the first invalid member.
 */
export function readReport(text: string): Report {
  const report = asObject(parse(text), "the report");
  const results = asArray(report["results"], "results", MOST_RESULTS);
  const read = results.map((result, i) => readResult(result, `results[${i}]`));
  refuseLong(
    "C files",
    read.map(({ evidence }) => evidence?.c),
    MOST_C,
  );
  refuseLong(
    "reasons",
    read.map(({ reason }) => reason),
    MOST_REASONS,
  );
  const { host } = report;
  const ids = new Set<string>();
  for (const { id } of read) {
    if (ids.has(id)) throw new MalformedReport(`${shown(id)} has two results`);
    ids.add(id);
  }
  return {
    kernel: asText(report["kernel"], "kernel", LONGEST.name),
    vendor: asText(report["vendor"], "vendor", LONGEST.name),
    ...(host === undefined ? {} : { host: readFacts(host) }),
    results: read,
  };
}

/** Refuses texts that are together too long. */
function refuseLong(what: string, texts: readonly (string | undefined)[], most: number): void {
  const length = texts.reduce((sum, each = "") => sum + each.length, 0);
  if (length <= most) return;
  throw new MalformedReport(`its ${what} have ${length} characters; at most ${most} are allowed`);
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
  const { id, title, number, file, verdict, reason, duration, evidence } = result;
  const known = VERDICTS.find((one) => one === verdict);
  if (known === undefined) throw malformed(`${at}.verdict`, verdict, VERDICTS.join(", "));
  return {
    id: asText(id, `${at}.id`, LONGEST.name),
    title: asText(title, `${at}.title`, LONGEST.title),
    number: number === undefined ? undefined : asCount(number, `${at}.number`),
    ...(file === undefined ? {} : { file: asText(file, `${at}.file`, LONGEST.name) }),
    verdict: known,
    reason: reason === undefined ? undefined : asText(reason, `${at}.reason`, LONGEST_REASON),
    duration: asNumber(duration, `${at}.duration`),
    ...(evidence === undefined ? {} : { evidence: readEvidence(evidence, `${at}.evidence`) }),
  };
}

function readEvidence(value: unknown, at: string): Evidence {
  const { calls, earlierCalls, tables, c, withoutC } = asObject(value, at);
  return {
    calls: asArray(calls, `${at}.calls`, MOST_CALLS).map((call, i) =>
      asText(call, `${at}.calls[${i}]`, LONGEST_CALL),
    ),
    earlierCalls: asCount(earlierCalls, `${at}.earlierCalls`),
    ...(tables === undefined ? {} : { tables: readTables(tables, `${at}.tables`) }),
    ...(c === undefined ? {} : { c: asText(c, `${at}.c`, LONGEST_C) }),
    ...(withoutC === undefined
      ? {}
      : { withoutC: asText(withoutC, `${at}.withoutC`, LONGEST.title) }),
  };
}

function readTables(value: unknown, at: string): TableDifferences {
  const { before, after, fields, more } = asObject(value, at);
  return {
    before: asText(before, `${at}.before`, LONGEST.name),
    after: asText(after, `${at}.after`, LONGEST.name),
    fields: asArray(fields, `${at}.fields`, MOST_FIELDS).map((field, i) => {
      const place = `${at}.fields[${i}]`;
      const { name, before, after } = asObject(field, place);
      return {
        name: asText(name, `${place}.name`, LONGEST_CALL),
        before: asText(before, `${place}.before`, LONGEST_CALL),
        after: asText(after, `${place}.after`, LONGEST_CALL),
      };
    }),
    more: asCount(more, `${at}.more`),
  };
}

function readFacts(value: unknown): HostFacts {
  const { cpu, parameters, capabilities } = asObject(value, "host");
  return {
    cpu: asText(cpu, "host.cpu", LONGEST.name),
    parameters: readMembers(parameters, "host.parameters", (text, at) =>
      asText(text, at, LONGEST.title),
    ),
    capabilities: readMembers(capabilities, "host.capabilities", asNumber),
  };
}

/** Reads an object whose names are not known before, such as the parameters of a module. */
function readMembers<T>(
  value: unknown,
  at: string,
  member: (value: unknown, at: string) => T,
): Readonly<Record<string, T>> {
  const entries = Object.entries(asObject(value, at));
  refuseMore(entries.length, at, MOST_FACTS);
  return Object.fromEntries(
    entries.map(([name, each]) => [asText(name, at, LONGEST.name), member(each, `${at}.${name}`)]),
  );
}

function asArray(value: unknown, at: string, most: number): readonly unknown[] {
  if (!Array.isArray(value)) throw malformed(at, value, "an array");
  refuseMore(value.length, at, most);
  return value;
}

function refuseMore(count: number, at: string, most: number): void {
  if (count <= most) return;
  throw new MalformedReport(`${at} has ${count} members; at most ${most} are allowed`);
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

function asCount(value: unknown, at: string): number {
  const number = asNumber(value, at);
  if (!Number.isSafeInteger(number)) throw malformed(at, value, "a whole number");
  return number;
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
