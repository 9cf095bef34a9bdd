/** An async generator whose `return()` and `throw()` end what `next()` waits for. What a step is, its owner says. */

/** What is done step by step. */
export interface Stepping<T> {
  /** Does the next step; `undefined` says that there is none any more. */
  readonly next: (steps: { readonly isOver: boolean }) => Promise<T | undefined>;
  /** Asks a step that is under way to end soon. Called once at most, and only while there is one. */
  readonly stop: () => void;
}

/**
 * Steps that come one after the other, as `for await` takes them. An `async function*` would let `return()`
 * wait until the step that is under way ends by itself, which it may never do.
 */
export class Steps<T> implements AsyncGenerator<T, void> {
  readonly #stepping: Stepping<T>;
  #isOver: boolean = false;
  /** Whether a step is under way. */
  #isInside: boolean = false;
  /** Steps that were asked for and have not ended. */
  #pending = 0;
  /** Settled when all that was asked for before is. */
  #before: Promise<unknown> = Promise.resolve();

  /** Begins; nothing is done until the first {@link next}. */
  constructor(stepping: Stepping<T>) {
    this.#stepping = stepping;
  }

  /** Whether no step follows. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Does the next step, after those that were asked for before. */
  next(): Promise<IteratorResult<T, void>> {
    // The first begins at once: a kick that follows must find it.
    const done = this.#pending === 0 ? this.#step() : this.#before.then(() => this.#step());
    this.#pending += 1;
    done
      .finally(() => {
        this.#pending -= 1;
      })
      .catch(() => undefined);
    this.#before = done.catch(() => undefined);
    return done;
  }

  /** Ends the steps; a step that is under way is asked to end, and settled before this is. */
  async return(value?: unknown): Promise<IteratorResult<T, void>> {
    await this.#end();
    return { done: true, value: (await value) as undefined };
  }

  /** Ends the steps as {@link return} does, and is rejected with the error. */
  async throw(error: unknown): Promise<IteratorResult<T, void>> {
    await this.#end();
    throw error;
  }

  /** Gives itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Ends the steps at the end of an `await using` block. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
  }

  async #step(): Promise<IteratorResult<T, void>> {
    if (this.#isOver) return { done: true, value: undefined };
    this.#isInside = true;
    try {
      const value = await this.#stepping.next(this);
      if (value !== undefined) return { done: false, value };
      this.#isOver = true;
      return { done: true, value: undefined };
    } catch (error) {
      this.#isOver = true;
      throw error;
    } finally {
      this.#isInside = false;
    }
  }

  async #end(): Promise<void> {
    const wasOver = this.#isOver;
    this.#isOver = true;
    if (!wasOver && this.#isInside) this.#stepping.stop();
    await this.#before;
  }
}
