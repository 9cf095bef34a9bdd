/** Claims about a KVM_SET_CPUID2 that fails before the first run: it changes nothing. */

import { guest } from "node-kvm/guest";
import { claim, expect, tableOf } from "node-kvm/test";

const CR4_FSGSBASE = 1n << 16n;
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
