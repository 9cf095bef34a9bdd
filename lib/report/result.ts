/**
 * A verdict: one claim, judged on one kernel. evidence.ts has the calls of a claim that does not hold, and the facts of
 * the host. text.ts, ktap.ts, junit.ts and html.ts print verdicts.
 */
import type { Evidence, HostFacts } from "./evidence.ts";

/**
 * The verdict of a claim. A `deviation` is a claim that fails in a way that is known and explained by a
 * deviation, such as those of `test/kvm/deviations.ts`; it counts as expected.
 */
export type Verdict = "pass" | "fail" | "skip" | "deviation";

/** The verdict on one claim. */
export interface Result {
  /** The claim's short name: `resend-original`. */
  readonly id: string;
  /** The claim: a sentence with KVM or a vCPU as subject. */
  readonly title: string;
  /** The claim's number in the catalogue of checks. */
  readonly number: number | undefined;
  /** The name of the claim's file: `frozen.test.ts`. */
  readonly file?: string | undefined;
  readonly verdict: Verdict;
  /** The reason for a skip, a deviation or a failure. */
  readonly reason: string | undefined;
  /** In milliseconds. */
  readonly duration: number;
  /** The calls of a claim that fails or deviates, if the report collects them. */
  readonly evidence?: Evidence | undefined;
}

/** Splits the name of a claim's test, `id: sentence`, into its two parts. */
export function splitName(name: string): Pick<Result, "id" | "title"> {
  const [id = "", ...sentence] = name.split(": ");
  return { id, title: sentence.join(": ") };
}

/** Returns whether a claim's name contains a pattern, ignoring case; every name contains an omitted one. */
export function containsPattern(name: string, pattern: string = ""): boolean {
  return name.toLowerCase().includes(pattern.toLowerCase());
}

/** The kernel that was judged, and the results. */
export interface Report {
  /** The kernel's release: `6.12.95`. */
  readonly kernel: string;
  /** The vendor module: `kvm_amd`, `kvm_intel`, `kvm_pvm`; `none` when no KVM is loaded. */
  readonly vendor: string;
  /** Facts of the host, or of the emulated machine, on which the claims were judged. */
  readonly host?: HostFacts | undefined;
  readonly results: readonly Result[];
}

/** The number of results with each verdict. */
export type Counts = Readonly<Record<Verdict, number>>;

/** Counts the results by verdict. */
export function count(results: readonly Result[]): Counts {
  const counts = { pass: 0, fail: 0, skip: 0, deviation: 0 };
  for (const { verdict } of results) counts[verdict] += 1;
  return counts;
}

/** Groups the deviations by their reasons, in the order of the first claim with each reason. */
export function deviationsByReason(
  results: Iterable<Pick<Result, "id" | "verdict" | "reason"> | undefined>,
): ReadonlyMap<string, readonly string[]> {
  const groups = new Map<string, string[]>();
  for (const result of results) {
    if (result?.verdict !== "deviation") continue;
    const { id, reason = "" } = result;
    groups.set(reason, [...(groups.get(reason) ?? []), id]);
  }
  return groups;
}

/** Returns the number of results that are a verdict on the kernel; skipped claims are not. */
export function judged(report: Report): number {
  return report.results.length - count(report.results).skip;
}

/** Whether at least one claim was judged, and there is no unexpected result. */
export function isGreen(report: Report): boolean {
  return judged(report) > 0 && count(report.results).fail === 0;
}
