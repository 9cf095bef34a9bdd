/** A promise that its owner settles, and that an AbortSignal asks to end. Who owns it does what the abort means. */

import { describe, refuseUnknown } from "../options.ts";

/** What ends a run or a wait before its time. */
export interface AbortOptions {
  /** Its abort ends it. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads the signal of some options, once: a getter may do anything, so it runs before the caller looks
 * at its own state.
 *
 * @throws TypeError for an unknown option, and for a signal that is no AbortSignal.
 */
export function signalOf(where: string, options: AbortOptions): AbortSignal | undefined {
  refuseUnknown(where, options, ["signal"]);
  const { signal } = options;
  // A signal of another realm is no instance of this one's class.
  const isSignal = signal === undefined || typeof signal?.addEventListener === "function";
  if (isSignal) return signal;
  throw new TypeError(`${where}: signal: expected an AbortSignal, got ${describe(signal)}`);
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

  /** Forgets the signal, for work that was not begun after all. */
  drop(): void {
    this.#forget();
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
