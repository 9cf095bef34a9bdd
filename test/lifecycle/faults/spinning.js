/** A worker that runs a guest that never exits: the worker posts the vCPU's token, and ends when the run ends. */
import { parentPort } from "node:worker_threads";
import { machine, SPINS } from "./programs.js";

const owned = [];
const own = (handle) => {
  owned.push(handle);
  return handle;
};
try {
  const { vcpu } = machine(own, SPINS);
  parentPort.postMessage(vcpu.kickToken);
  vcpu.runSync();
} finally {
  for (const handle of owned.reverse()) handle.close();
}
