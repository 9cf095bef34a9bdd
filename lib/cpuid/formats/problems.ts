/** The faults of a file while it is read: their list, which has a bound, and the line and column of an offset. */
import type { CpuidFileProblem } from "./dump.ts";
import { MOST_PROBLEMS } from "./limits.ts";

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

/** Collects the faults of one file: the first {@link MOST_PROBLEMS}, and the number of the others. */
export class ProblemList {
  readonly #problems: CpuidFileProblem[] = [];
  #count = 0;

  /** Whether faults were left out of the list. A reader may stop then. */
  get isFull(): boolean {
    return this.#count > MOST_PROBLEMS;
  }

  /** The number of faults that were added. */
  get length(): number {
    return this.#count;
  }

  /** Adds a fault: one sentence without a full stop. After the bound it only counts. */
  add(line: number, column: number, message: string): void {
    this.#count += 1;
    if (this.#count <= MOST_PROBLEMS) this.#problems.push(Object.freeze({ line, column, message }));
  }

  /** Returns the faults in the order in which they were added; a last row has the number of those left out. */
  toArray(): readonly CpuidFileProblem[] {
    const more = this.#count - this.#problems.length;
    if (more === 0) return Object.freeze([...this.#problems]);
    const message = more === 1 ? "and at least 1 more fault" : `and ${more} more faults`;
    return Object.freeze([...this.#problems, Object.freeze({ line: 0, column: 1, message })]);
  }
}
