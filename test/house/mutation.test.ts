/** The list of mutants that no test can kill: each names a line that is there, and has a reason. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const PROJECT = join(import.meta.dirname, "..", "..");

interface Group {
  readonly reason: string;
  /** Each is `file | line | original => replacement`, with single spaces. */
  readonly mutants: readonly string[];
}

const list = readFileSync(join(PROJECT, "test/mutation/equivalents.json"), "utf8");
const groups = JSON.parse(list) as readonly Group[];
const mutants = groups.flatMap((group) => group.mutants);

/** The lines of a file with single spaces; none if there is no such file. */
function linesOf(file: string): readonly string[] {
  const path = join(PROJECT, file);
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .map((line) => line.replaceAll(/\s+/g, " ").trim());
}

function isThere(mutant: string): boolean {
  const [file = "", line = ""] = mutant.split(" | ");
  // The line itself may have the separator in it.
  return linesOf(file).some(
    (one) => one.startsWith(line) && mutant.startsWith(`${file} | ${one} | `),
  );
}

test("every listed mutant names a line that is there", () => {
  expect(mutants.filter((mutant) => !isThere(mutant))).toEqual([]);
});

test("a mutant whose line is gone is found", () => {
  expect(isThere("lib/cpuid/diff.ts | const gone = 1; | 1 => 2")).toBe(false);
  expect(isThere("lib/cpuid/gone.ts | const gone = 1; | 1 => 2")).toBe(false);
});

interface Session {
  readonly api: Readonly<Record<string, unknown>>;
}

/** What a test file uses of vitest: `test`, `test.each`. */
function usedOf(text: string): readonly string[] {
  const imported = /import \{([^}]*)\} from "vitest"/.exec(text)?.[1] ?? "";
  const members = text.match(/(?<![./\w-])(test|describe|it|vi)\.\w+/g) ?? [];
  return [...imported.split(",").map((name) => name.trim()), ...members].filter(
    (name) => name !== "" && !name.startsWith("type "),
  );
}

/** Tells whether the stand-in of the mutation run has a name. */
function hasName({ api }: Session, name: string): boolean {
  const [first = "", member] = name.split(".");
  const found = api[first] as Readonly<Record<string, unknown>> | undefined;
  return (member === undefined ? found : found?.[member]) !== undefined;
}

test("the mutation run's stand-in for vitest has all that its tests use", async () => {
  const path = join(PROJECT, "test/mutation/session.js");
  const { openSession } = (await import(path)) as { openSession: () => Promise<Session> };
  const session = await openSession();
  const folders = ["explain", "state", "cpuid"].map((name) => join(PROJECT, "test/unit", name));
  const files = folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith(".ts"))
      .map((name) => join(folder, name)),
  );
  const lacking = files.flatMap((file) =>
    usedOf(readFileSync(file, "utf8"))
      .filter((name) => !hasName(session, name))
      .map((name) => `${name} of ${file}`),
  );
  expect(files.length).toBeGreaterThan(20);
  expect(lacking).toEqual([]);
  expect(usedOf('import { test } from "vitest";\ntest.skipIf(true)')).toEqual([
    "test",
    "test.skipIf",
  ]);
  expect(hasName(session, "test.skipIf")).toBe(false);
});

test("every group has a reason, and no mutant is listed twice", () => {
  expect(groups.filter(({ reason }) => reason.length < 20)).toEqual([]);
  expect(mutants.filter((mutant, i) => mutants.indexOf(mutant) !== i)).toEqual([]);
});
