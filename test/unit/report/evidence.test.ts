/** Tests of the limit for the C files of a report. */
import { expect, test } from "vitest";
import { boundEvidence, MOST_C } from "../../../lib/report/evidence.ts";
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
  expect(boundEvidence(results)).toEqual(results);
});

test("beyond the limit, results keep their calls but not their C files, and failures keep theirs first", () => {
  const results = [
    ...["a", "b", "c"].map((id) => result(id, "deviation", QUARTER)),
    ...["d", "e"].map((id) => result(id, "fail", QUARTER)),
  ];
  const bounded = boundEvidence(results);
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
