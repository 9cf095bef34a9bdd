/** Tests of matrices of claims and kernels: differences, and failures of each kernel, in every format. */
import { describe, expect, test } from "vitest";
import { toHtml } from "../../../lib/report/html.ts";
import { matrixToJunit } from "../../../lib/report/junit.ts";
import { matrixToKtap } from "../../../lib/report/ktap.ts";
import {
  type Column,
  complaints,
  differences,
  isGreenMatrix,
  toMatrix,
} from "../../../lib/report/matrix.ts";
import type { Verdict } from "../../../lib/report/result.ts";
import { toTable } from "../../../lib/report/table.ts";
import { paint } from "../../../lib/report/text.ts";

/** Returns a column whose claims have these verdicts, in this order. */
function column(
  name: string,
  verdicts: Readonly<Record<string, Verdict>>,
  more?: Partial<Column>,
): Column {
  const results = Object.entries(verdicts).map(([id, verdict]) => ({
    id,
    title: `claims <${id}>`,
    number: { first: 1, second: 2, late: 60 }[id],
    verdict,
    reason: verdict === "pass" ? undefined : `why ${id}`,
    duration: 1,
  }));
  return { name, warnings: [], report: { kernel: name, vendor: "kvm_amd", results }, ...more };
}

const old = column("6.1", { first: "pass", late: "deviation" });
const broken = column("6.17", { second: "fail", first: "pass", late: "pass" });
const dead: Column = {
  name: "7.3",
  warnings: ["WARNING: x"],
  report: undefined,
  problem: "it panicked",
};
const matrix = toMatrix([old, broken, dead]);
const plain = paint(false);

test("the rows of a matrix are all claims of all kernels, sorted by their number in the catalogue", () => {
  expect(matrix.rows.map(({ id }) => id)).toEqual(["first", "second", "late"]);
});

test("the cell of a claim that a kernel did not judge is empty", () => {
  const verdicts = matrix.rows.map(({ cells }) => cells.map((cell) => cell?.verdict));
  expect(verdicts).toEqual([
    ["pass", "pass", undefined],
    [undefined, "fail", undefined],
    ["deviation", "pass", undefined],
  ]);
});

test("a matrix names the differences between two kernels, with the reasons", () => {
  expect(differences(matrix, 0, 1)).toEqual([
    {
      id: "second",
      title: "claims <second>",
      before: "missing",
      after: "fail",
      reason: "why second",
    },
    { id: "late", title: "claims <late>", before: "deviation", after: "pass", reason: "why late" },
  ]);
  expect(differences(matrix, 1, 1)).toEqual([]);
});

test("a matrix reports failures, claims that were not judged, missing reports and kernel warnings as problems, but not deviations", () => {
  expect(matrix.columns.map((_, i) => complaints(matrix, i))).toEqual([
    ["1 claim was not judged"],
    ["second fails"],
    ["it panicked", "kernel log: WARNING: x"],
  ]);
});

test("a matrix is green if every kernel has a report and no claim failed", () => {
  expect(isGreenMatrix(toMatrix([old]))).toBe(true);
  expect(isGreenMatrix(toMatrix([old, old]))).toBe(true);
  for (const bad of [broken, dead, column("x", { first: "pass" }, { warnings: ["BUG"] })]) {
    expect(isGreenMatrix(toMatrix([bad]))).toBe(false);
  }
});

describe("a printed matrix", () => {
  test("contains a word in each cell of the table, and the reason of each deviation", () => {
    const lines = toTable(matrix, plain).split("\n");
    expect(lines.slice(0, 4)).toEqual([
      "claim      6.1    6.17   7.3",
      "  1 first  ok     ok     ?",
      "  2 second ?      FAIL   ?",
      " 60 late   dev    ok     ?",
    ]);
    expect(lines).toContain("  late: why late");
    expect(lines).toContain("6.17 (kvm_amd): 1 unexpected");
    const from = lines.indexOf("6.1 -> 6.17:");
    expect(lines.slice(from + 1, from + 3)).toEqual(["  second: ? -> FAIL", "  late: dev -> ok"]);
  });

  test("of many kernels has no line of more than 80 columns", () => {
    const names = Array.from({ length: 9 }, (_, i) => `6.12.${100 + i}+deb13 EPYC-Milan`);
    const verdicts = { first: "deviation", "a-claim-of-a-long-name": "pass" } as const;
    const wide = names.map((name, i) =>
      column(name, { ...verdicts, late: i === 3 ? "skip" : "pass" }),
    );
    const problem = `it ended\n${"the guest said much. ".repeat(9)}`;
    const lines = toTable(toMatrix([...wide, { ...dead, problem }]), plain).split("\n");
    expect(lines.filter((line) => line.length > 80)).toEqual([]);
    expect(lines.slice(0, 2)).toEqual([
      "[1] 6.12.100+deb13 EPYC-Milan",
      "[2] 6.12.101+deb13 EPYC-Milan",
    ]);
    const heads = lines.filter((line) => line.startsWith("claim"));
    expect(heads.join(" ").match(/\[\d+\]/g)).toHaveLength(10);
  });

  describe.each([40, 80, 200])("with %i columns", (width) => {
    const command = ["node-kvm", "lab", "run", "--kernel", "6.17", "--cpu", "max"];
    const columns = Array.from({ length: 12 }, (_, i) =>
      column(
        `6.${i}.100+deb13 EPYC-Milan`,
        {
          first: "pass",
          second: i === 7 ? "fail" : "pass",
          "a-claim-with-a-very-long-name": "deviation",
        },
        { command },
      ),
    );
    const lines = toTable(toMatrix(columns), plain, width).split("\n");

    test("has no line that exceeds the width", () => {
      expect(lines.filter((line) => line.length > width)).toEqual([]);
    });

    test("shows only the number of the claims with the same expected result on all kernels", () => {
      const isShort = (line: string): boolean => /^ {2}\d (first|second)/.test(line);
      const names = new Set(lines.filter(isShort).map((line) => line.slice(4).split(" ")[0]));
      expect([...names]).toEqual(["second"]);
      expect(lines.join(" ")).toContain("2 claims with the same result on");
    });

    test("contains a command that repeats a failure, directly after the failure", () => {
      const from = lines.indexOf("  second fails");
      const printed = lines
        .slice(from + 1, from + 4)
        .join("\n")
        .replaceAll(/ \\\n +/g, " ");
      expect(printed).toMatch(/^ {4}node-kvm lab run --kernel 6\.17 --cpu max second:$/m);
    });
  });

  test("with 40 columns cuts a long name", () => {
    const id = "a-claim-whose-name-is-longer-than-a-line";
    const two = (["pass", "skip"] as const).map((verdict) =>
      column("6.12.100+deb13", { [id]: verdict }),
    );
    const [row = ""] = toTable(toMatrix(two), plain, 40)
      .split("\n")
      .filter((line) => /ok +-/.test(line));
    expect(row).toMatch(/^ {4}a-claim-whose-n\S*… +ok +-$/);
    expect(row.length).toBeLessThanOrEqual(40);
  });

  test("contains a command for all claims of a kernel that did not report", () => {
    const command = ["node-kvm", "lab", "run", "--kernel", "7.3"];
    const lines = toTable(toMatrix([{ ...dead, command }]), plain).split("\n");
    expect(lines.slice(-3)).toEqual([
      "  it panicked",
      "  kernel log: WARNING: x",
      "    node-kvm lab run --kernel 7.3",
    ]);
  });

  test("in KTAP contains a test for each kernel, with the kernel's claims as subtests", () => {
    expect(matrixToKtap(matrix).split("\n")).toEqual([
      "KTAP version 1",
      "1..3",
      "  KTAP version 1",
      "  # Linux 6.1, kvm_amd",
      "  1..2",
      "  # claims <first>",
      "  ok 1 first",
      "  # claims <late>",
      "  ok 2 late # XFAIL why late",
      "# 1 claim was not judged",
      "not ok 1 6.1",
      "  KTAP version 1",
      "  # Linux 6.17, kvm_amd",
      "  1..3",
      "  # claims <second>",
      "  # why second",
      "  not ok 1 second",
      "  # claims <first>",
      "  ok 2 first",
      "  # claims <late>",
      "  ok 3 late",
      "# second fails",
      "not ok 2 6.17",
      "# it panicked",
      "# kernel log: WARNING: x",
      "not ok 3 7.3 # ERROR it panicked",
      "# Totals: pass:3 fail:1 xfail:1 xpass:0 skip:0 error:2",
      "",
    ]);
  });

  test("in JUnit contains a suite for each kernel, and a case with an error for a crashed machine", () => {
    const xml = matrixToJunit(matrix);
    expect(xml.match(/<testsuite name="[^"]*" tests="\d" failures="\d"/g)).toEqual([
      '<testsuite name="6.1" tests="3" failures="0"',
      '<testsuite name="6.17" tests="3" failures="1"',
      '<testsuite name="7.3" tests="2" failures="0"',
    ]);
    expect(xml).toContain('<error message="it panicked">it panicked</error>');
  });

  test("in HTML does not interpret reported text as markup", () => {
    const page = toHtml(matrix, "<today>");
    expect(page).toContain("claims &lt;first&gt;");
    expect(page).toContain("&lt;today&gt;");
    expect(page).not.toContain("claims <first>");
  });
});

describe("a page of hostile reports", () => {
  /** Returns a page of 20 columns, each with 32 failed claims. */
  const page = (more: (id: string) => object): string => {
    const columns = Array.from({ length: 20 }, (_, i) => {
      const hostile = column(
        `k${i}`,
        Object.fromEntries(Array.from({ length: 32 }, (_, n) => [`c${n}`, "fail"])),
      );
      const results = hostile.report?.results.map((result) => ({ ...result, ...more(result.id) }));
      return { ...hostile, report: { kernel: "k", vendor: "v", results: results ?? [] } };
    });
    return toHtml(toMatrix(columns), "today");
  };

  test("has at most 8 Mi characters of reasons; a sentence replaces each further reason", () => {
    const reason = "r".repeat(2 ** 16);
    const html = page(() => ({ reason }));
    expect(html.split(`<pre>${reason}</pre>`)).toHaveLength(2 ** 23 / reason.length + 1);
    expect(html).toContain("<pre>The page has no room for it; the JSON report has it.</pre>");
  });

  test("has at most 64 Mi characters of evidence; a sentence replaces all further evidence", () => {
    const c = "x".repeat(2 ** 18);
    const html = page(() => ({ evidence: { calls: [], earlierCalls: 0, c } }));
    expect(html.split(c)).toHaveLength(Math.floor(2 ** 26 / c.length));
    expect(html).toContain("Calls and C file: The page has no room for it");
  });
});
