/** A fake terminal of a given size: it executes the escape sequences that a live block writes, and returns its rows. */
import type { TextStream } from "../../../lib/cli/terminal.ts";

/** The terminal sizes of the tests: a size narrower than any table, the usual size, and a wide size. */
export const SIZES = [
  [40, 10],
  [80, 24],
  [200, 50],
] as const;

/** Keeps the rows on the screen and the rows that were scrolled off the screen. */
export class FakeTerminal implements TextStream {
  readonly isTTY: boolean = true;
  columns: number;
  rows: number;
  /** The text of all writes to the terminal. */
  written: string = "";
  readonly #scrolled: string[] = [];
  #screen: string[] = [""];
  #row = 0;
  readonly #listeners = new Set<() => void>();

  constructor(columns: number, rows: number) {
    this.columns = columns;
    this.rows = rows;
  }

  write(text: string): boolean {
    this.written += text;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence starts with ESC
    for (const piece of text.match(/\u001b\[\d*[A-Za-z]|\n|\r|[^\u001b\r\n]+/g) ?? [])
      this.#take(piece);
    return true;
  }

  on(_: "resize", listener: () => void): void {
    this.#listeners.add(listener);
  }

  off(_: "resize", listener: () => void): void {
    this.#listeners.delete(listener);
  }

  /** The number of listeners for changes of the terminal's size. */
  get listeners(): number {
    return this.#listeners.size;
  }

  /** Changes the size and wraps the rows on the screen anew, as most terminals do. */
  resize(columns: number, rows: number): void {
    this.columns = columns;
    this.rows = rows;
    const before = this.#screen.slice(0, this.#row);
    this.#screen = [...before.flatMap((line) => this.#wrapped(line)), ""];
    this.#row = this.#screen.length - 1;
    this.#scroll();
    for (const listener of this.#listeners) listener();
  }

  /** The rows on the screen that contain text. */
  get screen(): readonly string[] {
    return this.#screen.filter((line) => line !== "");
  }

  /** All rows that contain text, including rows that were scrolled off the screen. */
  get all(): readonly string[] {
    return [...this.#scrolled, ...this.#screen].filter((line) => line !== "");
  }

  #wrapped(line: string): readonly string[] {
    return line === "" ? [""] : (line.match(new RegExp(`.{1,${this.columns}}`, "g")) ?? []);
  }

  #take(piece: string): void {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence starts with ESC
    const [, count, letter] = /^\u001b\[(\d*)([A-Za-z])$/.exec(piece) ?? [];
    if (piece === "\n") this.#newLine();
    else if (piece === "\r" || letter === "m") return;
    else if (letter === "A") this.#row = Math.max(0, this.#row - Number(count));
    else if (letter === "J") {
      this.#screen.splice(this.#row, Infinity, "");
    } else if (letter === "K") this.#screen[this.#row] = "";
    else if (letter === undefined) this.#print(piece);
    else throw new Error(`the fake terminal does not know ${JSON.stringify(piece)}`);
  }

  #print(text: string): void {
    const lines = this.#wrapped((this.#screen[this.#row] ?? "") + text);
    for (const [i, line] of lines.entries()) {
      if (i > 0) this.#newLine();
      this.#screen[this.#row] = line;
    }
  }

  #newLine(): void {
    this.#row += 1;
    this.#screen[this.#row] ??= "";
    this.#scroll();
  }

  #scroll(): void {
    const gone = this.#screen.splice(0, Math.max(0, this.#screen.length - this.rows));
    this.#scrolled.push(...gone);
    this.#row -= gone.length;
  }
}

/** A fake output stream that is not a terminal. */
export class FakePipe implements TextStream {
  readonly isTTY: boolean = false;
  written: string = "";

  write(text: string): boolean {
    this.written += text;
    return true;
  }

  on(): void {}

  off(): void {}

  /** The lines that were written to the stream. */
  get lines(): readonly string[] {
    return this.written.split("\n").slice(0, -1);
  }
}
