/**
 * Tests of `node-kvm explore` without a machine: the refusals of its command line, and the report that the messages of
 * the program in the guest make. No test explores this host.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { problemOf, Received, toReport, toText } from "../../../lib/cli/explore-report.ts";
import type { ExploreMessage, ExploreWork } from "../../../lib/explore/message.ts";
import type { LabResult } from "../../../lib/lab/machine/machine.ts";
import { command } from "./command.ts";

const folder = mkdtempSync(join(tmpdir(), "node-kvm-explore-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("the command line", () => {
  test("without a kernel, the command refuses this host in one line", () => {
    const { status, stdout, stderr } = command(["explore", "--steps", "10"]);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toMatch(/^node-kvm: name a kernel for the lab with --kernel; .*\n$/);
    expect(stderr).toContain("only with --on-this-host-i-mean-it");
  });

  test("a kernel of the lab and this host are not explored together", () => {
    const { status, stderr } = command([
      ...["explore", "--kernel", "6.12", "--on-this-host-i-mean-it"],
    ]);
    expect(status).toBe(2);
    expect(stderr).toMatch(/^node-kvm: --kernel is for the lab; .*\n$/);
  });

  test.each([
    [["--kernel", "6.12", "--without", "lazyness"], "--without: unknown row lazyness; known are"],
    [["--kernel", "6.12", "--steps", "0"], "Use a whole number from 1 to"],
    [["--kernel", "6.12", "--seed", "-1"], "Use a whole number from 0 to"],
    [["--kernel", "6.12", "--modules", "x"], "--modules is for a kernel of your own"],
    [["--kernel", "6.12", "--replay", join(folder, "none")], "ENOENT: no such file"],
  ])("%j is a usage error", (args, reason) => {
    const { status, stdout, stderr } = command(["explore", ...args]);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toContain(reason);
  });

  test("a list with an unknown call is refused before a machine boots", () => {
    const file = join(folder, "list.json");
    writeFileSync(file, '{ "operations": [{ "call": "fly" }] }');
    const { status, stderr } = command(["explore", "--kernel", "6.12", "--replay", file]);
    expect(status).toBe(2);
    expect(stderr).toContain('operation 1: unknown call "fly"');
  });
});

const WORK: ExploreWork = { seed: 7, steps: 100, without: [], runSeconds: 20 };
const BEGIN: ExploreMessage = {
  kind: "begin",
  kernel: "6.12.1",
  vendor: "kvm_amd",
  rows: ["eager"],
  undecided: [{ row: "lazy", reason: "the row is visible only on another host" }],
  without: [],
};
const SEQUENCE: ExploreMessage = { kind: "sequence", seed: 9, steps: 50 };
const END: ExploreMessage = { kind: "end", steps: 100, sequences: 4, seconds: 2, reach: {} };
const DISAGREEMENT: ExploreMessage = {
  kind: "disagreement",
  seed: 9,
  steps: 60,
  length: 10,
  tries: 20,
  vm: { hltExitsOff: false, mwaitQuirkOff: false, irqchip: false },
  operations: [{ call: "run", vcpu: 0, how: "io" }],
  predicted: "ok",
  observed: "EINVAL",
  typescript: "const kvm = Kvm.open();\n",
  c: "int main(void) {}\n",
};

/** Returns what the command receives if the program prints these messages. */
function receivedOf(...messages: readonly ExploreMessage[]): Received {
  const received = new Received();
  const text = messages.map((message) => `${JSON.stringify(message)}\n`).join("");
  // The parts of the output may end anywhere.
  for (let at = 0; at < text.length; at += 7) received.take(text.slice(at, at + 7));
  return received;
}

describe("the report", () => {
  test("an exploration that ends without a disagreement agrees", () => {
    const received = receivedOf(BEGIN, SEQUENCE, END);
    const report = toReport(WORK, received, undefined);
    expect(report).toMatchObject({ verdict: "agreement", seed: 7, steps: 100, rows: ["eager"] });
    expect(toText(report, received)).toBe(
      "kernel: 6.12.1 (kvm_amd)\n" +
        "rows of the kernel, by behaviour: eager\n" +
        "row lazy, undecided: the row is visible only on another host\n" +
        "agreement: KVM answered 100 steps of 4 sequences from seed 7 as the model predicts (2 s)\n",
    );
  });

  test("a disagreement has the list, the answers and the programs", () => {
    const received = receivedOf(BEGIN, SEQUENCE, DISAGREEMENT, END);
    const report = toReport(WORK, received, undefined);
    expect(report.verdict).toBe("disagreement");
    expect(report.disagreement).toMatchObject({ seed: 9, c: "int main(void) {}\n" });
    const text = toText(report, received);
    for (const part of [
      "disagreement after 60 of 100 steps, seed 9: 10 operations, shrunk to 1 in 20 replays",
      "the model predicts: ok\nKVM answered:       EINVAL\n",
      '{"call":"run","vcpu":0,"how":"io"}',
      "const kvm = Kvm.open();",
    ]) {
      expect(text).toContain(part);
    }
  });

  test("no step is no agreement", () => {
    const none = receivedOf(BEGIN, { kind: "end", steps: 0, sequences: 0, seconds: 1, reach: {} });
    expect(toReport(WORK, none, undefined)).toMatchObject({
      verdict: "trouble",
      trouble: "no step was executed",
    });
  });

  test("a program that ends early, or that reports an error, is trouble", () => {
    expect(toReport(WORK, receivedOf(), undefined).verdict).toBe("trouble");
    expect(toReport(WORK, receivedOf(BEGIN, SEQUENCE), undefined).trouble).toBe(
      "the program ended without a result",
    );
    const failed = receivedOf(BEGIN, { kind: "trouble", message: "no KVM" });
    expect(toReport(WORK, failed, undefined)).toMatchObject({
      verdict: "trouble",
      trouble: "no KVM",
    });
  });

  test("a warning of the kernel is trouble, although all answers agree", () => {
    const received = receivedOf(BEGIN, END);
    const problem = problemOf({ ...EXITED, warnings: ["WARNING: at x"] }, received);
    expect(toReport(WORK, received, problem).verdict).toBe("trouble");
  });

  test("lines that are no messages are ignored", () => {
    const received = new Received();
    received.take("noise\n1\n");
    received.take(`${JSON.stringify(END)}\n`);
    expect(received.end).toEqual(END);
  });

  test("a machine that boots again starts from the beginning", () => {
    const received = receivedOf(BEGIN, DISAGREEMENT);
    received.restart();
    expect([received.begin, received.disagreement]).toEqual([undefined, undefined]);
  });
});

const RUN = {
  kernelLog: "",
  warnings: [],
  stdout: Buffer.alloc(0),
  stderr: Buffer.from("Error: nothing works\n"),
  attempts: 1,
  after: 1000,
  restored: false,
} as const;
const EXITED: LabResult = { ...RUN, kind: "exited", status: 0, files: new Map() };

describe("the end of the machine", () => {
  const where = "in the sequence of seed 9, which began at step 50";

  test.each<[LabResult, string]>([
    [{ ...RUN, kind: "hung", why: "timeout" }, `the time limit was reached ${where}`],
    [{ ...RUN, kind: "hung", why: "silent" }, `the machine hung ${where}`],
    [{ ...RUN, kind: "crashed", oops: "BUG" }, `the kernel crashed ${where}:\nBUG`],
    [{ ...RUN, kind: "refused", why: "too much" }, `the machine was ended ${where}: too much`],
    [
      { ...EXITED, status: 3 } as LabResult,
      `the program ended with status 3 ${where}: Error: nothing works`,
    ],
  ])("%o is reported with the seed and the step", (result, sentence) => {
    expect(problemOf(result, receivedOf(BEGIN, SEQUENCE))).toBe(sentence);
  });

  test("a machine without KVM, and a machine that hangs during the probes, have no seed", () => {
    expect(problemOf({ ...RUN, kind: "no-kvm", why: "no SVM" }, receivedOf())).toContain("no SVM");
    expect(problemOf({ ...RUN, kind: "hung", why: "silent" }, receivedOf(BEGIN))).toBe(
      "the machine hung before the first sequence",
    );
  });

  test("a program that ends with 0 is no problem", () => {
    expect(problemOf(EXITED, receivedOf(BEGIN))).toBeUndefined();
  });
});
