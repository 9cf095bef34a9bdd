// Measures an exit that is handled on the event loop while the guest runs on another thread, with one CPU per thread.
import { over } from "./harness/limits.js";
import { awaited, iterated } from "./harness/loops.js";

export const question = {
  name: "async-exit",
  asks: "What does a port exit cost if the event loop handles it?",
  note: "The guest and the event loop run on separate CPUs; pio-exit measures the cost on one CPU.",
  guest: "port",
  rings: ["ring 0", "ring 3"],
  operations: 200,
  pinned: false,
  rows: [
    { what: "C: KVM_RUN", command: "run" },
    { what: "C: on another thread, with epoll", command: "run-apart" },
    { what: "await run()", start: awaited("io"), limit: over(8000) },
    { what: "for await of exits()", start: iterated("io"), limit: over(8000) },
  ],
};
