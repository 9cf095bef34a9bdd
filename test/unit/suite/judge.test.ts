/** Tests of judging bundled claims: verdicts, reasons and order. */
import { expect, test } from "vitest";
import { judgeClaims } from "../../../lib/suite/judge.ts";
import type { RegisteredClaim } from "../../../lib/suite/registry.ts";

function claim(name: string, body: RegisteredClaim["body"], file = "a.test.ts"): RegisteredClaim {
  return { file, name, meta: { claim: 7 }, body };
}

const CLAIMS: readonly RegisteredClaim[] = [
  claim("holds: KVM keeps it", () => undefined),
  claim("breaks: KVM: keeps it", () => {
    throw new Error("it did not");
  }),
  claim("skips: KVM may", ({ skip }) => skip("no KVM here"), "b.test.ts"),
  claim("deviates: KVM does not", ({ task }) => {
    task.meta["deviation"] = "as is known";
  }),
  claim("throws: KVM", () => {
    // biome-ignore lint/style/useThrowOnlyError: a claim's code may throw any value
    throw "a text";
  }),
];

test("each claim has its verdict, reason, number and title", () => {
  const results = judgeClaims(CLAIMS).map(({ duration: _, ...result }) => result);
  expect(results).toEqual([
    { id: "holds", title: "KVM keeps it", number: 7, verdict: "pass", reason: undefined },
    { id: "breaks", title: "KVM: keeps it", number: 7, verdict: "fail", reason: "it did not" },
    { id: "skips", title: "KVM may", number: 7, verdict: "skip", reason: "no KVM here" },
    {
      id: "deviates",
      title: "KVM does not",
      number: 7,
      verdict: "deviation",
      reason: "as is known",
    },
    { id: "throws", title: "KVM", number: 7, verdict: "fail", reason: "a text" },
  ]);
});

test("the deviation of one judgement is not in the next one", () => {
  const notes = [{ deviation: "as is known" }, {}];
  const changing = claim("changes: KVM", ({ task }) => {
    Object.assign(task.meta, notes.shift());
  });
  expect(judgeClaims([changing])[0]?.verdict).toBe("deviation");
  expect(judgeClaims([changing])[0]?.verdict).toBe("pass");
});

test("a pattern selects by the name or the sentence, ignoring case", () => {
  const ids = (pattern: string): readonly string[] =>
    judgeClaims(CLAIMS, { pattern }).map(({ id }) => id);
  expect(ids("KEEPS")).toEqual(["holds", "breaks"]);
  expect(ids("deviates:")).toEqual(["deviates"]);
  expect(ids("none")).toEqual([]);
});

test("files select their claims", () => {
  expect(judgeClaims(CLAIMS, { files: ["b.test.ts"] }).map(({ id }) => id)).toEqual(["skips"]);
});

test("each result is reported before the next claim is judged", () => {
  const order: string[] = [];
  const first = claim("one: KVM", () => void order.push("judges one"));
  const second = claim("two: KVM", () => void order.push("judges two"));
  judgeClaims([first, second], { onResult: ({ id }) => order.push(`tells ${id}`) });
  expect(order).toEqual(["judges one", "tells one", "judges two", "tells two"]);
});
