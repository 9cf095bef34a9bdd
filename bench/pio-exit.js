// What an exit for a port costs, in each way to take it.
import { ratio } from "./harness/limits.js";
import { awaited, convenient, iterated, lowLevel } from "./harness/loops.js";

export const question = {
  name: "pio-exit",
  asks: "What does an exit for a port cost?",
  note: "A thread's pages are looked up anew after each exit where the CPU is emulated: 32 of them, in C.",
  guest: "port",
  rings: ["ring 0", "ring 3"],
  operations: 200,
  rows: [
    { what: "C: KVM_RUN", command: "run" },
    { what: "C: and a look at 32 pages", command: "run-pages" },
    {
      what: "lowLevel().enter()",
      start: lowLevel("io"),
      limit: ratio(1.05),
    },
    { what: "runSync()", start: convenient("io") },
    { what: "await run()", start: awaited("io") },
    { what: "for await of exits()", start: iterated("io") },
  ],
};
