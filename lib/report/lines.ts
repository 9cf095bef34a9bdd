/** Lines that fit a terminal: text that is wrapped at its spaces or cut, and commands that can be copied. */

/** The width of a table or a sentence if the width of the terminal is unknown. */
export const DEFAULT_WIDTH = 80;

// biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence of a colour starts with one
const COLOUR = /\u001b\[[\d;]*m/g;

/** The first code point that some terminals draw two columns wide (Hangul Jamo). */
const FIRST_WIDE = 0x1100;

/** Returns an upper bound of the number of columns of printable text; the sequences of colours take no columns. */
export function columnsOf(text: string): number {
  let columns = 0;
  for (const character of text.replaceAll(COLOUR, "")) {
    columns += (character.codePointAt(0) ?? 0) < FIRST_WIDE ? 1 : 2;
  }
  return columns;
}

/** The text at the start of the lines that {@link wrap} returns. */
export interface Indents {
  /** The start of the first line; empty if omitted. */
  readonly first?: string;
  /** The start of the following lines; empty if omitted. */
  readonly rest?: string;
}

/** Breaks a line at its spaces. A word that is longer than the width has a line of its own and is not broken. */
export function wrap(line: string, width: number, indents: Indents = {}): readonly string[] {
  const { first = "", rest = "" } = indents;
  if (columnsOf(first + line) <= width) return [first + line];
  const lines: string[] = [];
  let current = first;
  let hasWord = false;
  for (const word of line.split(" ")) {
    if (hasWord && columnsOf(`${current} ${word}`) > width) {
      lines.push(current);
      current = rest + word;
    } else current += hasWord ? ` ${word}` : word;
    hasWord = true;
  }
  return [...lines, current];
}

/** Cuts a line without colours if it is longer than the width; `…` stands for the rest. */
export function cut(line: string, width: number): string {
  if (columnsOf(line) <= width) return line;
  let taken = "";
  for (const character of line) {
    if (columnsOf(taken + character) > width - ELLIPSIS_COLUMNS) break;
    taken += character;
  }
  return width < ELLIPSIS_COLUMNS ? "" : `${taken}…`;
}

/** The character `…` is above {@link FIRST_WIDE}: it may take two columns. */
const ELLIPSIS_COLUMNS = 2;

/**
 * Writes a command for a POSIX shell. Lines that would be longer than the width end in a backslash, so that copying all
 * lines into a shell runs the command.
 */
export function commandLines(
  words: readonly string[],
  width: number,
  indent: string,
): readonly string[] {
  const lines: string[] = [];
  let current = indent;
  for (const word of words.map(quoted)) {
    if (current.trim() === "") current += word;
    else if (columnsOf(`${current} ${word} \\`) <= width) current += ` ${word}`;
    else {
      lines.push(`${current} \\`);
      current = `${indent}  ${word}`;
    }
  }
  return [...lines, current];
}

/** Quotes a word if a shell would change it. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
