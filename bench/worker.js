// Measures an exit that a worker thread handles; the worker sends the main thread one message per batch.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { ratio } from "./harness/limits.js";

/** Starts the worker with the guest; a sample is one message to the worker and one back. @param {"runSync" | "lowLevel"} form */
const working = (form) => async (stage) => {
  const file = new URL("./harness/own-exits.js", import.meta.url);
  const worker = new Worker(file, { workerData: { guest: "port", ring: stage.ring, form } });
  stage.keep({ close: () => worker.terminate() });
  await once(worker, "message");
  return async (n) => {
    worker.postMessage(n);
    const [done] = await once(worker, "message");
    return done;
  };
};

export const question = {
  name: "worker",
  asks: "What does an exit cost that a worker thread handles?",
  note: "2000 exits between two messages.",
  guest: "port",
  rings: ["ring 0", "ring 3"],
  operations: 2000,
  rows: [
    { what: "C: KVM_RUN", command: "run", operations: 200 },
    {
      what: "lowLevel().enter()",
      start: working("lowLevel"),
      limit: ratio(1.12),
    },
    { what: "runSync()", start: working("runSync") },
  ],
};
