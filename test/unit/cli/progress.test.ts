/** Tests of the progress output of the lab and the suite, on terminals and on a pipe. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { LabProgress } from "../../../lib/cli/lab-progress.ts";
import { duration, timeLeft } from "../../../lib/cli/progress.ts";
import { TestProgress } from "../../../lib/cli/test-progress.ts";
import type { Lane } from "../../../lib/lab/campaign.ts";
import type { Column } from "../../../lib/report/matrix.ts";
import type { Result, Verdict } from "../../../lib/report/result.ts";
import { FakePipe, FakeTerminal, SIZES } from "./fake-terminal.ts";

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubEnv("TERM", "xterm");
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllEnvs();
});

const lane = (i: number): Lane => ({
  kernel: { name: `6.${i}.1+deb13-cloud-amd64`, release: "", vmlinuz: "", modules: "" },
  cpu: "max",
});

const result = (verdict: Verdict): Result => ({
  ...{ id: "set-257", title: "", number: 9, reason: undefined, duration: 1 },
  verdict,
});

const column = (...verdicts: readonly Verdict[]): Column => ({
  name: "",
  warnings: [],
  report: { kernel: "", vendor: "kvm_amd", results: verdicts.map(result) },
});

const DEAD: Column = { name: "", warnings: [], report: undefined, problem: "it\u001b[2Jpanicked" };

describe.each(SIZES)("the progress of 70 kernels on a terminal of %i x %i", (columns, rows) => {
  test("shows as many running machines as fit, and the totals in the last line", () => {
    const terminal = new FakeTerminal(columns, rows);
    const progress = new LabProgress(terminal);
    progress.begin({ machines: 70, claims: 67 });
    for (let i = 0; i < 60; i += 1) progress.step(lane(i), { kind: "starts", how: "boot" });
    vi.advanceTimersByTime(1000);
    expect(terminal.all).toHaveLength(Math.min(rows - 1, 61));
    expect(terminal.screen.at(-1)).toMatch(/^0\/70 done, 60 running, 0 unexpec/);
    expect(terminal.screen.at(-2)).toBe(`  and ${60 - (rows - 3)} more`);
    progress.end();
    expect(terminal.all).toEqual([]);
  });

  test("prints a line above the live block for each machine that has ended", () => {
    const terminal = new FakeTerminal(columns, rows);
    const progress = new LabProgress(terminal);
    progress.begin({ machines: 2, claims: 3 });
    progress.step(lane(1), { kind: "starts", how: "restore" });
    progress.step(lane(1), { kind: "ended", column: column("pass", "fail", "skip") });
    progress.step(lane(2), { kind: "starts", how: "boot" });
    progress.end();
    expect(terminal.all.join("")).toBe("6.1.1+deb13 max: 3 claims judged, 1 fail");
    expect(terminal.listeners).toBe(0);
  });

  test("is redrawn when the terminal's size changes", () => {
    const terminal = new FakeTerminal(columns, rows);
    const progress = new LabProgress(terminal);
    progress.begin({ machines: 9, claims: 3 });
    for (let i = 0; i < 9; i += 1) progress.step(lane(i), { kind: "starts", how: "save" });
    vi.advanceTimersByTime(1000);
    terminal.resize(30, 6);
    expect(terminal.screen).toHaveLength(5);
    expect(terminal.screen.filter((line) => line.length >= 30)).toEqual([]);
    progress.end();
  });
});

test('the progress calls a restored machine "restoring", not "booting"', () => {
  const terminal = new FakeTerminal(80, 24);
  const progress = new LabProgress(terminal);
  progress.begin({ machines: 3, claims: 3 });
  progress.step(lane(1), { kind: "starts", how: "restore" });
  progress.step(lane(2), { kind: "starts", how: "save" });
  progress.step(lane(3), { kind: "starts", how: "boot" });
  vi.advanceTimersByTime(1000);
  expect(terminal.screen.slice(0, 3)).toEqual([
    "  6.1.1+deb13 max: is restored",
    "  6.2.1+deb13 max: boots, to be saved",
    "  6.3.1+deb13 max: boots",
  ]);
  progress.step(lane(1), { kind: "judged", claims: 2 });
  vi.advanceTimersByTime(1000);
  expect(terminal.screen[0]).toBe("  6.1.1+deb13 max: 2 of 3 claims judged");
  progress.end();
});

test("the progress estimates the remaining time from the machines that have ended", () => {
  const terminal = new FakeTerminal(80, 24);
  const progress = new LabProgress(terminal);
  progress.begin({ machines: 5, claims: 3 });
  progress.step(lane(1), { kind: "starts", how: "boot" });
  progress.step(lane(2), { kind: "starts", how: "boot" });
  vi.advanceTimersByTime(20_000);
  expect(terminal.screen.at(-1)).toBe("0/5 done, 2 running, 0 unexpected, 20 s");
  progress.step(lane(1), { kind: "ended", column: column("pass") });
  progress.step(lane(2), { kind: "ended", column: DEAD });
  progress.step(lane(3), { kind: "starts", how: "boot" });
  progress.step(lane(4), { kind: "starts", how: "boot" });
  vi.advanceTimersByTime(5000);
  // Two running machines still need 15 s each, and the waiting machine needs 20 s. Two machines run at a time, so 50 s
  // of work take 25 s.
  expect(terminal.screen.at(-1)).toBe("2/5 done, 2 running, 1 unexpected, 25 s, about 25 s left");
  progress.end();
});

describe("the progress of lab run without a terminal", () => {
  test("prints each event as a line, with a guest's control characters escaped", () => {
    const pipe = new FakePipe();
    const progress = new LabProgress(pipe);
    progress.begin({ machines: 2, claims: 3 });
    progress.step(lane(1), { kind: "prepares" });
    progress.step(lane(1), { kind: "starts", how: "boot" });
    progress.step(lane(1), { kind: "judged", claims: 1 });
    progress.step(lane(1), { kind: "ended", column: DEAD });
    progress.end();
    expect(pipe.lines).toEqual(["6.1.1+deb13 max: boots", "6.1.1+deb13 max: it\\x1b[2Jpanicked"]);
  });

  test("prints a line after 30 s without an event", () => {
    const pipe = new FakePipe();
    const progress = new LabProgress(pipe);
    progress.begin({ machines: 2, claims: 3 });
    progress.step(lane(1), { kind: "starts", how: "boot" });
    progress.step(lane(1), { kind: "judged", claims: 2 });
    vi.advanceTimersByTime(29_000);
    expect(pipe.lines).toHaveLength(1);
    vi.advanceTimersByTime(32_000);
    expect(pipe.lines.slice(1)).toEqual([
      "node-kvm: 0/2 done, 1 running, 0 unexpected, 30 s: 6.1.1+deb13 max: 2 of 3 claims judged",
      "node-kvm: 0/2 done, 1 running, 0 unexpected, 1 min 00 s: 6.1.1+deb13 max: 2 of 3 claims judged",
    ]);
    progress.end();
    vi.advanceTimersByTime(100_000);
    expect(pipe.lines).toHaveLength(3);
  });

  test("prints only a heartbeat while the suite's reporter prints the claims", () => {
    const pipe = new FakePipe();
    const progress = new TestProgress(pipe);
    progress.begin(4);
    progress.started("set-257: KVM_SET_CPUID2 refuses 257 entries");
    progress.ended(result("fail"), () => pipe.write("FAIL\n"));
    progress.fileEnded();
    progress.started("slow: a claim");
    vi.advanceTimersByTime(31_000);
    progress.end();
    expect(pipe.lines).toEqual([
      "FAIL",
      "node-kvm: 1 of 4 files done, 1 claim, 1 fail, 30 s, about 2 min left: slow: a claim",
    ]);
  });
});

test("on a terminal, the suite prints its claims above the live block, which names the current claim", () => {
  const terminal = new FakeTerminal(80, 24);
  const progress = new TestProgress(terminal);
  progress.begin(4);
  progress.started("set-257: KVM_SET_CPUID2 refuses 257 entries");
  vi.advanceTimersByTime(1000);
  expect(terminal.all).toEqual([
    "  set-257: KVM_SET_CPUID2 refuses 257 entries",
    "0 of 4 files done, 0 claims, 0 fail, 1 s",
  ]);
  progress.ended(result("pass"), () => terminal.write("  ok  set-257\n"));
  expect(terminal.all).toEqual(["  ok  set-257", "0 of 4 files done, 1 claim, 0 fail, 1 s"]);
  progress.end();
  expect(terminal.all).toEqual(["  ok  set-257"]);
});

test("the live block counts the judged claims even if the files of the claims are not known", () => {
  const terminal = new FakeTerminal(80, 24);
  const progress = new TestProgress(terminal);
  progress.beginClaims(3);
  progress.ended(result("fail"), () => terminal.write("  FAIL\n"));
  expect(terminal.all).toEqual(["  FAIL", "1 of 3 claims judged, 1 fail, 0 s"]);
  progress.end();
});

test.each([
  [400, "0 s"],
  [59_000, "59 s"],
  [65_000, "1 min 05 s"],
  [3_720_000, "1 h 02 min"],
])("a duration of %i ms is printed as %j", (milliseconds, text) => {
  expect(duration(milliseconds)).toBe(text);
});

test.each([
  [100, "about 1 s left"],
  [33_000, "about 35 s left"],
  [240_000, "about 4 min left"],
])("an estimated duration of %i ms is printed as %j", (milliseconds, text) => {
  expect(timeLeft(milliseconds)).toBe(text);
});
