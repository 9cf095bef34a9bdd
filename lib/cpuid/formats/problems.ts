/** Collects the faults of a file: the first ones, and the number of the others. */
import type { CpuidFileProblem } from "./dump.ts";
import { MOST_PROBLEMS } from "./limits.ts";

/** The faults of one file, in the order in which they were found. */
export class Problems {
  readonly #kept: CpuidFileProblem[] = [];
  #count = 0;

  /** Adds a fault; line and column begin at 1, or the line is 0 for a fault of the whole file. */
  add(line: number, column: number, message: string): void {
    this.#count += 1;
    if (this.#count <= MOST_PROBLEMS) this.#kept.push({ line, column, message });
  }

  /** The number of all faults. */
  get count(): number {
    return this.#count;
  }

  /** Returns the first 100 faults and, if there are more, one last row with their number. */
  list(): readonly CpuidFileProblem[] {
    const more = this.#count - this.#kept.length;
    if (more === 0) return [...this.#kept];
    return [...this.#kept, { line: 0, column: 1, message: `and ${more} more faults` }];
  }
}
