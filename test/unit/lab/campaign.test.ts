/**
 * Tests of campaigns: several machines run at the same time, and the result of each machine is a column of the report.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  type Lane,
  type LaneStart,
  type LaneStep,
  runCampaign,
  toColumn,
} from "../../../lib/lab/campaign.ts";
import { LabError } from "../../../lib/lab/error.ts";
import type { LabOptions, LabResult, LabRun } from "../../../lib/lab/machine/machine.ts";
import { type Column, isGreenMatrix, toMatrix } from "../../../lib/report/matrix.ts";
import { BOOTED, ScriptedEmulator } from "./machine/scripted-emulator.ts";

const lane = (name: string, cpu = "max"): Lane => ({
  kernel: { name, release: name, vmlinuz: "/nowhere/vmlinuz", modules: "/nowhere" },
  cpu,
});

const RESULT = { id: "a", title: "A", number: 1, verdict: "pass", reason: undefined, duration: 1 };
const REPORT = { kernel: "6.1", vendor: "kvm_amd", results: [RESULT] };
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

test("the columns of a campaign's report have the order of the requested machines, independent of the machines' durations", async () => {
  const lanes = [lane("slow"), lane("fast"), lane("6.1-cloud-amd64", "EPYC")];
  const run = async ({ kernel }: LabOptions): Promise<LabResult> => {
    await new Promise((resolve) => setTimeout(resolve, kernel.name === "slow" ? 30 : 0));
    return EXITED;
  };
  const columns = await runCampaign({ lanes, parallel: 2, run });
  expect(columns.map(({ name }) => name)).toEqual(["slow max", "fast max", "6.1 EPYC"]);
});

test("a campaign runs no more machines at a time than requested", async () => {
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

test("a campaign reports the start of each machine, the number of judged claims, and the end", async () => {
  const steps: LaneStep["kind"][] = [];
  let claims = 0;
  const run = async ({ onStderr }: LabOptions): Promise<LabResult> => {
    onStderr?.(Buffer.from("pass a\npass b\n"));
    onStderr?.(Buffer.from("fail c\n"));
    return EXITED;
  };
  const onProgress = (_: Lane, step: LaneStep): void => {
    steps.push(step.kind);
    claims = step.kind === "judged" ? step.claims : claims;
  };
  await runCampaign({ lanes: [lane("6.1")], run, onProgress });
  expect(steps).toEqual(["prepares", "judged", "judged", "ended"]);
  expect(claims).toBe(3);
});

test("a campaign passes the pattern to the suite in the guest", async () => {
  const commands: (readonly string[])[] = [];
  const run = async ({ command }: LabOptions): Promise<LabResult> => {
    commands.push(command);
    return EXITED;
  };
  await runCampaign({ lanes: [lane("6.1")], run, pattern: "silent" });
  expect(commands[0]?.slice(3)).toEqual(["--pattern=silent"]);
});

test("a campaign runs the suite from its own root file system, which has no vitest", async () => {
  const roots: unknown[] = [];
  const run = async ({ root }: LabOptions): Promise<LabResult> => {
    roots.push(root);
    return EXITED;
  };
  await runCampaign({ lanes: [lane("6.1")], run });
  expect(roots).toEqual(["suite"]);
});

test("an error of the lab is a problem of one column, and the campaign continues with the other machines", async () => {
  const run = async ({ kernel }: LabOptions): Promise<LabResult> => {
    if (kernel.name === "gone") throw new LabError("ERR_LAB_MODULE", "kvm-amd is missing");
    return EXITED;
  };
  const columns = await runCampaign({ lanes: [lane("gone"), lane("6.1")], run });
  expect(columns.map(({ problem }) => problem)).toEqual(["kvm-amd is missing", undefined]);
});

test("an interrupted campaign keeps the finished columns, and reports the progress of the other columns", async () => {
  const controller = new AbortController();
  const run = async ({ kernel, onStderr, signal }: LabOptions): Promise<LabResult> => {
    if (kernel.name === "done") return EXITED;
    onStderr?.(Buffer.from("pass a\nfail silent-cr4\nfail \u001b[2J\npass"));
    controller.abort();
    expect(signal?.aborted).toBe(true);
    throw new LabError("ERR_LAB_INTERRUPTED", "interrupted");
  };
  const lanes = [lane("done"), lane("under way"), lane("waits")];
  const { signal } = controller;
  const columns = await runCampaign({ lanes, parallel: 1, run, signal });
  expect(columns.map(({ report }) => report)).toEqual([REPORT, undefined, undefined]);
  expect(columns.map(({ problem }) => problem)).toEqual([
    undefined,
    "interrupted after 3 claims; failed: silent-cr4",
    "interrupted before the machine was booted",
  ]);
});

const NOTICE = "judged after a boot, because a claim failed in the restored machine";
const result = (verdict: string): LabResult => ({
  ...EXITED,
  stdout: Buffer.from(
    JSON.stringify({
      ...REPORT,
      results: [{ id: "a", title: "A", number: 1, verdict, duration: 1 }],
    }),
  ),
});

describe("a campaign's restored machine", () => {
  /** Runs a campaign of one machine, with one result if the machine is restored and another result if it is booted. */
  async function judged(
    restored: LabResult,
    booted: LabResult,
    start: LaneStart = "saved",
  ): Promise<{ readonly column: Column | undefined; readonly starts: readonly string[] }> {
    const starts: string[] = [];
    const run = async ({ restore }: LabOptions): Promise<LabResult> => {
      const words = restore?.command?.slice(4).join(" ");
      starts.push(words ?? "boots");
      return restore === undefined ? booted : { ...restored, restored: true };
    };
    const [column] = await runCampaign({
      lanes: [lane("6.1")],
      run,
      start,
    });
    return { column, starts };
  }
  const waits = "--held /dev/ttyS3 --mark /lab/held";

  test("is used if requested, and its report without failures is the column", async () => {
    const { column, starts } = await judged(result("pass"), result("fail"));
    expect(starts).toEqual([waits]);
    expect(column?.report?.results[0]?.verdict).toBe("pass");
    expect(column?.notice).toBeUndefined();
  });

  test.each<[string, LabResult]>([
    ["a failed claim", result("fail")],
    ["a line in the kernel's log", { ...result("pass"), warnings: ["WARNING: x"] }],
    ["no report", { ...RAN, kind: "crashed", oops: "Oops" }],
  ])("that ends with %s is followed by a boot, which judges the claims again", async (_, red) => {
    const { column, starts } = await judged(red, result("pass"));
    expect(starts).toEqual([waits, "boots"]);
    expect(column).toMatchObject({ notice: NOTICE, warnings: [] });
    expect(column?.report?.results[0]?.verdict).toBe("pass");
    expect(column?.problem).toBeUndefined();
  });

  test("with failures is followed by a boot; if the boot also has failures, its report is the column", async () => {
    const { column } = await judged(result("fail"), result("fail"));
    expect(column?.report?.results[0]?.verdict).toBe("fail");
  });

  test("has a notice if VMs ran in the machine before the machine was saved", async () => {
    const { column, starts } = await judged(result("pass"), result("fail"), "warm");
    expect(starts).toEqual([`${waits} --warm 1`]);
    expect(column?.notice).toBe("judged in a kernel that had VMs before: not a valid judgement");
  });

  test("is not used by default, or if machines must boot", async () => {
    const works: unknown[] = [];
    const run = async ({ restore }: LabOptions): Promise<LabResult> => {
      works.push(restore);
      return EXITED;
    };
    await runCampaign({ lanes: [lane("6.1")], run });
    expect(works).toEqual([undefined]);
    const { column, starts } = await judged(result("pass"), result("fail"), "boot");
    expect(starts).toEqual(["boots"]);
    expect(column?.notice).toBeUndefined();
  });

  test("gets the seed and the pattern, including non-ASCII characters, as its work", async () => {
    const works: unknown[] = [];
    const run = async ({ restore }: LabOptions): Promise<LabResult> => {
      works.push(JSON.parse(String(restore?.work?.("c0ffee"))));
      return EXITED;
    };
    await runCampaign({ lanes: [lane("6.1")], run, start: "saved", pattern: "größer" });
    await runCampaign({ lanes: [lane("6.1")], run, start: "saved" });
    expect(works).toEqual([{ pattern: "größer", seed: "c0ffee" }, { seed: "c0ffee" }]);
  });
});

describe("a lane with fewer lanes than machines", () => {
  const names = Array.from({ length: 100 }, (_, position) => `c${position}: A`);
  /** A machine that judges the claims of its share. */
  const judge = ({ command }: LabOptions, more: object = {}, verdict = "pass"): LabResult => {
    const share = command.find((word) => word.startsWith("--share="))?.slice("--share=".length);
    const [index = 0, count = 1] = (share ?? "0/1").split("/").map(Number);
    const results = names
      .filter((_, position) => position % count === index)
      .map((name) => ({ ...RESULT, id: name.split(":")[0], verdict }));
    return { ...EXITED, stdout: reported(...results), ...more } as LabResult;
  };

  test("is judged by several machines, and its report has all claims in their order", async () => {
    const shares: unknown[] = [];
    const seen: number[] = [];
    const [column] = await runCampaign({
      lanes: [lane("6.1")],
      claims: names,
      parallel: 2,
      run: async (options) => {
        shares.push(options.command.at(-1));
        options.onStderr?.(Buffer.from("pass a\npass b\n"));
        return judge(options);
      },
      onProgress: (_, step) => {
        if (step.kind === "judged") seen.push(step.claims);
      },
    });
    expect(shares).toEqual(["--share=0/2", "--share=1/2"]);
    expect(seen).toEqual([2, 4]);
    expect(column?.problem).toBeUndefined();
    expect(column?.report?.results.map(({ id }) => `${id}: A`)).toEqual(names);
  });

  test("has as many machines as its claims are worth", async () => {
    const machines = async (parallel: number, count: number): Promise<number> => {
      let started = 0;
      await runCampaign({
        lanes: [lane("6.1")],
        claims: names.slice(0, count),
        parallel,
        run: async () => {
          started += 1;
          return EXITED;
        },
      });
      return started;
    };
    expect(await machines(1, 100)).toBe(1);
    expect(await machines(64, 100)).toBe(2);
    expect(await machines(64, 79)).toBe(1);
  });

  test("reports the problems and warnings of all its machines", async () => {
    const [column] = await runCampaign({
      lanes: [lane("6.1")],
      claims: names,
      parallel: 2,
      run: async (options) =>
        options.command.at(-1) === "--share=0/2"
          ? judge(options, { warnings: ["WARNING: a"] })
          : ({ ...RAN, kind: "hung", why: "timeout", warnings: ["WARNING: b"] } as LabResult),
    });
    expect(column).toMatchObject({
      problem: "the machine was not ready in time; the report lacks c1, c3, c5, and 47 more",
      warnings: ["WARNING: a", "WARNING: b"],
    });
    expect(column?.report?.results).toHaveLength(50);
  });

  test("names the claims that a machine did not report", async () => {
    const [column] = await runCampaign({
      lanes: [lane("6.1")],
      claims: names,
      parallel: 2,
      run: async (options) =>
        options.command.at(-1) === "--share=0/2"
          ? judge(options)
          : judge({ ...options, command: ["--share=1/26"] }),
    });
    expect(column?.problem).toBe("the report lacks c3, c5, c7, and 43 more");
  });

  test("is green if one machine skips its whole share", async () => {
    const [column] = await runCampaign({
      lanes: [lane("6.1")],
      claims: names,
      parallel: 2,
      run: async (options) =>
        options.command.at(-1) === "--share=0/2"
          ? judge(options)
          : judge(options, { status: 1 }, "skip"),
    });
    expect(column?.problem).toBeUndefined();
    expect(isGreenMatrix(toMatrix(column === undefined ? [] : [column]))).toBe(true);
  });

  test("is not green if all machines skip all claims", async () => {
    const columns = await runCampaign({
      lanes: [lane("6.1")],
      claims: names,
      parallel: 2,
      run: async (options) => judge(options, { status: 1 }, "skip"),
    });
    expect(isGreenMatrix(toMatrix(columns))).toBe(false);
  });

  test("is not green if its machines report different kernels", async () => {
    const [column] = await runCampaign({
      lanes: [lane("6.1")],
      claims: names,
      parallel: 2,
      run: async (options) => {
        const result = judge(options);
        const text = result.stdout.toString();
        const isFirst = options.command.at(-1) === "--share=0/2";
        return { ...result, stdout: Buffer.from(isFirst ? text : text.replace("6.1", "6.2")) };
      },
    });
    expect(column?.problem).toBe(
      "the machines of one kernel report 6.1 with kvm_amd and 6.2 with kvm_amd",
    );
  });

  test("ends its other machines if one cannot run", async () => {
    let ended = false;
    const [column] = await runCampaign({
      lanes: [lane("6.1")],
      claims: names,
      parallel: 2,
      run: async ({ command, signal }) => {
        if (command.at(-1) === "--share=0/2") throw new LabError("ERR_LAB_MODULE", "no module");
        await new Promise<void>((resolve) => signal?.addEventListener("abort", () => resolve()));
        ended = true;
        throw new LabError("ERR_LAB_INTERRUPTED", "interrupted");
      },
    });
    expect(column?.problem).toBe("no module");
    expect(ended).toBe(true);
  });

  test("is judged again after a boot by all machines, if a claim fails in one restored machine", async () => {
    const starts: unknown[] = [];
    const [column] = await runCampaign({
      lanes: [lane("6.1")],
      claims: names,
      parallel: 2,
      start: "saved",
      run: async (options) => {
        const { restore } = options;
        const work = String(restore?.work?.("0") ?? "boot");
        starts.push(/"share":"([^"]*)"/.exec(work)?.[1] ?? work);
        return restore === undefined
          ? judge(options)
          : judge(
              { ...options, command: [`--share=${starts.at(-1)}`] },
              { restored: true, status: 1 },
              "fail",
            );
      },
    });
    expect(starts).toEqual(["0/2", "1/2", "boot", "boot"]);
    expect(column?.notice).toBe(NOTICE);
    expect(column?.report?.results).toHaveLength(100);
  });
});

test.each([0, -1, Number.NaN, 0.5])(
  "a campaign with %d machines at a time is refused",
  async (parallel) => {
    const run = async (): Promise<LabResult> => EXITED;
    await expect(runCampaign({ lanes: [lane("6.1")], parallel, run })).rejects.toThrow(
      `runCampaign(): parallel: expected 1 or more, got ${parallel}`,
    );
  },
);

test("a campaign creates no more workers than machines", async () => {
  const run = async (): Promise<LabResult> => EXITED;
  const columns = await runCampaign({ lanes: [lane("6.1")], parallel: 2 ** 32, run });
  expect(columns).toHaveLength(1);
});

function reported(...results: readonly object[]): Buffer {
  return Buffer.from(JSON.stringify({ ...REPORT, results }));
}

describe("the end of a campaign's machine", () => {
  test("with a report makes this report the result in the column", () => {
    expect(toColumn("x", EXITED)).toEqual({ name: "x", report: REPORT, warnings: [] });
  });

  test("after a second start adds a notice to the column, which is not a problem", () => {
    const { notice, problem } = toColumn("x", { ...EXITED, attempts: 2 });
    expect([notice, problem]).toEqual(["the emulator hung and was started again", undefined]);
  });

  test.each<[string, LabResult]>([
    ["the kernel crashed: Oops: 1", { ...RAN, kind: "crashed", oops: "Oops: 1\nmore" }],
    ["the machine hung twice", { ...RAN, kind: "hung", why: "silent" }],
    ["the machine was not ready in time", { ...RAN, kind: "hung", why: "timeout" }],
    ["no KVM: no svm", { ...RAN, kind: "no-kvm", why: "no svm" }],
    ["the machine was ended: it flooded", { ...RAN, kind: "refused", why: "it flooded" }],
    [
      "the suite did not report (status 7): it is not JSON; stderr ends with: it broke",
      { ...EXITED, status: 7, stdout: Buffer.from("not json"), stderr: Buffer.from("it broke\n") },
    ],
    [
      'the suite did not report (status 0): results[0].verdict is "bogus", not pass, fail, skip, deviation',
      { ...EXITED, stdout: reported({ ...RESULT, verdict: "bogus" }) },
    ],
  ])("%s", (problem, result) => {
    const column = { name: "x", report: undefined, problem, warnings: [] };
    const end = result.kind === "exited" ? {} : { end: result.kind };
    expect(toColumn("x", result)).toEqual({ ...column, ...end });
  });
});

describe("a column of a campaign", () => {
  const fail = { ...RESULT, id: "b", verdict: "fail", reason: "EPERM" };
  const skip = { ...RESULT, id: "c", verdict: "skip", reason: "no AMX" };
  const progress = "pass a\n";

  test.each<[string, Partial<LabResult>, readonly object[], string]>([
    [
      "a pattern that no claim contains",
      { status: 1, stderr: Buffer.from('node-kvm: no claim contains "nosuchclaim"\n') },
      [],
      'no claim was judged (status 1); stderr ends with: node-kvm: no claim contains "nosuchclaim"',
    ],
    ["no claim, with status 0", { status: 0 }, [], "no claim was judged (status 0)"],
    ["skips alone", { status: 1 }, [skip], "no claim was judged, 1 were skipped (status 1)"],
    ...[1, 2, 137, 139].map((status): [string, Partial<LabResult>, readonly object[], string] => [
      `status ${status} after one pass`,
      { status, stderr: Buffer.from(`${progress}one\ntwo\nthree\nfour\n`) },
      [RESULT],
      `the suite ended with status ${status} after 1 claims, of which 0 failed; stderr ends with: two | three | four`,
    ]),
    [
      "a status beside a failed claim that is not that of a failed claim",
      { status: 139 },
      [RESULT, fail],
      "the suite ended with status 139 after 2 claims, of which 1 failed",
    ],
    [
      "status 0 beside a failed claim",
      { status: 0 },
      [fail],
      "the suite ended with status 0 after 1 claims, of which 1 failed",
    ],
    [
      "a file that did not load, beside a failed claim",
      { status: 1, stderr: Buffer.from("fail b\nnode-kvm: cannot load x.test.ts\n") },
      [RESULT, fail],
      "the suite ended with status 1 after 2 claims, of which 1 failed; stderr ends with: node-kvm: cannot load x.test.ts",
    ],
  ])("is not green and has a problem for %s", (_, more, results, problem) => {
    const column = toColumn("x", { ...EXITED, ...more, stdout: reported(...results) } as LabResult);
    expect(column).toMatchObject({ problem, report: { results } });
    expect(isGreenMatrix(toMatrix([column]))).toBe(false);
  });

  test("with a failed claim is not green, and has no other problem", () => {
    const result: LabResult = { ...EXITED, status: 1, stdout: reported(RESULT, fail) };
    const column = toColumn("x", result);
    expect(column.problem).toBeUndefined();
    expect(isGreenMatrix(toMatrix([column]))).toBe(false);
  });

  test("is green if the suite judges claims and ends with status 0", () => {
    expect(isGreenMatrix(toMatrix([toColumn("x", EXITED)]))).toBe(true);
  });

  test.each<[string, readonly string[], string]>([
    ["a claim too few", ["a: A", "b: B"], "the report lacks b"],
    [
      "many claims too few",
      ["a: A", ...Array.from("bcdef", (id) => `${id}: x`)],
      "the report lacks b, c, d, and 2 more",
    ],
    ["a claim that the suite does not have", ["b: B"], 'the suite has no claim "a: A"'],
    ["another sentence than the suite's", ["a: B"], 'the suite has no claim "a: A"'],
  ])("is not green and has a problem for a report with %s", (_, claims, problem) => {
    const column = toColumn("x", EXITED, claims);
    expect(column.problem).toContain(problem);
    expect(isGreenMatrix(toMatrix([column]))).toBe(false);
  });

  test("with an unknown claim has no report, and the other columns do not change", async () => {
    const run = async ({ kernel }: LabOptions): Promise<LabResult> =>
      kernel.name === "odd" ? { ...EXITED, stdout: reported({ ...RESULT, id: "odd" }) } : EXITED;
    const lanes = [lane("odd"), lane("6.1")];
    const [odd, other] = await runCampaign({ lanes, claims: ["a: A"], run });
    expect(odd).toMatchObject({ report: undefined });
    expect(other).toEqual({ name: "6.1 max", report: REPORT, warnings: [] });
  });

  test("may omit the claims that the pattern does not select, ignoring case", async () => {
    const claims = ["a: A", "b: B"];
    const run = async (): Promise<LabResult> => EXITED;
    const [column] = await runCampaign({ lanes: [lane("6.1")], claims, pattern: "A: a", run });
    expect(column?.problem).toBeUndefined();
  });

  test("is required: a report without columns is not green", () => {
    expect(isGreenMatrix(toMatrix([]))).toBe(false);
  });
});

test("every error of a machine's run is a problem of its column", async () => {
  const run = async ({ kernel }: LabOptions): Promise<LabResult> => {
    if (kernel.name === "odd") throw new TypeError("x is not a function");
    return EXITED;
  };
  const columns = await runCampaign({ lanes: [lane("odd"), lane("6.1")], run });
  expect(columns.map(({ problem }) => problem)).toEqual([
    "the lab failed: TypeError: x is not a function",
    undefined,
  ]);
});

describe("the results of a campaign's other two machines are correct if the first machine", () => {
  const whole = [RESULT, { ...RESULT, id: "b", verdict: "fail", reason: "EPERM" }];
  const honest = JSON.stringify({ ...REPORT, results: whole });
  const stderr = "pass a\nfail b\n";

  test.each([
    ["floods its stdout", "cat /dev/zero >&4"],
    ["floods its stderr", "yes >&5"],
    ["floods the kernel's log", "yes >&3"],
    ["names a path outside", "printf 'status 0 0 0\\nfile 1 /etc/x\\ny' >&6; exec sleep 1000"],
    ["announces 10^14 bytes", "printf 'status 0 0 0\\nfile 100000000000000 /x\\n' >&6; sleep 1000"],
    ["reports null", "printf null >&4; printf 'status 0 4 0\\nend\\n' >&6"],
    ["reports a wrong verdict", `cat "$dir/bogus" >&4; printf 'status 0 %d 0\\nend\\n' $size >&6`],
    ["panics", "echo '[ 1.0] Kernel panic - not syncing: x' >&3"],
  ])("%s", async (_, script) => {
    const emulator = new ScriptedEmulator(
      `dir=$(dirname "$0"); size=$(wc -c <"$dir/bogus")
      ${BOOTED}
      case "$*" in *"-kernel /k/hostile "*) ${script}; exit;; esac
      cat "$dir/honest" >&4; cat "$dir/stderr" >&5
      printf 'status 1 ${honest.length} ${stderr.length}\\nend\\n' >&6`,
    );
    writeFileSync(join(emulator.folder, "honest"), honest);
    writeFileSync(join(emulator.folder, "stderr"), stderr);
    writeFileSync(join(emulator.folder, "bogus"), reported({ ...RESULT, verdict: "__proto__" }));
    const columns = await runCampaign({
      lanes: ["hostile", "6.12", "7.2"].map((name) => ({
        kernel: emulator.kernel(name),
        cpu: "max",
      })),
      run: (options) => emulator.run(options),
    });
    expect(columns[0]?.problem).toMatch(/^(the machine was ended|the suite did not|the kernel cr)/);
    expect(columns.slice(1)).toEqual(
      ["6.12 max", "7.2 max"].map((name) => ({
        name,
        warnings: [],
        report: { ...REPORT, results: whole },
      })),
    );
  });
}, 120_000);
