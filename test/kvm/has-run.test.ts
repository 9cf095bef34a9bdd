/**
 * Claims about the moment from which a vCPU counts as having run: KVM has entered the guest, regardless of the result
 * of KVM_RUN.
 */
import { constants } from "node:os";
import { setTimeout } from "node:timers/promises";
import { type Vcpu, type Vm, vendorModule } from "node-kvm";
import {
  KVM_MP_STATE_HALTED,
  KVM_MP_STATE_INIT_RECEIVED,
  KVM_MP_STATE_UNINITIALIZED,
  KVM_VCPUEVENT_VALID_TRIPLE_FAULT,
} from "node-kvm/abi";
import type { CpuidTable } from "node-kvm/cpuid";
import { guest } from "node-kvm/guest";
import { claim, expect, type Kit } from "node-kvm/test";

const another = (table: CpuidTable): CpuidTable => table.append({ function: 0x5000_0000 });

const withIrqchip = (vm: Vm): void => vm.createIrqchip();

/** The time that a vCPU gets to reach its wait in KVM_RUN, in milliseconds. */
const WAIT_MS = 3;

/** Runs a vCPU that waits in KVM_RUN on its own thread, interrupts it with a signal, and returns the exit's kind. */
async function interrupted(vcpu: Vcpu): Promise<string> {
  const run = vcpu.run();
  await setTimeout(WAIT_MS);
  vcpu.kick();
  return (await run).kind;
}

claim(
  "immediate-exit",
  "immediate_exit ends KVM_RUN before the vCPU counts as having run",
  { number: 76 },
  (kit) => {
    const { vcpu, stored } = kit.configured();
    vcpu.immediateExit = true;
    expect(vcpu.runSync()).toEqual({ kind: "intr" });
    expect(() => vcpu.setCpuid2(another(stored))).toBeAccepted();
  },
);

claim("real-exit-io", "a vCPU that wrote to a port has run", { number: 82 }, (kit) => {
  const { vcpu, stored } = kit.configured();
  expect(vcpu.runSync({ throughSignals: true }).kind).toBe("io");
  expect(() => vcpu.setCpuid2(another(stored))).toFailWith("EINVAL");
});

claim("real-exit-hlt", "a vCPU that halted has run", { number: 82 }, (kit) => {
  const { vcpu, stored } = kit.configured({ program: guest("long", (g) => g.hlt()) });
  expect(vcpu.runSync({ throughSignals: true }).kind).toBe("hlt");
  expect(() => vcpu.setCpuid2(another(stored))).toFailWith("EINVAL");
});

claim(
  "real-exit-mmio",
  "a vCPU that wrote to an address without memory has run",
  { number: 82 },
  (kit) => {
    const program = guest("long", (g) => g.write(0xc000_0000, 0x5a, 8));
    const { vcpu, stored } = kit.configured({ program });
    expect(vcpu.runSync({ throughSignals: true }).kind).toBe("mmio");
    expect(() => vcpu.setCpuid2(another(stored))).toFailWith("EINVAL");
  },
);

claim(
  "real-exit-error",
  "a vCPU whose first instruction is at an address without memory has run",
  { number: 82 },
  (kit) => {
    const { vcpu, stored } = kit.configured();
    vcpu.setRegs({ ...vcpu.getRegs(), rip: 0xc000_0000n });
    expect(vcpu.runSync({ throughSignals: true }).kind).toBe("internal_error");
    expect(() => vcpu.setCpuid2(another(stored))).toFailWith("EINVAL");
  },
);

claim(
  "bad-sync-regs",
  "KVM_RUN refuses an undefined bit of kvm_dirty_regs before the vCPU counts as having run",
  { number: 78 },
  (kit) => {
    const { vcpu, stored } = kit.configured();
    const page = vcpu.lowLevel();
    // KVM of some kernels ignores the bits from 32 on, and then enters the guest.
    page.kvmDirtyRegs = 1 << 20;
    expect(page.enter()).toBe(-constants.errno.EINVAL);
    page.kvmDirtyRegs = 0;
    expect(() => vcpu.setCpuid2(another(stored))).toBeAccepted();
  },
);

claim(
  "triple-fault-pending",
  "a vCPU with a pending triple fault exits with KVM_EXIT_SHUTDOWN and has not run",
  { number: 79 },
  (kit) => {
    kit.requireCapability("KVM_CAP_X86_TRIPLE_FAULT_EVENT");
    const { vcpu, stored } = kit.configured({
      prepare: (vm) => vm.enableCap({ cap: "KVM_CAP_X86_TRIPLE_FAULT_EVENT", enable: 1 }),
    });
    vcpu.updateVcpuEvents({
      flags: KVM_VCPUEVENT_VALID_TRIPLE_FAULT,
      tripleFault: { pending: 1 },
    });
    expect(vcpu.runSync({ throughSignals: true }).kind).toBe("shutdown");
    expect(() => vcpu.setCpuid2(another(stored))).toBeAccepted();
  },
);

claim(
  "ap-uninitialised",
  "an application processor that waits for INIT has not run",
  { number: 80 },
  async (kit) => {
    const { box, stored } = kit.configured({ prepare: withIrqchip });
    const ap = kit.keep(box.vm.createVcpu(1));
    ap.setCpuid2(stored);
    expect(ap.getMpState()).toBe(KVM_MP_STATE_UNINITIALIZED);
    expect(await interrupted(ap)).toBe("intr");
    expect(() => ap.setCpuid2(another(stored))).toBeAccepted();
  },
);

claim(
  "ap-immediate-exit",
  "immediate_exit ends KVM_RUN of an application processor that waits for INIT, which has not run",
  { number: 80 },
  (kit) => {
    const { box, stored } = kit.configured({ prepare: withIrqchip });
    const ap = kit.keep(box.vm.createVcpu(1));
    ap.setCpuid2(stored);
    ap.immediateExit = true;
    expect(ap.runSync()).toEqual({ kind: "intr" });
    expect(() => ap.setCpuid2(another(stored))).toBeAccepted();
  },
);

const WAITING = [
  ["halted", KVM_MP_STATE_HALTED, "KVM_MP_STATE_HALTED"],
  ["init-received", KVM_MP_STATE_INIT_RECEIVED, "KVM_MP_STATE_INIT_RECEIVED"],
] as const;
for (const [name, state, symbol] of WAITING) {
  claim(
    `waits-${name}`,
    `a vCPU in ${symbol} waits in KVM_RUN and has not run`,
    { number: 81 },
    async (kit) => {
      const { vcpu, stored } = kit.configured({ prepare: withIrqchip });
      vcpu.setMpState(state);
      expect(await interrupted(vcpu)).toBe("intr");
      expect(() => vcpu.setCpuid2(another(stored))).toBeAccepted();
    },
  );
}

claim(
  "fail-entry",
  "a vCPU whose state the CPU refuses at the entry (KVM_EXIT_FAIL_ENTRY) has run",
  { number: 83 },
  (kit) => {
    kit.require(
      vendorModule() !== "kvm_pvm",
      "kvm_pvm enters a guest without hardware that checks its state",
    );
    const { vcpu, stored } = kit.configured();
    const sregs = vcpu.getSregs();
    // A code segment with both L and D is reserved in long mode (AMD APM 15.5.1; Intel SDM Vol. 3C 27.3.1.2).
    vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, l: 1, db: 1 } });
    expect(vcpu.runSync({ throughSignals: true }).kind).toBe("fail_entry");
    expect(() => vcpu.setCpuid2(another(stored))).toFailWith("EINVAL");
  },
);

/** Returns the registers of a new vCPU. */
function registersOfNew(kit: Kit) {
  const vcpu = kit.fresh();
  return { sregs: vcpu.getSregs(), regs: vcpu.getRegs() };
}

claim(
  "no-way-back",
  "the registers of a new vCPU and KVM_MP_STATE_UNINITIALIZED do not make a vCPU that has run new again",
  { number: 84 },
  (kit) => {
    const { sregs, regs } = registersOfNew(kit);
    const { vcpu, stored } = kit.ran({ prepare: withIrqchip });
    vcpu.setSregs(sregs);
    vcpu.setRegs(regs);
    vcpu.setMpState(KVM_MP_STATE_UNINITIALIZED);
    expect(() => vcpu.setCpuid2(another(stored))).toFailWith("EINVAL");
  },
);

claim(
  "no-second-vcpu",
  "KVM does not create a second vCPU with the id of a closed one",
  { number: 84 },
  (kit) => {
    const { box, vcpu } = kit.ran();
    vcpu.close();
    expect(() => box.vm.createVcpu(0)).toFailWith("EEXIST");
  },
);
