/** A promise that an AbortSignal can abort. The code that creates the promise settles it, and implements the abort. */

import { describe, refuseUnknown } from "../../options.ts";

/** The option that aborts a run or a wait. */
export interface AbortOptions {
  /** Aborting this signal ends the run or the wait. */
  readonly signal?: AbortSignal | undefined;
}

/** Returns whether a value is an AbortSignal of any realm. The AbortSignal of another realm has another class. */
function isSignal(value: unknown): value is AbortSignal {
  if (typeof value !== "object" || value === null) return false;
  const methods = ["addEventListener", "removeEventListener", "throwIfAborted"];
  return (
    methods.every((name) => typeof Reflect.get(value, name) === "function") &&
    typeof Reflect.get(value, "aborted") === "boolean"
  );
}

/**
 * Reads the signal of options once. Call this function before reading the state of the caller, because `signal` may be
 * a getter that runs any code.
 *
 * @throws TypeError for an unknown option, and for a signal that is not an AbortSignal.
 */
export function signalOf(where: string, options: AbortOptions): AbortSignal | undefined {
  refuseUnknown(where, options, ["signal"]);
  const { signal } = options;
  if (signal === undefined || isSignal(signal)) return signal;
  throw new TypeError(`${where}: signal: expected an AbortSignal, got ${describe(signal)}`);
}

/** Work that an AbortSignal can abort. When the work settles, the listener is removed from the signal. */
export class Abortable<T> {
  readonly promise: Promise<T>;
  #resolve: (value: T) => void = () => undefined;
  #reject: (reason: unknown) => void = () => undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #abort: (reason: unknown) => void;
  readonly #listener: () => void;
  #isAborted: boolean = false;
  #isOver: boolean = false;

  /**
   * Starts the work. `abort` is called at most once, after the constructor has returned and before the work has ended.
   *
   * @throws the error of the signal's `addEventListener` or `aborted`.
   */
  constructor({ signal }: AbortOptions, abort: (reason: unknown) => void) {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#signal = signal;
    this.#abort = abort;
    let isReady: boolean = false;
    this.#listener = () => {
      if (isReady) this.#aborted();
      else queueMicrotask(() => this.#aborted());
    };
    try {
      signal?.addEventListener("abort", this.#listener, { once: true });
      // An AbortSignal that was already aborted (for example by a trace subscriber) does not call a new listener.
      if (signal?.aborted === true) this.#listener();
    } catch (error) {
      this.drop();
      throw error;
    }
    isReady = true;
  }

  /** Removes the listener from the signal, for work that was not started. */
  drop(): void {
    this.#isOver = true;
    try {
      this.#signal?.removeEventListener("abort", this.#listener);
    } catch {
      // This error has no effect, because the work has ended and ignores a late event.
      process.emitWarning("an AbortSignal's removeEventListener() has thrown", {
        code: "NODE_KVM_SIGNAL",
      });
    }
  }

  /** Resolves the promise. */
  resolve(value: T): void {
    this.#resolve(value);
    this.drop();
  }

  /** Rejects the promise. */
  reject(reason: unknown): void {
    this.#reject(reason);
    this.drop();
  }

  #aborted(): void {
    if (this.#isOver || this.#isAborted) return;
    this.#isAborted = true;
    this.#abort(reasonOf(this.#signal));
  }
}

/** Reads a signal's reason; if its getter throws, the thrown value is the reason. */
function reasonOf(signal: AbortSignal | undefined): unknown {
  try {
    return signal?.reason;
  } catch (error) {
    return error;
  }
}
