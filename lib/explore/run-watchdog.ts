/** Starts the thread of watchdog.ts, and tells it when a run begins and ends. */
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { packageFolder } from "../package.ts";
import type { Watchdog } from "./kvm-subject.ts";

const FILE = join(packageFolder(), "dist", "explore", "watchdog.js");

/** Interrupts each run that takes longer than a time. */
export class RunWatchdog implements Watchdog, Disposable {
  readonly #turn: Int32Array = new Int32Array(new SharedArrayBuffer(4));
  readonly #token: BigInt64Array = new BigInt64Array(new SharedArrayBuffer(8));
  readonly #worker: Worker;
  #runs = 0;

  constructor(milliseconds: number) {
    this.#worker = new Worker(FILE, {
      workerData: { turn: this.#turn, token: this.#token, milliseconds },
    });
    // The thread must not keep the process alive.
    this.#worker.unref();
  }

  arm(kickToken: bigint): void {
    this.#runs = (this.#runs % 0x7fff_ffff) + 1;
    Atomics.store(this.#token, 0, BigInt.asIntN(64, kickToken));
    Atomics.store(this.#turn, 0, this.#runs);
    // The thread sleeps only before the first run, or after a run that ended while the thread did not wait.
    Atomics.notify(this.#turn, 0);
  }

  disarm(): void {
    Atomics.store(this.#turn, 0, 0);
    Atomics.notify(this.#turn, 0);
  }

  [Symbol.dispose](): void {
    void this.#worker.terminate();
  }
}
