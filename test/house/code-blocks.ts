/**
 * Finds code blocks of Markdown files and docstrings, with file and line. The test code-blocks.test.ts compiles and
 * runs the blocks.
 */

/** A fenced block of code. */
export interface Block {
  /** The path of the file that contains the block, relative to the project. */
  readonly file: string;
  /** The position of the first code line in the file: a line number, from 1. */
  readonly line: number;
  /** The first word after the fence: `js`. */
  readonly language: string;
  /** The words after the language, such as `run`. */
  readonly marks: string;
  readonly code: string;
}

const FENCE = /^ *(`{3,})(.*)$/;

function fencedIn(file: string, lines: readonly string[], offset: number): readonly Block[] {
  const blocks: Block[] = [];
  for (let i = 0; i < lines.length; i += 1) {
    const [, fence, info = ""] = FENCE.exec(lines[i] ?? "") ?? [];
    if (fence === undefined) continue;
    const indent = (lines[i] ?? "").indexOf("`");
    const end = lines.findIndex((line, at) => at > i && line.trim() === fence);
    const line = offset + i + 2;
    if (end === -1) throw new Error(`${file}:${line - 1}: a block of code has no end`);
    const [language = "", ...marks] = info.trim().split(" ");
    const code = lines.slice(i + 1, end).map((one) => `${one.slice(indent)}\n`);
    blocks.push({ file, line, language, marks: marks.join(" "), code: code.join("") });
    i = end;
  }
  return blocks;
}

/** Finds the blocks of a Markdown file. */
export function blocksOfMarkdown(file: string, text: string): readonly Block[] {
  return fencedIn(file, text.split("\n"), 0);
}

/** Finds the blocks in the doc comments of a TypeScript file. */
export function blocksOfDocstrings(file: string, text: string): readonly Block[] {
  return Array.from(text.matchAll(/^ *\/\*\*[\s\S]*?\*\//gm)).flatMap((comment) => {
    const lines = comment[0].split("\n").map((line) => line.replace(/^ *(\/\*\*|\*\/|\* ?)/, ""));
    return fencedIn(file, lines, text.slice(0, comment.index).split("\n").length - 1);
  });
}
