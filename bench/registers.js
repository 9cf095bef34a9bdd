// Measures reading and writing the general registers.
import { repeated, sink } from "./harness/loops.js";

function get(stage) {
  const { vcpu } = stage.sandbox();
  return () => {
    sink.sum += Number(vcpu.getRegs().rax & 0xffn);
  };
}

function set(stage) {
  const { vcpu } = stage.sandbox();
  const regs = vcpu.getRegs();
  return () => vcpu.setRegs(regs);
}

export const question = {
  name: "registers",
  asks: "What do KVM_GET_REGS and KVM_SET_REGS cost?",
  note: "Each call in JavaScript makes an object of bigints.",
  guest: "port",
  operations: 500,
  rows: [
    { what: "C: KVM_GET_REGS", command: "getregs" },
    { what: "getRegs()", start: repeated(get) },
    { what: "C: KVM_SET_REGS", command: "setregs" },
    { what: "setRegs()", start: repeated(set), against: "C: KVM_SET_REGS" },
  ],
};
