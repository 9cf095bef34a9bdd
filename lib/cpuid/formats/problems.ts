/** The faults of a file while it is read: their list, which has a bound, and the line and column of an offset. */
import type { CpuidFileProblem } from "./dump.ts";

/** The most faults that are listed for a file; one more states that others exist. */
export const MOST_PROBLEMS = 100;

/** Finds the line and the column of offsets in a text. Lines end in LF; a CR before it belongs to the line. */
export class TextPlaces {
  readonly #starts: readonly number[];

  /** Finds the lines of a text. */
  constructor(text: string) {
    const starts = [0];
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
    this.#starts = starts;
  }

  /** Returns the line and the column of an offset, both from 1. Columns count UTF-16 units. */
  at(offset: number): { readonly line: number; readonly column: number } {
    let [low, high] = [0, this.#starts.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.#starts[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return { line: low + 1, column: offset - (this.#starts[low] ?? 0) + 1 };
  }
}

/** Collects the faults of one file, at most {@link MOST_PROBLEMS} and one that states that more exist. */
export class ProblemList {
  readonly #problems: CpuidFileProblem[] = [];

  /** Whether no further fault is listed. A reader may stop then. */
  get isFull(): boolean {
    return this.#problems.length > MOST_PROBLEMS;
  }

  /** The number of faults in the list. */
  get length(): number {
    return this.#problems.length;
  }

  /** Adds a fault: one sentence without a full stop. After the bound it does nothing. */
  add(line: number, column: number, message: string): void {
    if (this.isFull) return;
    const isLast = this.#problems.length === MOST_PROBLEMS;
    const text = isLast ? `there are more faults than the ${MOST_PROBLEMS} listed` : message;
    this.#problems.push(Object.freeze({ line, column, message: text }));
  }

  /** Returns the faults in the order in which they were added. */
  toArray(): readonly CpuidFileProblem[] {
    return Object.freeze([...this.#problems]);
  }
}
