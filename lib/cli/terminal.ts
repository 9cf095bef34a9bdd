/** The terminal behind a stream: its colours, its size, and the lines at its end that are redrawn. */
import { WriteStream } from "node:tty";
import { columnsOf, cut, DEFAULT_WIDTH } from "../report/lines.ts";
import { type Paint, paint } from "../report/text.ts";

/** The members of `process.stdout` and `process.stderr` that this file uses. */
export interface TextStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
  on(event: "resize", listener: () => void): unknown;
  off(event: "resize", listener: () => void): unknown;
}

/** The minimum colour depth, in bits as Node reports it, of a terminal on which colours are used. */
const DEPTH = 4;

/**
 * Whether colours are written to a stream. The first of these decides: FORCE_COLOR, whether the stream is a terminal,
 * NO_COLOR, NODE_DISABLE_COLORS, TERM. Node's own `hasColors()` uses this order, but only streams of terminals have
 * this method.
 */
export function hasColours(
  stream: Pick<TextStream, "isTTY">,
  env: NodeJS.ProcessEnv = process.env,
): boolean {
  if (stream.isTTY !== true && env["FORCE_COLOR"] === undefined) return false;
  return WriteStream.prototype.getColorDepth(env) >= DEPTH;
}

/** Returns the colours for a stream. */
export function paintFor(stream: Pick<TextStream, "isTTY">): Paint {
  return paint(hasColours(stream));
}

/** Returns the number of columns of a terminal; `undefined` if the stream is not a terminal or does not report it. */
function columnsReported({
  isTTY,
  columns,
}: Pick<TextStream, "isTTY" | "columns">): number | undefined {
  return isTTY === true && columns !== undefined && columns > 0 ? columns : undefined;
}

/** Returns the width at which lines are wrapped; a file or a pipe gets unwrapped lines, which can be searched. */
export function lineWidth(stream: Pick<TextStream, "isTTY" | "columns">): number {
  if (stream.isTTY !== true) return Infinity;
  return columnsReported(stream) ?? DEFAULT_WIDTH;
}

/** Returns the width of tables, which are 80 columns wide without a terminal. */
export function tableWidth(stream: Pick<TextStream, "isTTY" | "columns">): number {
  return columnsReported(stream) ?? DEFAULT_WIDTH;
}

/** Whether lines that were written to a stream can be redrawn. */
export function canRedraw(
  { isTTY }: Pick<TextStream, "isTTY">,
  env: NodeJS.ProcessEnv = process.env,
): boolean {
  return isTTY === true && env["TERM"] !== "dumb";
}

/** The assumed height of a terminal that does not report it. */
const DEFAULT_ROWS = 24;

/** Erases the line of the cursor, and moves the cursor to the line's start. */
export const CLEAR_LINE = "\r\u001b[2K";

/** Lines at the end of a terminal, which are replaced together. The lines never need more than one screen. */
export class LiveBlock {
  readonly #stream: TextStream;
  #drawn: readonly string[] = [];
  /** The width of the terminal when the lines were drawn. */
  #width = 0;

  /** Creates a block without lines. */
  constructor(stream: TextStream) {
    this.#stream = stream;
  }

  /** The maximum number of lines of the block: one row of the terminal is left for the cursor. */
  get rows(): number {
    const { rows } = this.#stream;
    return Math.max(1, (rows !== undefined && rows > 0 ? rows : DEFAULT_ROWS) - 1);
  }

  /**
   * Replaces the lines of the block. Each line is cut to the width; if there are too many lines, only the last lines
   * are drawn.
   */
  draw(lines: readonly string[]): void {
    const width = this.#columns;
    // The last column stays empty, because some terminals wrap the line when the last column is written.
    const drawn = lines.slice(-this.rows).map((line) => cut(line, width - 1));
    const isSame = drawn.every((line, i) => line === this.#drawn[i]);
    if (isSame && drawn.length === this.#drawn.length && width === this.#width) return;
    this.#width = width;
    this.#stream.write(this.#erasing() + drawn.map((line) => `${line}\n`).join(""));
    this.#drawn = drawn;
  }

  /** Erases the lines, for example before another text is written in their place. */
  erase(): void {
    if (this.#drawn.length > 0) this.#stream.write(this.#erasing());
    this.#drawn = [];
  }

  get #columns(): number {
    return tableWidth(this.#stream);
  }

  /** Returns the sequence that erases the lines, even if the terminal became narrower and has wrapped them. */
  #erasing(): string {
    if (this.#drawn.length === 0) return "";
    const width = this.#columns;
    const rows = this.#drawn.map((line) => Math.max(1, Math.ceil(columnsOf(line) / width)));
    const up = Math.min(
      this.rows,
      rows.reduce((sum, count) => sum + count, 0),
    );
    return `\r\u001b[${up}A\u001b[J`;
  }
}
