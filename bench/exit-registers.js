// Measures reading a guest's registers at each exit: by an ioctl, or in kvm_run (KVM_CAP_SYNC_REGS).
import { RunPage } from "node-kvm";
import { KVM_EXIT_IO, KVM_SYNC_X86_REGS } from "node-kvm/abi";
import { ratio } from "./harness/limits.js";
import { convenient, lowLevel, runSyncLoop, sink } from "./harness/loops.js";

function ioctl(stage) {
  const { vcpu } = stage.sandbox();
  const one = runSyncLoop(vcpu, "io");
  return (n) => {
    for (let i = 0; i < n; i++) {
      one(1);
      sink.sum += Number(vcpu.getRegs().rax & 0xffn);
    }
    return n;
  };
}

/** Makes KVM copy the registers into kvm_run at each exit. */
function synchronised(stage) {
  const { vcpu } = stage.sandbox();
  const page = vcpu.lowLevel();
  const RAX = 2 * RunPage.REGS.rax;
  page.kvmValidRegs = KVM_SYNC_X86_REGS;
  return (n) => {
    for (let i = 0; i < n; i++) {
      if (page.enter() !== 0 || page.exitReason !== KVM_EXIT_IO) throw new Error("no I/O exit");
      sink.sum += page.ioValue + (page.regWords[RAX] & 0xff);
    }
    return n;
  };
}

export const question = {
  name: "exit-registers",
  asks: "What does it cost to read the registers at each exit?",
  guest: "port",
  rings: ["ring 0", "ring 3"],
  operations: 200,
  rows: [
    { what: "C: KVM_RUN", command: "run" },
    { what: "C: with kvm_valid_regs", command: "run-sync-regs" },
    { what: "C: with KVM_GET_REGS", command: "run-getregs" },
    { what: "lowLevel().enter()", start: lowLevel("io") },
    {
      what: "lowLevel().enter() with kvm_valid_regs",
      start: synchronised,
      against: "lowLevel().enter()",
      limit: ratio(1.02),
    },
    { what: "runSync()", start: convenient("io") },
    { what: "runSync() with getRegs()", start: ioctl, against: "runSync()" },
  ],
};
