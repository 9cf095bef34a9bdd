/**
 * Tests that every claim of the suite can fail. The tests run the suite with each injected fault (lib/suite/faults.ts);
 * every claim that is judged here must fail for at least one fault. The claim's own assertion must fail, and not an
 * earlier call.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { FAULTS } from "node-kvm/test";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { deviceProblem } from "./run-node.ts";

const problem = deviceProblem();

interface Verdicts {
  readonly results: readonly {
    readonly id: string;
    readonly verdict: string;
    readonly reason?: string;
  }[];
}

const COMMAND = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

function judge(fault?: string): Verdicts["results"] {
  const env = { ...process.env, ...(fault === undefined ? {} : { NODE_KVM_FAULT: fault }) };
  const { stdout } = spawnSync(process.execPath, [COMMAND, "test", "--reporter", "json"], {
    env,
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });
  const report: unknown = JSON.parse(stdout);
  return (report as Verdicts).results;
}

/** Returns whether an assertion failed; the reason of an unexpected KvmError begins with the name of the ioctl. */
const isRed = ({ verdict, reason = "" }: Verdicts["results"][number]): boolean =>
  verdict === "fail" && !reason.startsWith("KVM_");

describe("the suite with injected faults", () => {
  let judged: readonly string[] = [];
  const red = new Map<string, readonly string[]>();

  beforeAll(() => {
    if (problem !== undefined) return;
    judged = judge()
      .filter(({ verdict }) => verdict === "pass" || verdict === "deviation")
      .map(({ id }) => id);
    for (const fault of FAULTS) {
      red.set(
        fault,
        judge(fault)
          .filter(isRed)
          .map(({ id }) => id),
      );
    }
  });

  beforeEach(({ skip }) => {
    if (problem !== undefined) skip(problem);
  });

  test("judges at least 35 claims on this host", () => {
    expect(judged.length).toBeGreaterThanOrEqual(35);
  });

  test.each(FAULTS)("has a failed claim on a kernel that %s", (fault) => {
    expect(red.get(fault)).not.toHaveLength(0);
  });

  test("fails every judged claim for at least one injected fault", () => {
    const seen = new Set(Array.from(red.values()).flat());
    expect(judged.filter((id) => !seen.has(id))).toEqual([]);
  });
});
