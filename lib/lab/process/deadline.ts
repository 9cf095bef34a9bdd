/**
 * A limit on the time without progress. Time in which this process is stopped (Ctrl-Z, SIGSTOP, a frozen container)
 * does not count, because output that was written meanwhile is still unread.
 */

/** The maximum interval in milliseconds at which the clock is read. */
const LONGEST_PERIOD_MS = 1000;

/** Calls a function once when a time limit expires. */
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
   * @param limit - the time limit in milliseconds; the call is late by up to an eighth of the limit, at most one
   *   second.
   * @param isStopped - whether a signal has stopped the work itself; such time does not count either.
   */
  constructor(limit: number, onOver: () => void, isStopped: () => boolean = () => false) {
    this.#limit = limit;
    this.#onOver = onOver;
    this.#isStopped = isStopped;
    this.#period = Math.min(LONGEST_PERIOD_MS, Math.max(1, Math.ceil(limit / 8)));
    this.#timer = setInterval(() => this.#tick(), this.#period);
  }

  /** Restarts the clock, unless it was stopped or its limit has expired. */
  restart(): void {
    this.#passed = 0;
    this.#last = performance.now();
  }

  /** Stops the clock permanently. */
  stop(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const now = performance.now();
    // If more than two periods are between two reads of the clock, this process was stopped meanwhile; two are counted.
    const step = Math.min(now - this.#last, 2 * this.#period);
    this.#last = now;
    if (this.#isStopped()) return;
    this.#passed += step;
    if (this.#passed < this.#limit) return;
    this.stop();
    this.#onOver();
  }
}
