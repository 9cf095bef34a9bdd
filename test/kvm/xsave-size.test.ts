/** Claims about the sizes of the XSAVE area in leaf 0xD, which KVM computes from XCR0 and IA32_XSS. */
import type { Vcpu } from "node-kvm";
import { MSRS } from "node-kvm/abi";
import type { CpuidTable } from "node-kvm/cpuid";
import { claim, expect, type Kit, tableOf } from "node-kvm/test";

const X87 = 0b1n;
const X87_SSE = 0b11n;
const X87_SSE_AVX = 0b111n;
/** The size of the legacy region and the header, which is the size without extended components (SDM Vol. 1, 13.4). */
const LEGACY_SIZE = 0x240;
/** The size with AVX, whose component is 0x100 bytes long and follows the header in both formats. */
const AVX_SIZE = 0x340;

const XSAVEC = 1 << 1;
/** A value that is no size of any XSAVE area. */
const GARBAGE = 0x777;

function setXcr0(vcpu: Vcpu, value: bigint): void {
  const before = vcpu.getXcrs();
  const xcrs = before.xcrs.map((xcr, i) => (i === 0 ? { ...xcr, xcr: 0, value } : xcr));
  vcpu.setXcrs({ ...before, nrXcrs: 1, xcrs });
}

function requireAvx(kit: Kit): void {
  kit.requireCapability("KVM_CAP_XCRS");
  kit.requireVcpuHas("xsave", "avx");
}

/** Returns the table with a leaf 0xD.1 that has these instructions in EAX and garbage as the size. */
function withD1(table: CpuidTable, eax: number): CpuidTable {
  return table.without(0xd, 1).append({ function: 0xd, index: 1, flags: 1, eax, ebx: GARBAGE });
}

claim(
  "xsave-size",
  "the XSAVE size in 0xD.0:EBX follows XCR0 after KVM_SET_XCRS",
  { number: 39 },
  (kit) => {
    requireAvx(kit);
    const { vcpu } = kit.configured();
    const seen = [X87, X87_SSE, X87_SSE_AVX, X87].map((value) => {
      setXcr0(vcpu, value);
      return tableOf(vcpu).find(0xd, 0)?.ebx;
    });
    expect(seen).toEqual([LEGACY_SIZE, LEGACY_SIZE, AVX_SIZE, LEGACY_SIZE]);
  },
);

claim(
  "xsave-size-max",
  "KVM_SET_XCRS does not change the maximum XSAVE size in 0xD.0:ECX, which belongs to the user",
  { number: 39 },
  (kit) => {
    requireAvx(kit);
    const leaf = kit.supported.find(0xd, 0);
    const sent = kit.supported.withEntry({ ...leaf, function: 0xd, index: 0, ecx: GARBAGE });
    const { vcpu, stored } = kit.configured({ table: sent });
    setXcr0(vcpu, X87_SSE_AVX);
    const changed = stored.with({ xsave_sz_xcr0: AVX_SIZE, xsave_sz_max: GARBAGE });
    expect(tableOf(vcpu).without(0xd, 1)).toEqualTable(changed.without(0xd, 1));
  },
);

claim(
  "xsave-size-sent",
  "KVM stores the XSAVE size for XCR0 in 0xD.0:EBX if the passed table has another size",
  { number: 39 },
  (kit) => {
    const leaf = { function: 0xd, index: 0, flags: 1, eax: 3, ebx: GARBAGE };
    const { vcpu } = kit.configured({ table: kit.supported.withEntry(leaf) });
    expect(tableOf(vcpu).find(0xd, 0)?.ebx).toBe(LEGACY_SIZE);
  },
);

claim(
  "xsavec-size",
  "with XSAVEC in the table, the compacted size in 0xD.1:EBX follows XCR0",
  { number: 40 },
  (kit) => {
    requireAvx(kit);
    const { vcpu } = kit.configured({ table: withD1(kit.supported, XSAVEC) });
    const seen = [X87, X87_SSE_AVX].map((value) => {
      setXcr0(vcpu, value);
      return tableOf(vcpu).find(0xd, 1)?.ebx;
    });
    expect(seen).toEqual([LEGACY_SIZE, AVX_SIZE]);
  },
);

claim(
  "xsavec-size-sent",
  "with XSAVEC in the table, KVM replaces the compacted size in 0xD.1:EBX by the size for XCR0",
  { number: 40 },
  (kit) => {
    const { vcpu } = kit.configured({ table: withD1(kit.supported, XSAVEC) });
    expect(tableOf(vcpu).find(0xd, 1)?.ebx).toBe(LEGACY_SIZE);
  },
);

claim(
  "xsavec-size-absent",
  "without XSAVEC and XSAVES in the table, KVM stores the compacted size in 0xD.1:EBX as it was sent",
  { number: 40 },
  (kit) => {
    const { vcpu } = kit.configured({ table: withD1(kit.supported, 0) });
    expect(tableOf(vcpu).find(0xd, 1)?.ebx).toBe(GARBAGE);
  },
);

/** Returns the compacted size of the components of a mask (SDM Vol. 1, 13.4.3), from the leaves 0xD.n of a table. */
function compactedSize(table: CpuidTable, mask: bigint): number {
  let size = LEGACY_SIZE;
  for (let component = 2; component < 63; component += 1) {
    const leaf = table.find(0xd, component);
    if (leaf === undefined || ((mask >> BigInt(component)) & 1n) === 0n) continue;
    const isAligned = (leaf.ecx & 2) !== 0;
    size = (isAligned ? Math.ceil(size / 64) * 64 : size) + leaf.eax;
  }
  return size;
}

claim(
  "xss-size",
  "the compacted size in 0xD.1:EBX follows IA32_XSS after KVM_SET_MSRS",
  { number: 41 },
  (kit) => {
    kit.requireVcpuHas("xsaves");
    const { vcpu, stored } = kit.configured();
    const leaf = stored.find(0xd, 1);
    const components = (BigInt(leaf?.edx ?? 0) << 32n) | BigInt(leaf?.ecx ?? 0);
    kit.require(components !== 0n, "KVM supports no component of IA32_XSS here");
    const seen = [components, 0n].map((data) => {
      expect(vcpu.setMsrs([{ index: MSRS.MSR_IA32_XSS, data }])).toBe(1);
      return tableOf(vcpu).find(0xd, 1)?.ebx;
    });
    expect(seen).toEqual([compactedSize(stored, components), LEGACY_SIZE]);
  },
);
