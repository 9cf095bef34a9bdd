/** Tests that the first line of each file describes the content of the file, and that file names are meaningful. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { describe, expect, test } from "vitest";

const PROJECT = join(import.meta.dirname, "..", "..");
const MOST_SCRIPTS = 10;
/** The scripts that npm starts automatically. */
const HOOKS = ["install", "prepack"];
const EMPTY_NAMES = /^(utils?|helpers?|common|types|interfaces|constants)\.[a-z]+$/;

/** Files that no person writes: generated code, facts, snapshots, recorded data. */
const NOT_BY_HAND = /(^|\/)(generated|facts|fixtures|__snapshots__)\//;
const CODE = /\.(ts|js|c|cc|h|py|css|sh)$/;

function filesIn(folder: string): readonly string[] {
  const path = join(PROJECT, folder);
  if (!existsSync(path)) return [];
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(PROJECT, join(entry.parentPath, entry.name)));
}

const handWritten = (...folders: readonly string[]): readonly string[] =>
  folders
    .flatMap(filesIn)
    .filter((file) => CODE.test(file) && !NOT_BY_HAND.test(file))
    .sort();

const read = (file: string): string => readFileSync(join(PROJECT, file), "utf8");

/** Matches a comment with words on the first line, or on the second line after `#!` or an opening `/*`. */
function saysWhatItIs(text: string): boolean {
  const [first = "", second = "", third = ""] = text.split("\n");
  const [line, next] = first.startsWith("#!") ? [second, third] : [first, second];
  const opened = line === "/**" ? next.replace(/^ \*/, "//") : line;
  return /^(\/\*\*?|\/\/|#|""")\s*[^\s*]*\w/.test(opened);
}

const ours = handWritten("lib", "test", "gen", "native", "scripts", "examples", "bench");

test("the test of first lines reads more than 50 files", () => {
  expect(ours.length).toBeGreaterThan(50);
});

test("the first comment of every file describes the file", () => {
  const silent = handWritten("lib", "test", "gen").filter((file) => !saysWhatItIs(read(file)));
  expect(silent).toEqual([]);
});

test("no file has a meaningless name, such as utils", () => {
  expect(ours.filter((file) => EMPTY_NAMES.test(basename(file)))).toEqual([]);
});

test("package.json has at most ten scripts that a person runs", () => {
  const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
  const names = Object.keys(scripts).filter((name) => !HOOKS.includes(name));
  expect(names.length).toBeLessThanOrEqual(MOST_SCRIPTS);
});

describe("the check of a file's first line", () => {
  test.each([
    "/** What it is. */\n",
    "/**\n * What it is.\n */\n",
    "// What it is.\n",
    "#!/usr/bin/env node\n/** What it is. */\n",
    '"""What it is."""\n',
  ])("accepts %j", (text) => {
    expect(saysWhatItIs(text)).toBe(true);
  });

  test.each(["", "\n/** Late. */\n", "import x;\n/** Late. */\n", "/** */\n", "/**\n */\n"])(
    "rejects %j",
    (text) => {
      expect(saysWhatItIs(text)).toBe(false);
    },
  );
});

test("the check of file names rejects meaningless names and accepts other names", () => {
  expect(
    ["utils.ts", "helper.js", "types.ts"].filter((name) => EMPTY_NAMES.test(name)),
  ).toHaveLength(3);
  expect(["entry.ts", "types-of-exit.ts"].filter((name) => EMPTY_NAMES.test(name))).toEqual([]);
});
