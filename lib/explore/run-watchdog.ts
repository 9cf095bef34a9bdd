/** Starts the thread of watchdog.ts, and reports to it when a run begins and ends. */
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { packageFolder } from "../package.ts";
import type { Watchdog } from "./kvm-subject.ts";

const FILE = join(packageFolder(), "dist", "explore", "watchdog.js");

/** Interrupts each run that takes longer than a time. */
export class RunWatchdog implements Watchdog, Disposable {
  readonly #turn: Int32Array = new Int32Array(new SharedArrayBuffer(4));
  /** The number of the run that the thread has interrupted. */
  readonly #kicked: Int32Array = new Int32Array(new SharedArrayBuffer(4));
  readonly #token: BigInt64Array = new BigInt64Array(new SharedArrayBuffer(8));
  readonly #worker: Worker;
  #runs = 0;

  constructor(milliseconds: number) {
    this.#worker = new Worker(FILE, {
      workerData: { turn: this.#turn, kicked: this.#kicked, token: this.#token, milliseconds },
    });
    // The thread must not prevent the process from exiting.
    this.#worker.unref();
  }

  arm(kickToken: bigint): void {
    this.#runs = (this.#runs % 0x7fff_ffff) + 1;
    Atomics.store(this.#token, 0, BigInt.asIntN(64, kickToken));
    Atomics.store(this.#turn, 0, this.#runs);
  }

  disarm(): boolean {
    Atomics.store(this.#turn, 0, 0);
    return Atomics.exchange(this.#kicked, 0, 0) === this.#runs;
  }

  [Symbol.dispose](): void {
    void this.#worker.terminate();
  }
}
