// Measures an exit for HLT, in ring 0 only, because HLT raises #GP in ring 3.
import { convenient, lowLevel } from "./harness/loops.js";

export const question = {
  name: "hlt-exit",
  asks: "What does a HLT exit cost?",
  guest: "hlt",
  operations: 200,
  rows: [
    { what: "C: KVM_RUN", command: "run" },
    { what: "lowLevel().enter()", start: lowLevel("hlt") },
    { what: "runSync()", start: convenient("hlt") },
  ],
};
