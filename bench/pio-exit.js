// Measures a port exit with each method that returns it.
import { ratio } from "./harness/limits.js";
import { awaited, convenient, iterated, lowLevel } from "./harness/loops.js";

export const question = {
  name: "pio-exit",
  asks: "What does a port exit cost?",
  note: "An emulated CPU walks the page tables again after each exit; one C row touches 32 pages to show that cost.",
  guest: "port",
  rings: ["ring 0", "ring 3"],
  operations: 200,
  rows: [
    { what: "C: KVM_RUN", command: "run" },
    { what: "C: and touching 32 pages", command: "run-pages" },
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
