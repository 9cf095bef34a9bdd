// What an exit for HLT costs; in ring 3 HLT is a #GP.
import { convenient, lowLevel } from "./harness/loops.js";

export const question = {
  name: "hlt-exit",
  asks: "What does an exit for HLT cost?",
  guest: "hlt",
  operations: 200,
  rows: [
    { what: "C: KVM_RUN", command: "run" },
    { what: "lowLevel().enter()", start: lowLevel("hlt") },
    { what: "runSync()", start: convenient("hlt") },
  ],
};
