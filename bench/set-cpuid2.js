// Measures KVM_SET_CPUID2 before a vCPU's first run, and after that run with the same table. The bytes of a CpuidTable
// are encoded once, because a CpuidTable never changes; an array of entries is encoded for each call. The calls with a
// CpuidTable and the calls with an array are both measured.
import { ratio } from "./harness/limits.js";
import { repeated } from "./harness/loops.js";

/** The sandbox has already passed the same table, so the encoded bytes are stored. */
const before = (stage) => {
  const { vcpu } = stage.sandbox();
  return () => vcpu.setCpuid2(stage.cpuid);
};

const after = (stage) => {
  const { vcpu } = stage.sandbox();
  vcpu.runSync({ throughSignals: true });
  return () => vcpu.setCpuid2(stage.cpuid);
};

const encoding = (stage) => {
  const { vcpu } = stage.sandbox();
  vcpu.runSync({ throughSignals: true });
  const entries = Array.from(stage.cpuid);
  return () => vcpu.setCpuid2(entries);
};

export const question = {
  name: "set-cpuid2",
  asks: "What does KVM_SET_CPUID2 cost?",
  note: "The whole supported table. C has its bytes ready. JavaScript keeps those of a CpuidTable, and encodes an array each time.",
  guest: "port",
  operations: 50,
  rows: [
    { what: "C: before the first run", command: "setcpuid" },
    { what: "setCpuid2() before the first run", start: repeated(before), limit: ratio(1.1) },
    { what: "C: after it", command: "setcpuid", lines: ["run 1"] },
    {
      what: "setCpuid2() after it",
      start: repeated(after),
      against: "C: after it",
      limit: ratio(1.4),
    },
    {
      what: "setCpuid2() of an array after it",
      start: repeated(encoding),
      against: "C: after it",
    },
  ],
};
