/**
 * A limit on the time in which work makes no progress. Time in which this process is stopped (Ctrl-Z,
 * SIGSTOP, a frozen container) does not count: what the work has written meanwhile is still unread.
 */

/** How often the clock is read at most, ms. */
const LONGEST_PERIOD_MS = 1000;

/** Calls a function once, when so much time has passed. */
export class Deadline {
  readonly #limit: number;
  readonly #onOver: () => void;
  readonly #isStopped: () => boolean;
  readonly #period: number;
  readonly #timer: NodeJS.Timeout;
  #passed = 0;
  #last: number = performance.now();

  /**
   * Starts the clock.
   *
   * @param limit - milliseconds; the call comes up to an eighth, or a second, late.
   * @param isStopped - whether the work itself is stopped by a signal; such time does not count either.
   */
  constructor(limit: number, onOver: () => void, isStopped: () => boolean = () => false) {
    this.#limit = limit;
    this.#onOver = onOver;
    this.#isStopped = isStopped;
    this.#period = Math.min(LONGEST_PERIOD_MS, Math.max(1, Math.ceil(limit / 8)));
    this.#timer = setInterval(() => this.#tick(), this.#period);
  }

  /** Starts the clock again from zero, unless it has been stopped or is over. */
  restart(): void {
    this.#passed = 0;
    this.#last = performance.now();
  }

  /** Stops the clock for good. */
  stop(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const now = performance.now();
    // A longer step means that this process did not run.
    const step = Math.min(now - this.#last, 2 * this.#period);
    this.#last = now;
    if (this.#isStopped()) return;
    this.#passed += step;
    if (this.#passed < this.#limit) return;
    this.stop();
    this.#onOver();
  }
}
