/**
 * Tests that documents, comments, docstrings, titles and messages follow the language rules of STYLE.md, as far as a
 * pattern can detect a violation.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import ts from "typescript";
import { describe, expect, test } from "vitest";

const PROJECT = join(import.meta.dirname, "..", "..");

/** The files and folders that the test reads. */
const ROOMS = [
  ...["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "lib", "native", "test"],
  ...["scripts", "gen", "bench", "examples"],
];

/** The files and folders that still contain banned words: remove a line when its folder is rewritten. */
const NOT_DONE: readonly string[] = [];

/** Matches folders that contain no prose of this project. */
const SKIPPED = /(^|\/)(generated|facts|fixtures|__snapshots__)\//;

/** Patterns for metaphors, personification, inversions and Germanisms. */
const BANNED: readonly RegExp[] = [
  /\b(tells?|told|telling)\b/i,
  /\b(says?|said|saying)\b/i,
  /\b(hears?|heard|speaks?|spoken?|listens? to)\b/i,
  /\blook(s|ed|ing)?\b(?! up| ahead)/i,
  /\b(lies?|lied|lying|liars?)\b/i,
  /\b(patien(ce|t)|graves?|leash|alive|honest)\b/i,
  /\b(own|apt's|kernel's|loader's) words?\b/i,
  /\b(that|which|as|what) there (is|are|was)\b/i,
  /\bwho (asks?|waits?|wants?|runs?|made|has|opens?)\b/i,
  /\b(nobody|somebody|no one)\b/i,
  /\b(can|could|cannot|may) be had\b/i,
  /\bfor to\b/i,
  /\bfor ever\b/i,
  /\bwhen that were\b/i,
  /\bends? (it|them) well\b/i,
  /\bwhat was\b/i,
  /\b(goes|go|went) on (with|from|where|after|in)\b/i,
  /\b(is|are) to be (asked|told|seen|had|given)\b/i,
  /\bas good as (none|any)\b/i,
  /\b(held against|in vain|in silence)\b/i,
  /\bof which nothing is known\b/i,
  /\bwhere no (memory|slot) is\b/i,
  /\bwhat (is|are) (sent|given|asked|no|wrong|left)\b/i,
  /\btakes? (only|no) (what|more)\b/i,
  // An activity is not a file: the next pattern finds "Writing it is json.ts". CODE has replaced the file name.
  /(^|[.;] )\w+ing [^.;:]{1,60} (is|are) CODE\b/i,
];

/** Matches the first word of a docstring if the word only delays the subject. */
const BAD_OPENING = /^(Holds?|What|Who|Whom|Says?|Tells?)\b/;

const isDone = (path: string): boolean =>
  !NOT_DONE.some((room) => path === room || path.startsWith(`${room}/`));

/** Lists the files of a folder, as paths relative to the project. */
function filesOf(room: string): readonly string[] {
  const path = join(PROJECT, room);
  if (statSync(path).isFile()) return [room];
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(PROJECT, join(entry.parentPath, entry.name)))
    .filter((file) => /\.(md|ts|js|cc|h|c)$/.test(file) && !SKIPPED.test(file));
}

interface Prose {
  readonly line: number;
  readonly text: string;
  readonly isDocstring: boolean;
}

/** Removes comment markers, replaces code spans and links by CODE, and joins the lines. */
function plain(text: string): string {
  return text
    .replace(/^\/\*\*?|\*\/$/g, "")
    .split("\n")
    .map((line) => line.replace(/^\s*(\/\/|\*)\s?/, "").trim())
    .join(" ")
    .replaceAll(/\{@link [^}]*\}|\$\{[^}]*\}|`[^`]*`|\b[\w/]+\.(ts|js|cc|h)\b/g, "CODE")
    .trim();
}

const lineAt = (text: string, at: number): number => text.slice(0, at).split("\n").length;

/** Splits a document into its lines, without code blocks. */
function proseOfDocument(text: string): readonly Prose[] {
  const withoutCode = text.replaceAll(/```.*?```/gs, (block) => block.replaceAll(/[^\n]/g, ""));
  return withoutCode
    .split("\n")
    .map((line, i) => ({ line: i + 1, text: plain(line), isDocstring: false }));
}

const TITLED = new Set(["test", "it", "describe", "claim"]);

/** Returns the title of a call such as `test("…")`, `test.each(…)("…")` or `claim("name", "…")`. */
function titleOf(node: ts.Node): ts.Node | undefined {
  if (!ts.isCallExpression(node)) return undefined;
  let callee: ts.Expression = node.expression;
  while (ts.isCallExpression(callee) || ts.isPropertyAccessExpression(callee)) {
    callee = callee.expression;
  }
  if (!ts.isIdentifier(callee) || !TITLED.has(callee.text)) return undefined;
  const title = node.arguments[callee.text === "claim" ? 1 : 0];
  return title && (ts.isStringLiteralLike(title) || ts.isTemplateExpression(title))
    ? title
    : undefined;
}

/** Properties whose strings are shown to users, such as the reason of a rule. */
const SHOWN = new Set(["why", "needs", "reason", "message"]);

/** Returns whether a string is the message of a thrown error, or the value of a property of {@link SHOWN}. */
function isMessage(node: ts.Node): boolean {
  if (!ts.isStringLiteralLike(node) && !ts.isTemplateExpression(node)) return false;
  const { parent } = node;
  if (ts.isNewExpression(parent)) return ts.isThrowStatement(parent.parent);
  return ts.isPropertyAssignment(parent) && SHOWN.has(parent.name.getText());
}

/** Returns the comments, test titles and messages of a TypeScript or JavaScript file. */
function proseOfScript(text: string): readonly Prose[] {
  const source = ts.createSourceFile("file.ts", text, ts.ScriptTarget.ES2023, true);
  const found = new Map<number, Prose>();
  const add = (start: number, end: number): void => {
    const part = text.slice(start, end);
    const isDocstring = part.startsWith("/**");
    found.set(start, { line: lineAt(text, start), text: plain(part), isDocstring });
  };
  const visit = (node: ts.Node): void => {
    for (const { pos, end } of ts.getLeadingCommentRanges(text, node.getFullStart()) ?? []) {
      add(pos, end);
    }
    for (const { pos, end } of ts.getTrailingCommentRanges(text, node.getEnd()) ?? []) {
      add(pos, end);
    }
    const title = titleOf(node);
    if (title) add(title.getStart() + 1, title.getEnd() - 1);
    if (isMessage(node)) add(node.getStart() + 1, node.getEnd() - 1);
    for (const child of node.getChildren(source)) visit(child);
  };
  visit(source);
  return Array.from(found.values());
}

/** Returns the comments of a C or C++ file; adjacent `//` lines are one comment. */
function proseOfC(text: string): readonly Prose[] {
  const comments = text.matchAll(/(?:^[ \t]*\/\/[^\n]*\n?)+|\/\/[^\n]*|\/\*.*?\*\//gms);
  return Array.from(comments, (match) => ({
    line: lineAt(text, match.index),
    text: plain(match[0].trim()),
    isDocstring: false,
  }));
}

function proseOf(file: string, text: string): readonly Prose[] {
  if (file.endsWith(".md")) return proseOfDocument(text);
  return /\.(cc|h|c)$/.test(file) ? proseOfC(text) : proseOfScript(text);
}

/** Returns each finding as `file:line: the matched words`. */
function findings(file: string, text: string): readonly string[] {
  return proseOf(file, text).flatMap(({ line, text: prose, isDocstring }) => {
    const rules = isDocstring ? [...BANNED, BAD_OPENING] : BANNED;
    return rules.flatMap((rule) => {
      const words = rule.exec(prose)?.[0];
      return words === undefined ? [] : [`${file}:${line}: ${words}`];
    });
  });
}

const files = ROOMS.flatMap(filesOf);
const findingsIn = (list: readonly string[]): readonly string[] =>
  list.flatMap((file) => findings(file, readFileSync(join(PROJECT, file), "utf8")));

test("finished files and folders contain no banned word or pattern", () => {
  const done = files.filter(isDone);
  expect(done.length).toBeGreaterThan(150);
  expect(findingsIn(done)).toEqual([]);
});

test.each(NOT_DONE)(
  "the unfinished folder %s still has banned words; otherwise it must leave the list",
  (room) => {
    expect(filesOf(room).some((file) => findingsIn([file]).length > 0)).toBe(true);
  },
);

describe("the search for banned words", () => {
  test.each([
    ["a.md", "KVM tells the count."],
    ["a.ts", "// It says so.\n"],
    ["a.ts", "/** Holds the lowest bit. */\nconst a = 1;\n"],
    ["a.ts", "f(); // the flag that there is\n"],
    ["a.ts", "const a = {\n  /** What was sent. */\n  b: 1,\n};\n"],
    ["a.ts", 'test("a vCPU looks at memory", () => {});\n'],
    ["a.ts", 'test.each([1])("a vCPU that is alive: %s", () => {});\n'],
    ["a.ts", 'claim("name", "KVM tells all", () => {});\n'],
    ["a.ts", 'throw new Error("the file that there is");\n'],
    ["a.ts", "throw new RangeError(`KVM says so`);\n"],
    ["a.ts", 'const rule = { why: "it goes on from zero" };\n'],
    ["bench/a.js", "// It looks at the exit.\n"],
    ["a.ts", "/** Reads JSON. Writing it is b.ts. */\nconst a = 1;\n"],
    ["a.cc", "// A page that\n// cannot be\n// had.\nint a;\n"],
  ])("finds the planted banned word in %s: %j", (file, text) => {
    expect(findings(file, text)).not.toEqual([]);
  });

  test.each([
    ["a.md", "`says` is a name.\n\n```\nit tells\n```\n"],
    ["a.ts", 'const a = "it says so"; // reads the count\n'],
    ["a.ts", "/** Returns what {@link says} returned, looked up by name. */\nconst a = 1;\n"],
    ["a.cc", 'const char* a = "it says so";  // reads the count\n'],
  ])("accepts plain text: %s %j", (file, text) => {
    expect(findings(file, text)).toEqual([]);
  });
});
