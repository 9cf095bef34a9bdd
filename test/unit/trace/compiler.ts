/** The C compiler of this host, for tests that compile what is exported; why there is none, if so. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** Every warning is an error, as an exported file promises. */
export const STRICT: readonly string[] = ["-std=gnu11", "-Wall", "-Wextra", "-Werror"];

/** Why no C can be compiled here. */
export const problem: string | undefined = findProblem();

function findProblem(): string | undefined {
  if (spawnSync("cc", ["--version"]).status !== 0) return "there is no cc";
  return existsSync("/usr/include/linux/kvm.h") ? undefined : "there is no linux/kvm.h";
}

/** Compiles C texts into a program, in a folder that lives as long as the test. */
export function compile(
  files: Readonly<Record<string, string>>,
  options: readonly string[] = [],
): string {
  const folder = mkdtempSync(join(tmpdir(), "trace-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const paths = Object.entries(files).map(([name, text]) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  });
  const program = join(folder, "program");
  execFileSync("cc", [...STRICT, ...options, "-o", program, ...paths], { encoding: "utf8" });
  return program;
}

/** Runs a program; what it says and how it ends. */
export function run(
  program: string,
  env: Readonly<Record<string, string>> = {},
): { readonly status: number | null; readonly lines: readonly string[] } {
  const { status, stdout } = spawnSync(program, {
    encoding: "utf8",
    env: { ...process.env, ...env },
    timeout: 60_000,
  });
  return { status, lines: stdout.trimEnd().split("\n") };
}
