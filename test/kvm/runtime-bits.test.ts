/**
 * Claims about the single bits of a table that KVM owns: KVM sets them from the vCPU's state, and ignores the values in
 * the passed table. xsave-size.test.ts has the sizes in leaf 0xD, mwait.test.ts the bit MWAIT, and lookup.test.ts the
 * entries that KVM finds.
 */

import { MSRS } from "node-kvm/abi";
import type { CpuidTable } from "node-kvm/cpuid";
import { CR4_OSXSAVE, CR4_PKE, guest } from "node-kvm/guest";
import { KVM_OWNED } from "node-kvm/oracle";
import { claim, expect, tableOf, toggleCr4 } from "node-kvm/test";

const APIC_BASE_ENABLE = 1n << 11n;

/** A guest that executes CPUID before it sets CR4.OSXSAVE, after that, and after it has cleared the bit again. */
const OSXSAVE_ON_AND_OFF = guest("long", (g) =>
  g
    .cpuid(1)
    .sync()
    .setCr4(CR4_OSXSAVE)
    .cpuid(1)
    .sync()
    .clearCr4(CR4_OSXSAVE)
    .cpuid(1)
    .sync()
    .done(),
);

/** The single bits that KVM sets in every table: OSXSAVE, APIC and OSPKE. */
const OWNED_BITS = KVM_OWNED.flatMap(({ when, low, high, field }) =>
  when === "leaf" && low === high && field !== undefined ? [field] : [],
);

/** Returns the table with each combination of values of these bits. */
function ownedBits(table: CpuidTable): readonly CpuidTable[] {
  return Array.from({ length: 2 ** OWNED_BITS.length }, (_, i) =>
    table.with(Object.fromEntries(OWNED_BITS.map((name, n) => [name, (i >> n) & 1]))),
  );
}

claim(
  "owned-bits-good",
  "the table that KVM stores does not depend on the passed bits that KVM writes itself",
  { number: 29 },
  (kit) => {
    const { vcpu, sent, stored } = kit.configured();
    for (const table of ownedBits(sent)) {
      expect(() => vcpu.setCpuid2(table)).toBeAccepted();
      expect(tableOf(vcpu)).toEqualTable(stored);
    }
  },
);

claim(
  "owned-bits-bad",
  "whether KVM refuses a table does not depend on the passed bits that KVM writes itself",
  { number: 29 },
  (kit) => {
    const { vcpu, sent } = kit.configured();
    for (const table of ownedBits(sent.with({ virt_addr_bits: 49 }))) {
      expect(() => vcpu.setCpuid2(table)).toFailWith("EINVAL");
    }
  },
);

claim(
  "set-get-idempotent",
  "KVM_SET_CPUID2 stores the table of KVM_GET_CPUID2 unchanged",
  { number: 30 },
  (kit) => {
    const { vcpu, stored } = kit.configured();
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
    expect(tableOf(vcpu)).toEqualTable(stored);
  },
);

claim(
  "osxsave-cleared",
  "KVM stores the CPUID bit OSXSAVE as 0 while CR4.OSXSAVE is 0",
  { number: 33 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const { vcpu, sent } = kit.configured();
    vcpu.setCpuid2(sent.with({ osxsave: 1 }));
    expect(tableOf(vcpu).get("osxsave")).toBe(0);
  },
);

claim(
  "osxsave-set",
  "KVM stores the CPUID bit OSXSAVE as 1 while CR4.OSXSAVE is 1",
  { number: 33 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const { vcpu, sent } = kit.configured();
    toggleCr4(vcpu, CR4_OSXSAVE);
    vcpu.setCpuid2(sent.with({ osxsave: 0 }));
    expect(tableOf(vcpu).get("osxsave")).toBe(1);
  },
);

claim(
  "osxsave-on-cr4",
  "the CPUID bit OSXSAVE follows CR4.OSXSAVE after KVM_SET_SREGS",
  { number: 34 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const { vcpu } = kit.configured();
    const seen = [0, 1, 2].map(() => {
      toggleCr4(vcpu, CR4_OSXSAVE);
      return tableOf(vcpu).get("osxsave");
    });
    expect(seen).toEqual([1, 0, 1]);
  },
);

claim(
  "osxsave-guest",
  "the guest's CPUID bit OSXSAVE follows CR4.OSXSAVE when the guest writes CR4",
  { number: 35 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const { box } = kit.configured({ program: OSXSAVE_ON_AND_OFF });
    const seen = box.syncs().map(([, , ecx = 0n]) => (ecx >> 27n) & 1n);
    expect(seen).toEqual([0n, 1n, 0n]);
  },
);

claim(
  "osxsave-guest-get",
  "KVM_GET_CPUID2 returns the CPUID bit OSXSAVE as CR4.OSXSAVE after the guest wrote CR4",
  { number: 35 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const { box, vcpu } = kit.configured({ program: OSXSAVE_ON_AND_OFF });
    const seen = [0, 1, 2].map(() => {
      box.next();
      return tableOf(vcpu).get("osxsave");
    });
    expect(seen).toEqual([0, 1, 0]);
  },
);

claim(
  "ospke-on-cr4",
  "the CPUID bit OSPKE follows CR4.PKE after KVM_SET_SREGS",
  { number: 36 },
  (kit) => {
    kit.requireVcpuHas("pku");
    const { vcpu } = kit.configured();
    const seen = [0, 1, 2].map(() => {
      toggleCr4(vcpu, CR4_PKE);
      return tableOf(vcpu).get("ospke");
    });
    expect(seen).toEqual([1, 0, 1]);
  },
);

/** The bits that KVM derives from CR4, and the CPU feature without which older kernels do not maintain the bit. */
const BITS_OF_CR4 = [
  { bit: "osxsave", feature: "xsave" },
  { bit: "ospke", feature: "pku" },
] as const;

for (const { bit, feature } of BITS_OF_CR4) {
  claim(
    `${bit}-without-${feature}`,
    `KVM clears the CPUID bit ${bit.toUpperCase()} even if this host has no ${feature.toUpperCase()}`,
    { number: 37 },
    (kit) => {
      kit.require(!kit.supported.has(feature), `KVM supports ${feature} here`);
      const leaf = guest("long", (g) =>
        g
          .cpuid(bit === "ospke" ? 7 : 1)
          .sync()
          .done(),
      );
      const { box } = kit.configured({ table: kit.supported.with({ [bit]: 1 }), program: leaf });
      const [[, , ecx = 0n] = []] = box.syncs();
      expect((ecx >> (bit === "ospke" ? 4n : 27n)) & 1n).toBe(0n);
    },
  );
}

claim(
  "apic-bit-on-set",
  "KVM stores the CPUID bit APIC as 1 if the passed table has 0",
  { number: 38 },
  (kit) => {
    const { vcpu, sent } = kit.configured();
    vcpu.setCpuid2(sent.with({ apic: 0 }));
    expect(tableOf(vcpu).get("apic")).toBe(1);
  },
);

claim(
  "apic-bit-sregs",
  "the CPUID bit APIC follows APIC_BASE.EN after KVM_SET_SREGS",
  { number: 38 },
  (kit) => {
    const { vcpu } = kit.configured();
    const seen = [0, 1].map(() => {
      const sregs = vcpu.getSregs();
      vcpu.setSregs({ ...sregs, apicBase: sregs.apicBase ^ APIC_BASE_ENABLE });
      return tableOf(vcpu).get("apic");
    });
    expect(seen).toEqual([0, 1]);
  },
);

claim(
  "apic-bit-msr",
  "the CPUID bit APIC follows APIC_BASE.EN after KVM_SET_MSRS",
  { number: 38 },
  (kit) => {
    const { vcpu } = kit.configured();
    const base = vcpu.getSregs().apicBase;
    const seen = [base & ~APIC_BASE_ENABLE, base].map((data) => {
      expect(vcpu.setMsrs([{ index: MSRS.MSR_IA32_APICBASE, data }])).toBe(1);
      return tableOf(vcpu).get("apic");
    });
    expect(seen).toEqual([0, 1]);
  },
);

claim(
  "guest-equals-get",
  "the guest's CPUID instruction returns the same as KVM_GET_CPUID2, leaf by leaf",
  { number: 47 },
  (kit) => {
    const leafs = Array.from(kit.configured().stored, ({ function: fn, index }) => ({
      function: fn,
      index,
    }));
    const { box, stored } = kit.configured({
      program: guest("long", (g) => g.cpuidAll(leafs).done()),
    });
    const expected = Array.from(stored, ({ eax, ebx, ecx, edx }) => [eax, ebx, ecx, edx]).flat();
    expect(box.next()).toEqual({ kind: "sync", values: expected.map(BigInt) });
  },
);
