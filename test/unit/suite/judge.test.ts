/** Tests of the judge of claims without vitest: verdicts, reasons, order, and asynchronous claims. */
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

test("the suite returns the verdict, reason, number, title and file of each claim", async () => {
  const results = (await judgeClaims(CLAIMS)).map(({ duration: _, ...result }) => result);
  const [a, b] = ["a.test.ts", "b.test.ts"].map((file) => ({ number: 7, file }));
  expect(results).toEqual([
    { ...a, id: "holds", title: "KVM keeps it", verdict: "pass", reason: undefined },
    { ...a, id: "breaks", title: "KVM: keeps it", verdict: "fail", reason: "it did not" },
    { ...b, id: "skips", title: "KVM may", verdict: "skip", reason: "no KVM here" },
    { ...a, id: "deviates", title: "KVM does not", verdict: "deviation", reason: "as is known" },
    { ...a, id: "throws", title: "KVM", verdict: "fail", reason: "a text" },
  ]);
});

test("a deviation that was noted in one run of the suite is not noted in the next run", async () => {
  const notes = [{ deviation: "as is known" }, {}];
  const changing = claim("changes: KVM", ({ task }) => {
    Object.assign(task.meta, notes.shift());
  });
  expect((await judgeClaims([changing]))[0]?.verdict).toBe("deviation");
  expect((await judgeClaims([changing]))[0]?.verdict).toBe("pass");
});

test("the pattern of a suite selects claims by name or sentence, ignoring case", async () => {
  const ids = async (pattern: string): Promise<readonly string[]> =>
    (await judgeClaims(CLAIMS, { pattern })).map(({ id }) => id);
  expect(await ids("KEEPS")).toEqual(["holds", "breaks"]);
  expect(await ids("deviates:")).toEqual(["deviates"]);
  expect(await ids("none")).toEqual([]);
});

test("judges only a share of the claims that contain the pattern", async () => {
  const ids = async (share: string): Promise<readonly string[]> =>
    (await judgeClaims(CLAIMS, { share })).map(({ id }) => id);
  const all = (await judgeClaims(CLAIMS)).map(({ id }) => id);
  expect(await ids("0/2")).toEqual(all.filter((_, position) => position % 2 === 0));
  expect(await ids("1/2")).toEqual(all.filter((_, position) => position % 2 === 1));
});

test("if the user names files, the suite judges only the claims in these files", async () => {
  const results = await judgeClaims(CLAIMS, { files: ["b.test.ts"] });
  expect(results.map(({ id }) => id)).toEqual(["skips"]);
});

test("the suite reports each result before it judges the next claim", async () => {
  const order: string[] = [];
  const first = claim("one: KVM", () => void order.push("judges one"));
  const second = claim("two: KVM", () => void order.push("judges two"));
  await judgeClaims([first, second], { onResult: ({ id }) => order.push(`result of ${id}`) });
  expect(order).toEqual(["judges one", "result of one", "judges two", "result of two"]);
});

test("an asynchronous claim passes or fails when its promise settles", async () => {
  const order: string[] = [];
  const results = await judgeClaims([
    claim("resolves: KVM", async () => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      order.push("resolves");
    }),
    claim("rejects: KVM", async () => {
      order.push("rejects");
      await Promise.reject(new Error("it was rejected"));
    }),
  ]);
  expect(results.map(({ verdict, reason }) => [verdict, reason])).toEqual([
    ["pass", undefined],
    ["fail", "it was rejected"],
  ]);
  expect(order).toEqual(["resolves", "rejects"]);
});

test("an asynchronous claim that does not settle fails at its time limit", async () => {
  const endless = claim("waits: KVM", () => new Promise<void>(() => undefined));
  const [result] = await judgeClaims([{ ...endless, timeout: 20 }]);
  expect([result?.verdict, result?.reason]).toEqual(["fail", "the claim did not end within 20 ms"]);
});
