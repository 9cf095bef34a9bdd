/**
 * Tests that each program in examples/ prints the output that its last comment states, and that the lists of examples
 * are complete.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { lacks, needsOf, printedBy, problemOf, ROOT, runClaims, runFile } from "./program.ts";

const FOLDER = join(ROOT, "examples");
const LONGEST = 60;

const names = readdirSync(FOLDER).sort();
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

describe.each(names)("the example examples/%s", (name) => {
  const text = read(`examples/${name}`);

  test("prints the output that its last comment states", ({ skip }) => {
    const problem = problemOf(needsOf(text));
    skip(problem !== undefined, problem);
    const printed = printedBy(text);
    expect(printed).toBeDefined();
    const run = /^\/\/ .* Run: npx node-kvm test /.test(text) ? runClaims : runFile;
    expect(run(join(FOLDER, name))).toEqual({ status: 0, stdout: printed, stderr: "" });
  });

  test(`has fewer than ${LONGEST} lines`, () => {
    expect(text.trimEnd().split("\n").length).toBeLessThan(LONGEST);
  });

  test("imports only this package and modules of Node.js", () => {
    const imports = Array.from(text.matchAll(/ from "([^"]+)"/g), ([, module = ""]) => module);
    expect(imports.filter((module) => !/^(node-kvm(\/[a-z]+)?|node:.+)$/.test(module))).toEqual([]);
  });

  test.each(["docs/examples.md"])("is listed in %s", (list) => {
    expect(read(list)).toContain(`examples/${name})`);
  });
});

test.each(["docs/examples.md"])("%s lists no example that does not exist", (list) => {
  const listed = Array.from(read(list).matchAll(/examples\/([\w-]+\.js)\)/g), ([, name]) => name);
  expect(listed).toEqual(names);
});

test("the published package contains the examples", () => {
  const { files } = JSON.parse(read("package.json")) as { readonly files: readonly string[] };
  expect(files).toContain("examples");
});

describe("the comments of an example program", () => {
  test("state its requirements in the second line and its output at the end", () => {
    const text =
      "// A title.\n// Needs: KVM_CAP_IRQFD, CPU avx2\nwork();\n\n// Prints:\n// 1\n//\n//   2\n";
    expect(needsOf(text)).toEqual(["KVM_CAP_IRQFD", "CPU avx2"]);
    expect(printedBy(text)).toBe("1\n\n  2\n");
  });

  test("may be missing: an example without these comments requires nothing, and the example's output is not compared", () => {
    expect(needsOf("// A title.\nwork();\n")).toEqual([]);
    expect(printedBy("// A title.\nwork();\n")).toBeUndefined();
  });

  test("cannot state a requirement that the test cannot detect", () => {
    expect(() => lacks("luck")).toThrow("a program needs luck, which is no known need");
  });

  test("cause the example to be skipped on a CPU without a required feature", () => {
    expect(lacks("CPU no_such_feature")).toBe(true);
  });
});
