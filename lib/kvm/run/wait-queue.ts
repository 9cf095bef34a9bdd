/**
 * The waiters of an eventfd, served in the order of their calls. host-file.ts reads the eventfd's counter and closes
 * it.
 */
import type { NativeHostFile } from "../../native.ts";
import { refused } from "../refused.ts";
import { Abortable, type AbortOptions } from "./abortable.ts";

/** The promises that wait for an eventfd's signals. The event loop watches the eventfd while the queue has a waiter. */
export class WaitQueue {
  readonly #label: string;
  readonly #take: () => bigint;
  readonly #waiters: Abortable<bigint>[] = [];
  #watched: NativeHostFile | undefined;

  /** Creates an empty queue; `take` returns the counter and sets it to 0. */
  constructor(label: string, take: () => bigint) {
    this.#label = label;
    this.#take = take;
  }

  /** Whether the queue is empty. */
  get empty(): boolean {
    return this.#waiters.length === 0;
  }

  /** Adds a waiter. `file` is called last, because reading the signal may run code that closes the eventfd. */
  add(file: () => NativeHostFile, options: AbortOptions): Promise<bigint> {
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

  /** Rejects all waiters with the error; the eventfd may be closed already. */
  rejectAll(reason: unknown): void {
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
      // The counter is 0 if another reader has reset it since the event loop found it above zero.
      if (count === 0n) return;
      this.#waiters.shift()?.resolve(count);
      if (this.empty) this.#unwatch();
    } catch (error) {
      this.rejectAll(error);
    }
  }
}
