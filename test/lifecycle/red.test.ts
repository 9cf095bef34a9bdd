/**
 * Every claim of the suite can fail. The suite is run with injected faults (test/helpers/lies.ts),
 * and each claim that is judged here must turn red for at least one of them: by its own assertion,
 * not because a refused call stopped it before.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { LIES } from "../helpers/lies.ts";
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

function judge(lie?: string): Verdicts["results"] {
  const env = { ...process.env, ...(lie === undefined ? {} : { NODE_KVM_LIE: lie }) };
  const { stdout } = spawnSync(process.execPath, [COMMAND, "test", "--reporter", "json"], {
    env,
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });
  const report: unknown = JSON.parse(stdout);
  return (report as Verdicts).results;
}

/** Failed by an assertion; a KvmError that nothing expected begins with the call it was. */
const isRed = ({ verdict, reason = "" }: Verdicts["results"][number]): boolean =>
  verdict === "fail" && !reason.startsWith("KVM_");

describe("the suite", () => {
  let honest: readonly string[] = [];
  const red = new Map<string, readonly string[]>();

  beforeAll(() => {
    if (problem !== undefined) return;
    honest = judge()
      .filter(({ verdict }) => verdict === "pass" || verdict === "deviation")
      .map(({ id }) => id);
    for (const lie of LIES) {
      red.set(
        lie,
        judge(lie)
          .filter(isRed)
          .map(({ id }) => id),
      );
    }
  });

  beforeEach(({ skip }) => {
    if (problem !== undefined) skip(problem);
  });

  test("judges at least 35 claims on this device", () => {
    expect(honest.length).toBeGreaterThanOrEqual(35);
  });

  test.each(LIES)("turns red against a kernel that %s", (lie) => {
    expect(red.get(lie)).not.toHaveLength(0);
  });

  test("has no claim that passes with every injected fault", () => {
    const seen = new Set(Array.from(red.values()).flat());
    expect(honest.filter((id) => !seen.has(id))).toEqual([]);
  });
});
