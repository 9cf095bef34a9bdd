/** Claims about the CPUID table of a vCPU with an in-kernel APIC: KVM applies the same rules as without one. */
import { CR4_OSXSAVE, guest } from "node-kvm/guest";
import { claim, expect, type Kit, type Setup, tableOf, toggleCr4 } from "node-kvm/test";

const APIC_BASE_ENABLE = 1n << 11n;

const withIrqchip = (kit: Kit, setup: Setup = {}): Setup => {
  kit.requireCapability("KVM_CAP_IRQCHIP");
  return { ...setup, prepare: (vm) => vm.createIrqchip() };
};

claim(
  "irqchip-resend",
  "a vCPU with an in-kernel APIC that has run accepts its own table once more",
  { number: 115 },
  (kit) => {
    const { vcpu, stored } = kit.ran(withIrqchip(kit));
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
    expect(tableOf(vcpu)).toEqualTable(stored);
  },
);

claim(
  "irqchip-change",
  "a vCPU with an in-kernel APIC that has run refuses another table",
  { number: 115 },
  (kit) => {
    const { vcpu, stored } = kit.ran(withIrqchip(kit));
    const other = stored.append({ function: 0x5000_0000 });
    expect(() => vcpu.setCpuid2(other)).toFailWith("EINVAL");
  },
);

claim(
  "irqchip-ignore-apic",
  "a vCPU with an in-kernel APIC that has run accepts any value of the CPUID bit APIC, and keeps its own",
  { number: 115 },
  (kit) => {
    const { vcpu, stored } = kit.ran(withIrqchip(kit));
    expect(() => vcpu.setCpuid2(stored.with({ apic: 0 }))).toBeAccepted();
    expect(tableOf(vcpu)).toEqualTable(stored);
  },
);

claim(
  "irqchip-silent-cr4",
  "a vCPU with an in-kernel APIC accepts the same table after KVM_SET_SREGS toggled CR4.OSXSAVE",
  { number: 115 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const { vcpu, stored } = kit.ran(withIrqchip(kit));
    toggleCr4(vcpu, CR4_OSXSAVE);
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "irqchip-silent-apic",
  "a vCPU with an in-kernel APIC accepts the same table after KVM_SET_SREGS disabled the APIC",
  { number: 115 },
  (kit) => {
    const { vcpu, stored } = kit.ran(withIrqchip(kit));
    const sregs = vcpu.getSregs();
    vcpu.setSregs({ ...sregs, apicBase: sregs.apicBase & ~APIC_BASE_ENABLE });
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "irqchip-apic-guest",
  "a guest reads the CPUID bit APIC as 0 after user space disabled its in-kernel APIC",
  { number: 115 },
  (kit) => {
    const program = guest("long", (g) => g.cpuid(1).sync().cpuid(1).sync().done());
    const { box, vcpu } = kit.configured(withIrqchip(kit, { program }));
    const seen = [0, 1].map(() => {
      const ucall = box.next();
      const sregs = vcpu.getSregs();
      vcpu.setSregs({ ...sregs, apicBase: sregs.apicBase & ~APIC_BASE_ENABLE });
      return ucall.kind === "sync" ? ((ucall.values[3] ?? 0n) >> 9n) & 1n : ucall.kind;
    });
    expect(seen).toEqual([1n, 0n]);
  },
);
