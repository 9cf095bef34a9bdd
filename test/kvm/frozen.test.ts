/** Claims about the frozen CPUID table: after a vCPU has run, KVM accepts the same table and rejects any other. */
import { type CpuidEntry2, CpuidTable } from "node-kvm/cpuid";
import { guest } from "node-kvm/guest";
import { claim, expect, tableOf } from "node-kvm/test";

const QUIRK_MISC_ENABLE_NO_MWAIT = 1n << 4n;

/** Returns the entries with changes to the entry at `position`. */
function patched(table: CpuidTable, position: number, patch: Partial<CpuidEntry2>): CpuidTable {
  return table.replace(position, patch);
}

/** Returns the table with flipped register bits in its first entry for a leaf. */
function flipped(
  table: CpuidTable,
  fn: number,
  register: "eax" | "ebx" | "ecx" | "edx",
  mask: number,
): CpuidTable {
  const position = Array.from(table).findIndex((entry) => entry.function === fn);
  const before = table.at(position)?.[register] ?? 0;
  return patched(table, position, { [register]: (before ^ mask) >>> 0 });
}

claim(
  "resend-original",
  "a vCPU that has run accepts the same table once more",
  { number: 49 },
  (kit) => {
    const { vcpu, sent } = kit.ran();
    expect(() => vcpu.setCpuid2(sent)).toBeAccepted();
  },
);

claim(
  "resend-get",
  "a vCPU that has run accepts the table that KVM_GET_CPUID2 returns",
  { number: 50 },
  (kit) => {
    const { vcpu } = kit.ran();
    expect(() => vcpu.setCpuid2(tableOf(vcpu))).toBeAccepted();
  },
);

claim(
  "resend-changed",
  "a vCPU that has run refuses its own table with one bit changed",
  { number: 51 },
  (kit) => {
    const { vcpu } = kit.ran();
    expect(() => vcpu.setCpuid2(flipped(tableOf(vcpu), 0, "ebx", 1))).toFailWith("EINVAL");
  },
);

claim(
  "change-feature",
  "a vCPU that has run refuses a changed feature and keeps its table",
  { number: 51 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    expect(() => vcpu.setCpuid2(flipped(stored, 7, "ebx", 1))).toFailWith("EINVAL");
    expect(tableOf(vcpu)).toEqualTable(stored);
  },
);

claim(
  "change-maxphyaddr",
  "a vCPU that has run refuses another physical address width in its table",
  { number: 52 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    const bits = stored.get("phys_addr_bits") ?? 0;
    expect(() => vcpu.setCpuid2(stored.with({ phys_addr_bits: bits - 1 }))).toFailWith("EINVAL");
  },
);

claim(
  "change-count-fewer",
  "a vCPU that has run refuses its table without the last entry",
  { number: 53 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    const fewer = stored.filter((_, position) => position < stored.length - 1);
    expect(() => vcpu.setCpuid2(fewer)).toFailWith("EINVAL");
  },
);

claim(
  "change-count-more",
  "a vCPU that has run refuses its table with one entry more",
  { number: 53 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    expect(() => vcpu.setCpuid2(stored.append({ function: 0x5000_0000 }))).toFailWith("EINVAL");
  },
);

claim("change-count-none", "a vCPU that has run refuses an empty table", { number: 53 }, (kit) => {
  const { vcpu } = kit.ran();
  expect(() => vcpu.setCpuid2([])).toFailWith("EINVAL");
});

claim(
  "change-order",
  "a vCPU that has run refuses its entries in another order",
  { number: 54 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    const [first, second, ...rest] = stored;
    const swapped = [second, first, ...rest].filter((entry) => entry !== undefined);
    expect(() => vcpu.setCpuid2(swapped)).toFailWith("EINVAL");
  },
);

claim(
  "change-flags",
  "a vCPU that has run refuses another SIGNIFICANT_INDEX flag of a table entry",
  { number: 54 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    const flags = (stored.at(0)?.flags ?? 0) ^ 1;
    expect(() => vcpu.setCpuid2(patched(stored, 0, { flags }))).toFailWith("EINVAL");
  },
);

claim(
  "change-flags-deprecated",
  "a vCPU that has run refuses another deprecated flag of a table entry",
  { number: 54 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    const flags = (stored.at(0)?.flags ?? 0) ^ 2;
    expect(() => vcpu.setCpuid2(patched(stored, 0, { flags }))).toFailWith("EINVAL");
  },
);

claim(
  "change-index",
  "a vCPU that has run refuses another index of a table entry",
  { number: 54 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    expect(() => vcpu.setCpuid2(patched(stored, 0, { index: 1 }))).toFailWith("EINVAL");
  },
);

claim(
  "change-apicid",
  "a vCPU that has run refuses another APIC id in leaf 1",
  { number: 55 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    expect(() => vcpu.setCpuid2(flipped(stored, 1, "ebx", 1 << 24))).toFailWith("EINVAL");
  },
);

claim(
  "change-max-xsave",
  "a vCPU that has run refuses another maximum XSAVE size",
  { number: 56 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const { vcpu, stored } = kit.ran();
    expect(() => vcpu.setCpuid2(flipped(stored, 0xd, "ecx", 1))).toFailWith("EINVAL");
  },
);

const OWNED = [
  ["osxsave", 1, "ecx", 1 << 27, []],
  ["apic", 1, "edx", 1 << 9, []],
  ["ospke", 7, "ecx", 1 << 4, []],
  ["xsave-size", 0xd, "ebx", 0xfff, ["xsave"]],
] as const;
for (const [name, fn, register, mask, needs] of OWNED) {
  claim(
    `ignore-${name}`,
    `a vCPU that has run accepts any ${name}, which KVM sets itself`,
    { number: 57 },
    (kit) => {
      kit.requireVcpuHas(...needs);
      const { vcpu, stored } = kit.ran();
      expect(() => vcpu.setCpuid2(flipped(stored, fn, register, mask))).toBeAccepted();
      expect(tableOf(vcpu)).toEqualTable(stored);
    },
  );
}

claim(
  "unowned-mwait",
  "with KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT on, the MWAIT bit belongs to the user and may not change",
  { number: 58 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    expect(() => vcpu.setCpuid2(flipped(stored, 1, "ecx", 1 << 3))).toFailWith("EINVAL");
  },
);

claim(
  "owned-mwait",
  "with KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT off, the MWAIT bit belongs to KVM and may have any value",
  { number: 58 },
  (kit) => {
    kit.requireCapability("KVM_CAP_DISABLE_QUIRKS2");
    const { vcpu, stored } = kit.ran({
      prepare: (vm) =>
        vm.enableCap({ cap: "KVM_CAP_DISABLE_QUIRKS2", args: [QUIRK_MISC_ENABLE_NO_MWAIT] }),
    });
    expect(() => vcpu.setCpuid2(flipped(stored, 1, "ecx", 1 << 3))).toBeAccepted();
  },
);

/** Returns the host's table with a leaf 0xD.1 that the claim defines. */
function withD1(table: CpuidTable, eax: number): CpuidTable {
  return table.without(0xd, 1).append({ function: 0xd, index: 1, flags: 1, eax, ebx: 0x777 });
}
const XSAVEC = 2;

claim(
  "unowned-xsavec-size",
  "without XSAVEC, the compacted size belongs to the user and may not change",
  { number: 59 },
  (kit) => {
    const { vcpu, stored } = kit.ran({ table: withD1(kit.supported, 0) });
    const position = Array.from(stored).findIndex((e) => e.function === 0xd && e.index === 1);
    expect(() => vcpu.setCpuid2(patched(stored, position, { ebx: 0x778 }))).toFailWith("EINVAL");
  },
);

claim(
  "owned-xsavec-size",
  "with XSAVEC, the compacted size belongs to KVM and may have any value",
  { number: 59 },
  (kit) => {
    const { vcpu, stored } = kit.ran({ table: withD1(kit.supported, XSAVEC) });
    const position = Array.from(stored).findIndex((e) => e.function === 0xd && e.index === 1);
    expect(() => vcpu.setCpuid2(patched(stored, position, { ebx: 0x778 }))).toBeAccepted();
  },
);

claim(
  "padding-free",
  "a vCPU that has run accepts any value in the padding of an entry, and stores it",
  { number: 60 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    const padded = stored.map((entry) => ({ ...entry, padding: [1, 2, 3] }));
    expect(() => vcpu.setCpuid2(padded)).toBeAccepted();
    expect(Array.from(vcpu.getCpuid2()[0]?.padding ?? [])).toEqual([1, 2, 3]);
  },
);

claim(
  "recover",
  "a vCPU that has run still accepts its own table after several refused tables",
  { number: 65 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    for (const bit of [1, 2, 4, 8]) {
      expect(() => vcpu.setCpuid2(flipped(stored, 7, "ebx", bit))).toFailWith("EINVAL");
    }
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
    expect(tableOf(vcpu)).toEqualTable(stored);
  },
);

/** Returns the fields of a table that KVM_SET_CPUID passes. */
const v1 = (table: CpuidTable) =>
  Array.from(table, ({ function: fn, eax, ebx, ecx, edx }) => ({
    function: fn,
    eax,
    ebx,
    ecx,
    edx,
  }));

claim(
  "v1-after-v2",
  "a vCPU that has run refuses its table without the entries' indices",
  { number: 67 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    expect(() => vcpu.setCpuid(v1(stored))).toFailWith("EINVAL");
  },
);

claim(
  "v1-resend",
  "a vCPU that has run with a table of KVM_SET_CPUID accepts it from KVM_SET_CPUID and from KVM_SET_CPUID2",
  { number: 67 },
  (kit) => {
    const { vcpu, box, sent } = kit.configured();
    vcpu.setCpuid(v1(sent.filter((entry) => entry.index === 0)));
    box.next();
    const stored = tableOf(vcpu);
    expect(() => vcpu.setCpuid(v1(stored))).toBeAccepted();
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "v1-change",
  "a vCPU that has run with a table of KVM_SET_CPUID refuses a changed one",
  { number: 67 },
  (kit) => {
    const { vcpu, box, sent } = kit.configured();
    vcpu.setCpuid(v1(sent.filter((entry) => entry.index === 0)));
    box.next();
    expect(() => vcpu.setCpuid(v1(flipped(tableOf(vcpu), 7, "ebx", 1)))).toFailWith("EINVAL");
  },
);

const READ_LEAFS = guest("protected", (g) => g.cpuid(0).cpuid(1).cpuid(7).sync().done());

claim(
  "empty-run",
  "a vCPU that has run without a CPUID table refuses every table afterwards",
  { number: 68 },
  (kit) => {
    const { vcpu } = kit.ran({ table: CpuidTable.from([]), program: READ_LEAFS });
    expect(() => vcpu.setCpuid2([])).toBeAccepted();
    expect(() => vcpu.setCpuid2(kit.supported)).toFailWith("EINVAL");
  },
);

claim(
  "empty-guest",
  "a guest without a CPUID table reads zeros from every leaf",
  { number: 68 },
  (kit) => {
    const { box } = kit.configured({ table: CpuidTable.from([]), program: READ_LEAFS });
    expect(box.next()).toEqual({ kind: "sync", values: Array(12).fill(0n) });
  },
);

claim(
  "per-vcpu-ran",
  "of two vCPUs, the one that has run refuses a changed table",
  { number: 69 },
  (kit) => {
    const { vcpu, box, stored } = kit.ran();
    kit.keep(box.vm.createVcpu(1)).setCpuid2(stored);
    expect(() => vcpu.setCpuid2(flipped(stored, 7, "ebx", 1))).toFailWith("EINVAL");
  },
);

claim(
  "per-vcpu-fresh",
  "of two vCPUs, the one that has not run accepts a changed table",
  { number: 69 },
  (kit) => {
    const { box, stored } = kit.ran();
    const other = kit.keep(box.vm.createVcpu(1));
    other.setCpuid2(stored);
    expect(() => other.setCpuid2(flipped(stored, 7, "ebx", 1))).toBeAccepted();
  },
);
