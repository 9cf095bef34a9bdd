/**
 * Decodes the text of a file and splits it into lines, for the formats that are read by line. json-text.ts parses JSON.
 */
import { quoted } from "../../options.ts";
import { CPUID_FILE_HEAD } from "./limits.ts";

/** One line of a text. */
export interface TextLine {
  /** The line's number, from 1. */
  readonly number: number;
  /** The characters without the line break. */
  readonly text: string;
  /** Whether a line break follows. A last line without a line break may be cut. */
  readonly isTerminated: boolean;
}

/** The byte order marks, each with its encoding. */
const MARKS: readonly (readonly [mark: readonly number[], encoding: string])[] = [
  [[0xef, 0xbb, 0xbf], "utf-8"],
  [[0xff, 0xfe], "utf-16le"],
  [[0xfe, 0xff], "utf-16be"],
];

/**
 * Decodes the bytes of a text file. A byte order mark selects UTF-8 or UTF-16, which PowerShell writes. Without a byte
 * order mark the encoding is UTF-8, or Latin-1, which AIDA64 writes, if the bytes are not valid UTF-8. Never throws.
 */
export function decodeText(bytes: Uint8Array): string {
  for (const [mark, encoding] of MARKS) {
    if (mark.every((byte, i) => bytes[i] === byte)) {
      return new TextDecoder(encoding).decode(bytes.subarray(mark.length));
    }
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("latin1").decode(bytes);
  }
}

const heads = new WeakMap<Uint8Array, string>();

/** Decodes the first 64 KiB of a file; a second call for the same array returns the same text. */
export function headText(bytes: Uint8Array): string {
  const known = heads.get(bytes);
  if (known !== undefined) return known;
  const text = decodeText(bytes.subarray(0, CPUID_FILE_HEAD));
  heads.set(bytes, text);
  return text;
}

/** Iterates over the lines of a text. A line ends with LF, CR LF or CR. */
export function* linesOf(text: string): Generator<TextLine> {
  const breaks = /\r\n?|\n/g;
  let start = 0;
  let number = 1;
  for (let found = breaks.exec(text); found !== null; found = breaks.exec(text)) {
    yield { number, text: text.slice(start, found.index), isTerminated: true };
    start = breaks.lastIndex;
    number += 1;
  }
  if (start < text.length) yield { number, text: text.slice(start), isTerminated: false };
}

/** Quotes the beginning of a line for a message: at most 60 characters, without control characters. */
export function shownLine(text: string): string {
  return quoted(text.trim(), 60);
}
