/** Tests of the text report for a terminal: one line per claim, reasons below it, deviations at the end. */
import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import type { Report, Result } from "../../../lib/report/result.ts";
import { claimLine, paint, summary } from "../../../lib/report/text.ts";

const plain = paint(false);
const coloured = paint(true);
// biome-ignore lint/suspicious/noControlCharactersInRegex: a colour is an escape sequence
const COLOUR = /\u001b\[\d+m/g;

const result = (more: Partial<Result> = {}): Result => ({
  id: "set-257",
  title: "KVM_SET_CPUID2 refuses 257 entries",
  number: 9,
  verdict: "pass",
  reason: undefined,
  duration: 1,
  ...more,
});

const report = (...results: readonly Result[]): Report => ({
  kernel: "6.12.95",
  vendor: "kvm_pvm",
  results,
});

describe("the printed line of a claim", () => {
  test("contains the verdict, the number and the claim's sentence", () => {
    expect(claimLine(result(), plain)).toBe(
      "  ok         9 set-257: KVM_SET_CPUID2 refuses 257 entries",
    );
  });

  test("keeps its columns if the claim has no number", () => {
    const column = (line: string): number => line.indexOf("set-257");
    expect(column(claimLine(result({ number: undefined }), plain))).toBe(
      column(claimLine(result({ number: 115 }), plain)),
    );
  });

  test.each([
    ["pass", "  ok      "],
    ["fail", "  FAIL    "],
    ["skip", "  skip    "],
    ["deviation", "  deviates"],
  ] as const)("with the verdict %s begins with %j", (verdict, mark) => {
    expect(claimLine(result({ verdict }), plain).startsWith(`${mark}   9 set-257`)).toBe(true);
  });

  test("is followed by every line of the reason, indented", () => {
    const line = claimLine(result({ verdict: "fail", reason: "one\ntwo" }), plain);
    expect(line.split("\n").slice(1)).toEqual(["                 one", "                 two"]);
  });

  test("has no reason below it if the claim deviates, because the summary contains the reason", () => {
    expect(claimLine(result({ verdict: "deviation", reason: "why" }), plain)).not.toContain("why");
  });

  test("is red if the claim failed, and has the same text without colours", () => {
    const failed = result({ verdict: "fail", reason: "one" });
    const line = claimLine(failed, coloured);
    expect(line).toContain("\u001b[31m  FAIL    \u001b[39m");
    expect(line.replaceAll(COLOUR, "")).toBe(claimLine(failed, plain));
  });
});

describe.each([40, 80, 200])("a claim that is printed with %i columns", (width) => {
  const reason = `KVM_SET_CPUID2 has accepted 257 entries; ${"the kernel does not check. ".repeat(9)}`;
  const failed = result({ verdict: "fail", reason });
  const command = ["node-kvm", "test", "--repro", "my files"];

  test("has no line that exceeds the width, and its continuation lines are indented", () => {
    const lines = claimLine(failed, plain, { width, command }).split("\n");
    expect(lines.filter((line) => line.length > width)).toEqual([]);
    expect(lines.slice(1).filter((line) => !line.startsWith(" ".repeat(17)))).toEqual([]);
  });

  test("is wrapped at the same places with colours", () => {
    const uncoloured = claimLine(failed, coloured, { width }).replaceAll(COLOUR, "");
    expect(uncoloured).toBe(claimLine(failed, plain, { width }));
    const deviates = result({ verdict: "deviation", reason });
    const text = summary(report(failed, deviates), coloured, { width }).replaceAll(COLOUR, "");
    expect(text).toBe(summary(report(failed, deviates), plain, { width }));
    expect(text.split("\n").filter((line) => line.length > width)).toEqual([]);
  });

  test("is followed by a command that a shell splits into these words, if the claim failed", () => {
    const lines = claimLine(failed, plain, { width, command }).split("\n");
    const from = lines.findIndex((line) => line.trim().startsWith("node-kvm"));
    const echo = lines.slice(from).join("\n").replace("node-kvm", "printf '%s\\n'");
    const printed = spawnSync("sh", ["-c", echo]);
    expect(String(printed.stdout).split("\n")).toEqual([
      "test",
      "--repro",
      "my files",
      "set-257:",
      "",
    ]);
  });

  test("is followed by no command if the claim passed", () => {
    expect(claimLine(result(), plain, { width, command })).not.toContain("node-kvm");
  });
});

describe("the summary of a report", () => {
  test("counts the claims, and does not count skipped claims as judged", () => {
    const verdicts = ["pass", "pass", "fail", "skip", "deviation"] as const;
    const results = verdicts.map((verdict) => result({ verdict }));
    expect(summary(report(...results), plain).split("\n")[0]).toBe(
      "4 claims judged on Linux 6.12.95, kvm_pvm: 2 hold, 1 FAIL, 1 deviate, 1 skipped",
    );
  });

  test("names the claims that deviate for the same reason together", () => {
    const deviates = (id: string, reason: string): Result =>
      result({ id, verdict: "deviation", reason });
    const text = summary(
      report(deviates("a", "why"), deviates("b", "other"), result(), deviates("c", "why")),
      plain,
    );
    expect(text.split("\n").slice(1)).toEqual([
      ...["", "Known deviations of kvm_pvm:"],
      ...["  a, c: why", "  b: other"],
    ]);
  });

  test("is one line if no claim deviates", () => {
    expect(summary(report(result()), plain)).toBe(
      "1 claim judged on Linux 6.12.95, kvm_pvm: 1 hold, 0 fail, 0 deviate, 0 skipped",
    );
  });

  test("names each deviation with its reason", () => {
    const deviates = result({ verdict: "deviation", reason: "an overlay" });
    expect(summary(report(result(), deviates), plain).split("\n").slice(1)).toEqual([
      "",
      "Known deviations of kvm_pvm:",
      "  set-257: an overlay",
    ]);
  });
});
