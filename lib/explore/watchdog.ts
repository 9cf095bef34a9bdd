/** The thread that interrupts a run of the guest that does not end. run-watchdog.ts is its owner's side. */
import { workerData } from "node:worker_threads";
import { kickVcpu } from "../index.ts";

/** The memory that the two threads share: the number of the run (0: none), and the token of its vCPU. */
interface Shared {
  readonly turn: Int32Array;
  readonly token: BigInt64Array;
  readonly milliseconds: number;
}

const { turn, token, milliseconds } = workerData as Shared;
for (;;) {
  const seen = Atomics.load(turn, 0);
  if (seen === 0) {
    Atomics.wait(turn, 0, 0);
    continue;
  }
  // The wait ends when the run ends, because the number then changes.
  const end = Atomics.wait(turn, 0, seen, milliseconds);
  if (end === "timed-out" && Atomics.load(turn, 0) === seen) {
    kickVcpu(BigInt.asUintN(64, Atomics.load(token, 0)));
  }
}
