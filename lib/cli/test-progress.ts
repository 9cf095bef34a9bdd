/** The progress of `node-kvm test`: the claim that is being judged, and how much of the work is completed. */
import { printable } from "../report/printable.ts";
import type { Result } from "../report/result.ts";
import { counted } from "../report/text.ts";
import { duration, Progress, timeLeft } from "./progress.ts";
import type { TextStream } from "./terminal.ts";

/** Counts claims and files of claims; {@link Progress} shows the counts. */
export class TestProgress {
  readonly #progress: Progress;
  #files = 0;
  #claims = 0;
  #filesDone = 0;
  #judged = 0;
  #failed = 0;
  #current: string | undefined;

  /** Shows that vitest is starting. */
  constructor(stream: TextStream = process.stderr) {
    this.#progress = new Progress(
      {
        running: () => (this.#current === undefined ? [] : [printable(this.#current)]),
        totals: (elapsed) => this.#totals(elapsed),
      },
      stream,
    );
  }

  /** Records the number of files of claims. */
  begin(files: number): void {
    this.#files = files;
  }

  /** Records the number of claims, for runs that do not report the ends of files. */
  beginClaims(claims: number): void {
    this.#claims = claims;
  }

  /** Records the name of the claim that is judged from now on. */
  started(name: string): void {
    this.#current = name;
  }

  /** Counts a result, which the function `write` prints. */
  ended({ verdict }: Result, write: () => void): void {
    this.#current = undefined;
    this.#judged += 1;
    if (verdict === "fail") this.#failed += 1;
    this.#progress.above(write);
  }

  /** Counts a file whose claims were all judged. */
  fileEnded(): void {
    this.#filesDone += 1;
  }

  /** Stops showing. */
  end(): void {
    this.#progress.end();
  }

  #totals(elapsed: number): string {
    if (this.#claims > 0) {
      const judged = `${this.#judged} of ${counted(this.#claims, "claim")} judged`;
      return `${judged}, ${this.#failed} fail, ${duration(elapsed)}`;
    }
    if (this.#files === 0) return `starting, ${duration(elapsed)}`;
    const [done, all] = [this.#filesDone, this.#files];
    const parts = [
      `${done} of ${counted(all, "file")} done`,
      `${counted(this.#judged, "claim")}, ${this.#failed} fail`,
      duration(elapsed),
    ];
    if (done > 0 && done < all) parts.push(timeLeft((elapsed / done) * (all - done)));
    return parts.join(", ");
  }
}
