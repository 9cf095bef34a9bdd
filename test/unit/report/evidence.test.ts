/** Tests of the limits for the texts of a report. */
import { expect, test } from "vitest";
import { boundTexts, LONGEST_REASON, MOST_C, MOST_REASONS } from "../../../lib/report/evidence.ts";
import { readReport } from "../../../lib/report/received.ts";
import type { Result, Verdict } from "../../../lib/report/result.ts";

const result = (id: string, verdict: Verdict, c?: string): Result => ({
  ...{ id, title: id, number: undefined, verdict, reason: "why", duration: 1 },
  ...(c === undefined ? {} : { evidence: { calls: ["open()"], earlierCalls: 0, c } }),
});

const QUARTER = "x".repeat(MOST_C / 4);

test("results without C files, and C files within the limit, stay as they are", () => {
  const results = [
    result("a", "pass"),
    result("b", "deviation", QUARTER),
    result("c", "fail", QUARTER),
  ];
  expect(boundTexts(results)).toEqual(results);
});

test("beyond the limit, results keep their calls but not their C files, and failures keep theirs first", () => {
  const results = [
    ...["a", "b", "c"].map((id) => result(id, "deviation", QUARTER)),
    ...["d", "e"].map((id) => result(id, "fail", QUARTER)),
  ];
  const bounded = boundTexts(results);
  expect(bounded.map(({ id, evidence }) => [id, evidence?.c?.length])).toEqual([
    ["a", QUARTER.length],
    ["b", QUARTER.length],
    ["c", undefined],
    ["d", QUARTER.length],
    ["e", QUARTER.length],
  ]);
  expect(bounded[2]?.evidence).toEqual({
    calls: ["open()"],
    earlierCalls: 0,
    withoutC: "the C files of a report have at most 2 MiB",
  });
});

const failing = (id: string, verdict: Verdict, length: number): Result => ({
  ...result(id, verdict),
  reason: "r".repeat(length),
});

test("a reason that is too long is shortened and states this", () => {
  const [bounded] = boundTexts([failing("a", "fail", LONGEST_REASON + 1)]);
  expect(bounded?.reason).toHaveLength(LONGEST_REASON);
  expect(bounded?.reason).toMatch(
    /^r+\n\(a reason has at most 65536 characters, and those of a report 2097152\)$/,
  );
});

test("beyond the limit of all reasons, failures keep theirs first, and every result stays", () => {
  const many = Array.from({ length: MOST_REASONS / LONGEST_REASON }, (_, i) =>
    failing(`d${i}`, "deviation", LONGEST_REASON),
  );
  const results = [...many, result("p", "pass"), failing("f", "fail", LONGEST_REASON)];
  const bounded = boundTexts(results);
  const total = bounded.reduce((sum, { reason = "" }) => sum + reason.length, 0);
  expect(total).toBeLessThanOrEqual(MOST_REASONS);
  expect(bounded.map(({ id }) => id)).toEqual(results.map(({ id }) => id));
  expect(bounded.at(-1)).toEqual(results.at(-1));
  expect(bounded.at(-3)?.reason).toBe("");
  const report = JSON.stringify({ kernel: "6.12", vendor: "kvm_amd", results: bounded });
  expect(readReport(report).results).toHaveLength(results.length);
});
