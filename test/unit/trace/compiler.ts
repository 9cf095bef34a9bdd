/** Runs the C compiler of this host, for tests that compile exported files. */
import { execFile, execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** An exported file compiles without warnings, so these flags turn each warning into an error. */
export const STRICT: readonly string[] = ["-std=gnu11", "-Wall", "-Wextra", "-Werror"];

/**
 * The compiler's options for files in the style of the kernel's selftests. The files include the stub of the framework in
 * test/fixtures. As in the kernel, the compiler does not warn about unused parameters, such as those of main().
 */
export const SELFTEST: readonly string[] = [
  "-Wno-unused-parameter",
  `-I${join(import.meta.dirname, "..", "..", "fixtures", "kvm-selftest")}`,
];

/** Returns the reason why C cannot be compiled here. */
export const problem: string | undefined = findProblem();

function findProblem(): string | undefined {
  if (spawnSync("cc", ["--version"]).status !== 0) return "there is no cc";
  return existsSync("/usr/include/linux/kvm.h") ? undefined : "there is no linux/kvm.h";
}

/** Compiles C texts to a program in a folder that is removed after the test. */
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

/** Runs a program; returns its output and exit status. */
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

/** Compiles every C file of a folder, two at a time; returns the compiler's output by file name. */
export async function compileAll(
  folder: string,
  options: readonly string[] = [],
): Promise<ReadonlyMap<string, string>> {
  const names = readdirSync(folder).filter((name) => name.endsWith(".c"));
  const said = new Map<string, string>();
  const next = async (): Promise<void> => {
    for (let name = names.pop(); name !== undefined; name = names.pop()) {
      const file = join(folder, name);
      said.set(name, await cc([...STRICT, ...options, "-o", file.replace(/\.c$/, ""), file]));
    }
  };
  await Promise.all([next(), next()]);
  return said;
}

function cc(args: readonly string[]): Promise<string> {
  return new Promise((resolve) => {
    execFile("cc", args, (error, stdout, stderr) =>
      resolve(error === null ? stdout + stderr : error.message),
    );
  });
}
