/** Tests of text from untrusted sources: it can neither control a terminal nor forge a line, and no text is lost. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { printKernels } from "../../../lib/cli/lab-kernels.ts";
import { toHtml } from "../../../lib/report/html.ts";
import { matrixToJunit, toJunit } from "../../../lib/report/junit.ts";
import { matrixToKtap, toKtap } from "../../../lib/report/ktap.ts";
import { type Column, type Matrix, toMatrix } from "../../../lib/report/matrix.ts";
import { printable, printableJson, printableLines } from "../../../lib/report/printable.ts";
import type { Result, Verdict } from "../../../lib/report/result.ts";
import { toTable } from "../../../lib/report/table.ts";
import { claimLine, paint, summary } from "../../../lib/report/text.ts";

const plain = paint(false);

/** Returns whether a terminal shows a text unchanged, except for line ends. */
const isPrintable = (text: string): boolean =>
  !/[\p{C}\p{Zl}\p{Zp}]/u.test(text.replaceAll("\n", ""));

test.each([
  ["plain text, äöü, 漢字, ✓", "plain text, äöü, 漢字, ✓"],
  ["a\u001b[2Jb", "a\\x1b[2Jb"],
  ["a\u009b2Jb", "a\\x9b2Jb"],
  ["a\nb\r\tc\u007f\0", "a\\nb\\r\\tc\\x7f\\x00"],
  ["\u202eevil\u2066", "\\u{202e}evil\\u{2066}"],
  ["a\u2028b\u2029c\u0085d", "a\\u{2028}b\\u{2029}c\\x85d"],
  ["\ufeffa\u200bb", "\\u{feff}a\\u{200b}b"],
  ["\ud800", "\\u{d800}"],
  ["\u{e0041}", "\\u{e0041}"],
])("the text %j is made printable as %j", (text, shown) => {
  expect(printable(text)).toBe(shown);
});

test("printable text keeps its line feeds, and other line ends are escaped", () => {
  expect(printableLines("a\r\nb\u001bc\n")).toBe("a\nb\\x1bc\n");
});

describe("for random text,", () => {
  const text = fc.string({ unit: "binary" });

  test("printable() returns one printable line", () => {
    fc.assert(
      fc.property(text, (some) => isPrintable(printable(some)) && !printable(some).includes("\n")),
    );
  });

  test("printable() does not change printable text", () => {
    fc.assert(fc.property(text, (some) => printable(printable(some)) === printable(some)));
  });

  test("printable JSON parses to the same value", () => {
    fc.assert(
      fc.property(fc.dictionary(text, text), (some) => {
        const json = printableJson(some);
        expect(isPrintable(json)).toBe(true);
        expect(JSON.parse(json)).toEqual(JSON.parse(JSON.stringify(some)));
      }),
    );
  });
});

/** The report of a hostile guest: each field contains an escape sequence, a line of KTAP, and a bidi override. */
const evil = (name: string): string =>
  `${name}\u001b[2J\nok 1 - forged\r\nnot ok 2 forged\u2028KTAP version 1\u202e\u009b31m`;

function result(verdict: Verdict, bad: (name: string) => string): Result {
  const [id, title, reason] = [bad(verdict), bad("title"), bad("reason")];
  return { id, title, reason, number: 1, verdict, duration: 1 };
}

function matrix(bad: (name: string) => string): Matrix {
  const results = (["pass", "fail", "skip", "deviation"] as const).map((v) => result(v, bad));
  const column: Column = {
    name: bad("name"),
    report: { kernel: bad("6.12"), vendor: bad("kvm_amd"), results },
    problem: bad("problem"),
    notice: bad("notice"),
    warnings: [bad("BUG: ")],
  };
  const other: Column = { ...column, name: bad("other"), report: undefined };
  return toMatrix([column, other]);
}

const report = (bad: (name: string) => string) =>
  matrix(bad).columns[0]?.report ?? { kernel: "", vendor: "", results: [] };

const PRINTERS: readonly (readonly [string, (bad: (name: string) => string) => string])[] = [
  ["the table", (bad) => toTable(matrix(bad), plain)],
  ["the matrix as KTAP", (bad) => matrixToKtap(matrix(bad))],
  ["the matrix as JUnit", (bad) => matrixToJunit(matrix(bad))],
  ["the page", (bad) => toHtml(matrix(bad), "2026-11-29")],
  ["the matrix as JSON", (bad) => printableJson(matrix(bad))],
  ["a report as KTAP", (bad) => toKtap(report(bad))],
  ["a report as JUnit", (bad) => toJunit(report(bad))],
  ["the summary", (bad) => summary(report(bad), plain)],
  [
    "the lines of claims",
    (bad) =>
      report(bad)
        .results.map((r) => claimLine(r, plain))
        .join("\n"),
  ],
  [
    "the list of kernels",
    (bad) =>
      printKernels(
        {
          rows: [
            {
              release: bad("6.12"),
              version: "6.12",
              linux: bad("6.12"),
              suite: bad("trixie"),
              bytes: 1,
              cached: false,
              cachedBytes: 0,
              obtainable: true,
              why: bad("why"),
            },
          ],
          asked: undefined,
          missing: [bad("suite")],
          trouble: undefined,
        },
        plain,
      ),
  ],
];

describe.each(PRINTERS)("a report in the format %s", (_, print) => {
  test("is printable for every report of a guest", () => {
    expect(print(evil)).toContain("forged");
    expect(isPrintable(print(evil))).toBe(true);
  });
});

test("no field of a guest's report creates a forged line of KTAP", () => {
  // KTAP comments may contain the forged text, and the claims' reasons are comments.
  const verdicts = (bad: (name: string) => string): readonly string[] =>
    matrixToKtap(matrix(bad))
      .split("\n")
      .filter((line) => !/^\s*# /.test(line))
      .map((line) => line.replace(/^(\s*(not )?ok \d+).*/, "$1"));
  expect(verdicts(evil)).toEqual(verdicts((name) => name));
});

test("no field of a guest's report adds a line to the table or an unindented line to a claim", () => {
  const lines = (bad: (name: string) => string): number =>
    toTable(matrix(bad), plain)
      .split("\n")
      .filter((line) => !line.startsWith("  ")).length;
  // Both tables have the same width, because a wide table has other parts.
  expect(lines(evil)).toBe(lines((name) => printable(evil(name)).replaceAll("\\", "x")));
  const [first = "", ...more] = claimLine(result("fail", evil), plain).split("\n");
  expect(first).toMatch(/^ {2}FAIL /);
  expect(more.every((line) => line.startsWith(" ".repeat(17)))).toBe(true);
});
