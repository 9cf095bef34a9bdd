/**
 * Prints sentences of this project, for a reader who judges whether each is understood alone: comments, docstrings,
 * documents, messages and test titles, each with its file and line. A title is printed as in a list of failures,
 * "describe > test". A string in a test is not printed as a message, because it repeats a message or belongs to a table
 * of test cases.
 *
 * `node scripts/sentences.js --seed 1 --count 50` draws 50 at random; the same seed draws the same sentences. `--room
 * test/unit` selects a file or a folder, and `--kind title` one kind (comment, document, message or title). Without
 * `--count`, the script prints all sentences in the order of the files.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import ts from "typescript";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));

/** Everything that a person reads, except lists of names and generated files. */
const ROOMS = [
  ...["README.md", "CONTRIBUTING.md", "docs", "lib", "native", "test", "scripts", "gen"],
  ...["bench", "examples"],
];
const READ = /\.(md|ts|js|cc|h|c)$/;
const SKIPPED = /(^|\/)(generated|fixtures|__snapshots__|node_modules)\//;

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    count: { type: "string" },
    room: { type: "string", multiple: true, default: ROOMS },
    kind: { type: "string" },
  },
});

function filesOf(room) {
  if (statSync(room).isFile()) return [room];
  return readdirSync(room, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => READ.test(file) && !SKIPPED.test(file))
    .sort();
}

/** Returns the text of a comment without its markers; an empty line of the comment stays an empty line. */
function withoutMarkers(comment) {
  return comment
    .replace(/^\/\*+|\*+\/$/g, "")
    .split("\n")
    .map((line) => line.replace(/^\s*(\/\/+|\*)/, "").trim())
    .join("\n");
}

/**
 * A sentence has at least three words that are not code. A heading, a reference, a parameter's type, an instruction to
 * a linter or a formatter, a marker of prelude.c and the end of a namespace are not sentences.
 */
const isSentence = (text) =>
  !/^(#|NOLINT|biome-ignore|clang-format|part: |namespace |@(ioctl|source|example|\w+ \{))/.test(
    text,
  ) &&
  (text.replaceAll(/`[^`]*`|\{@link [^}]*\}|\$\{[^}]*\}/g, "").match(/\p{Letter}{2,}/gu) ?? [])
    .length >= 3;

/** Splits text into paragraphs, list items and table rows, and splits each of them into sentences. */
function sentencesOf(text, line) {
  const found = [];
  let at = line;
  for (const block of text.split(/(\n\s*\n|\n(?=\s*(?:[-*|#>]|\d+\.) )|\n(?=@))/)) {
    const words = block.replaceAll(/\s+/g, " ").trim();
    if (words !== "") {
      for (const sentence of words.split(/(?<=[.!?][)"'`]?) (?=[A-Z`"'([])/)) {
        if (isSentence(sentence)) found.push({ line: at, sentence });
      }
    }
    at += block.split("\n").length - 1;
  }
  return found;
}

const withoutCode = (text) =>
  text.replaceAll(/```.*?```/gs, (block) => block.replaceAll(/[^\n]/g, ""));

function ofDocument(text) {
  return sentencesOf(withoutCode(text), 1).map((one) => ({ ...one, kind: "document" }));
}

const lineAt = (text, at) => text.slice(0, at).split("\n").length;

function ofC(text) {
  const comments = text.matchAll(/(?:^[ \t]*\/\/[^\n]*\n?)+|\/\/[^\n]*|\/\*.*?\*\//gms);
  return Array.from(comments).flatMap((match) =>
    sentencesOf(withoutMarkers(match[0].trim()), lineAt(text, match.index)).map((one) => ({
      ...one,
      kind: "comment",
    })),
  );
}

const TITLED = new Set(["test", "it", "describe", "claim"]);

/** Returns the kind and the title of a call such as `describe("…")`, `test.each(…)("…")` or `claim("name", "…")`. */
function titleOf(node) {
  if (!ts.isCallExpression(node)) return undefined;
  let callee = node.expression;
  while (
    ts.isCallExpression(callee) ||
    ts.isPropertyAccessExpression(callee) ||
    ts.isTaggedTemplateExpression(callee)
  ) {
    callee = ts.isTaggedTemplateExpression(callee) ? callee.tag : callee.expression;
  }
  if (!ts.isIdentifier(callee) || !TITLED.has(callee.text)) return undefined;
  const isClaim = callee.text === "claim";
  if (isClaim && !isText(node.arguments[0])) return undefined;
  const title = node.arguments[isClaim ? 1 : 0];
  return isText(title) ? { title, isGroup: callee.text === "describe" } : undefined;
}

const isText = (node) =>
  node !== undefined && (ts.isStringLiteralLike(node) || ts.isTemplateExpression(node));
const wordsOf = (node) => node.getText().slice(1, -1).replaceAll(/\s+/g, " ");

/**
 * A string with at least four words, three of them adjacent in lower case, is a message, unless it is a program or a
 * list of names such as `fxsr_opt lahf_lm svm`.
 */
const isMessage = (text) =>
  text.split(" ").length >= 4 &&
  !/^(?=.*[0-9_])[a-z0-9_]+( [a-z0-9_]+)+$/.test(text) &&
  /(?:^|\s)[A-Za-z][a-z]*,? [a-z]+,? [a-z]+/.test(text) &&
  !/(^|[\s;])(mov|add|cmp|out|jmp|hlt|const|import) /.test(text);

/** Joins the ranges of `//` comments on adjacent lines. */
function joined(text, ranges) {
  const blocks = [];
  for (const { pos, end } of ranges) {
    const last = blocks.at(-1);
    const isNext = last && /^[ \t]*\n[ \t]*$/.test(text.slice(last.end, pos));
    if (isNext && text.startsWith("//", last.pos) && text.startsWith("//", pos)) last.end = end;
    else blocks.push({ pos, end });
  }
  return blocks;
}

function ofScript(text, hasMessages) {
  const source = ts.createSourceFile("file.ts", text, ts.ScriptTarget.ES2023, true);
  const found = new Map();
  const addComments = (ranges) => {
    for (const { pos, end } of joined(text, ranges ?? [])) {
      found.set(
        pos,
        sentencesOf(withoutCode(withoutMarkers(text.slice(pos, end))), lineAt(text, pos)).map(
          (one) => ({ ...one, kind: "comment" }),
        ),
      );
    }
  };
  const visit = (node, groups) => {
    addComments(ts.getLeadingCommentRanges(text, node.getFullStart()));
    addComments(ts.getTrailingCommentRanges(text, node.getEnd()));
    const titled = titleOf(node);
    const inner = titled?.isGroup ? [...groups, wordsOf(titled.title)] : groups;
    const line = lineAt(text, node.getStart());
    if (titled && !titled.isGroup) {
      const sentence = [...groups, wordsOf(titled.title)].join(" > ");
      found.set(titled.title.getStart(), [{ line, sentence, kind: "title" }]);
    } else if (
      hasMessages &&
      isText(node) &&
      node.parent.name !== node &&
      !found.has(node.getStart()) &&
      isMessage(wordsOf(node))
    ) {
      if (!(titleOf(node.parent)?.title === node)) {
        found.set(node.getStart(), [{ line, sentence: wordsOf(node), kind: "message" }]);
      }
    }
    for (const child of node.getChildren(source)) visit(child, inner);
  };
  visit(source, []);
  return Array.from(found.entries())
    .sort(([a], [b]) => a - b)
    .flatMap(([, sentences]) => sentences);
}

function ofFile(file) {
  const text = readFileSync(file, "utf8");
  if (file.endsWith(".md")) return ofDocument(text);
  return /\.(cc|h|c)$/.test(file) ? ofC(text) : ofScript(text, !file.startsWith("test/"));
}

/** Returns the next number of a sequence in [0, 1) that a seed determines (mulberry32). */
function sequence(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Draws `count` elements of the list at random, without repetition. */
function draw(list, count, next) {
  const left = Array.from(list);
  return Array.from({ length: Math.min(count, left.length) }, () => {
    const at = Math.floor(next() * left.length);
    return left.splice(at, 1)[0];
  });
}

const all = values.room
  .flatMap(filesOf)
  .flatMap((file) => ofFile(file).map((one) => ({ file, ...one })))
  .filter(({ kind }) => values.kind === undefined || kind === values.kind);
const shown =
  values.count === undefined ? all : draw(all, Number(values.count), sequence(Number(values.seed)));
for (const { file, line, sentence } of shown) console.log(`${file}:${line}: ${sentence}`);
console.error(`${shown.length} of ${all.length} sentences`);
