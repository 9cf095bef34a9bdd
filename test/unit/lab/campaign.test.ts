/** Campaigns: lanes run side by side, and what becomes of a machine becomes a column. */
import { describe, expect, test } from "vitest";
import { type Lane, runCampaign, type Step, toColumn } from "../../../lib/lab/campaign.ts";
import { LabError } from "../../../lib/lab/error.ts";
import type { LabOptions, LabResult, LabRun } from "../../../lib/lab/machine.ts";

const lane = (name: string, cpu = "max"): Lane => ({
  kernel: { name, release: name, vmlinuz: "/nowhere/vmlinuz", modules: "/nowhere" },
  cpu,
});

const REPORT = { kernel: "6.1", vendor: "kvm_amd", results: [] };
const RAN: LabRun = {
  kernelLog: "",
  warnings: [],
  stdout: Buffer.from(JSON.stringify(REPORT)),
  stderr: Buffer.alloc(0),
  attempts: 1,
  after: 1,
};
const EXITED: LabResult = { ...RAN, kind: "exited", status: 0, files: new Map() };

test("columns come in the order of the lanes, however long each takes", async () => {
  const lanes = [lane("slow"), lane("fast"), lane("6.1-cloud-amd64", "EPYC")];
  const run = async ({ kernel }: LabOptions): Promise<LabResult> => {
    await new Promise((resolve) => setTimeout(resolve, kernel.name === "slow" ? 30 : 0));
    return EXITED;
  };
  const columns = await runCampaign({ lanes, parallel: 2, run });
  expect(columns.map(({ name }) => name)).toEqual(["slow max", "fast max", "6.1 EPYC"]);
});

test("no more machines run at a time than were asked for", async () => {
  let [running, most] = [0, 0];
  const run = async (): Promise<LabResult> => {
    running += 1;
    most = Math.max(most, running);
    await new Promise((resolve) => setImmediate(resolve));
    running -= 1;
    return EXITED;
  };
  await runCampaign({ lanes: Array.from("abcdefg", (name) => lane(name)), parallel: 3, run });
  expect(most).toBe(3);
});

test("each lane tells when it boots, how many claims were judged, and its end", async () => {
  const steps: Step["kind"][] = [];
  let claims = 0;
  const run = async ({ onStderr }: LabOptions): Promise<LabResult> => {
    onStderr?.(Buffer.from("pass a\npass b\n"));
    onStderr?.(Buffer.from("fail c\n"));
    return EXITED;
  };
  const onProgress = (_: Lane, step: Step): void => {
    steps.push(step.kind);
    claims = step.kind === "judged" ? step.claims : claims;
  };
  await runCampaign({ lanes: [lane("6.1")], run, onProgress });
  expect(steps).toEqual(["boots", "judged", "judged", "ended"]);
  expect(claims).toBe(3);
});

test("the pattern goes to the suite", async () => {
  const commands: (readonly string[])[] = [];
  const run = async ({ command }: LabOptions): Promise<LabResult> => {
    commands.push(command);
    return EXITED;
  };
  await runCampaign({ lanes: [lane("6.1")], run, pattern: "silent" });
  expect(commands[0]?.slice(2)).toEqual(["--pattern=silent"]);
});

test("the suite runs in a root of its own, which has no vitest", async () => {
  const roots: unknown[] = [];
  const run = async ({ root }: LabOptions): Promise<LabResult> => {
    roots.push(root);
    return EXITED;
  };
  await runCampaign({ lanes: [lane("6.1")], run });
  expect(roots).toEqual(["suite"]);
});

test("what the lab cannot do is a problem of its column, and the others run", async () => {
  const run = async ({ kernel }: LabOptions): Promise<LabResult> => {
    if (kernel.name === "gone") throw new LabError("ERR_LAB_MODULE", "kvm-amd is missing");
    return EXITED;
  };
  const columns = await runCampaign({ lanes: [lane("gone"), lane("6.1")], run });
  expect(columns.map(({ problem }) => problem)).toEqual(["kvm-amd is missing", undefined]);
});

test("an interruption ends the campaign", async () => {
  const run = (): Promise<LabResult> =>
    Promise.reject(new LabError("ERR_LAB_INTERRUPTED", "interrupted"));
  await expect(runCampaign({ lanes: [lane("6.1")], run })).rejects.toThrow("interrupted");
});

describe("a machine's end", () => {
  test("is its report", () => {
    expect(toColumn("x", EXITED)).toEqual({ name: "x", report: REPORT, warnings: [] });
  });

  test("that needed a second start says so, and is no problem", () => {
    const { notice, problem } = toColumn("x", { ...EXITED, attempts: 2 });
    expect([notice, problem]).toEqual(["the emulator hung and was started again", undefined]);
  });

  test.each<[string, LabResult]>([
    ["the kernel crashed: Oops: 1", { ...RAN, kind: "crashed", oops: "Oops: 1\nmore" }],
    ["the machine hung, twice", { ...RAN, kind: "hung", why: "silent" }],
    ["the machine was not ready in time", { ...RAN, kind: "hung", why: "timeout" }],
    ["no KVM: no svm", { ...RAN, kind: "no-kvm", why: "no svm" }],
    [
      "the suite did not report (status 7): it broke",
      { ...EXITED, status: 7, stdout: Buffer.from("not json"), stderr: Buffer.from("it broke\n") },
    ],
  ])("%s", (problem, result) => {
    expect(toColumn("x", result)).toEqual({ name: "x", report: undefined, problem, warnings: [] });
  });
});
