/** Tests that signals other than kicks do not change the results of guests. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { deviceProblem } from "./run-node.ts";

const SCRIPT = fileURLToPath(new URL("signals.js", import.meta.url));
const problem = deviceProblem();

beforeEach(({ skip }) => {
  if (problem !== undefined) skip(problem);
});

/** Runs Node in a temporary folder, because a profiler writes its profile to the working directory. */
function node(args: readonly string[], options: readonly string[]) {
  const cwd = mkdtempSync(join(tmpdir(), "signals-"));
  onTestFinished(() => rmSync(cwd, { recursive: true }));
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [...options, ...args], {
    cwd,
    encoding: "utf8",
    timeout: 240_000,
    killSignal: "SIGKILL",
    maxBuffer: 2 ** 26,
  });
  return { status, signal, stdout, stderr };
}

const PROFILED = ["--cpu-prof"];

test.for([
  ["a storm of SIGUSR2 and SIGPROF with listeners", []],
  ["the same under --cpu-prof", PROFILED],
] as const)("a guest's runs end only with their own exits during %s", ([, options]) => {
  const { stdout, ...ending } = node([SCRIPT, "5000"], options);
  expect(ending).toEqual({ status: 0, signal: null, stderr: "" });
  const { rounds, heard } = JSON.parse(stdout) as { rounds: number; heard: number };
  expect(rounds).toBeGreaterThan(0);
  expect(heard).toBeGreaterThan(0);
});
