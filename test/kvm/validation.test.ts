/** Claims about the checks of KVM_SET_CPUID2 before the first run: the address width, and AMX permission. */
import type { Vcpu } from "node-kvm";
import type { CpuidTable } from "node-kvm/cpuid";
import { VIRTUAL_ADDRESS_WIDTHS, XTILE_DATA as XTILE_DATA_BIT } from "node-kvm/oracle";
import { claim, expect, tableOf } from "node-kvm/test";

const WIDTH_LEAF = 0x8000_0008;
const XTILE_CFG = 1 << 17;
const XTILE_DATA = 1 << XTILE_DATA_BIT;

/** Returns the table with the given number of virtual address bits. */
const width = (table: CpuidTable, bits: number): CpuidTable => table.with({ virt_addr_bits: bits });

/** Returns the table with additional XSAVE components in 0xD.0.EAX. */
function xcr0(table: CpuidTable, bits: number): CpuidTable {
  const leaf = table.find(0xd, 0) ?? { function: 0xd, flags: 1, eax: 7 };
  return table.withEntry({ ...leaf, eax: (leaf.eax | bits) >>> 0 });
}

const accepts = (vcpu: Vcpu, table: CpuidTable): boolean => {
  try {
    vcpu.setCpuid2(table);
    return true;
  } catch {
    // The claim only tests whether a width is accepted, and not the errno.
    return false;
  }
};

claim(
  "vaddr-sweep",
  "KVM_SET_CPUID2 accepts 0, 48 and 57 virtual address bits, no others",
  { number: 19 },
  (kit) => {
    const vcpu = kit.fresh();
    const table = kit.supported;
    const widths = Array.from({ length: 256 }, (_, bits) => bits);
    expect(widths.filter((bits) => accepts(vcpu, width(table, bits)))).toEqual(
      VIRTUAL_ADDRESS_WIDTHS,
    );
  },
);

claim(
  "vaddr-errno",
  "KVM_SET_CPUID2 refuses 49 virtual address bits with EINVAL",
  { number: 19 },
  (kit) => {
    const vcpu = kit.fresh();
    expect(() => vcpu.setCpuid2(width(kit.supported, 49))).toFailWith("EINVAL");
  },
);

claim(
  "vaddr-absent",
  "KVM_SET_CPUID2 accepts a table without leaf 0x80000008",
  { number: 20 },
  (kit) => {
    const { vcpu, sent } = kit.configured();
    expect(() => vcpu.setCpuid2(sent.without(WIDTH_LEAF))).toBeAccepted();
  },
);

claim(
  "vaddr-duplicate",
  "KVM_SET_CPUID2 checks the first of two entries of leaf 0x80000008",
  { number: 20 },
  (kit) => {
    const { vcpu, sent } = kit.configured();
    const twice = sent.append({ function: WIDTH_LEAF, eax: 49 << 8 });
    expect(() => vcpu.setCpuid2(twice)).toBeAccepted();
  },
);

claim(
  "vaddr-index",
  "KVM_SET_CPUID2 finds leaf 0x80000008 with any index",
  { number: 20 },
  (kit) => {
    const { vcpu, sent } = kit.configured();
    const indexed = sent
      .without(WIDTH_LEAF)
      .append({ function: WIDTH_LEAF, index: 7, flags: 1, eax: 49 << 8 });
    expect(() => vcpu.setCpuid2(indexed)).toFailWith("EINVAL");
  },
);

claim(
  "xtile-eperm",
  "KVM_SET_CPUID2 refuses AMX tile data without permission",
  { number: 21 },
  (kit) => {
    const { vcpu, sent, stored } = kit.configured();
    expect(() => vcpu.setCpuid2(xcr0(sent, XTILE_DATA))).toFailWith("EPERM");
    expect(tableOf(vcpu)).toEqualTable(stored);
  },
);

claim(
  "xtile-cfg",
  "KVM_SET_CPUID2 accepts AMX tile configuration alone without permission",
  { number: 21 },
  (kit) => {
    const { vcpu, sent } = kit.configured();
    expect(() => vcpu.setCpuid2(xcr0(sent, XTILE_CFG))).toBeAccepted();
  },
);

claim(
  "frozen-vaddr",
  "a vCPU that has run refuses 49 virtual address bits because the table differs",
  { number: 70 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    expect(() => vcpu.setCpuid2(width(stored, 49))).toFailWith("EINVAL");
  },
);

claim(
  "frozen-xtile",
  "a vCPU that has run refuses AMX tile data because the table differs, with EINVAL and not EPERM",
  { number: 70 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    expect(() => vcpu.setCpuid2(xcr0(stored, XTILE_DATA))).toFailWith("EINVAL");
  },
);
