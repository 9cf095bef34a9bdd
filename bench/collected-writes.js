// Measures a guest's write that is collected in a ring, by KVM (coalesced I/O) or by the exit filter.
import { HOLE, PORT } from "./harness/guests.js";
import { ratio } from "./harness/limits.js";
import { sink } from "./harness/loops.js";

const zones = {
  port: { addr: BigInt(PORT), size: 1, pio: 1 },
  hole: { addr: BigInt(HOLE), size: 8, pio: 0 },
};

/** Runs the guest until it has made `n` writes, and calls a function that drains the ring when the ring is full. */
const collecting = (vcpu, drain) => (n) => {
  let count = 0;
  while (count < n) {
    vcpu.runSync({ throughSignals: true });
    // The write that did not fit into the full ring caused an exit.
    count += drain() + 1;
  }
  return count;
};

const takeWrite = (physAddr, low) => {
  sink.sum += physAddr + (low & 0xff);
};

const coalescing = (drainOf) => (stage) => {
  const { vm, vcpu } = stage.sandbox();
  vm.registerCoalescedMmio(zones.port);
  return collecting(vcpu, drainOf(vcpu));
};

const iterated = (vcpu) => {
  const ring = vcpu.coalescedRing();
  return () => {
    let count = 0;
    for (const { physAddr, data } of ring) {
      sink.sum += Number(physAddr) + data[0];
      count++;
    }
    return count;
  };
};

const byRing = (vcpu) => {
  const ring = vcpu.coalescedRing();
  return () => ring.drain(takeWrite);
};

const filtered = (stage) => {
  const { vcpu } = stage.sandbox();
  const ring = vcpu.setExitFilter([{ pio: PORT, write: "collect" }]);
  return collecting(vcpu, () => ring.drain(takeWrite));
};

const zone = ({ addr, size, pio }) => `coalesce ${addr} ${size} ${pio}`;

export const question = {
  name: "collected-writes",
  asks: "What does a port write cost if it is collected and drained later?",
  note: "An operation is one write.",
  guest: "port",
  rings: ["ring 0", "ring 3"],
  operations: 500,
  rows: [
    { what: "C: coalesced", command: "coalesced", lines: [zone(zones.port)] },
    {
      what: "coalescedRing().drain()",
      start: coalescing(byRing),
      limit: ratio(1.05),
    },
    { what: "for of coalescedRing()", start: coalescing(iterated) },
    { what: "C: a filter of its own", command: "collect" },
    {
      what: "setExitFilter().drain()",
      start: filtered,
      against: "C: a filter of its own",
      limit: ratio(1.05),
    },
    { what: "C: an exit each", command: "run" },
  ],
};
