/** The checks of KVM_SET_CPUID2 before the first run: the address width, and AMX permission. */
import type { Vcpu } from "node-kvm";
import type { CpuidTable } from "node-kvm/cpuid";
import { VIRTUAL_ADDRESS_WIDTHS, XTILE_DATA as XTILE_DATA_BIT } from "node-kvm/oracle";
import { expect } from "vitest";
import { claim } from "../helpers/claim.ts";
import { tableOf } from "../helpers/kit.ts";

const WIDTH_LEAF = 0x8000_0008;
const XTILE_CFG = 1 << 17;
const XTILE_DATA = 1 << XTILE_DATA_BIT;

/** The table with this many virtual address bits. */
const width = (table: CpuidTable, bits: number): CpuidTable => table.with({ virt_addr_bits: bits });

/** The table asking for these XSAVE components too, in D.0.EAX. */
function xcr0(table: CpuidTable, bits: number): CpuidTable {
  const leaf = table.find(0xd, 0) ?? { function: 0xd, flags: 1, eax: 7 };
  return table.withEntry({ ...leaf, eax: (leaf.eax | bits) >>> 0 });
}

const accepts = (vcpu: Vcpu, table: CpuidTable): boolean => {
  try {
    vcpu.setCpuid2(table);
    return true;
  } catch {
    // Only whether, not why: the claim names the widths that are accepted.
    return false;
  }
};

claim(
  19,
  "vaddr-sweep",
  "KVM_SET_CPUID2 takes 0, 48 and 57 virtual address bits, no others",
  (kit) => {
    const vcpu = kit.fresh();
    const table = kit.supported;
    const widths = Array.from({ length: 256 }, (_, bits) => bits);
    expect(widths.filter((bits) => accepts(vcpu, width(table, bits)))).toEqual(
      VIRTUAL_ADDRESS_WIDTHS,
    );
  },
);

claim(19, "vaddr-errno", "KVM_SET_CPUID2 refuses 49 virtual address bits with EINVAL", (kit) => {
  const vcpu = kit.fresh();
  expect(() => vcpu.setCpuid2(width(kit.supported, 49))).toFailWith("EINVAL");
});

claim(20, "vaddr-absent", "KVM_SET_CPUID2 takes a table without leaf 0x80000008", (kit) => {
  const { vcpu, sent } = kit.configured();
  expect(() => vcpu.setCpuid2(sent.without(WIDTH_LEAF))).toBeAccepted();
});

claim(20, "vaddr-duplicate", "KVM_SET_CPUID2 checks the first of two leafs 0x80000008", (kit) => {
  const { vcpu, sent } = kit.configured();
  const twice = sent.append({ function: WIDTH_LEAF, eax: 49 << 8 });
  expect(() => vcpu.setCpuid2(twice)).toBeAccepted();
});

claim(20, "vaddr-index", "KVM_SET_CPUID2 finds leaf 0x80000008 under any index", (kit) => {
  const { vcpu, sent } = kit.configured();
  const indexed = sent
    .without(WIDTH_LEAF)
    .append({ function: WIDTH_LEAF, index: 7, flags: 1, eax: 49 << 8 });
  expect(() => vcpu.setCpuid2(indexed)).toFailWith("EINVAL");
});

claim(21, "xtile-eperm", "KVM_SET_CPUID2 refuses AMX tile data without permission", (kit) => {
  const { vcpu, sent, stored } = kit.configured();
  expect(() => vcpu.setCpuid2(xcr0(sent, XTILE_DATA))).toFailWith("EPERM");
  expect(tableOf(vcpu)).toEqualTable(stored);
});

claim(
  21,
  "xtile-cfg",
  "KVM_SET_CPUID2 takes AMX tile configuration alone without permission",
  (kit) => {
    const { vcpu, sent } = kit.configured();
    expect(() => vcpu.setCpuid2(xcr0(sent, XTILE_CFG))).toBeAccepted();
  },
);

claim(
  70,
  "frozen-vaddr",
  "a vCPU that has run refuses 49 virtual address bits as a change",
  (kit) => {
    const { vcpu, stored } = kit.ran();
    expect(() => vcpu.setCpuid2(width(stored, 49))).toFailWith("EINVAL");
  },
);

claim(
  70,
  "frozen-xtile",
  "a vCPU that has run refuses AMX tile data as a change, not EPERM",
  (kit) => {
    const { vcpu, stored } = kit.ran();
    expect(() => vcpu.setCpuid2(xcr0(stored, XTILE_DATA))).toFailWith("EINVAL");
  },
);
