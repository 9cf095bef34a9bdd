/**
 * Tests that the code blocks of the documentation and the files of examples/ compile against the built types. The
 * documentation is README.md, CONTRIBUTING.md, docs/ and the docstrings of lib/. A block with the mark `run` must run
 * without an error.
 *
 * A ```text output block follows a ```js run block if the program prints the same on each host. The words after `run`
 * are the requirements of the program: ```js run CPU avx2, cc
 *
 * `node-kvm test` judges a ```js claims block.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import ts from "typescript";
import { describe, expect, test } from "vitest";
import { problemOf, ROOT, runClaims, runFile, runText } from "../unit/examples/program.ts";
import { type Block, blocksOfDocstrings, blocksOfMarkdown } from "./code-blocks.ts";

/** The languages that a block may have. The test compiles blocks in the first two languages. */
const LANGUAGES = ["js", "ts", "console", "text", "c", "json", "sh"];

/**
 * Blocks that are only a part of a program. A key is the file and the first line of a block. A value maps each
 * undeclared name in the block to the name's type.
 */
const FRAGMENTS: Readonly<Record<string, Readonly<Record<string, string>>>> = {};

/** The compiler's error codes that are accepted in JavaScript blocks: 18046 reports a caught value of unknown type. */
const NOT_IN_JAVASCRIPT = [18046];

const OPTIONS: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2023,
  lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts"],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  types: ["node"],
  strict: true,
  exactOptionalPropertyTypes: true,
  allowJs: true,
  checkJs: true,
  noEmit: true,
  skipLibCheck: true,
};

const read = (file: string): string => readFileSync(join(ROOT, file), "utf8");

function filesIn(folder: string, end: string): readonly string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(end))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .sort();
}

const isCompiled = ({ language }: Block): boolean => language === "js" || language === "ts";
const isRun = ({ marks }: Block): boolean => /^(run|claims)\b/.test(marks);
const placeOf = ({ file, line }: Block): string => `${file}:${line}`;
const keyOf = ({ file, code }: Block): string => `${file}: ${code.split("\n")[0]}`;

/** Returns the declarations of the undeclared names in a fragment. */
function preambleOf(block: Block): string {
  const names = Object.entries(FRAGMENTS[keyOf(block)] ?? {}).map(([name, type]) =>
    block.language === "ts"
      ? `declare const ${name}: ${type};\n`
      : `/** @type {${type}} */ const ${name} = /** @type {any} */ (undefined);\n`,
  );
  // `export {}` makes the file a module; a script would share its names with other scripts.
  return `export {};\n${names.join("")}`;
}

/** Compiles blocks and files in one program and returns each error as `file:line: message`. */
function errorsOf(blocks: readonly Block[], files: readonly string[] = []): readonly string[] {
  const sources = new Map(
    blocks.map((block, i) => {
      const text = preambleOf(block) + block.code;
      return [join(ROOT, `block-${i}.${block.language}`), { block, text }] as const;
    }),
  );
  const host = ts.createCompilerHost(OPTIONS);
  const { fileExists, readFile } = host;
  host.fileExists = (name) => sources.has(name) || fileExists(name);
  host.readFile = (name) => sources.get(name)?.text ?? readFile(name);
  const roots = [...sources.keys(), ...files.map((file) => join(ROOT, file))];
  const program = ts.createProgram(roots, OPTIONS, host);
  return ts
    .getPreEmitDiagnostics(program)
    .filter(
      ({ code, file }) => !(file?.fileName.endsWith(".js") && NOT_IN_JAVASCRIPT.includes(code)),
    )
    .map(({ file, start = 0, messageText }) => {
      const text = ts.flattenDiagnosticMessageText(messageText, "\n");
      if (file === undefined) return text;
      const line = file.getLineAndCharacterOfPosition(start).line + 1;
      const block = sources.get(file.fileName)?.block;
      if (block === undefined) return `${relative(ROOT, file.fileName)}:${line}: ${text}`;
      const before = preambleOf(block).split("\n").length - 1;
      return `${block.file}:${block.line + line - 1 - before}: ${text}`;
    });
}

const markdown = ["README.md", "CONTRIBUTING.md", ...filesIn("docs", ".md")];
const blocks = [
  ...markdown.flatMap((file) => blocksOfMarkdown(file, read(file))),
  ...filesIn("lib", ".ts").flatMap((file) => blocksOfDocstrings(file, read(file))),
];

/** Lists the blocks that the test runs, each with its output block. */
const programs = blocks.flatMap((block, i) => {
  const next = blocks[i + 1];
  const isOutput = next?.file === block.file && next.marks === "output";
  return isRun(block)
    ? [{ place: placeOf(block), block, output: isOutput ? next.code : undefined }]
    : [];
});

/** Returns a block as JavaScript that every supported Node.js can run: without types and `using`. */
function javascriptOf({ code }: Block): string {
  return ts.transpileModule(code, { compilerOptions: OPTIONS, fileName: "program.mts" }).outputText;
}

test("every code block of the documentation and every example compiles against the built types", () => {
  expect(errorsOf(blocks.filter(isCompiled), filesIn("examples", ".js"))).toEqual([]);
});

test("every code block of the documentation states a known language", () => {
  const others = blocks.filter(({ language }) => !LANGUAGES.includes(language));
  expect(others.map((block) => `${placeOf(block)} ${block.language}`)).toEqual([]);
});

test("every mark of a code block is known, and every output block follows a program", () => {
  const outputs = programs.filter(({ output }) => output !== undefined).length;
  expect(blocks.filter(({ marks }) => marks === "output")).toHaveLength(outputs);
  const unknown = blocks.filter(
    (block) =>
      block.marks !== "" && block.marks !== "output" && !(isRun(block) && isCompiled(block)),
  );
  expect(unknown.map(placeOf)).toEqual([]);
});

test("every listed code fragment exists once, and uses each name that the list declares for the fragment", () => {
  const stale = Object.entries(FRAGMENTS).flatMap(([key, names]) => {
    const found = blocks.filter((block) => isCompiled(block) && keyOf(block) === key);
    const unused = Object.keys(names).filter(
      (name) => !found.every(({ code }) => new RegExp(`\\b${name}\\b`).test(code)),
    );
    return found.length === 1 && unused.length === 0 ? [] : [`${key} ${unused.join(", ")}`];
  });
  expect(stale).toEqual([]);
});

test("each guide, and each file with an example in a docstring, has a program that a test runs", () => {
  const guides = filesIn("docs/guides", ".md");
  const run = new Set(blocks.filter(isRun).map(({ file }) => file));
  expect(guides.filter((file) => !run.has(file))).toEqual([]);
  const examples = filesIn("lib", ".ts").filter((file) => / \* @example\n/.test(read(file)));
  expect(examples.filter((file) => !run.has(file))).toEqual([]);
});

test("a test runs the README's first program and its claim", () => {
  const first = blocks.filter((block) => block.file === "README.md" && isCompiled(block));
  expect(first.slice(0, 2).map(isRun)).toEqual([true, true]);
});

test.for(programs.map((program) => [program.place, program] as const))(
  "the code block %s runs, and prints the text of the next block",
  ([, { block, output }], { skip }) => {
    const needs = block.marks.replace(/^(run|claims) ?/, "");
    const problem = problemOf(needs === "" ? [] : needs.split(", "));
    skip(problem !== undefined, problem);
    const { stdout, ...ending } = runText(
      javascriptOf(block),
      block.marks.startsWith("claims") ? runClaims : runFile,
    );
    expect(ending).toEqual({ status: 0, stderr: "" });
    // Without an output block, any output is accepted.
    expect(stdout).toBe(output ?? stdout);
  },
);

describe("a planted fault in a code block", () => {
  const block = (language: string, code: string): Block => ({
    file: "a.md",
    line: 10,
    language,
    marks: "",
    code,
  });

  test("is reported with its position, and a correct block has no error", () => {
    const errors = errorsOf([
      block("js", 'import { Kvm } from "node-kvm";\n\nKvm.open().createVn();\n'),
      block("ts", 'import { NoSuchName } from "node-kvm/trace";\n'),
      block("ts", 'import { Kvm } from "node-kvm";\n\nusing kvm: Kvm = Kvm.open();\n'),
      block("ts", "vcpu.run();\n"),
      block("js", "try {\n  throw 1;\n} catch (error) {\n  console.log(error.message);\n}\n"),
    ]);
    expect(errors).toEqual([
      expect.stringMatching(/^a\.md:12: Property 'createVn' does not exist/),
      expect.stringMatching(/^a\.md:10: .*no exported member 'NoSuchName'/),
      "a.md:10: Cannot find name 'vcpu'.",
    ]);
  });

  test("in a docstring is reported with the line number in the file", () => {
    const text =
      "const a = 1;\n\n/**\n * Does it.\n *\n * ```ts run cc\n * f(\n *   1);\n * ```\n */\n";
    expect(blocksOfDocstrings("a.ts", text)).toEqual([
      { file: "a.ts", line: 7, language: "ts", marks: "run cc", code: "f(\n  1);\n" },
    ]);
  });

  test("is reported if the block has no closing fence", () => {
    expect(() => blocksOfMarkdown("a.md", "text\n\n```js\nf();\n")).toThrow(
      "a.md:3: a block of code has no end",
    );
  });
});
