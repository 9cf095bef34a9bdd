// Measures the time from a kick until a guest that causes no exits has stopped.
import { setTimeout } from "node:timers/promises";
import { total } from "./harness/limits.js";

/**
 * Runs the guest, lets it spin, and stops it; measures the time from the stop until the promise is settled.
 * @param {(vcpu: object) => [Promise<unknown>, () => void]} begin
 */
const kicked = (begin) => (stage) => {
  const { vcpu } = stage.sandbox();
  return async (n) => {
    let ns = 0;
    for (let i = 0; i < n; i++) {
      const [exit, stop] = begin(vcpu);
      await setTimeout(1);
      const start = process.hrtime.bigint();
      stop();
      const { kind } = await exit;
      ns += Number(process.hrtime.bigint() - start);
      if (kind !== "intr") throw new Error(`the guest left with ${kind}`);
    }
    return { ns, operations: n };
  };
};

const abort = (vcpu) => {
  const controller = new AbortController();
  return [vcpu.run({ signal: controller.signal }), () => controller.abort()];
};

const kick = (vcpu) => [vcpu.run(), () => vcpu.kick()];

export const question = {
  name: "kick",
  asks: "How long does a spinning guest run after a kick?",
  note: "C: from pthread_kill() until KVM_RUN has returned. JavaScript: until the promise is settled.",
  guest: "spin",
  rings: ["ring 0", "ring 3"],
  pinned: false,
  operations: 5,
  rows: [
    { what: "C: immediate_exit and a signal", command: "kick" },
    { what: "abort()", start: kicked(abort), limit: total(200_000) },
    { what: "kick()", start: kicked(kick), limit: total(200_000) },
  ],
};
