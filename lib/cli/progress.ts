/**
 * Shows the progress of long work on standard error. A live block shows the progress on a terminal. Without a terminal,
 * each event has one line. After half a minute without an event, a further line is written, because a CI system may
 * otherwise consider the job hung.
 */
import { canRedraw, LiveBlock, type TextStream } from "./terminal.ts";

/** The functions that return the lines of the live block; they are called each time the block is drawn. */
export interface ProgressView {
  /** Returns a line for each machine or claim that is running now. */
  readonly running: () => readonly string[];
  /** Returns the line of totals; `elapsed` is the duration of the work so far in milliseconds. */
  readonly totals: (elapsed: number) => string;
}

/** The minimum interval in milliseconds between two drawings of the block. */
const PERIOD_MS = 250;
/** The time in milliseconds without output after which a line is written. */
const HEARTBEAT_MS = 30_000;

/** Shows progress from its construction until {@link end}. */
export class Progress {
  readonly #stream: TextStream;
  readonly #view: ProgressView;
  readonly #block: LiveBlock | undefined;
  readonly #timer: NodeJS.Timeout;
  readonly #started: number = performance.now();
  #last: number = performance.now();
  readonly #onResize = (): void => this.#draw();

  /** Starts the clock and draws the live block. */
  constructor(view: ProgressView, stream: TextStream = process.stderr) {
    this.#stream = stream;
    this.#view = view;
    this.#block = canRedraw(stream) ? new LiveBlock(stream) : undefined;
    if (this.#block !== undefined) stream.on("resize", this.#onResize);
    this.#timer = setInterval(() => this.#tick(), PERIOD_MS).unref();
    this.#draw();
  }

  /** Whether there is a live block, which is drawn only on a terminal. */
  get isLive(): boolean {
    return this.#block !== undefined;
  }

  /** The time in milliseconds since the start. */
  get elapsed(): number {
    return performance.now() - this.#started;
  }

  /** Writes a line about an event. */
  event(line: string): void {
    this.above(() => this.#stream.write(`${line}\n`));
  }

  /** Runs a function that writes to this terminal, while the live block is erased. */
  above(write: () => void): void {
    this.#block?.erase();
    write();
    this.#last = performance.now();
    this.#draw();
  }

  /** Erases the live block and stops the clock. */
  end(): void {
    clearInterval(this.#timer);
    if (this.#block === undefined) return;
    this.#stream.off("resize", this.#onResize);
    this.#block.erase();
  }

  #tick(): void {
    if (this.#block !== undefined) {
      this.#draw();
      return;
    }
    if (performance.now() - this.#last < HEARTBEAT_MS) return;
    const running = this.#view.running();
    const totals = this.#view.totals(this.elapsed);
    this.event(`node-kvm: ${totals}${running.length === 0 ? "" : `: ${running.join("; ")}`}`);
  }

  #draw(): void {
    const block = this.#block;
    if (block === undefined) return;
    const running = this.#view.running();
    const shown = running.slice(0, block.rows - 1);
    // If the terminal has room for only one line, the live block shows only the totals.
    const hidden = running.length - shown.length;
    if (hidden > 0 && shown.length > 0) {
      shown.splice(-1, 1, `and ${hidden + 1} more`);
    }
    const totals = this.#view.totals(this.elapsed);
    block.draw([...shown.map((line) => `  ${line}`), totals]);
  }
}

/** Writes a time: `12 s`, `3 min 05 s`, `1 h 02 min`. */
export function duration(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  const two = (number: number): string => String(number).padStart(2, "0");
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${two(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
}

/** Formats an estimated duration, rounded to a plausible precision: `about 20 s left`, `about 4 min left`. */
export function timeLeft(milliseconds: number): string {
  const seconds = Math.max(1, Math.round(milliseconds / 1000));
  if (seconds < 10) return `about ${seconds} s left`;
  if (seconds < 90) return `about ${Math.round(seconds / 5) * 5} s left`;
  return `about ${Math.round(seconds / 60)} min left`;
}
