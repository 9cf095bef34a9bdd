/** Claims about the entry that KVM selects for a guest's CPUID instruction, and about entries that KVM computes. */
import type { CpuidEntry2Input, CpuidTable } from "node-kvm/cpuid";
import { guest } from "node-kvm/guest";
import { claim, expect, type Kit } from "node-kvm/test";

const SIGNIFICANT_INDEX = 1;
const INTEL = { ebx: 0x756e_6547, edx: 0x4965_6e69, ecx: 0x6c65_746e };
const AMD = { ebx: 0x6874_7541, edx: 0x6974_6e65, ecx: 0x444d_4163 };
const UNUSED_LEAF = 0x2000;
const TEST_LEAF = 0x1c;

/** Runs a guest that executes CPUID once, and returns EAX, EBX, ECX and EDX. */
function guestCpuid(kit: Kit, table: CpuidTable, leaf: number, index: number): unknown {
  const program = guest("long", (g) => g.cpuid(leaf, index).sync().done());
  return kit.configured({ table, program }).box.next();
}

const values = (...registers: readonly number[]) => ({
  kind: "sync",
  values: registers.map(BigInt),
});

/** Returns the table with this vendor, and with `TEST_LEAF` as its highest basic leaf. */
function withVendor(kit: Kit, vendor: Partial<CpuidEntry2Input>): CpuidTable {
  return kit.supported
    .filter(({ function: fn }) => fn !== 0 && (fn < TEST_LEAF || fn > 0xffff))
    .append(
      { function: 0, ...vendor, eax: TEST_LEAF },
      { function: TEST_LEAF, eax: 0x11, ebx: 0x22, ecx: 0x33, edx: 0x44 },
    );
}

claim(
  "out-of-range-intel",
  "a guest of vendor Intel reads the highest basic leaf for a basic leaf above it",
  { number: 109 },
  (kit) => {
    expect(guestCpuid(kit, withVendor(kit, INTEL), UNUSED_LEAF, 0)).toEqual(
      values(0x11, 0x22, 0x33, 0x44),
    );
  },
);

claim(
  "out-of-range-amd",
  "a guest of vendor AMD reads zeros for a basic leaf above the highest one",
  { number: 109 },
  (kit) => {
    expect(guestCpuid(kit, withVendor(kit, AMD), UNUSED_LEAF, 0)).toEqual(values(0, 0, 0, 0));
  },
);

const topology = (kit: Kit, ...entries: readonly CpuidEntry2Input[]): CpuidTable =>
  kit.supported.without(0xb).append(...entries);
const LEVEL_0 = { function: 0xb, index: 0, flags: SIGNIFICANT_INDEX, eax: 1, ebx: 1, ecx: 0x100 };
const LEVEL_1 = { function: 0xb, index: 1, flags: SIGNIFICANT_INDEX, eax: 4, ebx: 8, ecx: 0x201 };

claim(
  "topology-level",
  "a guest reads its index and the x2APIC id of level 1 for a missing level of leaf 0xB",
  { number: 110 },
  (kit) => {
    const table = topology(kit, { ...LEVEL_0, edx: 7 }, { ...LEVEL_1, edx: 7 });
    expect(guestCpuid(kit, table, 0xb, 5)).toEqual(values(0, 0, 5, 7));
  },
);

claim(
  "topology-level-alone",
  "a guest reads zeros for a missing level of leaf 0xB if level 1 is missing too",
  { number: 110 },
  (kit) => {
    expect(guestCpuid(kit, topology(kit, { ...LEVEL_0, edx: 7 }), 0xb, 5)).toEqual(
      values(0, 0, 0, 0),
    );
  },
);

/** A leaf that KVM does not index itself, so the flag alone decides whether the index counts. */
const INDEXED_LEAF = 0x16;
const indexed = (kit: Kit, flags: number): CpuidTable =>
  kit.supported.without(INDEXED_LEAF).with({ max_std_leaf: 0x1f }).append({
    function: INDEXED_LEAF,
    index: 3,
    flags,
    eax: 0x11,
    ebx: 0x22,
    ecx: 0x33,
    edx: 0x44,
  });

claim(
  "index-ignored",
  "a guest reads an entry without SIGNIFICANT_INDEX for every index",
  { number: 111 },
  (kit) => {
    expect(guestCpuid(kit, indexed(kit, 0), INDEXED_LEAF, 9)).toEqual(
      values(0x11, 0x22, 0x33, 0x44),
    );
  },
);

claim(
  "index-compared",
  "a guest reads zeros for another index than that of an entry with SIGNIFICANT_INDEX",
  { number: 111 },
  (kit) => {
    const table = indexed(kit, SIGNIFICANT_INDEX).replace(0, AMD);
    expect(guestCpuid(kit, table, INDEXED_LEAF, 9)).toEqual(values(0, 0, 0, 0));
    expect(guestCpuid(kit, table, INDEXED_LEAF, 3)).toEqual(values(0x11, 0x22, 0x33, 0x44));
  },
);
