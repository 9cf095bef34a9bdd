/**
 * Reads one word of a shell command, or one text of a list such as `["-cpu", "EPYC"]`: removes quotes and backslashes,
 * and joins lines that end with a backslash. qemu.ts reads the value of -cpu from a word.
 */

/** A word without its quotes. */
export interface ShellWord {
  readonly text: string;
  /** Returns the place in the file of a character of {@link text}; the positions of successive calls must not fall. */
  readonly offsetOf: (position: number) => number;
  /** The reason why the word may be incomplete, with its place in the file. */
  readonly fault: { readonly offset: number; readonly message: string } | undefined;
}

/** Returns the length of the line break at a place, 0 if there is none. */
function lineBreak(text: string, at: number): number {
  if (text[at] === "\n") return 1;
  return text[at] === "\r" && text[at + 1] === "\n" ? 2 : 0;
}

const isQuote = (letter: string | undefined): boolean => letter === '"' || letter === "'";

/** Returns the beginning of the line of a place; a line that ends with a backslash continues in the next line. */
function lineStart(text: string, offset: number): number {
  let start = text.lastIndexOf("\n", offset - 1) + 1;
  while (start > 0 && /\\\r?\n$/.test(text.slice(Math.max(0, start - 3), start))) {
    start = text.lastIndexOf("\n", start - 2) + 1;
  }
  return start;
}

/** Returns the quote that is open before a word, as in `sh -c "qemu -cpu EPYC"`, and "" if there is none. */
function outerQuote(text: string, offset: number): string {
  let quote = "";
  let openAt = -1;
  for (let at = lineStart(text, offset); at < offset; at += 1) {
    const letter = text.charAt(at);
    if (letter === "\\" && quote !== "'") at += 1;
    else if (quote === "" && isQuote(letter)) [quote, openAt] = [letter, at];
    else if (letter === quote) quote = "";
  }
  // The quote directly before the word is the word's own.
  return openAt === offset - 1 ? "" : quote;
}

/** The characters that end a word of a shell (POSIX, "Token Recognition"). */
const ENDS_WORD = /[\s;|&<>()]/;
/** The characters that a backslash quotes between double quotes (POSIX, "Double-Quotes"). */
const QUOTED_IN_DOUBLE = /[$`"\\]/;
/** The characters that may follow the end of a quoted command. */
const FOLLOWS_COMMAND = /[\s,;|&)\]}.]/;

/**
 * Reads a word.
 *
 * @param offset - the place of its first character, behind the quote with which the word may begin.
 * @param isList - whether the word is a text of a list. Such a word ends at its closing quote.
 */
export function readShellWord(text: string, offset: number, isList: boolean): ShellWord {
  const outer = outerQuote(text, offset);
  const before = text[offset - 1];
  let quote = isQuote(before) && before !== outer ? (before ?? "") : "";
  let quoteAt = offset - 1;
  let fault: ShellWord["fault"];
  const parts: { readonly position: number; readonly from: number; to: number }[] = [];
  let length = 0;
  const take = (at: number): void => {
    const last = parts.at(-1);
    if (last?.to === at) last.to = at + 1;
    else parts.push({ position: length, from: at, to: at + 1 });
    length += 1;
  };
  let at = offset;
  for (; at < text.length; at += 1) {
    const letter = text.charAt(at);
    if (letter === "\\" && quote !== "'") {
      const joined = lineBreak(text, at + 1);
      const next = text[at + 1];
      const isQuoted =
        joined === 0 &&
        next !== undefined &&
        (quote === "" || isList || QUOTED_IN_DOUBLE.test(next));
      if (!isQuoted && joined === 0) take(at);
      else if (isQuoted) take(at + 1);
      at += isQuoted ? 1 : joined;
    } else if (quote !== "") {
      if (lineBreak(text, at) > 0) break;
      if (letter !== quote) take(at);
      else quote = "";
      if (quote === "" && isList) break;
    } else if (ENDS_WORD.test(letter) || letter === outer) {
      break;
    } else if (isQuote(letter)) {
      [quote, quoteAt] = [letter, at];
    } else {
      take(at);
    }
  }
  const next = text[at + 1];
  if (quote !== "") {
    fault = { offset: quoteAt, message: "the quote is not closed in its line" };
  } else if (
    text[at] === outer &&
    outer !== "" &&
    next !== undefined &&
    !FOLLOWS_COMMAND.test(next)
  ) {
    fault = {
      offset: at,
      message: "the quote ends the command, so the text behind it is not read",
    };
  }
  let index = 0;
  return {
    text: parts.map(({ from, to }) => text.slice(from, to)).join(""),
    offsetOf: (position) => {
      while ((parts[index + 1]?.position ?? Infinity) <= position) index += 1;
      const part = parts[index];
      return part === undefined ? offset : part.from + position - part.position;
    },
    fault,
  };
}
