// Measures a KVM_RUN with immediate_exit, which returns without entering the guest: the cost of the call alone.
import { repeated } from "./harness/loops.js";

const EINTR = 4;

function lowLevel(stage) {
  const { vcpu } = stage.sandbox();
  const page = vcpu.lowLevel();
  vcpu.immediateExit = true;
  return () => {
    if (page.enter() !== -EINTR) throw new Error("KVM_RUN: no EINTR");
  };
}

function convenient(stage) {
  const { vcpu } = stage.sandbox();
  vcpu.immediateExit = true;
  return () => {
    if (vcpu.runSync().kind !== "intr") throw new Error("KVM_RUN: no EINTR");
  };
}

export const question = {
  name: "immediate-exit",
  asks: "What does a KVM_RUN that does not enter the guest cost?",
  guest: "port",
  operations: 1000,
  rows: [
    { what: "C: KVM_RUN, immediate_exit", command: "immediate" },
    { what: "lowLevel().enter()", start: repeated(lowLevel) },
    { what: "runSync()", start: repeated(convenient) },
  ],
};
