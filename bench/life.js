// Measures creating a VM, running it to its first exit, and closing it.
// The question has no limit, because closing a VM waits for RCU.
import { setImmediate } from "node:timers/promises";
import { Sandbox } from "node-kvm/machine";

function live(stage) {
  const { program } = stage;
  return async (n) => {
    for (let i = 0; i < n; i++) {
      const sandbox = new Sandbox(stage.kvm, { program, cpuid: stage.cpuid });
      sandbox.vcpu.runSync({ throughSignals: true });
      sandbox.close();
      // Finalizers run only on the event loop; without a turn of the event loop, memory grows.
      await setImmediate();
    }
    return n;
  };
}

export const question = {
  name: "life",
  asks: "What does a VM with memory, a vCPU, its first exit and its end cost?",
  guest: "port",
  operations: 2,
  rows: [
    { what: "C", command: "life" },
    { what: "new Sandbox(), runSync(), close()", start: live },
  ],
};
