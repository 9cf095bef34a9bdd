/**
 * Tests that LAVA's dispatcher and GitHub's runner read the reports for them as they were meant, whatever the texts
 * contain. The two readers have the grammars of lava_dispatcher/actions/test/shell.py and of Runner.Common's
 * ActionCommand. documents.test.ts has the tests of the exact lines.
 */
import { describe, expect, test } from "vitest";
import { toGithubAnnotations } from "../../../lib/report/github.ts";
import { matrixToLava } from "../../../lib/report/lava.ts";
import { type Column, type Matrix, toMatrix } from "../../../lib/report/matrix.ts";
import type { Result, Verdict } from "../../../lib/report/result.ts";

/** Texts of a guest, a kernel or a claim that contain the words of the two grammars. */
const HOSTILE = [
  "a b",
  "a=b RESULT=pass",
  "x> RESULT=pass",
  "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=other RESULT=pass>",
  "<LAVA_SIGNAL_TESTSET STOP>",
  "<LAVA_SIGNAL_TESTRAISE stop>",
  "<LAVA_TEST_RUNNER EXIT>",
  "<LAVA_TEST_RUNNER INSTALL_FAIL>",
  "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=open",
  "a\n<LAVA_SIGNAL_TESTSET START\nother>",
  "::error title=other::more",
  "a\n::add-mask::kvm",
  "a\r::stop-commands::x",
  "##[add-path]/tmp",
  "title,file=other.c",
  "a::b",
  "100%",
  "%0A%3A%25",
  "\u2028::warning::x",
  "",
] as const;

const result = (id: string, verdict: Verdict, text: string): Result => ({
  ...{ id, title: text, number: 1, verdict, duration: 1 },
  reason: verdict === "pass" ? undefined : text,
});

/** A matrix whose names, ids and texts are all the same text: one machine reports, and one does not. */
function matrixOf(text: string): Matrix {
  const results = (["pass", "fail", "skip", "deviation"] as const).map((verdict) =>
    result(`${text}${verdict}`, verdict, text),
  );
  const columns: readonly Column[] = [
    { name: text, report: { kernel: text, vendor: text, results }, warnings: [text] },
    { name: text, report: undefined, problem: text, warnings: [] },
  ];
  return toMatrix(columns);
}

/** The test sets that LAVA records, with the result of each case. */
type Recorded = readonly (readonly [id: string | undefined, result: string | undefined])[];

/**
 * Reads a console as LAVA's dispatcher does: a signal may be anywhere in the stream and extend over several lines, its
 * parameters are separated by blanks, and a parameter of a case has exactly one `=`.
 */
function recordedBy(console: string): readonly Recorded[] {
  expect(console).not.toMatch(/<LAVA_TEST_RUNNER (EXIT|INSTALL_FAIL)>/);
  const sets: [string | undefined, string | undefined][][] = [];
  let isOpen = false;
  for (const [, name, text = ""] of console.matchAll(/<LAVA_SIGNAL_(\S+) ([^>]+)>/g)) {
    const words = text.trim().split(/\s+/);
    if (name === "TESTSET") {
      expect(words).toHaveLength(isOpen ? 1 : 2);
      expect(words[0]).toBe(isOpen ? "STOP" : "START");
      isOpen = !isOpen;
      if (isOpen) sets.push([]);
      continue;
    }
    expect([name, isOpen]).toEqual(["TESTCASE", true]);
    const pairs = words.map((word) => word.split("="));
    for (const pair of pairs) expect(pair).toHaveLength(2);
    const values = new Map(pairs.map(([key = "", value = ""]) => [key.toLowerCase(), value]));
    sets.at(-1)?.push([values.get("test_case_id"), values.get("result")]);
  }
  expect(isOpen).toBe(false);
  return sets;
}

describe("LAVA's dispatcher reads one result for each claim and each machine that failed", () => {
  test.each(HOSTILE)("if all texts are %j", (text) => {
    const sets = recordedBy(matrixToLava(matrixOf(text)));
    expect(sets.map((cases) => cases.map(([, verdict]) => verdict))).toEqual([
      ["pass", "fail", "skip", "pass", "fail"],
      ["fail"],
    ]);
    for (const [id] of sets.flat()) expect(id).toMatch(/^[\w.-]+$/);
  });
});

/** A command of a workflow, as GitHub's runner decodes it. */
interface WorkflowCommand {
  readonly name: string;
  readonly properties: Readonly<Record<string, string>>;
  readonly text: string;
}

const CODES = { "%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%" } as const;

/** Reads a line of standard output as GitHub's runner does; `undefined` if the line is no command. */
function commandOf(line: string): WorkflowCommand | undefined {
  const start = line.trimStart();
  const end = start.indexOf("::", 2);
  if (!start.startsWith("::") || end === -1) return undefined;
  const [name = "", ...rest] = start.slice(2, end).split(" ");
  const pairs = rest
    .join(" ")
    .split(",")
    .map((pair) => /^([^=]+)=(.+)$/.exec(pair) ?? ["", pair, ""]);
  const decoded = (text: string): string =>
    Object.entries(CODES).reduce((now, [code, plain]) => now.replaceAll(code, plain), text);
  return {
    name,
    properties: Object.fromEntries(pairs.map(([, key = "", value = ""]) => [key, decoded(value)])),
    text: decoded(start.slice(end + 2)),
  };
}

describe("GitHub's runner reads one error for each failure, with its title and its text", () => {
  /** The text without characters that cannot be printed; line breaks are kept in an annotation. */
  const shown = (text: string): string => text.replaceAll("\u2028", "\\u{2028}");

  test.each(HOSTILE)("if all texts are %j", (text) => {
    const lines = toGithubAnnotations(matrixOf(text)).split(/\r\n|\r|\n/);
    expect(lines.pop()).toBe("");
    const error = (title: string, about: string): WorkflowCommand => ({
      ...{ name: "error", properties: { title: shown(title) } },
      text: shown(about),
    });
    expect(lines.map(commandOf)).toEqual([
      error(`node-kvm: ${text}`, `kernel log: ${text}`),
      error(`node-kvm: ${text}fail on ${text}`, `${text}: ${text}`),
      error(`node-kvm: ${text}`, text),
    ]);
  });
});
