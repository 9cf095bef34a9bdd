/** Tests of racing kicks and wake-ups under sanitizers, without a device. kicks.cc is the program of the tests. */
import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, describe, expect, test } from "vitest";

const KICKS = Number(process.env["KICKS"] ?? 20_000);
const SOURCES = ["exit_filter", "kick", "vcpu_run", "thread", "region", "bus_error"];
const OPTIONS = ["-std=c++20", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"];

const native = fileURLToPath(new URL("../../../native", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "kicks-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Removes a preloaded sanitizer from the environment, because a compiler and other sanitizers fail with it. */
const { LD_PRELOAD: _, ...env } = process.env;

/** Returns the reason why a program with this sanitizer cannot be built or run here, or `undefined` if it can. */
function problemWith(sanitizer: string): string | undefined {
  const source = join(folder, "nothing.cc");
  const program = join(folder, "nothing");
  writeFileSync(source, "int main() {}\n");
  const made = spawnSync("g++", [`-fsanitize=${sanitizer}`, "-o", program, source], { env });
  if (made.status !== 0) return `g++ makes nothing with -fsanitize=${sanitizer}`;
  const { status, stderr } = spawnSync(program, { env, encoding: "utf8" });
  return status === 0 ? undefined : `what has -fsanitize=${sanitizer} does not run: ${stderr}`;
}

const EXECUTE = { env, timeout: 280_000, killSignal: "SIGKILL" } as const;

describe.each(["thread", "address,undefined"])(
  "the kick code, built with -fsanitize=%s,",
  (sanitizer) => {
    const problem = problemWith(sanitizer);
    const program = join(folder, sanitizer);

    test("loses no kick and no wake-up, and interrupts no other run", async ({ skip }) => {
      if (problem !== undefined) skip(problem);
      const ours = [join(import.meta.dirname, "kicks.cc")];
      const sources = [...ours, ...SOURCES.map((name) => join(native, `${name}.cc`))];
      const options = [...OPTIONS, `-fsanitize=${sanitizer}`, "-I", native, "-o", program];
      const made = promisify(execFile)("g++", [...options, ...sources], { env });
      expect(await made).toEqual({ stdout: "", stderr: "" });
      expect(await promisify(execFile)(program, [String(KICKS)], EXECUTE)).toEqual({
        stdout: `${KICKS} kicks\n`,
        stderr: "",
      });
    }, 300_000);

    test("loses no kick and no wake-up while the signal queue is full", async ({ skip }) => {
      if (problem !== undefined) skip(problem);
      expect(await promisify(execFile)(program, [String(KICKS), "full"], EXECUTE)).toEqual({
        stdout: `${KICKS} kicks\n`,
        stderr: "",
      });
    }, 300_000);
  },
);
