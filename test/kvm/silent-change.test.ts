/**
 * Claims about tables that KVM itself changes while a vCPU runs. KVM must still accept the table that was set. The
 * claims do not read the table before they set it again. Otherwise KVM_GET_CPUID2 or a guest's CPUID would apply the
 * pending change, and would hide the bug of Linux 6.15 to 6.18.
 */
import { CR4_OSXSAVE, guest } from "node-kvm/guest";
import { claim, expect, tableOf, toggleCr4 } from "node-kvm/test";

claim(
  "silent-cr4",
  "KVM_SET_CPUID2 accepts the same table after KVM_SET_SREGS toggled CR4.OSXSAVE",
  { number: 61 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const { vcpu, stored } = kit.ran();
    toggleCr4(vcpu, CR4_OSXSAVE);
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "silent-cr4-back",
  "KVM_SET_CPUID2 accepts the same table after CR4.OSXSAVE was set and cleared again",
  { number: 61 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const { vcpu, stored } = kit.ran();
    toggleCr4(vcpu, CR4_OSXSAVE);
    toggleCr4(vcpu, CR4_OSXSAVE);
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "silent-cr4-guest",
  "KVM_SET_CPUID2 accepts the same table after the guest set CR4.OSXSAVE",
  { number: 62 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const program = guest("long", (g) => g.sync().setCr4(CR4_OSXSAVE).done());
    const { vcpu, box, stored } = kit.ran({ program });
    box.next();
    expect(vcpu.getSregs().cr4 & CR4_OSXSAVE).toBe(CR4_OSXSAVE);
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "pending-not-dropped",
  "a refused KVM_SET_CPUID2 does not lose a pending update of the CPUID bit OSXSAVE",
  { number: 64 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const { vcpu, stored } = kit.ran();
    toggleCr4(vcpu, CR4_OSXSAVE);
    expect(() => vcpu.setCpuid2(stored.append({ function: 0x5000_0000 }))).toFailWith("EINVAL");
    expect(tableOf(vcpu).get("osxsave")).toBe(1);
  },
);

claim(
  "pending-seen-by-guest",
  "a refused KVM_SET_CPUID2 does not hide a pending update of OSXSAVE from the guest",
  { number: 64 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const program = guest("long", (g) => g.sync().cpuid(1).sync().done());
    const { vcpu, box, stored } = kit.ran({ program });
    toggleCr4(vcpu, CR4_OSXSAVE);
    expect(() => vcpu.setCpuid2(stored.append({ function: 0x5000_0000 }))).toFailWith("EINVAL");
    const [[, , ecx = 0n] = []] = box.syncs();
    expect((ecx >> 27n) & 1n).toBe(1n);
  },
);
