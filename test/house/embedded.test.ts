/**
 * Tests of the C, CSS, JavaScript and shell files of lib/: the generated strings equal the files, and compilers and
 * shells accept the files.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, type TestContext, test } from "vitest";

const PROJECT = join(import.meta.dirname, "..", "..");
const TEXTS = /\/generated\/texts\.ts$/;

/** Lists the files of a folder, relative to the folder. */
function filesIn(folder: string): readonly string[] {
  return readdirSync(join(folder, "lib"), { recursive: true, encoding: "utf8" })
    .map((file) => join("lib", file))
    .sort();
}

const files = filesIn(PROJECT);
const named = (ending: string): readonly string[] => files.filter((file) => file.endsWith(ending));

describe("the generated strings of embedded files", () => {
  const out = mkdtempSync(join(tmpdir(), "embedded-"));
  beforeAll(() => {
    execFileSync(process.execPath, [join(PROJECT, "gen/embed.js"), "--out", out]);
  });
  afterAll(() => rmSync(out, { recursive: true }));

  test("exist in every folder of lib/ that has embedded files, and in no other folder", () => {
    expect(filesIn(out).filter((file) => TEXTS.test(file))).toEqual(
      files.filter((file) => TEXTS.test(file)),
    );
  });

  test.each(files.filter((file) => TEXTS.test(file)))("are up to date: %s", (file) => {
    expect(readFileSync(join(out, file), "utf8")).toBe(readFileSync(join(PROJECT, file), "utf8"));
  });
});

/**
 * Compiles a C file without writing an object file. Unused functions are allowed because prelude.c contains the
 * functions of all exported files.
 */
function compilerErrors(text: string): string {
  const options = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"];
  const result = spawnSync("cc", [...options, "-fsyntax-only", "-x", "c", "-"], {
    input: text,
    encoding: "utf8",
  });
  if (result.error !== undefined) throw result.error;
  return result.stderr;
}

function requireCompiler({ skip }: TestContext): void {
  skip(spawnSync("cc", ["--version"]).status !== 0, "there is no cc");
  skip(!existsSync("/usr/include/linux/kvm.h"), "there is no linux/kvm.h");
}

describe("an embedded C file", () => {
  test.for(named(".c"))("compiles without a warning: %s", (file, context) => {
    requireCompiler(context);
    expect(compilerErrors(readFileSync(join(PROJECT, file), "utf8"))).toBe("");
  });

  test("causes a compiler error if it compares a signed and an unsigned number", (context) => {
    requireCompiler(context);
    const planted =
      "int less(int a, unsigned int b);\nint less(int a, unsigned int b) { return a < b; }";
    expect(compilerErrors(planted)).toContain("-Werror=sign-compare");
  });
});

/** Parses a script with the guest's shell without running it; returns "" if the script is well-formed. */
function shellErrors(text: string): string {
  const result = spawnSync("busybox", ["sh", "-n"], { input: text, encoding: "utf8" });
  if (result.error !== undefined) throw result.error;
  return result.status === 0 ? "" : `status ${result.status}: ${result.stderr}`;
}

function requireBusybox({ skip }: TestContext): void {
  skip(spawnSync("busybox", ["true"]).status !== 0, "there is no busybox");
}

describe("an embedded shell script", () => {
  test.for(named(".sh"))("is valid for the shell of busybox: %s", (file, context) => {
    requireBusybox(context);
    expect(shellErrors(readFileSync(join(PROJECT, file), "utf8"))).toBe("");
  });

  test.for([".bash", ".zsh", ".fish"].flatMap(named))(
    "is valid for the shell that it names: %s",
    (file, { skip }) => {
      const shell = extname(file).slice(1);
      skip(spawnSync(shell, ["-c", "true"]).status !== 0, `there is no ${shell}`);
      const { status, stderr } = spawnSync(shell, ["-n", join(PROJECT, file)], {
        encoding: "utf8",
      });
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    },
  );

  test("causes a syntax error if a loop has no end", (context) => {
    requireBusybox(context);
    expect(shellErrors("while true; do\n")).toContain("syntax error");
  });
});
