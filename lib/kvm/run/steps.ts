/**
 * An async generator whose `return()` and `throw()` interrupt a pending `next()`. The code that creates the generator
 * defines its steps.
 */

/** The steps of a generator. */
export interface Stepping<T> {
  /** Does the next step; `undefined` ends the generator. */
  readonly next: (steps: { readonly isOver: boolean }) => Promise<T | undefined>;
  /** Requests the current step to end. The generator calls this function at most once, and only during a step. */
  readonly stop: () => void;
}

/**
 * Runs steps one after another for `for await`. This class replaces an `async function*`, whose `return()` would wait
 * for the current step, which may never end.
 */
export class Steps<T> implements AsyncGenerator<T, void> {
  readonly #stepping: Stepping<T>;
  #isOver: boolean = false;
  /** Whether a step is in progress. */
  #isInside: boolean = false;
  /** The number of requested steps that have not ended. */
  #pending = 0;
  /** A promise that settles when all earlier requests have settled. */
  #before: Promise<unknown> = Promise.resolve();

  /** Creates the generator; the first {@link next} starts the first step. */
  constructor(stepping: Stepping<T>) {
    this.#stepping = stepping;
  }

  /** Whether the generator has ended. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Runs the next step after all earlier calls of `next()` have settled. */
  next(): Promise<IteratorResult<T, void>> {
    // The first step starts synchronously, so that a kick right after `next()` interrupts its run.
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

  /** Ends the generator. Requests the current step to end, and waits for it. */
  async return(value?: unknown): Promise<IteratorResult<T, void>> {
    await this.#end();
    return { done: true, value: (await value) as undefined };
  }

  /** Ends the generator as {@link return} does, and rejects with the error. */
  async throw(error: unknown): Promise<IteratorResult<T, void>> {
    await this.#end();
    throw error;
  }

  /** Returns itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Ends the generator at the end of an `await using` block. */
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
