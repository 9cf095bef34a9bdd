/** Tests of the user's files of claims: the arguments that select them, and the one-line error for an invalid file. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findClaimFiles, splitWords } from "../../../lib/cli/claim-files.ts";
import { ROOT } from "../examples/program.ts";

const folder = mkdtempSync(join(tmpdir(), "own-claims-"));
const temporary = join(folder, "tmp");
afterAll(() => rmSync(folder, { recursive: true }));

/** Writes a file below the folder and returns its path. */
function write(name: string, ...lines: readonly string[]): string {
  const path = join(folder, name);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, lines.map((line) => `${line}\n`).join(""));
  return path;
}

const IMPORT = 'import { claim, expect } from "node-kvm/test";';

/** Runs the command in the folder, with a separate directory for temporary files. */
function run(...args: readonly string[]) {
  mkdirSync(temporary, { recursive: true });
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(ROOT, "dist", "cli", "main.js"), ...args],
    { cwd: folder, encoding: "utf8", env: { ...process.env, TMPDIR: temporary } },
  );
  return { status, stdout, stderr };
}

describe("the arguments of node-kvm test", () => {
  test("are paths if they have a slash or an extension; any other argument is the pattern", () => {
    expect(splitWords(["a.ts", "frozen", "./b", "c.mjs"])).toEqual({
      pattern: "frozen",
      paths: ["a.ts", "./b", "c.mjs"],
    });
    expect(splitWords(["."])).toEqual({ pattern: undefined, paths: ["."] });
    expect(splitWords(["KVM_SET_CPUID2 refuses"]).paths).toEqual([]);
  });

  test("cannot contain two patterns", () => {
    expect(() => splitWords(["a", "b"])).toThrow(
      'there can be only one pattern, but "a" and "b" are',
    );
  });

  test("may name a folder: the files of claims in the folder are judged, and helpers, declarations and packages are ignored", () => {
    const names = [
      "x/b.claims.ts",
      "x/a.test.js",
      "x/helper.ts",
      "x/c.claims.d.ts",
      "x/d/e.claim.mjs",
    ];
    for (const name of [...names, "x/node_modules/p/p.test.js", "x/.hidden/h.test.js"]) write(name);
    const found = findClaimFiles([join(folder, "x"), join(folder, "x/a.test.js")]);
    expect(found).toEqual(
      ["x/a.test.js", "x/b.claims.ts", "x/d/e.claim.mjs"].map((name) => join(folder, name)),
    );
  });
});

/** Invalid files: the file's name, its content, and the error line that the command prints. */
const BAD: readonly (readonly [name: string, lines: readonly string[], message: string])[] = [
  ["syntax.ts", [IMPORT, "", "const = 1;"], "syntax.ts:3: Unexpected token"],
  [
    "package.ts",
    [IMPORT, 'import x from "lodash";', "x();"],
    'package.ts:2: cannot import "lodash": claims may import relative files, node:*, node-kvm and expect of "vitest", ' +
      "because the lab's guests have no other packages",
  ],
  [
    "entry.ts",
    ['import { claim } from "node-kvm/tests";', "claim();"],
    'entry.ts:1: cannot import "node-kvm/tests": this package has no such entry; did you mean "node-kvm/test"?',
  ],
  [
    "vitest.ts",
    ['import { test } from "vitest";', "test();"],
    'vitest.ts:1: cannot import test of "vitest": claims may import relative files, node:*, node-kvm and expect of "vitest"',
  ],
  [
    "export.ts",
    ['import { none } from "./helper.ts";', "none();"],
    'export.ts:1: "none" is not exported by "helper.ts"',
  ],
  [
    "throws.ts",
    [IMPORT, "", 'throw new Error("boom");'],
    "throws.ts cannot be loaded: boom (FOLDER/throws.ts:3)",
  ],
  [
    "no-claim.js",
    ["export {};"],
    "no-claim.js defines no claim; import claim from node-kvm/test and call it",
  ],
  [
    "twice.ts",
    [IMPORT, 'claim("a", "KVM", () => {});', 'claim("a", "KVM", () => {});'],
    'twice.ts cannot be loaded: two claims have the name "a" (FOLDER/twice.ts:3)',
  ],
  [
    "id.ts",
    [IMPORT, 'claim("a b", "KVM", () => {});'],
    "id.ts cannot be loaded: claim(): id must be a short name (letters, digits, - and _, at most 80), " +
      'got "a b" (FOLDER/id.ts:2)',
  ],
  [
    "exits.ts",
    [IMPORT, "process.exit(0);"],
    "the claims cannot be listed: the process that loads the claims ended with status 0",
  ],
];

describe("a bad file of claims is reported in one line, with status 2", () => {
  beforeAll(() => {
    write("helper.ts", "export const a = 1;");
  });

  test.each(BAD)("%s", (name, lines, message) => {
    write(name, ...lines);
    expect(run("test", name)).toEqual({
      status: 2,
      stdout: "",
      stderr: `node-kvm: ${message.replaceAll("FOLDER", folder)}\n`,
    });
    expect(readdirSync(temporary)).toEqual([]);
  });

  test.each([
    ["none.ts", "none.ts cannot be read: ENOENT: no such file or directory"],
    ["./tmp", "the folder ./tmp has no file of claims (*.claims.ts, *.test.ts; .js)"],
    ["./helper.txt", "./helper.txt is not a file of claims: it must end in .ts, .mts, .js or .mjs"],
  ])("%s, which cannot contain claims", (name, message) => {
    mkdirSync(temporary, { recursive: true });
    write("helper.txt");
    expect(run("test", name)).toEqual({ status: 2, stdout: "", stderr: `node-kvm: ${message}\n` });
  });

  test("also by lab run and lab bisect, before a machine starts", () => {
    write("syntax.ts", IMPORT, "const = 1;");
    const expected = { status: 2, stdout: "", stderr: "node-kvm: syntax.ts:2: Unexpected token\n" };
    expect(run("lab", "run", "syntax.ts", "--kernel", "none")).toEqual(expected);
    const ends = ["--good", "none", "--bad", "none"];
    expect(run("lab", "bisect", "a", "--file", "syntax.ts", ...ends)).toEqual(expected);
  });

  test("if another file has a claim with the same name", () => {
    for (const name of ["one.ts", "two.ts"]) write(name, IMPORT, 'claim("same", "KVM", () => {});');
    expect(run("test", "one.ts", "two.ts").stderr).toBe(
      `node-kvm: two.ts cannot be loaded: two claims have the name "same", the first one in one.ts (${folder}/two.ts:2)\n`,
    );
  });
});

describe("node-kvm test --list of a good file", () => {
  beforeAll(() => {
    write("data.json", '{ "leaf": 7 }');
    write(
      "good.claims.ts",
      IMPORT,
      'import { expect as same } from "vitest";',
      'import { setTimeout } from "node:timers/promises";',
      'import data from "./data.json" with { type: "json" };',
      'import type { Missing } from "a-package-of-types";',
      'console.log("loads", same === expect);',
      "await setTimeout(1);",
      'claim("sync", "KVM has leaf " + data.leaf, { number: 7 }, () => {});',
      'claim("async", "KVM waits", async () => await setTimeout(1));',
    );
  });

  test("prints the file's claims, whatever the file itself prints", () => {
    const stdout = "sync: KVM has leaf 7\nasync: KVM waits\n";
    expect(run("test", "--list", "good.claims.ts")).toEqual({ status: 0, stdout, stderr: "" });
  });

  test("prints only the claims that match a pattern, and fails if none matches", () => {
    expect(run("test", "--list", "good.claims.ts", "waits").stdout).toBe("async: KVM waits\n");
    expect(run("test", "good.claims.ts", "none")).toEqual({
      status: 2,
      stdout: "",
      stderr: 'node-kvm: no claim contains "none"; node-kvm test --list FILE lists the claims\n',
    });
  });
});
