/** A promise that its owner settles, and that an AbortSignal asks to end. Who owns it does what the abort means. */

import { describe, refuseUnknown } from "../options.ts";

/** What ends a run or a wait before its time. */
export interface AbortOptions {
  /** Its abort ends it. */
  readonly signal?: AbortSignal | undefined;
}

/** Whether a value is an AbortSignal; one of another realm is no instance of this realm's class. */
function isSignal(value: unknown): value is AbortSignal {
  if (typeof value !== "object" || value === null) return false;
  const methods = ["addEventListener", "removeEventListener", "throwIfAborted"];
  return (
    methods.every((name) => typeof Reflect.get(value, name) === "function") &&
    typeof Reflect.get(value, "aborted") === "boolean"
  );
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
  if (signal === undefined || isSignal(signal)) return signal;
  throw new TypeError(`${where}: signal: expected an AbortSignal, got ${describe(signal)}`);
}

/** Work that is under way; its signal is let go of when it is settled. */
export class Abortable<T> {
  readonly promise: Promise<T>;
  #resolve: (value: T) => void = () => undefined;
  #reject: (reason: unknown) => void = () => undefined;
  readonly #forget: () => void;
  #isOver: boolean = false;

  /** Begins; `abort` is called once at most, and not after the end. */
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
    // A signal that was aborted meanwhile, by a subscriber of traces for example, sends no event any more.
    if (signal?.aborted === true) {
      queueMicrotask(() => {
        if (!this.#isOver) aborted();
      });
    }
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
