/**
 * Claims about KVM_SET_CPUID, KVM_SET_CPUID2 and KVM_GET_CPUID2: counts, sizes, and the members of an entry that KVM
 * stores.
 */
import type { Vcpu } from "node-kvm";
import { Cpuid, Cpuid2, encode, KVM_GET_CPUID2, KVM_SET_CPUID, KVM_SET_CPUID2 } from "node-kvm/abi";
import { type CpuidEntry2, CpuidTable } from "node-kvm/cpuid";
import { claim, expect, tableOf } from "node-kvm/test";

const HEADER = 8;
const ENTRY = 40;

/** Returns a table with `count` entries of unused leaves. */
const entries = (count: number): CpuidTable =>
  CpuidTable.from(Array.from({ length: count }, (_, i) => ({ function: 0x5000_0000 + i })));

/** Returns a struct kvm_cpuid2 with space for `nent` entries, whose bytes are all 0x5a. */
function room(nent: number): Uint8Array {
  const bytes = new Uint8Array(HEADER + nent * ENTRY).fill(0x5a, HEADER);
  new DataView(bytes.buffer).setUint32(0, nent, true);
  return bytes;
}

const KEPT = entries(3);
function withTable(vcpu: Vcpu): Vcpu {
  vcpu.setCpuid2(KEPT);
  return vcpu;
}

claim("set-256", "KVM_SET_CPUID2 accepts 256 entries", { number: 9 }, (kit) => {
  const vcpu = kit.fresh();
  expect(() => vcpu.setCpuid2(entries(256))).toBeAccepted();
  expect(tableOf(vcpu)).toHaveLength(256);
});

claim("set-257", "KVM_SET_CPUID2 refuses 257 entries and keeps the table", { number: 9 }, (kit) => {
  const vcpu = withTable(kit.fresh());
  expect(() => vcpu.setCpuid2(entries(257))).toFailWith("E2BIG");
  expect(tableOf(vcpu)).toEqualTable(KEPT);
});

claim(
  "set-all-ones",
  "KVM_SET_CPUID2 refuses a count of 0xffffffff before it reads",
  { number: 9 },
  (kit) => {
    const vcpu = withTable(kit.fresh());
    expect(() => vcpu.setCpuid2([], { nent: 0xffff_ffff })).toFailWith("E2BIG");
    expect(tableOf(vcpu)).toEqualTable(KEPT);
  },
);

claim(
  "set-zero",
  "KVM_SET_CPUID2 with no entries empties the vCPU's table",
  { number: 10 },
  (kit) => {
    const vcpu = withTable(kit.fresh());
    expect(() => vcpu.setCpuid2([])).toBeAccepted();
    expect(tableOf(vcpu)).toHaveLength(0);
  },
);

claim(
  "set-efault",
  "KVM_SET_CPUID2 with entries at an unmapped address returns EFAULT and keeps the table",
  { number: 11 },
  (kit) => {
    const vcpu = withTable(kit.fresh());
    const other = entries(5);
    expect(() => vcpu.setCpuid2(other, { nent: 6 })).toFailWith("EFAULT");
    expect(tableOf(vcpu)).toEqualTable(KEPT);
  },
);

claim(
  "get-count",
  "KVM_GET_CPUID2 with room for more entries returns the count and writes no further entry",
  { number: 12 },
  (kit) => {
    const vcpu = withTable(kit.fresh());
    const bytes = room(KEPT.length + 2);
    vcpu.ioctl(KVM_GET_CPUID2, bytes);
    expect(new DataView(bytes.buffer).getUint32(0, true)).toBe(KEPT.length);
    expect(bytes.subarray(HEADER + KEPT.length * ENTRY)).toEqual(room(2).subarray(HEADER));
  },
);

claim(
  "get-e2big",
  "KVM_GET_CPUID2 with too small a buffer returns E2BIG and writes nothing",
  { number: 13 },
  (kit) => {
    const { vcpu, stored } = kit.configured();
    for (let nent = 0; nent < stored.length; nent += 1) {
      const bytes = room(nent);
      expect(() => vcpu.ioctl(KVM_GET_CPUID2, bytes)).toFailWith("E2BIG");
      expect(bytes).toEqual(room(nent));
    }
  },
);

claim("get-fresh", "a new vCPU has an empty CPUID table", { number: 14 }, (kit) => {
  const vcpu = kit.fresh();
  expect(() => vcpu.getCpuid2(0)).toBeAccepted();
  expect(tableOf(vcpu)).toHaveLength(0);
});

claim(
  "verbatim",
  "KVM_SET_CPUID2 stores an entry of an unknown leaf bit for bit",
  { number: 15 },
  (kit) => {
    const vcpu = kit.fresh();
    const odd: CpuidEntry2 = {
      function: 0x1234_5678,
      index: 0x9abc_def0,
      flags: 0xdead_beef,
      eax: 0xffff_ffff,
      ebx: 0x8000_0000,
      ecx: 1,
      edx: 0x55aa_55aa,
      padding: [0x1111_1111, 0x2222_2222, 0x3333_3333],
    };
    vcpu.setCpuid2([odd]);
    expect(Array.from(vcpu.getCpuid2(), plain)).toEqual([odd]);
  },
);

claim(
  "v1-normalises",
  "KVM_SET_CPUID stores index, flags and padding as 0",
  { number: 16 },
  (kit) => {
    const vcpu = kit.fresh();
    vcpu.setCpuid([{ function: 0x5000_0000, eax: 1, ebx: 2, ecx: 3, edx: 4, padding: 0x77 }]);
    expect(Array.from(vcpu.getCpuid2(), plain)).toEqual([
      {
        function: 0x5000_0000,
        index: 0,
        flags: 0,
        eax: 1,
        ebx: 2,
        ecx: 3,
        edx: 4,
        padding: [0, 0, 0],
      },
    ]);
  },
);

/** A table with bits that KVM changes when it stores the table: OSXSAVE and APIC. */
const CHANGED = [{ function: 1, ecx: 1 << 27, edx: 0 }];

claim(
  "set-reads-only",
  "KVM_SET_CPUID2 and KVM_SET_CPUID do not write to the buffer of the table",
  { number: 31 },
  (kit) => {
    const vcpu = kit.fresh();
    const bytes = encode(Cpuid2, { entries: CHANGED });
    vcpu.ioctl(KVM_SET_CPUID2, bytes);
    expect(bytes).toEqual(encode(Cpuid2, { entries: CHANGED }));
    const old = encode(Cpuid, { entries: CHANGED });
    vcpu.ioctl(KVM_SET_CPUID, old);
    expect(old).toEqual(encode(Cpuid, { entries: CHANGED }));
  },
);

claim(
  "frozen-e2big",
  "KVM_SET_CPUID2 on a vCPU that has run still returns E2BIG for 257 entries",
  { number: 32 },
  (kit) => {
    const { vcpu } = kit.ran();
    expect(() => vcpu.setCpuid2(entries(257))).toFailWith("E2BIG");
  },
);

claim(
  "frozen-efault",
  "KVM_SET_CPUID2 on a vCPU that has run still returns EFAULT for unmapped entries",
  { number: 32 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    expect(() => vcpu.setCpuid2(stored, { nent: stored.length + 1 })).toFailWith("EFAULT");
  },
);

function plain(entry: CpuidEntry2): CpuidEntry2 {
  return { ...entry, padding: Array.from(entry.padding) };
}
