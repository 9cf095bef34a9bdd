// Measures KVM_SET_CPUID2: before the vCPU's first run, and with the same table after it.
import { ratio } from "./harness/limits.js";
import { repeated } from "./harness/loops.js";

const before = (stage) => {
  const { vcpu } = stage.sandbox();
  return () => vcpu.setCpuid2(stage.cpuid);
};

const after = (stage) => {
  const { vcpu } = stage.sandbox();
  vcpu.runSync({ throughSignals: true });
  return () => vcpu.setCpuid2(stage.cpuid);
};

export const question = {
  name: "set-cpuid2",
  asks: "What does KVM_SET_CPUID2 cost?",
  note: "The whole supported table. C sends prepared bytes; JavaScript encodes its entries each time.",
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
      limit: ratio(1.1),
    },
  ],
};
