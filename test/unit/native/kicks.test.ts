/** Kicks and wake-ups by threads that race each other, under sanitizers; no device is needed. See kicks.cc. */
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

/** A sanitizer that was loaded before this process is not for a compiler, nor for another sanitizer. */
const { LD_PRELOAD: _, ...env } = process.env;

/** Why no program with this sanitizer can be made or run here; `undefined` when it can. */
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

describe.each(["thread", "address,undefined"])("with -fsanitize=%s", (sanitizer) => {
  const problem = problemWith(sanitizer);
  const program = join(folder, sanitizer);

  test("no kick and no wake-up is lost, and none ends another run", async ({ skip }) => {
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

  test("no kick and no wake-up is lost while the signal queue is full", async ({ skip }) => {
    if (problem !== undefined) skip(problem);
    expect(await promisify(execFile)(program, [String(KICKS), "full"], EXECUTE)).toEqual({
      stdout: `${KICKS} kicks\n`,
      stderr: "",
    });
  }, 300_000);
});
