// Measures an MMIO exit: the guest accesses an address outside of all slots.
import { convenient, lowLevel } from "./harness/loops.js";

export const question = {
  name: "mmio-exit",
  asks: "What does an MMIO exit cost?",
  guest: "hole",
  rings: ["ring 0", "ring 3"],
  operations: 200,
  rows: [
    { what: "C: KVM_RUN", command: "run" },
    { what: "lowLevel().enter()", start: lowLevel("mmio") },
    { what: "runSync()", start: convenient("mmio") },
  ],
};
