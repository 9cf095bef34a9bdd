/** When a vCPU counts as having run: after the guest was entered, whatever KVM_RUN returned. */
import type { CpuidTable } from "node-kvm/cpuid";
import { guest } from "node-kvm/guest";
import { expect } from "vitest";
import { claim } from "../helpers/claim.ts";

const another = (table: CpuidTable): CpuidTable => table.append({ function: 0x5000_0000 });

claim(
  76,
  "immediate-exit",
  "immediate_exit ends KVM_RUN before the vCPU counts as having run",
  (kit) => {
    const { vcpu, stored } = kit.configured();
    vcpu.immediateExit = true;
    expect(vcpu.runSync()).toEqual({ kind: "intr" });
    expect(() => vcpu.setCpuid2(another(stored))).toBeAccepted();
  },
);

claim(82, "real-exit-io", "a vCPU that wrote to a port has run", (kit) => {
  const { vcpu, stored } = kit.configured();
  expect(vcpu.runSync({ throughSignals: true }).kind).toBe("io");
  expect(() => vcpu.setCpuid2(another(stored))).toFailWith("EINVAL");
});

claim(82, "real-exit-hlt", "a vCPU that halted has run", (kit) => {
  const { vcpu, stored } = kit.configured({ program: guest("long", (g) => g.hlt()) });
  expect(vcpu.runSync({ throughSignals: true }).kind).toBe("hlt");
  expect(() => vcpu.setCpuid2(another(stored))).toFailWith("EINVAL");
});

claim(82, "real-exit-mmio", "a vCPU that wrote to an address without memory has run", (kit) => {
  const program = guest("long", (g) => g.write(0xc000_0000, 0x5a, 8));
  const { vcpu, stored } = kit.configured({ program });
  expect(vcpu.runSync({ throughSignals: true }).kind).toBe("mmio");
  expect(() => vcpu.setCpuid2(another(stored))).toFailWith("EINVAL");
});

claim(
  82,
  "real-exit-error",
  "a vCPU whose first instruction is at an address without memory has run",
  (kit) => {
    const { vcpu, stored } = kit.configured();
    vcpu.setRegs({ ...vcpu.getRegs(), rip: 0xc000_0000n });
    expect(vcpu.runSync({ throughSignals: true }).kind).toBe("internal_error");
    expect(() => vcpu.setCpuid2(another(stored))).toFailWith("EINVAL");
  },
);
