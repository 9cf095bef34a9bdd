/** Tests of KTAP: the requirements of Documentation/dev-tools/ktap.rst, version 1. */
import fc from "fast-check";
import { type FinalResults, Parser } from "tap-parser";
import { describe, expect, test } from "vitest";
import { matrixToKtap, toKtap } from "../../../lib/report/ktap.ts";
import { toMatrix } from "../../../lib/report/matrix.ts";
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
      "# a vCPU that has run accepts the table that it was given",
      "ok 1 resend-original",
      "# B",
      "ok 2 b # SKIP no AMX here",
      "# C",
      "# expected EINVAL",
      "#   got EPERM",
      "not ok 3 c",
      "# D",
      "ok 4 d # XFAIL an overlay",
      "# Totals: pass:1 fail:1 xfail:1 xpass:0 skip:1 error:0",
      "",
    ].join("\n"),
  );
});

test("an empty KTAP report has an empty plan", () => {
  const totals = "# Totals: pass:0 fail:0 xfail:0 xpass:0 skip:0 error:0";
  expect(lines()).toEqual(["KTAP version 1", "# Linux 6.12.95, kvm_amd", "1..0", totals, ""]);
});

describe("in KTAP, the name of a claim", () => {
  test("contains no #, which would start a directive", () => {
    const [, line] = lines(result({ id: "a # SKIP it", title: "C" })).slice(3);
    expect(line).toBe("ok 1 a  SKIP it");
  });

  test("contains no line break", () => {
    const [sentence, line] = lines(result({ id: "a\nb", title: "B\nnot ok 1 c" })).slice(3);
    expect([sentence, line]).toEqual(["# B not ok 1 c", "ok 1 a b"]);
  });
});

test("in KTAP, the reason of a skip has no line break", () => {
  const skipped = result({ id: "a", title: "B", verdict: "skip", reason: "x\n  y\tz" });
  expect(lines(skipped)[4]).toBe("ok 1 a # SKIP x y z");
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
      const form = /^(not )?ok (\d+) [^#]*( # (SKIP|XFAIL) .*)?$/s;
      expect(judged.map((line) => Number(form.exec(line)?.[2]))).toEqual(some.map((_, i) => i + 1));
      expect(judged.filter((line) => line.startsWith("not ok"))).toHaveLength(
        some.filter(({ verdict }) => verdict === "fail").length,
      );
    }),
  );
});

/** Parses KTAP as TAP 13, which has the same lines; KTAP's version line is unknown to TAP. */
function parsed(text: string): Promise<FinalResults> {
  return new Promise((resolve) => {
    const parser = new Parser(resolve);
    parser.end(text.replaceAll("KTAP version 1", "TAP version 13"));
  });
}

test("a KTAP report is read by tap-parser: each verdict, and the numbers of all", async () => {
  const results = await parsed(
    toKtap(
      report(
        result(),
        result({ id: "b", verdict: "skip", reason: "no AMX" }),
        result({ id: "c", verdict: "fail", reason: "why\n1..7\nok 9" }),
        result({ id: "d", verdict: "deviation", reason: "an overlay" }),
      ),
    ),
  );
  expect(results).toMatchObject({ count: 4, pass: 3, fail: 1, skip: 1 });
  expect(results.plan).toMatchObject({ start: 1, end: 4 });
  expect(results.failures.map(({ name, tapError }) => [name, tapError])).toEqual([["c", null]]);
});

describe("in the KTAP report of a matrix, a machine", () => {
  const column = { name: "6.12 max", report: undefined, warnings: [] } as const;

  test.each([
    [{ end: "hung", problem: "it hung twice" }, "not ok 1 6.12 max # TIMEOUT it hung twice"],
    [{ end: "crashed", problem: "a panic" }, "not ok 1 6.12 max # ERROR a panic"],
    [{ problem: "QEMU is missing" }, "not ok 1 6.12 max # ERROR QEMU is missing"],
  ] as const)("without a report has a directive: %o", (more, line) => {
    const text = matrixToKtap(toMatrix([{ ...column, ...more }]));
    expect(text.split("\n")).toContain(line);
    expect(text).toContain("error:1");
  });

  test("with a failed claim has none, and the totals are those of all kernels", () => {
    const failed = report(result(), result({ id: "c", verdict: "fail", reason: "why" }));
    const columns = ["a", "b"].map((name) => ({ name, report: failed, warnings: [] }));
    const text = matrixToKtap(toMatrix(columns)).split("\n");
    expect(text).toContain("not ok 1 a");
    expect(text.at(-2)).toBe("# Totals: pass:2 fail:2 xfail:0 xpass:0 skip:0 error:0");
  });
});
