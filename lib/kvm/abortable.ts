/** A promise that its owner settles, and that an AbortSignal asks to end. Who owns it does what the abort means. */

/** What ends a run or a wait before its time. */
export interface AbortOptions {
  /** Its abort ends it. */
  readonly signal?: AbortSignal | undefined;
}

/** Work that is under way; its signal is let go of when it is settled. */
export class Abortable<T> {
  readonly promise: Promise<T>;
  #resolve: (value: T) => void = () => undefined;
  #reject: (reason: unknown) => void = () => undefined;
  readonly #forget: () => void;

  /** Begins; `abort` is called once at most, and not after the end. */
  constructor({ signal }: AbortOptions, abort: (reason: unknown) => void) {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    const aborted = (): void => abort(signal?.reason);
    signal?.addEventListener("abort", aborted, { once: true });
    this.#forget = () => signal?.removeEventListener("abort", aborted);
  }

  /** Ends it well. */
  resolve(value: T): void {
    this.#forget();
    this.#resolve(value);
  }

  /** Ends it with an error. */
  reject(reason: unknown): void {
    this.#forget();
    this.#reject(reason);
  }
}
