/** Campaigns: lanes run side by side, and what becomes of a machine becomes a column. */
import { describe, expect, test } from "vitest";
import {
  type Lane,
  runCampaign,
  type Start,
  type Step,
  toColumn,
} from "../../../lib/lab/campaign.ts";
import { LabError } from "../../../lib/lab/error.ts";
import type { LabOptions, LabResult, LabRun } from "../../../lib/lab/machine.ts";
import type { Column } from "../../../lib/report/matrix.ts";

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
  restored: false,
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

const NOTICE = "judged after a boot, because a restored machine's verdict was red";
const result = (verdict: string): LabResult => ({
  ...EXITED,
  stdout: Buffer.from(
    JSON.stringify({
      ...REPORT,
      results: [{ id: "a", title: "A", number: 1, verdict, duration: 1 }],
    }),
  ),
});

describe("a restored machine", () => {
  /** Runs a campaign of one lane; a machine that may be restored ends so, and one that boots so. */
  async function judged(
    restored: LabResult,
    booted: LabResult,
    start?: Start,
  ): Promise<{ readonly column: Column | undefined; readonly starts: readonly string[] }> {
    const starts: string[] = [];
    const run = async ({ restore }: LabOptions): Promise<LabResult> => {
      const words = restore?.command?.slice(2).join(" ");
      starts.push(words ?? "boots");
      return restore === undefined ? booted : { ...restored, restored: true };
    };
    const [column] = await runCampaign({
      lanes: [lane("6.1")],
      run,
      ...(start === undefined ? {} : { start }),
    });
    return { column, starts };
  }
  const waits = "--held /dev/ttyS3 --mark /lab/held";

  test("is asked for, and its green report is the column", async () => {
    const { column, starts } = await judged(result("pass"), result("fail"));
    expect(starts).toEqual([waits]);
    expect(column?.report?.results[0]?.verdict).toBe("pass");
    expect(column?.notice).toBeUndefined();
  });

  test.each<[string, LabResult]>([
    ["a failed claim", result("fail")],
    ["a line in the kernel's log", { ...result("pass"), warnings: ["WARNING: x"] }],
    ["no report", { ...RAN, kind: "crashed", oops: "Oops" }],
  ])("that ends with %s is judged once more after a boot", async (_, red) => {
    const { column, starts } = await judged(red, result("pass"));
    expect(starts).toEqual([waits, "boots"]);
    expect(column).toMatchObject({ notice: NOTICE, warnings: [] });
    expect(column?.report?.results[0]?.verdict).toBe("pass");
    expect(column?.problem).toBeUndefined();
  });

  test("and a boot that are both red are red", async () => {
    const { column } = await judged(result("fail"), result("fail"));
    expect(column?.report?.results[0]?.verdict).toBe("fail");
  });

  test("that was warmed says so", async () => {
    const { column, starts } = await judged(result("pass"), result("fail"), "warm");
    expect(starts).toEqual([`${waits} --warm 1`]);
    expect(column?.notice).toBe(
      "judged in a kernel that had VMs before: for quick loops, not for the record",
    );
  });

  test("is not wanted when machines are to boot", async () => {
    const { column, starts } = await judged(result("pass"), result("fail"), "boot");
    expect(starts).toEqual(["boots"]);
    expect(column?.notice).toBeUndefined();
  });

  test("gets the pattern, in any script, and the seed as its work", async () => {
    const works: unknown[] = [];
    const run = async ({ restore }: LabOptions): Promise<LabResult> => {
      works.push(JSON.parse(String(restore?.work?.("c0ffee"))));
      return EXITED;
    };
    await runCampaign({ lanes: [lane("6.1")], run, pattern: "größer" });
    await runCampaign({ lanes: [lane("6.1")], run });
    expect(works).toEqual([{ pattern: "größer", seed: "c0ffee" }, { seed: "c0ffee" }]);
  });
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
