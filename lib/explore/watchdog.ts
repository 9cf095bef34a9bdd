/** The thread that interrupts a run of the guest that does not end. run-watchdog.ts is its owner's side. */
import { workerData } from "node:worker_threads";
import { kickVcpu } from "../index.ts";

/** The memory that the two threads share. */
interface Shared {
  /** The number of the current run; 0 between two runs. */
  readonly turn: Int32Array;
  /** The number of the run that this thread has interrupted. */
  readonly kicked: Int32Array;
  /** The token of the vCPU of the current run. */
  readonly token: BigInt64Array;
  readonly milliseconds: number;
}

const { turn, kicked, token, milliseconds } = workerData as Shared;
const never = new Int32Array(new SharedArrayBuffer(4));
for (let before = 0; ; ) {
  // The owner does not wake this thread, because a call for each run would take longer than many runs.
  Atomics.wait(never, 0, 0, milliseconds);
  const current = Atomics.load(turn, 0);
  if (current !== 0 && current === before) {
    Atomics.store(kicked, 0, current);
    kickVcpu(BigInt.asUintN(64, Atomics.load(token, 0)));
  }
  before = current;
}
