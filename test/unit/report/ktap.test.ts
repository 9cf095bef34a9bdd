/**
 * Tests of KTAP: the requirements of Documentation/dev-tools/ktap.rst, version 1, and the rules by which the kernel's
 * tools/testing/kunit/kunit_parser.py and tap-parser read it.
 */
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
    expect(line).toBe("ok 1 a SKIP it");
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

/** Parses KTAP as TAP 13, which has the same lines; KTAP's version line is unknown to TAP. */
function parsed(text: string): Promise<FinalResults> {
  return new Promise((resolve) => {
    const parser = new Parser(resolve);
    parser.end(text.replaceAll("KTAP version 1", "TAP version 13"));
  });
}

/** The numbers of results without subtests, by the rules of kunit_parser.py. XFAIL is no skip there, but `ok`. */
interface Tally {
  readonly ok: number;
  readonly notOk: number;
  readonly skip: number;
}

/** The messages with which a kernel ends; kunit_parser.py reads no line from there on. */
const END = /List of all partitions:|Kernel panic - not syncing: VFS:|reboot: System halted/;
const VERSION = /^\s*KTAP version \d+$/;
const SUBTEST = /^\s*# Subtest: /;
const PLAN = /^\s*1\.\.(\d+)/;
const RESULT = /^\s*(not )?ok (\d+) ?[^#]*( # .*)?$/;
const SKIP = /^\s*(?:not )?ok \d+ .* # SKIP ?/;

/** Reads KTAP by the rules of kunit_parser.py; throws where kunit_parser.py would report an error of the document. */
function tallyOf(text: string): Tally {
  const all = text.split("\n");
  const end = all.findIndex((line) => END.test(line));
  const marks = [VERSION, SUBTEST, PLAN, RESULT];
  const left = all
    .slice(0, end === -1 ? all.length : end)
    .filter((line) => marks.some((mark) => mark.test(line)));
  const counts = { ok: 0, notOk: 0, skip: 0 };
  const next = (mark: RegExp): RegExpExecArray => {
    const line = left.shift() ?? "the end of the document";
    const match = mark.exec(line);
    if (match === null) throw new Error(`${mark} was expected, not ${line}`);
    return match;
  };
  const readTests = (): void => {
    next(VERSION);
    const planned = Number(next(PLAN)[1]);
    for (let number = 1; number <= planned; number += 1) {
      const hasSubtests = VERSION.test(left[0] ?? "");
      if (hasSubtests) readTests();
      const [line, isNot, found] = next(RESULT);
      if (Number(found) !== number) throw new Error(`result ${number} was expected, not ${line}`);
      if (hasSubtests) continue;
      if (SKIP.test(line)) counts.skip += 1;
      else if (isNot === undefined) counts.ok += 1;
      else counts.notOk += 1;
    }
  };
  readTests();
  if (left.length > 0) throw new Error(`the plan has no place for ${left[0]}`);
  return counts;
}

const TOTALS = /^# Totals: pass:(\d+) fail:(\d+) xfail:(\d+) xpass:0 skip:(\d+) error:(\d+)$/;

/** The numbers of the last line. */
function totalsOf(
  text: string,
): Readonly<Record<"pass" | "fail" | "xfail" | "skip" | "error", number>> {
  const numbers = TOTALS.exec(text.trimEnd().split("\n").at(-1) ?? "")
    ?.slice(1)
    .map(Number);
  const [pass = -1, fail = -1, xfail = -1, skip = -1, error = -1] = numbers ?? [];
  return { pass, fail, xfail, skip, error };
}

describe("kunit_parser.py and tap-parser read the numbers of the last line", () => {
  test.each([
    ["in a report with each verdict", ["pass", "fail", "skip", "deviation"]],
    ["in a report with skips alone", ["skip", "skip"]],
    ["in a report without a claim", []],
  ] as const)("%s", (_, verdicts) => {
    const results = verdicts.map((verdict, i) => result({ id: `claim-${i}`, verdict }));
    const text = toKtap(report(...results));
    const { pass, fail, xfail, skip } = totalsOf(text);
    expect(tallyOf(text)).toEqual({ ok: pass + xfail, notOk: fail, skip });
  });

  test.each([
    "Subtest: other",
    "Subtest",
    "List of all partitions:",
    "Kernel panic - not syncing: VFS: Unable to mount root fs",
    "reboot: System halted",
    "KTAP version 1",
    "1..9",
    "ok 1 other",
    "not ok 1 other # SKIP",
    "it raises #GP # SKIP never",
    "#skip",
    "# todo",
    "Bail out!",
    "{",
  ])("in a report whose texts contain %o", async (text) => {
    const results = (["fail", "skip", "deviation", "pass"] as const).map((verdict) =>
      result({ id: text, title: text, verdict, reason: `${text}\n${text}` }),
    );
    const document = toKtap(report(...results));
    expect(tallyOf(document)).toEqual({ ok: 2, notOk: 1, skip: 1 });
    expect(totalsOf(document)).toMatchObject({ pass: 1, fail: 1, skip: 1, xfail: 1, error: 0 });
    expect(await parsed(document)).toMatchObject({ count: 4, pass: 3, fail: 1, skip: 1, todo: 0 });
  });

  test("in the report of a matrix, in which a machine with another failure is one error", () => {
    const good = report(result(), result({ id: "b", verdict: "skip", reason: "no AMX" }));
    const bad = report(result(), result({ id: "b", verdict: "fail", reason: "why" }));
    const panic = "Kernel panic - not syncing: VFS: Unable to mount root fs";
    const text = matrixToKtap(
      toMatrix([
        { name: "good", report: good, warnings: [] },
        { name: "crashed", report: undefined, end: "crashed", problem: panic, warnings: [] },
        { name: "silent", report: undefined, warnings: [] },
        { name: "warned", report: good, warnings: [panic] },
        { name: "bad", report: bad, warnings: [] },
      ]),
    );
    // The machines without a report are results without subtests.
    expect(tallyOf(text)).toEqual({ ok: 3, notOk: 1 + 2, skip: 2 });
    expect(totalsOf(text)).toMatchObject({ pass: 3, fail: 1, skip: 2, error: 3 });
    const machines = text.split("\n").filter((line) => /^(not )?ok /.test(line));
    expect(machines).toEqual([
      "ok 1 good",
      "not ok 2 crashed # ERROR Kernel panic - not syncing\\x3a VFS: Unable to mount root fs",
      "not ok 3 silent # ERROR the machine did not report",
      "not ok 4 warned",
      "not ok 5 bad",
    ]);
  });
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
