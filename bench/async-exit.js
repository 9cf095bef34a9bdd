// What an exit costs that is handled beside the event loop, where both threads have a CPU.
import { over } from "./harness/limits.js";
import { awaited, iterated } from "./harness/loops.js";

export const question = {
  name: "async-exit",
  asks: "What does an exit for a port cost that comes to the event loop?",
  note: "Not bound to one CPU; what it costs on one is in pio-exit.",
  guest: "port",
  rings: ["ring 0", "ring 3"],
  operations: 200,
  pinned: false,
  rows: [
    { what: "C: KVM_RUN", command: "run" },
    { what: "await run()", start: awaited("io"), limit: over(8000) },
    { what: "for await of exits()", start: iterated("io"), limit: over(8000) },
  ],
};
