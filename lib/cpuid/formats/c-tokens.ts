/** Splits C text into tokens with their lines and columns. Never throws. */

/** One token. A fault is a comment or a string that has no end, or a character that C does not have. */
export interface CToken {
  readonly kind: "word" | "number" | "sign" | "string" | "directive" | "fault" | "end";
  readonly text: string;
  /** From 1. */
  readonly line: number;
  /** From 1. */
  readonly column: number;
}

/** The patterns, in the order in which they are tried. */
const PATTERNS: readonly (readonly [kind: CToken["kind"], pattern: RegExp])[] = [
  ["word", /[A-Za-z_]\w*/y],
  ["number", /\d\w*/y],
  ["string", /"(?:[^"\\\n]|\\.){0,4000}"|'(?:[^'\\\n]|\\.){0,40}'/y],
  ["sign", /<<|->|\.\.\.|[{}[\]().,;=|<>&*+\-/!~^%?:]/y],
];

/**
 * The characters that form a token alone. The tokenizer tries these characters first, because most tokens are single
 * characters.
 */
const SIGNS: ReadonlySet<string> = new Set("{}[](),;=");

const SPACE = /[ \t\r\f\v]+/y;
const LINE_COMMENT = /\/\/[^\n]*/y;
/** A line of the preprocessor, with its continuation lines. */
const DIRECTIVE = /#[^\n]*/y;

/** Characters that begin no token. A run of them is one fault, because a binary file can have millions. */
const REST = /[^\w\s!-/:-@[-^`{-~]+/y;

const isBlank = (character: string): boolean =>
  character === " " ||
  character === "\t" ||
  character === "\r" ||
  character === "\f" ||
  character === "\v";

/** Iterates over the tokens of a text; the last one has the kind "end". */
export function* tokensOf(text: string): Generator<CToken> {
  let [at, line, start] = [0, 1, 0];
  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    return pattern.exec(text)?.[0];
  };
  const place = (): { readonly line: number; readonly column: number } => ({
    line,
    column: at - start + 1,
  });
  while (at < text.length) {
    const character = text[at] ?? "";
    if (character === "\n") {
      at += 1;
      [line, start] = [line + 1, at];
      continue;
    }
    if (SIGNS.has(character)) {
      yield { kind: "sign", text: character, ...place() };
      at += 1;
      continue;
    }
    const blank = isBlank(character)
      ? match(SPACE)
      : character === "/"
        ? match(LINE_COMMENT)
        : undefined;
    if (blank !== undefined) {
      at += blank.length;
      continue;
    }
    if (character === "/" && text.startsWith("/*", at)) {
      const end = text.indexOf("*/", at + 2);
      if (end < 0) {
        yield { kind: "fault", text: "the comment has no end", ...place() };
        break;
      }
      // A search in the whole text would read the rest of the file for each comment.
      const comment = text.slice(at, end);
      for (let lf = comment.indexOf("\n"); lf >= 0; lf = comment.indexOf("\n", lf + 1)) {
        [line, start] = [line + 1, at + lf + 1];
      }
      at = end + 2;
      continue;
    }
    const directive = character === "#" ? match(DIRECTIVE) : undefined;
    if (directive !== undefined) {
      yield { kind: "directive", text: directive, ...place() };
      at += directive.length;
      continue;
    }
    const { kind, text: found, length } = tokenAt(match);
    yield { kind, text: found, line, column: at - start + 1 };
    at += length;
  }
  yield { kind: "end", text: "", ...place() };
}

function tokenAt(
  match: (pattern: RegExp) => string | undefined,
): Pick<CToken, "kind" | "text"> & { readonly length: number } {
  for (const [kind, pattern] of PATTERNS) {
    const text = match(pattern);
    if (text !== undefined) return { kind, text, length: text.length };
  }
  const { length } = match(REST) ?? " ";
  return { kind: "fault", text: "this character is not part of an array", length };
}
