/** Tests of KTAP: the requirements of Documentation/dev-tools/ktap.rst, version 1. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { toKtap } from "../../../lib/report/ktap.ts";
import type { Report, Result, Verdict } from "../../../lib/report/result.ts";

const result = (more: Partial<Result> = {}): Result => ({
  id: "resend-original",
  title: "a vCPU that has run accepts the table that it was given",
  number: 49,
  verdict: "pass",
  reason: undefined,
  duration: 1.5,
  ...more,
});

const report = (...results: readonly Result[]): Report => ({
  kernel: "6.12.95",
  vendor: "kvm_amd",
  results,
});

const lines = (...results: readonly Result[]): readonly string[] =>
  toKtap(report(...results)).split("\n");

test("a KTAP report contains the version, the kernel, the plan, then one line for each claim", () => {
  const text = toKtap(
    report(
      result(),
      result({ id: "b", title: "B", verdict: "skip", reason: "no AMX here" }),
      result({ id: "c", title: "C", verdict: "fail", reason: "expected EINVAL\n  got EPERM" }),
      result({ id: "d", title: "D", verdict: "deviation", reason: "an overlay" }),
    ),
  );
  expect(text).toBe(
    [
      "KTAP version 1",
      "# Linux 6.12.95, kvm_amd",
      "1..4",
      "ok 1 resend-original: a vCPU that has run accepts the table that it was given",
      "ok 2 b: B # SKIP no AMX here",
      "# expected EINVAL",
      "#   got EPERM",
      "not ok 3 c: C",
      "# known deviation: an overlay",
      "ok 4 d: D",
      "",
    ].join("\n"),
  );
});

test("an empty KTAP report has an empty plan", () => {
  expect(lines()).toEqual(["KTAP version 1", "# Linux 6.12.95, kvm_amd", "1..0", ""]);
});

describe("in KTAP, the name of a claim", () => {
  test("contains no #, which would start a directive", () => {
    const [line] = lines(result({ id: "a#b", title: "C # SKIP it" })).slice(3);
    expect(line).toBe("ok 1 ab: C  SKIP it");
  });

  test("contains no line break", () => {
    const [line] = lines(result({ id: "a", title: "B\nnot ok 1 c" })).slice(3);
    expect(line).toBe("ok 1 a: B not ok 1 c");
  });
});

test("in KTAP, the reason of a skip has no line break", () => {
  const [line] = lines(result({ id: "a", title: "B", verdict: "skip", reason: "x\n  y\tz" })).slice(
    3,
  );
  expect(line).toBe("ok 1 a: B # SKIP x y z");
});

test("every line of random KTAP reports is valid KTAP, and every claim has its number", () => {
  const odd = fc.constantFrom(...'\u0000\u001b\t\n\r#&<>"\ufffe\uffff\ud800 ok1');
  const words = fc.string({ unit: fc.oneof(odd, fc.string({ unit: "binary", maxLength: 1 })) });
  const results = fc.array(
    fc.record({
      id: words,
      title: words,
      number: fc.constant(undefined),
      verdict: fc.constantFrom<Verdict>("pass", "fail", "skip", "deviation"),
      reason: fc.option(words, { nil: undefined }),
      duration: fc.constant(0),
    }),
  );
  fc.assert(
    fc.property(results, (some) => {
      const [version, about, plan, ...rest] = lines(...some);
      expect([version, about, plan]).toEqual([
        "KTAP version 1",
        expect.any(String),
        `1..${some.length}`,
      ]);
      expect(rest.pop()).toBe("");
      const judged = rest.filter((line) => !line.startsWith("# "));
      const form = /^(not )?ok (\d+) [^#]*( # SKIP .*)?$/s;
      expect(judged.map((line) => Number(form.exec(line)?.[2]))).toEqual(some.map((_, i) => i + 1));
      expect(judged.filter((line) => line.startsWith("not ok"))).toHaveLength(
        some.filter(({ verdict }) => verdict === "fail").length,
      );
    }),
  );
});
