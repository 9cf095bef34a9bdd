/**
 * Claims about the moment from which a vCPU counts as having run: KVM has entered the guest, regardless of the result
 * of KVM_RUN.
 */
import type { CpuidTable } from "node-kvm/cpuid";
import { guest } from "node-kvm/guest";
import { claim, expect } from "node-kvm/test";

const another = (table: CpuidTable): CpuidTable => table.append({ function: 0x5000_0000 });

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
