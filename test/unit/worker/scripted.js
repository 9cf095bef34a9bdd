/** A worker whose vCPU is scripted and needs no KVM. The test vcpu-worker.test.ts contains the expected results. */
import { KvmError, StateError } from "node-kvm";
import { serveVcpu } from "node-kvm/worker";

const answers = [];

/** The scripts of the vCPU's runs, by name. */
const scripts = {
  exits: [
    () => ({ kind: "io", direction: "out", port: 1 }),
    () => ({ kind: "io", direction: "out", port: 1 }),
    () => ({ kind: "hlt" }),
  ],
  reads: [
    () => ({ kind: "io", direction: "in", port: 2, reply: (values) => answers.push(values) }),
    () => ({
      kind: "x86_rdmsr",
      index: 5,
      reply: (data) => answers.push(data),
      fail: () => answers.push("failed"),
    }),
    () => ({ kind: "unknown", reason: answers.length, bytes: answers.flat() }),
  ],
  "reads one": [
    () => ({
      kind: "io",
      direction: "in",
      port: 2,
      reply: (values) => {
        if (values.length !== 1) throw new RangeError("1 value is read");
        answers.push(values);
      },
    }),
    () => ({ kind: "unknown", reason: answers.length, bytes: answers.flat() }),
  ],
  refused: [
    () => {
      const args = { id: 7n, list: [1], bytes: new Uint8Array(2), event: new Event("x"), on() {} };
      const call = { call: "KVM_RUN", object: "vcpu 0", errno: 5, args };
      throw new KvmError({ ...call, reason: "the VM is dead" });
    },
    () => {
      throw new StateError("ERR_CLOSED", "vcpu 0");
    },
    () => {
      throw Object.assign(new Error("not to be cloned"), { call: () => undefined });
    },
    () => ({ kind: "hlt" }),
  ],
  interrupted: [() => ({ kind: "intr" }), () => ({ kind: "hlt" })],
  spins: [],
  "ends its thread": [() => process.exit(3)],
};

await serveVcpu(({ script, throws }) => {
  if (throws !== undefined) throw new RangeError(throws);
  const runs = [...scripts[script]];
  const vcpu = {
    kickToken: 1n,
    immediateExit: false,
    runSync: () => (runs.shift() ?? (() => ({ kind: "intr" })))(),
  };
  return { vcpu, handle: (exit) => exit.port === 1 };
});
