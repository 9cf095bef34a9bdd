/** Collects the faults of a file while it is read, up to a maximum, and converts an offset to a line and a column. */
import type { CpuidFileProblem } from "./dump.ts";
import { MOST_PROBLEMS } from "./limits.ts";

/** Converts offsets in a text to lines and columns. Lines end in LF; a CR before the LF belongs to the line. */
export class TextPlaces {
  readonly #starts: readonly number[];

  /** Finds the line breaks of a text. */
  constructor(text: string) {
    const starts = [0];
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
    this.#starts = starts;
  }

  /** Returns the line and the column of an offset, both starting at 1. Columns count UTF-16 units. */
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

/** Collects the faults of one file: the first {@link MOST_PROBLEMS}, and the number of further faults. */
export class ProblemList {
  readonly #problems: CpuidFileProblem[] = [];
  #count = 0;

  /** Whether the list is full; a parser may then stop. */
  get isFull(): boolean {
    return this.#count > MOST_PROBLEMS;
  }

  /** The number of faults that were added, including faults that are not in the list. */
  get length(): number {
    return this.#count;
  }

  /** Adds a fault: one sentence without a full stop. If the list is full, the fault is only counted. */
  add(line: number, column: number, message: string): void {
    this.#count += 1;
    if (this.#count <= MOST_PROBLEMS) this.#problems.push(Object.freeze({ line, column, message }));
  }

  /**
   * Returns the faults in the order in which they were added; if some faults are not in the list, its last element
   * contains their number.
   */
  toArray(): readonly CpuidFileProblem[] {
    const more = this.#count - this.#problems.length;
    if (more === 0) return Object.freeze([...this.#problems]);
    const message = more === 1 ? "and at least 1 more fault" : `and ${more} more faults`;
    return Object.freeze([...this.#problems, Object.freeze({ line: 0, column: 1, message })]);
  }
}
