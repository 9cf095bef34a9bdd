/**
 * Claims about KVM_SET_SREGS: the bits of CR0, CR4, EFER and APIC_BASE that KVM accepts, and how they depend on the
 * vCPU's CPUID table. Most of the vCPUs of these claims never run.
 */
import type { Sregs } from "node-kvm/abi";
import type { CpuidFieldName, CpuidTable } from "node-kvm/cpuid";
import {
  CR0_PG,
  CR4_FSGSBASE,
  CR4_LA57,
  CR4_OSXSAVE,
  CR4_PKE,
  CR4_SMAP,
  CR4_SMEP,
  CR4_UMIP,
  EFER_LME,
  EFER_NX,
  guest,
} from "node-kvm/guest";
import { claim, expect, type Kit, tableOf, toggleCr4 } from "node-kvm/test";

const CR0_NW = 1n << 29n;
const CR0_CD = 1n << 30n;
const EFER_SCE = 1n;
const APIC_BASE_X2APIC = 1n << 10n;
const APIC_BASE_ENABLE = 1n << 11n;

/** The bits of CR4 that exist on every vCPU: VME, PVI, TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR and OSXMMEXCPT. */
const ALWAYS_ALLOWED = 0x7ffn;

/** The bits of CR4 that require a CPUID feature. */
const CR4_FEATURES = [
  ["umip", CR4_UMIP],
  ["la57", CR4_LA57],
  ["vmx", 1n << 13n],
  ["smx", 1n << 14n],
  ["fsgsbase", CR4_FSGSBASE],
  ["pcid", 1n << 17n],
  ["xsave", CR4_OSXSAVE],
  ["smep", CR4_SMEP],
  ["smap", CR4_SMAP],
  ["pku", CR4_PKE],
] as const satisfies readonly (readonly [CpuidFieldName, bigint])[];

/** Creates a vCPU that has this table and has not run. */
function vcpuWith(kit: Kit, table: CpuidTable) {
  const vcpu = kit.fresh();
  vcpu.setCpuid2(table);
  return vcpu;
}

/** Returns the table without a feature. A table that lacks the feature's leaf is returned unchanged. */
const lacking = (table: CpuidTable, name: CpuidFieldName): CpuidTable =>
  table.has(name) ? table.with({ [name]: 0 }) : table;

/** Returns the bits of CR4 whose features a stored table has. */
const allowedCr4 = (stored: CpuidTable): bigint =>
  CR4_FEATURES.reduce((cr4, [name, bit]) => (stored.has(name) ? cr4 | bit : cr4), 0n);

claim(
  "fresh-cr4",
  "KVM refuses every CR4 bit that requires a CPUID feature on a vCPU without a CPUID table",
  { number: 104 },
  (kit) => {
    const vcpu = kit.fresh();
    const before = vcpu.getSregs();
    for (const [, bit] of CR4_FEATURES) {
      expect(() => vcpu.setSregs({ ...before, cr4: before.cr4 | bit })).toFailWith("EINVAL");
    }
    expect(vcpu.getSregs()).toEqual(before);
  },
);

claim(
  "fresh-cr4-always-allowed",
  "KVM accepts the eleven CR4 bits that every CPU has on a vCPU without a CPUID table",
  { number: 104 },
  (kit) => {
    const vcpu = kit.fresh();
    const before = vcpu.getSregs();
    expect(() => vcpu.setSregs({ ...before, cr4: ALWAYS_ALLOWED })).toBeAccepted();
    expect(vcpu.getSregs()).toEqual({ ...before, cr4: ALWAYS_ALLOWED });
  },
);

for (const [name, bit] of CR4_FEATURES) {
  claim(
    `cr4-needs-${name}`,
    `KVM refuses the CR4 bit of ${name} if the table lacks the feature, and keeps the special registers`,
    { number: 105 },
    (kit) => {
      const vcpu = vcpuWith(kit, lacking(kit.supported, name));
      const before = vcpu.getSregs();
      expect(() => vcpu.setSregs({ ...before, cr4: before.cr4 | bit })).toFailWith("EINVAL");
      expect(vcpu.getSregs()).toEqual(before);
    },
  );
}

claim(
  "cr4-with-features",
  "KVM accepts all CR4 bits whose features the table has, and returns CR4 as it was set",
  { number: 105 },
  (kit) => {
    const vcpu = vcpuWith(kit, kit.supported);
    const cr4 = ALWAYS_ALLOWED | allowedCr4(tableOf(vcpu));
    expect(() => vcpu.setSregs({ ...vcpu.getSregs(), cr4 })).toBeAccepted();
    expect(vcpu.getSregs().cr4).toBe(cr4);
  },
);

claim(
  "cr4-in-table",
  "the CPUID bits OSXSAVE and OSPKE equal CR4.OSXSAVE and CR4.PKE after KVM_SET_SREGS set all allowed CR4 bits",
  { number: 105 },
  (kit) => {
    const vcpu = vcpuWith(kit, kit.supported);
    const allowed = allowedCr4(tableOf(vcpu));
    const seen = [ALWAYS_ALLOWED | allowed, ALWAYS_ALLOWED].map((cr4) => {
      vcpu.setSregs({ ...vcpu.getSregs(), cr4 });
      const stored = tableOf(vcpu);
      return [stored.has("osxsave"), stored.has("ospke")];
    });
    const expected = [(allowed & CR4_OSXSAVE) !== 0n, (allowed & CR4_PKE) !== 0n];
    expect(seen).toEqual([expected, [false, false]]);
  },
);

claim(
  "cr4-kept",
  "KVM keeps a CR4 bit when a new table removes its feature",
  { number: 105 },
  (kit) => {
    kit.requireVcpuHas("fsgsbase");
    const vcpu = vcpuWith(kit, kit.supported);
    const sregs = vcpu.getSregs();
    vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | CR4_FSGSBASE });
    expect(() => vcpu.setCpuid2(kit.supported.with({ fsgsbase: 0 }))).toBeAccepted();
    expect(vcpu.getSregs().cr4).toBe(sregs.cr4 | CR4_FSGSBASE);
  },
);

claim(
  "cr4-kept-refused",
  "KVM_SET_SREGS refuses the vCPU's own CR4 after a new table removed the feature of a bit",
  { number: 105 },
  (kit) => {
    kit.requireVcpuHas("fsgsbase");
    const vcpu = vcpuWith(kit, kit.supported);
    const sregs = vcpu.getSregs();
    vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | CR4_FSGSBASE });
    vcpu.setCpuid2(kit.supported.with({ fsgsbase: 0 }));
    expect(() => vcpu.setSregs(vcpu.getSregs())).toFailWith("EINVAL");
  },
);

/** The bits of EFER that require a CPUID feature, and the name of the bit. */
const EFER_FEATURES = [
  ["lm", "lme", EFER_LME],
  ["nx", "nx", EFER_NX],
  ["svm", "svme", 1n << 12n],
  ["fxsr_opt", "ffxsr", 1n << 14n],
  ["autoibrs", "autoibrs", 1n << 21n],
] as const;
for (const [feature, name, bit] of EFER_FEATURES) {
  claim(
    `efer-${name}-needs-feature`,
    `KVM_SET_SREGS refuses EFER.${name.toUpperCase()} if the table lacks the feature, and keeps the special registers`,
    { number: 106 },
    (kit) => {
      const vcpu = vcpuWith(kit, lacking(kit.supported, feature));
      const before = vcpu.getSregs();
      expect(() => vcpu.setSregs({ ...before, efer: before.efer | bit })).toFailWith("EINVAL");
      expect(vcpu.getSregs()).toEqual(before);
    },
  );
}

claim(
  "efer-fresh",
  "KVM_SET_SREGS accepts of EFER only SCE on a vCPU without a CPUID table",
  { number: 106 },
  (kit) => {
    const vcpu = kit.fresh();
    const before = vcpu.getSregs();
    expect(() => vcpu.setSregs({ ...before, efer: EFER_SCE })).toBeAccepted();
    for (const [, , bit] of EFER_FEATURES) {
      expect(() => vcpu.setSregs({ ...before, efer: EFER_SCE | bit })).toFailWith("EINVAL");
    }
    expect(vcpu.getSregs()).toEqual({ ...before, efer: EFER_SCE });
  },
);

claim(
  "efer-with-features",
  "KVM_SET_SREGS accepts all bits of EFER whose features the table has, and returns them",
  { number: 106 },
  (kit) => {
    const vcpu = vcpuWith(kit, kit.supported);
    const stored = tableOf(vcpu);
    const efer = EFER_FEATURES.reduce(
      (all, [feature, , bit]) => (stored.has(feature) ? all | bit : all),
      EFER_SCE,
    );
    expect(() => vcpu.setSregs({ ...vcpu.getSregs(), efer })).toBeAccepted();
    expect(vcpu.getSregs().efer).toBe(efer);
  },
);

/** Limits of the physical address, in APIC_BASE: the table's fields, the highest bit that is allowed, and the lowest that is not. */
const WIDTHS = [
  ["36", { phys_addr_bits: 36 }, 35n, 36n],
  ["38", { phys_addr_bits: 38 }, 37n, 38n],
  ["default", { phys_addr_bits: 38, max_ext_leaf: 0x8000_0007 }, 35n, 36n],
] as const;
for (const [name, fields, highest, lowest] of WIDTHS) {
  const table =
    name === "default" ? "without leaf 0x80000008 in range" : `with ${name} physical address bits`;
  claim(
    `maxphyaddr-${name}`,
    `KVM_SET_SREGS checks the address in APIC_BASE against a table ${table}`,
    { number: 108 },
    (kit) => {
      const bits = kit.supported.get("phys_addr_bits") ?? 0;
      kit.require(bits >= 40, `the host has ${bits} physical address bits, fewer than 40`);
      const vcpu = vcpuWith(kit, kit.supported.with(fields));
      const before = vcpu.getSregs();
      const withBit = (bit: bigint): Sregs => ({
        ...before,
        apicBase: before.apicBase | (1n << bit),
      });
      expect(() => vcpu.setSregs(withBit(highest))).toBeAccepted();
      expect(() => vcpu.setSregs(withBit(lowest))).toFailWith("EINVAL");
    },
  );
}

claim(
  "cr0-high-bits",
  "KVM_SET_SREGS refuses each of the bits 32 to 63 of CR0, and keeps the special registers",
  { number: 130 },
  (kit) => {
    const vcpu = vcpuWith(kit, kit.supported);
    const before = vcpu.getSregs();
    for (let bit = 32n; bit < 64n; bit += 1n) {
      expect(() => vcpu.setSregs({ ...before, cr0: before.cr0 | (1n << bit) })).toFailWith(
        "EINVAL",
      );
    }
    expect(vcpu.getSregs()).toEqual(before);
  },
);

claim(
  "cr0-nw-needs-cd",
  "KVM_SET_SREGS refuses CR0.NW without CR0.CD, and keeps the special registers",
  { number: 130 },
  (kit) => {
    const vcpu = vcpuWith(kit, kit.supported);
    const before = vcpu.getSregs();
    const cr0 = (before.cr0 & ~CR0_CD) | CR0_NW;
    expect(() => vcpu.setSregs({ ...before, cr0 })).toFailWith("EINVAL");
    expect(vcpu.getSregs()).toEqual(before);
  },
);

claim(
  "cr0-pg-needs-pe",
  "KVM_SET_SREGS refuses CR0.PG without CR0.PE, and keeps the special registers",
  { number: 130 },
  (kit) => {
    const vcpu = vcpuWith(kit, kit.supported);
    const before = vcpu.getSregs();
    expect(() => vcpu.setSregs({ ...before, cr0: before.cr0 | CR0_PG })).toFailWith("EINVAL");
    expect(vcpu.getSregs()).toEqual(before);
  },
);

claim(
  "apic-base-x2apic-disabled",
  "KVM_SET_SREGS refuses an APIC_BASE with the x2APIC bit and without the enable bit",
  { number: 131 },
  (kit) => {
    const vcpu = vcpuWith(kit, kit.supported);
    const before = vcpu.getSregs();
    const apicBase = (before.apicBase & ~APIC_BASE_ENABLE) | APIC_BASE_X2APIC;
    expect(() => vcpu.setSregs({ ...before, apicBase })).toFailWith("EINVAL");
    expect(vcpu.getSregs()).toEqual(before);
  },
);

claim(
  "apic-base-enabled",
  "KVM_SET_SREGS accepts an APIC_BASE that has only the enable bit",
  { number: 131 },
  (kit) => {
    const vcpu = vcpuWith(kit, kit.supported);
    const sregs = { ...vcpu.getSregs(), apicBase: APIC_BASE_ENABLE };
    expect(() => vcpu.setSregs(sregs)).toBeAccepted();
    expect(vcpu.getSregs().apicBase).toBe(APIC_BASE_ENABLE);
  },
);

claim(
  "silent-cr4-pke",
  "KVM_SET_CPUID2 accepts the same table after KVM_SET_SREGS toggled CR4.OSXSAVE and CR4.PKE of a vCPU that has run",
  { number: 149 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    const toggled = allowedCr4(stored) & (CR4_OSXSAVE | CR4_PKE);
    kit.require(toggled !== 0n, "a vCPU has neither XSAVE nor PKU here");
    toggleCr4(vcpu, toggled);
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "osxsave-host-guest",
  "the guest's CPUID bit OSXSAVE follows CR4.OSXSAVE when user space clears it and the guest sets it again",
  { number: 150 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const program = guest("long", (g) =>
      g
        .setCr4(CR4_OSXSAVE)
        .cpuid(1)
        .sync()
        .cpuid(1)
        .sync()
        .setCr4(CR4_OSXSAVE)
        .cpuid(1)
        .sync()
        .done(),
    );
    const { box, vcpu } = kit.configured({ program });
    const first = box.next();
    const sregs = vcpu.getSregs();
    vcpu.setSregs({ ...sregs, cr4: sregs.cr4 & ~CR4_OSXSAVE });
    const ecxs = [first, box.next(), box.next()].map((ucall) =>
      ucall.kind === "sync" ? ucall.values[2] : undefined,
    );
    expect(ecxs.map((ecx = 0n) => (ecx >> 27n) & 1n)).toEqual([1n, 0n, 1n]);
  },
);
