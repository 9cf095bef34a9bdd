/** Claims about a KVM_SET_CPUID2 that fails before the first run: it changes nothing. */

import { CR4_FSGSBASE, CR4_OSXSAVE, CR4_UMIP, guest } from "node-kvm/guest";
import { XTILE_DATA } from "node-kvm/oracle";
import { claim, expect, tableOf, toggleCr4 } from "node-kvm/test";

const GP = 13n;

claim(
  "rollback-table",
  "a refused KVM_SET_CPUID2 leaves the previous table unchanged, byte for byte",
  { number: 23 },
  (kit) => {
    const { vcpu, sent } = kit.configured();
    const before = vcpu.getCpuid2();
    const bad = sent.with({ virt_addr_bits: 49, stepping: 15 - (sent.get("stepping") ?? 0) });
    expect(() => vcpu.setCpuid2(bad)).toFailWith("EINVAL");
    expect(vcpu.getCpuid2()).toEqual(before);
  },
);

claim(
  "rollback-first",
  "a refused first KVM_SET_CPUID2 leaves the vCPU without a table",
  { number: 24 },
  (kit) => {
    const vcpu = kit.fresh();
    expect(() => vcpu.setCpuid2(kit.supported.with({ virt_addr_bits: 49 }))).toFailWith("EINVAL");
    expect(tableOf(vcpu)).toHaveLength(0);
  },
);

claim(
  "rollback-caps-sregs",
  "KVM_SET_SREGS refuses a CR4 bit of a feature that only a refused table had",
  { number: 25 },
  (kit) => {
    const { vcpu, sent } = kit.configured({ table: kit.supported.with({ fsgsbase: 0 }) });
    const bad = sent.with({ fsgsbase: 1, virt_addr_bits: 49 });
    expect(() => vcpu.setCpuid2(bad)).toFailWith("EINVAL");
    const sregs = vcpu.getSregs();
    expect(() => vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | CR4_FSGSBASE })).toFailWith("EINVAL");
  },
);

claim(
  "rollback-caps-guest",
  "a guest gets #GP for a CR4 bit of a feature that only a refused table had",
  { number: 25 },
  (kit) => {
    const program = guest("long", (g) =>
      g
        .attempt((a) => a.setCr4(CR4_FSGSBASE))
        .sync()
        .done(),
    );
    const { box, vcpu, sent } = kit.configured({
      table: kit.supported.with({ fsgsbase: 0 }),
      program,
    });
    const bad = sent.with({ fsgsbase: 1, virt_addr_bits: 49 });
    expect(() => vcpu.setCpuid2(bad)).toFailWith("EINVAL");
    expect(box.next()).toEqual({ kind: "sync", values: [GP] });
  },
);

claim(
  "rollback-first-caps",
  "KVM_SET_SREGS refuses CR4.UMIP if the only table that had UMIP was refused",
  { number: 26 },
  (kit) => {
    kit.requireVcpuHas("umip");
    const vcpu = kit.fresh();
    expect(() => vcpu.setCpuid2(kit.supported.with({ virt_addr_bits: 49 }))).toFailWith("EINVAL");
    expect(() => toggleCr4(vcpu, CR4_UMIP)).toFailWith("EINVAL");
  },
);

claim(
  "rollback-eperm",
  "a KVM_SET_CPUID2 that fails with EPERM keeps the table and the CR4 bits that the table allows",
  { number: 27 },
  (kit) => {
    kit.requireVcpuHas("fsgsbase");
    const { vcpu, sent, stored } = kit.configured();
    const leaf = sent.find(0xd, 0) ?? { function: 0xd, index: 0, flags: 1, eax: 7 };
    const tiles = { ...leaf, eax: (leaf.eax | (1 << XTILE_DATA)) >>> 0 };
    const bad = sent.with({ fsgsbase: 0 }).withEntry(tiles);
    expect(() => vcpu.setCpuid2(bad)).toFailWith("EPERM");
    expect(tableOf(vcpu)).toEqualTable(stored);
    expect(() => toggleCr4(vcpu, CR4_FSGSBASE)).toBeAccepted();
  },
);

claim(
  "rollback-pending",
  "a refused KVM_SET_CPUID2 does not lose the update of OSXSAVE after CR4.OSXSAVE was set",
  { number: 28 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const { vcpu, sent } = kit.configured();
    toggleCr4(vcpu, CR4_OSXSAVE);
    expect(() => vcpu.setCpuid2(sent.with({ virt_addr_bits: 49 }))).toFailWith("EINVAL");
    expect(tableOf(vcpu).get("osxsave")).toBe(1);
  },
);
