/** Claims about bits of KVM_GET_SUPPORTED_CPUID, and about the table that KVM stores from it. */
import { type CpuidFieldName, CpuidTable } from "node-kvm/cpuid";
import { guest } from "node-kvm/guest";
import { claim, expect, tableOf } from "node-kvm/test";

const RUNTIME_BITS = ["osxsave", "ospke", "monitor"] as const satisfies readonly CpuidFieldName[];

for (const name of RUNTIME_BITS) {
  claim(
    `supported-never-${name === "monitor" ? "mwait" : name}`,
    `KVM_GET_SUPPORTED_CPUID reports the bit ${name} as 0, because the bit depends on a vCPU's state`,
    { number: 112 },
    (kit) => {
      expect(CpuidTable.from(kit.kvm.getSupportedCpuid()).get(name)).toBe(0);
    },
  );
}

const EMULATED_BITS = [
  ["hypervisor", "guest_status"],
  ["tsc-deadline", "tsc_deadline_timer"],
] as const satisfies readonly (readonly [string, CpuidFieldName])[];

for (const [name, field] of EMULATED_BITS) {
  claim(
    `supported-emulated-${name}`,
    `KVM_GET_SUPPORTED_CPUID reports the bit ${field}, which KVM emulates`,
    { number: 112 },
    (kit) => {
      expect(CpuidTable.from(kit.kvm.getSupportedCpuid()).get(field)).toBe(1);
    },
  );
}

/** The fields that KVM sets itself in a stored table. */
const OWNED = ["osxsave", "apic", "ospke"] as const satisfies readonly CpuidFieldName[];

/** Returns the entries without the fields that KVM owns, with the sizes of the XSAVE area as 0. */
const comparable = (table: CpuidTable): CpuidTable =>
  table
    .with(Object.fromEntries(OWNED.map((name) => [name, 0])))
    .map((entry) =>
      entry.function === 0xd && entry.index < 2 ? { ...entry, ebx: 0 } : { ...entry },
    );

claim(
  "supported-stored",
  "KVM stores the entries of KVM_GET_SUPPORTED_CPUID in the same order, and changes only its own bits",
  { number: 144 },
  (kit) => {
    const { sent, stored } = kit.configured();
    expect(comparable(stored)).toEqualTable(comparable(sent));
  },
);

claim(
  "supported-pv-leaf",
  "a guest with the supported table reads 0x40000001 as KVM's highest PV leaf",
  { number: 145 },
  (kit) => {
    const program = guest("long", (g) => g.cpuid(0x4000_0000).sync().done());
    const { box } = kit.configured({ program });
    const ucall = box.next();
    expect(ucall).toMatchObject({ kind: "sync" });
    expect(ucall.kind === "sync" ? ucall.values[0] : undefined).toBe(0x4000_0001n);
  },
);

claim(
  "unhalt-kept",
  "KVM keeps PV_UNHALT in a table of a vCPU that exits on HLT",
  { number: 147 },
  (kit) => {
    const { vcpu, sent } = kit.configured();
    const seen = ([0, 1] as const).map((bit) => {
      vcpu.setCpuid2(sent.with({ kvm_pv_unhalt: bit }));
      return tableOf(vcpu).get("kvm_pv_unhalt");
    });
    expect(seen).toEqual([0, 1]);
  },
);
