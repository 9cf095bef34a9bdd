/**
 * Claims about XCR0 and IA32_XSS: the components that KVM_GET_SUPPORTED_CPUID reports, and the values that KVM and the
 * guest's XSETBV accept.
 */
import type { Vcpu } from "node-kvm";
import { MSRS } from "node-kvm/abi";
import { CpuidTable } from "node-kvm/cpuid";
import { CR4_OSXSAVE, guest, NO_FAULT } from "node-kvm/guest";
import { claim, expect, type Kit } from "node-kvm/test";

const GP = 13n;
const BITS = Array.from({ length: 64 }, (_, i) => 1n << BigInt(i));
const [X87, SSE, YMM] = [1n, 2n, 4n];
const BNDREGS_AND_BNDCSR = 0x18n;
const AVX512 = 0xe0n;
const XTILE = 0x6_0000n;

/** Returns the XCR0 bits in the entry D.0 of a table. */
function xcr0Of(table: CpuidTable): bigint {
  const leaf = table.find(0xd, 0);
  return (BigInt(leaf?.edx ?? 0) << 32n) | BigInt(leaf?.eax ?? 0);
}

/** Returns the XCR0 bits that KVM_GET_SUPPORTED_CPUID reports, and skips the claim on a host without XSAVE. */
function supportedXcr0(kit: Kit): bigint {
  kit.requireVcpuHas("xsave");
  const xcr0 = xcr0Of(kit.supported);
  kit.require(xcr0 !== 0n, "KVM_GET_SUPPORTED_CPUID reports no XCR0 bits here");
  return xcr0;
}

/** Sets XCR0 with KVM_SET_XCRS. */
function setXcr0(vcpu: Vcpu, value: bigint): void {
  const state = vcpu.getXcrs();
  const xcrs = state.xcrs.map((xcr, i) => (i === 0 ? { ...xcr, xcr: 0, value } : xcr));
  vcpu.setXcrs({ ...state, nrXcrs: 1, xcrs });
}

claim(
  "xcr0-within-table",
  "KVM_SET_XCRS accepts the XCR0 that the table's leaf 0xD allows, and KVM_GET_XCRS returns it",
  { number: 107 },
  (kit) => {
    const xcr0 = supportedXcr0(kit);
    const { vcpu } = kit.configured();
    expect(() => setXcr0(vcpu, xcr0)).toBeAccepted();
    expect(vcpu.getXcrs().xcrs[0]).toMatchObject({ xcr: 0, value: xcr0 });
  },
);

claim(
  "xcr0-beyond-table",
  "KVM_SET_XCRS refuses an XCR0 bit that the table's leaf 0xD does not have",
  { number: 107 },
  (kit) => {
    const xcr0 = supportedXcr0(kit);
    kit.require((xcr0 & YMM) !== 0n, "KVM does not support YMM in guests here");
    const leaf = kit.supported.find(0xd, 0) ?? { function: 0xd };
    const { vcpu } = kit.configured({ table: kit.supported.withEntry({ ...leaf, eax: 3 }) });
    expect(() => setXcr0(vcpu, X87 | SSE)).toBeAccepted();
    expect(() => setXcr0(vcpu, X87 | SSE | YMM)).toFailWith("EINVAL");
  },
);

claim(
  "xcr0-needs-leaf",
  "KVM_SET_XCRS accepts only XCR0 = 1 if the table has no leaf 0xD",
  { number: 107 },
  (kit) => {
    supportedXcr0(kit);
    const { vcpu } = kit.configured({ table: kit.supported.without(0xd) });
    expect(() => setXcr0(vcpu, X87)).toBeAccepted();
    expect(() => setXcr0(vcpu, X87 | SSE)).toFailWith("EINVAL");
  },
);

claim(
  "xcr0-fresh",
  "KVM_SET_XCRS accepts only XCR0 = 1 on a vCPU without a CPUID table",
  { number: 107 },
  (kit) => {
    supportedXcr0(kit);
    const vcpu = kit.fresh();
    expect(() => setXcr0(vcpu, X87)).toBeAccepted();
    expect(() => setXcr0(vcpu, X87 | SSE)).toFailWith("EINVAL");
  },
);

claim(
  "xcr0-kept",
  "KVM keeps XCR0 when a new table removes one of its components",
  { number: 107 },
  (kit) => {
    const xcr0 = supportedXcr0(kit);
    const { vcpu } = kit.configured();
    setXcr0(vcpu, xcr0);
    expect(() => vcpu.setCpuid2(kit.supported.without(0xd))).toBeAccepted();
    expect(vcpu.getXcrs().xcrs[0]).toMatchObject({ xcr: 0, value: xcr0 });
  },
);

/** Returns a guest that sets CR4.OSXSAVE, and tries XSETBV with each value; it sends the vectors and the last XCR0. */
const xsetbv = (values: readonly bigint[]) =>
  guest("long", (g) => {
    g.setCr4(CR4_OSXSAVE);
    for (const value of values) g.attempt((a) => a.xsetbv(value));
    return g.sync().done();
  });

claim(
  "xsetbv-supported",
  "a guest's XSETBV accepts x87 alone and all components of leaf 0xD",
  { number: 107 },
  (kit) => {
    const xcr0 = supportedXcr0(kit);
    const { box } = kit.configured({ program: xsetbv([X87, xcr0]) });
    expect(box.next()).toEqual({ kind: "sync", values: [NO_FAULT, NO_FAULT] });
  },
);

claim(
  "xsetbv-unsupported",
  "a guest gets #GP for XSETBV with each bit that leaf 0xD does not have",
  { number: 107 },
  (kit) => {
    const xcr0 = supportedXcr0(kit);
    const missing = BITS.filter((bit) => (xcr0 & bit) === 0n);
    const { box } = kit.configured({ program: xsetbv(missing.map((bit) => xcr0 | bit)) });
    expect(box.next()).toEqual({ kind: "sync", values: missing.map(() => GP) });
  },
);

/** Dependencies of XCR0 bits (Intel SDM Vol. 1 13.3): the name, the bits, and the bits that they require. */
const DEPENDENCIES = [
  ["ymm", "YMM requires SSE", YMM, SSE],
  ["mpx", "BNDREGS and BNDCSR require each other", BNDREGS_AND_BNDCSR, BNDREGS_AND_BNDCSR],
  ["avx512", "the AVX-512 components require SSE, YMM and each other", AVX512, AVX512 | SSE | YMM],
  ["xtile", "XTILECFG and XTILEDATA require each other", XTILE, XTILE],
] as const;
for (const [name, rule, bits, required] of DEPENDENCIES) {
  claim(
    `xcr0-rule-${name}`,
    `KVM_GET_SUPPORTED_CPUID follows a dependency of XCR0: ${rule}`,
    { number: 132 },
    (kit) => {
      const xcr0 = xcr0Of(CpuidTable.from(kit.kvm.getSupportedCpuid()));
      expect((xcr0 & bits) === 0n ? required : xcr0 & required).toBe(required);
    },
  );
}

claim(
  "xcr0-x87-always",
  "KVM_GET_SUPPORTED_CPUID reports x87 in XCR0 whenever it reports another component",
  { number: 132 },
  (kit) => {
    expect(supportedXcr0(kit) & X87).toBe(X87);
  },
);

claim(
  "xss-reset",
  "the value of IA32_XSS is 0 on a vCPU that has not run",
  { number: 133 },
  (kit) => {
    kit.requireVcpuHas("xsaves");
    const { vcpu } = kit.configured();
    expect(vcpu.getMsrs([MSRS.MSR_IA32_XSS])).toMatchObject([{ data: 0n }]);
  },
);

claim("xss-zero", "KVM_SET_MSRS writes 0 to IA32_XSS", { number: 133 }, (kit) => {
  kit.requireVcpuHas("xsaves");
  const { vcpu } = kit.configured();
  expect(vcpu.setMsrs([{ index: MSRS.MSR_IA32_XSS, data: 0n }])).toBe(1);
});

claim(
  "xss-needs-xsaves",
  "KVM_SET_MSRS refuses each bit of IA32_XSS if the table lacks XSAVES",
  { number: 133 },
  (kit) => {
    kit.requireStrictMsrs();
    const { supported } = kit;
    const table = supported.has("xsaves") ? supported.with({ xsaves: 0 }) : supported;
    const { vcpu, stored } = kit.configured({ table });
    kit.require(!stored.has("xsaves"), "XSAVES cannot be removed from a table here");
    const written = BITS.filter((data) => vcpu.setMsrs([{ index: MSRS.MSR_IA32_XSS, data }]) !== 0);
    expect(written).toEqual([]);
  },
);

claim(
  "xss-bits",
  "KVM_SET_MSRS writes exactly those bits of IA32_XSS that leaf 0xD.1 has",
  { number: 133 },
  (kit) => {
    kit.requireVcpuHas("xsaves");
    const { vcpu, stored } = kit.configured();
    const leaf = stored.find(0xd, 1);
    const allowed = (BigInt(leaf?.edx ?? 0) << 32n) | BigInt(leaf?.ecx ?? 0);
    const written = BITS.filter((data) => vcpu.setMsrs([{ index: MSRS.MSR_IA32_XSS, data }]) === 1);
    expect(written).toEqual(BITS.filter((bit) => (allowed & bit) !== 0n));
  },
);

claim(
  "xss-listed",
  "KVM_GET_MSR_INDEX_LIST has IA32_XSS if and only if KVM supports a component of IA32_XSS in guests",
  { number: 133 },
  (kit) => {
    kit.require(kit.supported.has("xsaves"), "KVM does not support XSAVES in guests here");
    const { ecx = 0, edx = 0 } = kit.supported.find(0xd, 1) ?? {};
    const isListed = kit.kvm.getMsrIndexList().includes(MSRS.MSR_IA32_XSS);
    expect(isListed).toBe((ecx | edx) !== 0);
  },
);
