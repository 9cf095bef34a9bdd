/** Tests that each equivalent mutant in equivalents.json names an existing line and has a reason. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const PROJECT = join(import.meta.dirname, "..", "..");

interface Group {
  readonly reason: string;
  /** Each mutant is `file | line | original => replacement`, with single spaces. */
  readonly mutants: readonly string[];
}

const list = readFileSync(join(PROJECT, "test/mutation/equivalents.json"), "utf8");
const groups = JSON.parse(list) as readonly Group[];
const mutants = groups.flatMap((group) => group.mutants);

/** Returns the lines of a file with single spaces, or an empty list if the file does not exist. */
function linesOf(file: string): readonly string[] {
  const path = join(PROJECT, file);
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .map((line) => line.replaceAll(/\s+/g, " ").trim());
}

function isThere(mutant: string): boolean {
  const [file = "", line = ""] = mutant.split(" | ");
  // The source line may contain the separator ` | `, so splitting the string cannot find the line's end.
  return linesOf(file).some(
    (one) => one.startsWith(line) && mutant.startsWith(`${file} | ${one} | `),
  );
}

test("every mutant in equivalents.json names an existing line", () => {
  expect(mutants.filter((mutant) => !isThere(mutant))).toEqual([]);
});

test("the test of equivalents.json finds a mutant whose line does not exist", () => {
  expect(isThere("lib/cpuid/diff.ts | const gone = 1; | 1 => 2")).toBe(false);
  expect(isThere("lib/cpuid/gone.ts | const gone = 1; | 1 => 2")).toBe(false);
});

/** Lists the vitest names that a test file uses, such as `test` and `test.each`. */
function usedOf(text: string): readonly string[] {
  const imported = /import \{([^}]*)\} from "vitest"/.exec(text)?.[1] ?? "";
  const members = text.match(/(?<![./\w-])(test|describe|it|vi)\.\w+/g) ?? [];
  return [...imported.split(",").map((name) => name.trim()), ...members].filter(
    (name) => name !== "" && !name.startsWith("type "),
  );
}

/**
 * Returns the names that the mutation run's replacement for vitest defines. The function loads the replacement in a
 * separate process, because the replacement sets vitest's global variables.
 */
function standInNames(): readonly string[] {
  const program = `
    const { openSession } = await import(${JSON.stringify(join(PROJECT, "test/mutation/session.js"))});
    const { api } = await openSession();
    const members = (name) => Object.keys(api[name]).map((member) => name + "." + member);
    console.log(JSON.stringify(Object.keys(api).flatMap((name) => [name, ...members(name)])));`;
  const args = ["--input-type=module", "-e", program];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" })) as string[];
}

test("the mutation run's replacement for vitest has every name that the run's tests use", () => {
  const names = standInNames();
  const folders = ["explain", "state", "cpuid"].map((name) => join(PROJECT, "test/unit", name));
  const files = folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith(".ts"))
      .map((name) => join(folder, name)),
  );
  const lacking = files.flatMap((file) =>
    usedOf(readFileSync(file, "utf8"))
      .filter((name) => !names.includes(name))
      .map((name) => `${name} of ${file}`),
  );
  expect(files.length).toBeGreaterThan(20);
  expect(lacking).toEqual([]);
  const used = usedOf('import { test } from "vitest";\ntest.skipIf(true)');
  expect(used.filter((name) => !names.includes(name))).toEqual(["test.skipIf"]);
});

test("every group in equivalents.json has a reason, and no mutant is listed twice", () => {
  expect(groups.filter(({ reason }) => reason.length < 20)).toEqual([]);
  expect(mutants.filter((mutant, i) => mutants.indexOf(mutant) !== i)).toEqual([]);
});
