/**
 * The evidence of a claim that fails or deviates, and the facts of the host that was judged. suite/evidence.ts collects
 * the evidence; received.ts checks the evidence of a lab guest; html.ts prints it.
 */
import type { Result, Verdict } from "./result.ts";

/** One field of a CPUID table that differs, or one entry that only one table has. */
export interface TableField {
  /** The place and the name: `0x7.0:ebx[5] avx2`. */
  readonly name: string;
  /** The value in the first table: `1`, `0x2c`, `absent`. */
  readonly before: string;
  /** The value in the second table. */
  readonly after: string;
}

/** The differences between two CPUID tables. */
export interface TableDifferences {
  /** The first table: `expected`. */
  readonly before: string;
  /** The second table: `got`. */
  readonly after: string;
  /** The differences, at most `MOST_FIELDS`. Without differences, the two tables are equal. */
  readonly fields: readonly TableField[];
  /** The number of further differences. */
  readonly more: number;
}

/** The calls of a claim that fails or deviates. */
export interface Evidence {
  /** The last calls of the claim in strace's format, the oldest first, at most `MOST_CALLS`. */
  readonly calls: readonly string[];
  /** The number of earlier calls, which `calls` does not contain. */
  readonly earlierCalls: number;
  /** The differences between two tables, if the claim fails because of them. */
  readonly tables?: TableDifferences | undefined;
  /** The C file that repeats all calls of the claim. */
  readonly c?: string | undefined;
  /** The reason why there is no C file. */
  readonly withoutC?: string | undefined;
}

/** Facts of the machine on which claims were judged. */
export interface HostFacts {
  /** The CPU's name in /proc/cpuinfo. */
  readonly cpu: string;
  /** The parameters of the loaded KVM modules: `kvm.ignore_msrs` is `N`. */
  readonly parameters: Readonly<Record<string, string>>;
  /** The results of KVM_CHECK_EXTENSION on /dev/kvm for the capabilities on which claims depend. */
  readonly capabilities: Readonly<Record<string, number>>;
}

/** The maximum number of calls of one claim. */
export const MOST_CALLS: number = 100;
/** The maximum number of differences between two tables of one claim. */
export const MOST_FIELDS: number = 200;
/** The maximum length of a call, and of a value or name of a field, in UTF-16 units. */
export const LONGEST_CALL: number = 400;
/** The maximum length of a C file in UTF-16 units; usual C files have 5 to 40 kB. */
export const LONGEST_C: number = 2 ** 18;
/** The maximum length of the C files of one report together, in UTF-16 units. */
export const MOST_C: number = 2 ** 21;

/** The maximum length of a reason, in UTF-16 units; the suite's own reasons are a tenth of it. */
export const LONGEST_REASON: number = 2 ** 16;
/** The maximum length of the reasons of one report together, in UTF-16 units. */
export const MOST_REASONS: number = 2 ** 21;

/**
 * Shortens the reasons that exceed {@link LONGEST_REASON}, or with the others {@link MOST_REASONS}, and removes the C
 * files that exceed {@link MOST_C}. Failed claims keep their texts first.
 */
export function boundTexts(results: readonly Result[]): readonly Result[] {
  return boundReasons(boundEvidence(results));
}

function boundReasons(results: readonly Result[]): readonly Result[] {
  const total = results.reduce((sum, { reason = "" }) => sum + reason.length, 0);
  const longest = results.reduce((most, { reason = "" }) => Math.max(most, reason.length), 0);
  if (total <= MOST_REASONS && longest <= LONGEST_REASON) return results;
  const reasons = new Map<Result, string>();
  let room = MOST_REASONS;
  for (const result of byVerdict(results, ["fail", "deviation", "skip", "pass"])) {
    const { reason } = result;
    if (reason === undefined) continue;
    const kept = shortened(reason, Math.min(room, LONGEST_REASON));
    reasons.set(result, kept);
    room -= kept.length;
  }
  return results.map((result) => ({ ...result, reason: reasons.get(result) }));
}

/** Shortens a text to a length, and states this at its end if there is room for the statement. */
function shortened(text: string, most: number): string {
  if (text.length <= most) return text;
  const end = `\n(a reason has at most ${LONGEST_REASON} characters, and those of a report ${MOST_REASONS})`;
  return most < end.length ? "" : `${text.slice(0, most - end.length)}${end}`;
}

function boundEvidence(results: readonly Result[]): readonly Result[] {
  const removed = new Set<Result>();
  let room = MOST_C;
  for (const result of byVerdict(results, ["fail", "deviation"])) {
    const { length } = result.evidence?.c ?? "";
    if (length <= room) room -= length;
    else removed.add(result);
  }
  return results.map((result) => (removed.has(result) ? withoutC(result) : result));
}

/** Returns the results with these verdicts, in the order of the verdicts. */
const byVerdict = (results: readonly Result[], verdicts: readonly Verdict[]): readonly Result[] =>
  verdicts.flatMap((verdict) => results.filter((result) => result.verdict === verdict));

function withoutC(result: Result): Result {
  const { c, ...evidence } = result.evidence ?? { calls: [], earlierCalls: 0 };
  const reason = `the C files of a report have at most ${MOST_C / 2 ** 20} MiB`;
  return { ...result, evidence: { ...evidence, withoutC: reason } };
}
