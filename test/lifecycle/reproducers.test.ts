/**
 * Tests the C files of the suite on this host: each compiles without a warning, and running it gives the verdict of its
 * claim. All processes stay on one CPU, because the CPUID values that a guest reads may differ between the host's CPUs.
 * test/lab/reproducers.test.ts tests the same on lab kernels.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { compileAll, problem as compilerProblem } from "../unit/trace/compiler.ts";
import { deviceProblem } from "./run-node.ts";

const COMMAND = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const problem = deviceProblem() ?? compilerProblem;

interface Result {
  readonly id: string;
  readonly number: number;
  readonly verdict: string;
}

const folder = mkdtempSync(join(tmpdir(), "reproducers-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs a command on one CPU. */
function pinned(command: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return spawnSync("taskset", ["-c", "0", ...command], {
    env: { ...process.env, ...env },
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });
}

function judge(
  place: string,
  more: readonly string[],
  env: Readonly<Record<string, string>> = {},
): readonly Result[] {
  const args = ["test", ...more, "--repro", place, "--reporter", "json"];
  const report: unknown = JSON.parse(pinned([process.execPath, COMMAND, ...args], env).stdout);
  return (report as { results: readonly Result[] }).results;
}

/** The result of a program: its status, and its last line up to the comment. */
function ending(program: string): readonly [number | null, string] {
  const { status, stdout } = pinned([program]);
  return [status, stdout.trimEnd().split("\n").at(-1)?.split(" #")[0] ?? ""];
}

describe("the C files that the suite exports", () => {
  let results: readonly Result[] = [];
  let said: ReadonlyMap<string, string> = new Map();

  beforeAll(async () => {
    if (problem !== undefined) return;
    results = judge(folder, ["--repro-all"]).filter(({ verdict }) => verdict !== "skip");
    said = await compileAll(folder);
  });
  beforeEach(({ skip }) => {
    if (problem !== undefined) skip(problem);
  });

  test("are as many as the judged claims, and compile without a warning", () => {
    expect(new Map(said)).toEqual(
      new Map(results.map(({ number, id }) => [`${number}-${id}.c`, ""] as const)),
    );
  });

  test("exit with 0 and print the verdict of their claims", () => {
    expect(results.map(({ number, id }) => ending(join(folder, `${number}-${id}`)))).toEqual(
      results.map(({ number, id, verdict }) => [
        0,
        `${verdict === "pass" ? "ok" : "not ok"} ${number} ${id}`,
      ]),
    );
  });

  test("exit with 1 if they are changed to expect another errno", async () => {
    const place = mkdtempSync(join(folder, "red-"));
    const text = readFileSync(join(folder, "51-change-feature.c"), "utf8");
    writeFileSync(join(place, "red.c"), text.replaceAll(", -EINVAL);", ", -EPERM);"));
    await compileAll(place);
    expect(ending(join(place, "red"))).toEqual([1, "not ok 51 change-feature"]);
  });

  test("do not reproduce a failure that an injected fault caused", async () => {
    const place = mkdtempSync(join(folder, "fault-"));
    judge(place, ["change-feature"], { NODE_KVM_FAULT: "accepts-all" });
    await compileAll(place);
    expect(ending(join(place, "51-change-feature"))).toEqual([1, "ok 51 change-feature"]);
  });
});
