/**
 * Claims about PV_UNHALT, the only KVM feature that KVM removes from a table, and about the leaf at which KVM searches
 * its signature. KVM removes PV_UNHALT if the guest halts without exits, because such a guest cannot be kicked.
 */
import type { Vcpu, Vm } from "node-kvm";
import { KVM_X86_DISABLE_EXITS_HLT } from "node-kvm/abi";
import { type CpuidEntry2Input, CpuidTable } from "node-kvm/cpuid";
import { claim, expect, type Kit, tableOf } from "node-kvm/test";

const PV_UNHALT = 1 << 7;
const BASE = 0x4000_0000;

/** The registers of the leaf with KVM's signature: "KVMKVMKVM". */
const SIGNATURE = { ebx: 0x4b4d_564b, ecx: 0x564b_4d56, edx: 0x4d };
/** The signature of Hyper-V: "Microsoft Hv". */
const HYPERV = { ebx: 0x7263_694d, ecx: 0x666f_736f, edx: 0x7648_2074 };

/** Returns the two leaves of KVM at a base. The features are PV_UNHALT. */
function kvmLeaves(base: number, signature: Partial<CpuidEntry2Input> = SIGNATURE) {
  return [
    { function: base, eax: base + 1, ...signature },
    { function: base + 1, eax: PV_UNHALT },
  ];
}

const badSignature = { ...SIGNATURE, ebx: 0xdead_beef };

const disableHltExits = (vm: Vm): void => {
  vm.enableCap({ cap: "KVM_CAP_X86_DISABLE_EXITS", mask: KVM_X86_DISABLE_EXITS_HLT });
};

function requireHlt(kit: Kit): void {
  const mask = kit.kvm.checkExtension("KVM_CAP_X86_DISABLE_EXITS");
  kit.require((mask & KVM_X86_DISABLE_EXITS_HLT) !== 0, "this KVM cannot disable the exits of HLT");
}

/** Creates a vCPU without a table, in a VM whose guests halt without exits. */
function freshWithoutHltExits(kit: Kit): Vcpu {
  requireHlt(kit);
  const vm = kit.keep(kit.kvm.createVm());
  disableHltExits(vm);
  return kit.keep(vm.createVcpu(0));
}

/** Returns PV_UNHALT of the leaf of KVM's features at a base: 0 or 1. */
function unhaltAt(vcpu: Vcpu, base: number = BASE): number | undefined {
  const entry = tableOf(vcpu).find(base + 1);
  return entry === undefined ? undefined : (entry.eax & PV_UNHALT) >>> 7;
}

claim(
  "unhalt-first-set",
  "KVM removes PV_UNHALT from the first table of a vCPU that halts without exits",
  { number: 85 },
  (kit) => {
    const vcpu = freshWithoutHltExits(kit);
    vcpu.setCpuid2(kvmLeaves(BASE));
    expect(unhaltAt(vcpu)).toBe(0);
  },
);

claim(
  "unhalt-second-set",
  "KVM removes PV_UNHALT from the second of two equal tables of a vCPU that halts without exits",
  { number: 86 },
  (kit) => {
    const vcpu = freshWithoutHltExits(kit);
    vcpu.setCpuid2(kvmLeaves(BASE));
    vcpu.setCpuid2(kvmLeaves(BASE));
    expect(unhaltAt(vcpu)).toBe(0);
  },
);

claim(
  "unhalt-bad-signature",
  "KVM keeps PV_UNHALT in a table without KVM's signature",
  { number: 87 },
  (kit) => {
    const vcpu = freshWithoutHltExits(kit);
    vcpu.setCpuid2(kvmLeaves(BASE, badSignature));
    expect(unhaltAt(vcpu)).toBe(1);
  },
);

claim(
  "unhalt-bad-to-good",
  "KVM removes PV_UNHALT from the table that adds KVM's signature",
  { number: 87 },
  (kit) => {
    const vcpu = freshWithoutHltExits(kit);
    vcpu.setCpuid2(kvmLeaves(BASE, badSignature));
    vcpu.setCpuid2(kvmLeaves(BASE));
    expect(unhaltAt(vcpu)).toBe(0);
  },
);

claim(
  "unhalt-good-to-bad",
  "KVM keeps PV_UNHALT in the table that removes KVM's signature",
  { number: 88 },
  (kit) => {
    const vcpu = freshWithoutHltExits(kit);
    vcpu.setCpuid2(kvmLeaves(BASE));
    vcpu.setCpuid2(kvmLeaves(BASE, badSignature));
    expect(unhaltAt(vcpu)).toBe(1);
  },
);

claim(
  "base-100",
  "KVM finds its signature at 0x40000100 behind the leaves of Hyper-V",
  { number: 89 },
  (kit) => {
    const vcpu = freshWithoutHltExits(kit);
    vcpu.setCpuid2([
      { function: BASE, eax: BASE + 1, ...HYPERV },
      { function: BASE + 1, eax: PV_UNHALT },
      ...kvmLeaves(BASE + 0x100),
    ]);
    expect([unhaltAt(vcpu), unhaltAt(vcpu, BASE + 0x100)]).toEqual([1, 0]);
  },
);

claim(
  "base-move",
  "KVM finds its signature at the base of the new table if the base moves",
  { number: 89 },
  (kit) => {
    const vcpu = freshWithoutHltExits(kit);
    vcpu.setCpuid2(kvmLeaves(BASE + 0x100));
    vcpu.setCpuid2(kvmLeaves(BASE + 0x200));
    expect(unhaltAt(vcpu, BASE + 0x200)).toBe(0);
  },
);

/**
 * Sets a table twice, because a KVM with the trait "stale-base" only finds the base in the second of two equal tables.
 * These claims concern the bases, not the order.
 */
function setTwice(vcpu: Vcpu, table: readonly CpuidEntry2Input[]): void {
  vcpu.setCpuid2(table);
  vcpu.setCpuid2(table);
}

const EDGES = [
  ["last", 0x4000_ff00, 0, "finds its signature at the last base, 0x4000ff00"],
  ["beyond", 0x4001_0000, 1, "does not search its signature at 0x40010000"],
  [
    "between",
    0x4000_0080,
    1,
    "does not search its signature at 0x40000080, which is no multiple of 0x100",
  ],
] as const;
for (const [name, base, unhalt, sentence] of EDGES) {
  claim(`base-edge-${name}`, `KVM ${sentence}`, { number: 90 }, (kit) => {
    const vcpu = freshWithoutHltExits(kit);
    setTwice(vcpu, kvmLeaves(base));
    expect(unhaltAt(vcpu, base)).toBe(unhalt);
  });
}

claim(
  "base-lowest",
  "KVM uses the lower of two bases with its signature",
  { number: 90 },
  (kit) => {
    const vcpu = freshWithoutHltExits(kit);
    setTwice(vcpu, [...kvmLeaves(BASE + 0x200), ...kvmLeaves(BASE + 0x100)]);
    expect([unhaltAt(vcpu, BASE + 0x100), unhaltAt(vcpu, BASE + 0x200)]).toEqual([0, 1]);
  },
);

claim(
  "base-limit",
  "KVM finds its features behind a signature whose EAX, the highest leaf, is 0",
  { number: 90 },
  (kit) => {
    const vcpu = freshWithoutHltExits(kit);
    setTwice(
      vcpu,
      kvmLeaves(BASE).map((leaf) => (leaf.function === BASE ? { ...leaf, eax: 0 } : leaf)),
    );
    expect(unhaltAt(vcpu)).toBe(0);
  },
);

claim(
  "disable-exits-late",
  "KVM_CAP_X86_DISABLE_EXITS fails after the first KVM_CREATE_VCPU",
  { number: 91 },
  (kit) => {
    requireHlt(kit);
    const vm = kit.keep(kit.kvm.createVm());
    kit.keep(vm.createVcpu(0));
    expect(() => disableHltExits(vm)).toFailWith("EINVAL");
  },
);

claim(
  "disable-exits-unknown",
  "KVM_CAP_X86_DISABLE_EXITS refuses an undefined bit",
  { number: 91 },
  (kit) => {
    const vm = kit.keep(kit.kvm.createVm());
    const enable = () => vm.enableCap({ cap: "KVM_CAP_X86_DISABLE_EXITS", mask: 1n << 31n });
    expect(enable).toFailWith("EINVAL");
  },
);

/**
 * Returns a table with PV_UNHALT which the vendor module stores unchanged except for that bit: the table is that of
 * another vCPU.
 */
function withUnhalt(kit: Kit): CpuidTable {
  const table = kit.configured().stored;
  kit.require(table.find(BASE)?.ebx === SIGNATURE.ebx, "the supported table has no leaf of KVM");
  return CpuidTable.from(table).with({ kvm_pv_unhalt: 1 });
}

claim(
  "unhalt-resend-sent",
  "a vCPU that halts without exits and has run accepts the table with PV_UNHALT that was sent",
  { number: 66 },
  (kit) => {
    requireHlt(kit);
    const { vcpu, sent } = kit.ran({ table: withUnhalt(kit), prepare: disableHltExits });
    expect(() => vcpu.setCpuid2(sent)).toBeAccepted();
  },
);

claim(
  "unhalt-resend-get",
  "a vCPU that halts without exits and has run accepts the table that KVM_GET_CPUID2 returns",
  { number: 66 },
  (kit) => {
    requireHlt(kit);
    const { vcpu, stored } = kit.ran({ table: withUnhalt(kit), prepare: disableHltExits });
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);
