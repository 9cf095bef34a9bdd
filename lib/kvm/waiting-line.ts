/** Who waits for an eventfd, first come first served. Reading its counter, and closing it, is host-file.ts. */
import type { NativeHostFile } from "../native.ts";
import { Abortable, type AbortOptions } from "./abortable.ts";
import { refused } from "./refused.ts";

/** Promises of an eventfd's signals. While there is one, the event loop watches the file and goes on. */
export class WaitingLine {
  readonly #label: string;
  readonly #take: () => bigint;
  readonly #waiters: Abortable<bigint>[] = [];
  #watched: NativeHostFile | undefined;

  /** Makes an empty one; `take` gives the counter and sets it to 0. */
  constructor(label: string, take: () => bigint) {
    this.#label = label;
    this.#take = take;
  }

  /** Whether nobody waits. */
  get empty(): boolean {
    return this.#waiters.length === 0;
  }

  /** Joins the line. `file` is asked for last, because a signal may be an object that closes it. */
  join(file: () => NativeHostFile, options: AbortOptions): Promise<bigint> {
    const waiter = new Abortable<bigint>(options, (reason) => {
      this.#leave(waiter);
      waiter.reject(reason);
    });
    try {
      this.#watch(file());
    } catch (error) {
      waiter.reject(error);
      return waiter.promise;
    }
    this.#waiters.push(waiter);
    return waiter.promise;
  }

  /** Sends all away with an error; the file may be closed already. */
  dismiss(reason: unknown): void {
    this.#unwatch();
    for (const waiter of this.#waiters.splice(0)) waiter.reject(reason);
  }

  #leave(waiter: Abortable<bigint>): void {
    const at = this.#waiters.indexOf(waiter);
    if (at >= 0) this.#waiters.splice(at, 1);
    if (this.empty) this.#unwatch();
  }

  #watch(file: NativeHostFile): void {
    if (this.#watched !== undefined) return;
    const answer = file.watch(() => this.#serve());
    if (answer < 0) throw refused({ call: "epoll_ctl", label: this.#label, errno: -answer });
    this.#watched = file;
  }

  #unwatch(): void {
    this.#watched?.unwatch();
    this.#watched = undefined;
  }

  /** Called by the event loop while the counter is above zero. */
  #serve(): void {
    try {
      const count = this.#take();
      // Somebody else has read it since the loop looked.
      if (count === 0n) return;
      this.#waiters.shift()?.resolve(count);
      if (this.empty) this.#unwatch();
    } catch (error) {
      this.dismiss(error);
    }
  }
}
