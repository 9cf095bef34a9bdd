/**
 * Tests of the counts of verdicts: each verdict is counted once, and a report without judged claims is not a success.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { count, isGreen, type Result, type Verdict } from "../../../lib/report/result.ts";

const VERDICTS: readonly Verdict[] = ["pass", "fail", "skip", "deviation"];

const judged = (verdict: Verdict): Result => ({
  id: "an-id",
  title: "a title",
  number: undefined,
  verdict,
  reason: undefined,
  duration: 0,
});

test("the counts of an empty list of results are zero", () => {
  expect(count([])).toEqual({ pass: 0, fail: 0, skip: 0, deviation: 0 });
});

test("each verdict has a separate count", () => {
  const some = ["pass", "skip", "pass", "deviation", "fail"] as const;
  expect(count(some.map(judged))).toEqual({ pass: 2, fail: 1, skip: 1, deviation: 1 });
});

test("the counts of the verdicts add up to the number of results", () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...VERDICTS)), (verdicts) => {
      const counts = Object.values(count(verdicts.map(judged)));
      expect(counts.reduce((a, b) => a + b)).toBe(verdicts.length);
    }),
  );
});

test.each([
  [[], false],
  [["skip", "skip"], false],
  [["deviation"], true],
  [["pass", "skip", "deviation"], true],
  [["pass", "fail"], false],
] as const)("isGreen() of a report with the verdicts %j is %s", (verdicts, green) => {
  const report = { kernel: "6.12", vendor: "kvm_amd", results: verdicts.map(judged) };
  expect(isGreen(report)).toBe(green);
});
