/**
 * Claims about the entries that KVM maintains: the first entry that matches a leaf and an index. The claims use the
 * bit APIC in leaf 1 and the size in leaf 0xD.0, which KVM sets on every host.
 */
import { type CpuidEntry2Input, CpuidTable } from "node-kvm/cpuid";
import { claim, expect, tableOf } from "node-kvm/test";

const SIGNIFICANT_INDEX = 1;
const APIC = 1 << 9;
const OSPKE = 1 << 4;
const XSAVEC = 1 << 1;
/** The size of an XSAVE area without extended components, which KVM computes for XCR0 = 1. */
const LEGACY_SIZE = 0x240;
const GARBAGE = 0x777;

const tableWith = (...entries: readonly CpuidEntry2Input[]): CpuidTable => CpuidTable.from(entries);

claim(
  "first-of-two",
  "of two entries of leaf 1, KVM maintains the first and stores the second as it was sent",
  { number: 45 },
  (kit) => {
    const vcpu = kit.fresh();
    vcpu.setCpuid2(tableWith({ function: 1 }, { function: 1 }));
    const entries = tableOf(vcpu).filter(({ function: leaf }) => leaf === 1);
    expect(Array.from(entries, ({ edx }) => edx & APIC)).toEqual([APIC, 0]);
  },
);

claim(
  "index-of-leaf-1",
  "KVM maintains an entry of leaf 1 with any index, because the leaf has no subleaves",
  { number: 45 },
  (kit) => {
    const vcpu = kit.fresh();
    vcpu.setCpuid2(tableWith({ function: 1, index: 5, flags: SIGNIFICANT_INDEX }));
    expect((tableOf(vcpu).at(0)?.edx ?? 0) & APIC).toBe(APIC);
  },
);

claim(
  "unflagged-index",
  "KVM maintains an entry of leaf 0xD with any index if its flag SIGNIFICANT_INDEX is clear",
  { number: 45 },
  (kit) => {
    const vcpu = kit.fresh();
    vcpu.setCpuid2(tableWith({ function: 0xd, index: 5, flags: 0, ebx: GARBAGE }));
    expect(tableOf(vcpu).at(0)?.ebx).toBe(LEGACY_SIZE);
  },
);

for (const [name, leaf, bits] of [
  ["7", 7, { ecx: OSPKE }],
  ["d", 0xd, { eax: XSAVEC, ebx: GARBAGE }],
] as const) {
  claim(
    `flagged-index-${name}`,
    `KVM stores an entry of leaf 0x${name} with the significant index 40 as it was sent`,
    { number: 45 },
    (kit) => {
      const vcpu = kit.fresh();
      const sent = tableWith({ function: leaf, index: 40, flags: SIGNIFICANT_INDEX, ...bits });
      vcpu.setCpuid2(sent);
      expect(tableOf(vcpu)).toEqualTable(sent);
    },
  );
}

claim(
  "sgx-attributes",
  "KVM stores the attributes of SGX enclaves in leaf 0x12.1 as they were sent",
  { number: 46 },
  (kit) => {
    const vcpu = kit.fresh();
    const ones = 0xffff_ffff;
    const leaf = { function: 0x12, index: 1, flags: SIGNIFICANT_INDEX, ecx: ones, edx: ones };
    vcpu.setCpuid2(tableWith(leaf));
    expect(tableOf(vcpu)).toEqualTable(tableWith(leaf));
  },
);

/** The leaves in which KVM maintains bits of every vCPU. */
const MAINTAINED: readonly number[] = [1, 7, 0xd];

claim(
  "without-maintained-leaves",
  "KVM stores a table without the leaves 1, 7 and 0xD as it was sent",
  { number: 48 },
  (kit) => {
    const table = kit.supported.filter(({ function: leaf }) => !MAINTAINED.includes(leaf));
    const { stored } = kit.configured({ table });
    expect(stored).toEqualTable(table);
  },
);

claim(
  "without-maintained-leaves-run",
  "a vCPU that has run with a table without the leaves 1, 7 and 0xD accepts this table once more",
  { number: 48 },
  (kit) => {
    const table = kit.supported.filter(({ function: leaf }) => !MAINTAINED.includes(leaf));
    const { vcpu, stored } = kit.ran({ table });
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);
