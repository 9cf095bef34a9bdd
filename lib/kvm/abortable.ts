/** A promise that its owner settles, and that an AbortSignal asks to end. The owner implements the abort. */

import { describe, refuseUnknown } from "../options.ts";

/** The option that aborts a run or a wait. */
export interface AbortOptions {
  /** Aborting this signal ends it. */
  readonly signal?: AbortSignal | undefined;
}

/** Whether a value is an AbortSignal; a signal of another realm is not an instance of this realm's class. */
function isSignal(value: unknown): value is AbortSignal {
  if (typeof value !== "object" || value === null) return false;
  const methods = ["addEventListener", "removeEventListener", "throwIfAborted"];
  return (
    methods.every((name) => typeof Reflect.get(value, name) === "function") &&
    typeof Reflect.get(value, "aborted") === "boolean"
  );
}

/**
 * Reads the signal of some options, once. A getter may run any code, so this must happen before the caller reads its
 * own state.
 *
 * @throws TypeError for an unknown option, and for a signal that is not an AbortSignal.
 */
export function signalOf(where: string, options: AbortOptions): AbortSignal | undefined {
  refuseUnknown(where, options, ["signal"]);
  const { signal } = options;
  if (signal === undefined || isSignal(signal)) return signal;
  throw new TypeError(`${where}: signal: expected an AbortSignal, got ${describe(signal)}`);
}

/** Work in progress. It stops listening to its signal when it settles. */
export class Abortable<T> {
  readonly promise: Promise<T>;
  #resolve: (value: T) => void = () => undefined;
  #reject: (reason: unknown) => void = () => undefined;
  readonly #forget: () => void;
  #isOver: boolean = false;

  /** Starts; `abort` is called at most once, and not after the end. */
  constructor({ signal }: AbortOptions, abort: (reason: unknown) => void) {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    const aborted = (): void => abort(signal?.reason);
    signal?.addEventListener("abort", aborted, { once: true });
    this.#forget = () => {
      this.#isOver = true;
      signal?.removeEventListener("abort", aborted);
    };
    // A signal that was aborted in the meantime (for example, by a trace subscriber) sends no event.
    if (signal?.aborted === true) {
      queueMicrotask(() => {
        if (!this.#isOver) aborted();
      });
    }
  }

  /** Stops listening to the signal, for work that was not started. */
  drop(): void {
    this.#forget();
  }

  /** Resolves the promise. */
  resolve(value: T): void {
    this.#forget();
    this.#resolve(value);
  }

  /** Rejects the promise. */
  reject(reason: unknown): void {
    this.#forget();
    this.#reject(reason);
  }
}
