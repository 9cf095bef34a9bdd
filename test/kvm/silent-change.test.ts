/**
 * Claims about tables that KVM itself changes while a vCPU runs. KVM must still accept the table that was set. The
 * claims do not read the table before they set it again. Otherwise KVM_GET_CPUID2 or a guest's CPUID would apply the
 * pending change, and would hide the bug of Linux 6.15 to 6.18.
 */
import type { Vcpu, Vm } from "node-kvm";
import { KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT, MSRS } from "node-kvm/abi";
import type { CpuidTable } from "node-kvm/cpuid";
import { CR4_OSXSAVE, guest } from "node-kvm/guest";
import { claim, expect, tableOf, toggleCr4 } from "node-kvm/test";

const APIC_BASE_ENABLE = 1n << 11n;
/** IA32_MISC_ENABLE.ENABLE_MONITOR_FSM, from which KVM sets the CPUID bit MWAIT. */
const MISC_ENABLE_MWAIT = 1n << 18n;
const X87_SSE_AVX = 7n;

/** Sets XCR0 to x87, SSE and AVX, which changes the size of the XSAVE area. */
function enableAvx(vcpu: Vcpu): void {
  const xcrs = vcpu.getXcrs();
  const [xcr0, ...rest] = xcrs.xcrs;
  if (xcr0 === undefined) throw new Error("KVM_GET_XCRS returned no XCR0");
  vcpu.setXcrs({ ...xcrs, xcrs: [{ ...xcr0, value: X87_SSE_AVX }, ...rest] });
}

/** Inverts IA32_MISC_ENABLE[18] with KVM_SET_MSRS, and returns the number of written MSRs. */
function toggleMiscMwait(vcpu: Vcpu): number {
  const index = MSRS.MSR_IA32_MISC_ENABLE;
  const data = (vcpu.getMsrs([index])[0]?.data ?? 0n) ^ MISC_ENABLE_MWAIT;
  return vcpu.setMsrs([{ index, data }]);
}

const mwaitBelongsToKvm = (vm: Vm): void => {
  vm.enableCap({ cap: "KVM_CAP_DISABLE_QUIRKS2", quirks: KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT });
};

/** Returns the table with a leaf 0xD.1 that has only XSAVEC, or no feature, and a wrong compacted size. */
function withD1(table: CpuidTable, eax: 0 | 2): CpuidTable {
  return table.without(0xd, 1).append({ function: 0xd, index: 1, flags: 1, eax, ebx: 0x777 });
}

/** Returns the table with another compacted size. */
function otherSize(table: CpuidTable): CpuidTable {
  return table.map((entry) =>
    entry.function === 0xd && entry.index === 1 ? { ...entry, ebx: 0x778 } : entry,
  );
}

claim(
  "silent-cr4",
  "KVM_SET_CPUID2 accepts the same table after KVM_SET_SREGS toggled CR4.OSXSAVE",
  { number: 61 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const { vcpu, stored } = kit.ran();
    toggleCr4(vcpu, CR4_OSXSAVE);
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "silent-cr4-back",
  "KVM_SET_CPUID2 accepts the same table after CR4.OSXSAVE was set and cleared again",
  { number: 61 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const { vcpu, stored } = kit.ran();
    toggleCr4(vcpu, CR4_OSXSAVE);
    toggleCr4(vcpu, CR4_OSXSAVE);
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "silent-cr4-guest",
  "KVM_SET_CPUID2 accepts the same table after the guest set CR4.OSXSAVE",
  { number: 62 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const program = guest("long", (g) => g.sync().setCr4(CR4_OSXSAVE).done());
    const { vcpu, box, stored } = kit.ran({ program });
    box.next();
    expect(vcpu.getSregs().cr4 & CR4_OSXSAVE).toBe(CR4_OSXSAVE);
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "pending-not-dropped",
  "a refused KVM_SET_CPUID2 does not lose a pending update of the CPUID bit OSXSAVE",
  { number: 64 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const { vcpu, stored } = kit.ran();
    toggleCr4(vcpu, CR4_OSXSAVE);
    expect(() => vcpu.setCpuid2(stored.append({ function: 0x5000_0000 }))).toFailWith("EINVAL");
    expect(tableOf(vcpu).get("osxsave")).toBe(1);
  },
);

claim(
  "pending-seen-by-guest",
  "a refused KVM_SET_CPUID2 does not hide a pending update of OSXSAVE from the guest",
  { number: 64 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const program = guest("long", (g) => g.sync().cpuid(1).sync().done());
    const { vcpu, box, stored } = kit.ran({ program });
    toggleCr4(vcpu, CR4_OSXSAVE);
    expect(() => vcpu.setCpuid2(stored.append({ function: 0x5000_0000 }))).toFailWith("EINVAL");
    const [[, , ecx = 0n] = []] = box.syncs();
    expect((ecx >> 27n) & 1n).toBe(1n);
  },
);

claim(
  "silent-xcr0",
  "KVM_SET_CPUID2 accepts the same table after KVM_SET_XCRS enabled AVX",
  { number: 63 },
  (kit) => {
    kit.requireVcpuHas("xsave", "avx");
    const { vcpu, stored } = kit.ran();
    enableAvx(vcpu);
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "silent-xcr0-guest",
  "KVM_SET_CPUID2 accepts the same table after the guest enabled AVX with XSETBV",
  { number: 63 },
  (kit) => {
    kit.requireVcpuHas("xsave", "avx");
    const program = guest("long", (g) => g.setCr4(CR4_OSXSAVE).sync().xsetbv(X87_SSE_AVX).done());
    const { vcpu, box } = kit.ran({ program });
    // This table contains the guest's change of CR4, so only the change of XCR0 is pending afterwards.
    const stored = tableOf(vcpu);
    box.next();
    const xcr0 = vcpu.getXcrs().xcrs[0]?.value;
    kit.require(xcr0 === X87_SSE_AVX, "this CPU does not intercept XSETBV");
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "silent-xsavec",
  "KVM_SET_CPUID2 accepts the same table with XSAVEC after KVM_SET_XCRS enabled AVX",
  { number: 63 },
  (kit) => {
    kit.requireVcpuHas("xsave", "avx");
    const { vcpu, stored } = kit.ran({ table: withD1(kit.supported, 2) });
    enableAvx(vcpu);
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "silent-apic-sregs",
  "KVM_SET_CPUID2 accepts the same table after KVM_SET_SREGS disabled the local APIC",
  { number: 63 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    const sregs = vcpu.getSregs();
    vcpu.setSregs({ ...sregs, apicBase: sregs.apicBase & ~APIC_BASE_ENABLE });
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "silent-apic-msr",
  "KVM_SET_CPUID2 accepts the same table after KVM_SET_MSRS disabled the local APIC",
  { number: 63 },
  (kit) => {
    const { vcpu, stored } = kit.ran();
    const data = vcpu.getSregs().apicBase & ~APIC_BASE_ENABLE;
    expect(vcpu.setMsrs([{ index: MSRS.MSR_IA32_APICBASE, data }])).toBe(1);
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "silent-apic-guest",
  "KVM_SET_CPUID2 accepts the same table after the guest disabled its local APIC",
  { number: 63 },
  (kit) => {
    const program = guest("long", (g) =>
      g
        .sync()
        .asm((a) =>
          a
            .mov("ecx", MSRS.MSR_IA32_APICBASE)
            .rdmsr()
            .and("eax", Number(~APIC_BASE_ENABLE))
            .wrmsr(),
        )
        .done(),
    );
    const { vcpu, box, stored } = kit.ran({ program });
    box.next();
    expect(vcpu.getSregs().apicBase & APIC_BASE_ENABLE).toBe(0n);
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "silent-mwait",
  "KVM_SET_CPUID2 accepts the same table after IA32_MISC_ENABLE changed the CPUID bit MWAIT",
  { number: 63 },
  (kit) => {
    kit.requireCapability("KVM_CAP_DISABLE_QUIRKS2");
    kit.requireVcpuHas("pni");
    const { vcpu, stored } = kit.ran({ prepare: mwaitBelongsToKvm });
    expect(toggleMiscMwait(vcpu)).toBe(1);
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "silent-osxsave-free",
  "KVM_SET_CPUID2 accepts any OSXSAVE bit after KVM_SET_SREGS toggled CR4.OSXSAVE",
  { number: 57 },
  (kit) => {
    kit.requireVcpuHas("xsave");
    const { vcpu, stored } = kit.ran();
    const tables = [stored.with({ osxsave: 1 }), stored.with({ osxsave: 0 })];
    toggleCr4(vcpu, CR4_OSXSAVE);
    for (const table of tables) expect(() => vcpu.setCpuid2(table)).toBeAccepted();
  },
);

claim(
  "owned-mwait-silent",
  "with KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT off, KVM_SET_CPUID2 accepts any MWAIT bit after IA32_MISC_ENABLE changed",
  { number: 58 },
  (kit) => {
    kit.requireCapability("KVM_CAP_DISABLE_QUIRKS2");
    kit.requireVcpuHas("pni");
    const { vcpu, stored } = kit.ran({ prepare: mwaitBelongsToKvm });
    const tables = [stored.with({ monitor: 0 }), stored.with({ monitor: 1 })];
    expect(toggleMiscMwait(vcpu)).toBe(1);
    for (const table of tables) expect(() => vcpu.setCpuid2(table)).toBeAccepted();
  },
);

claim(
  "unowned-mwait-silent",
  "with KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT on, KVM_SET_CPUID2 still compares MWAIT after IA32_MISC_ENABLE changed",
  { number: 58 },
  (kit) => {
    kit.requireVcpuHas("pni");
    const { vcpu, stored } = kit.ran();
    const changed = stored.with({ monitor: stored.get("monitor") === 1 ? 0 : 1 });
    expect(toggleMiscMwait(vcpu)).toBe(1);
    expect(() => vcpu.setCpuid2(changed)).toFailWith("EINVAL");
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

claim(
  "owned-xsavec-size-silent",
  "with XSAVEC, KVM_SET_CPUID2 accepts any compacted size after KVM_SET_XCRS enabled AVX",
  { number: 59 },
  (kit) => {
    kit.requireVcpuHas("xsave", "avx");
    const { vcpu, stored } = kit.ran({ table: withD1(kit.supported, 2) });
    const changed = otherSize(stored);
    enableAvx(vcpu);
    expect(() => vcpu.setCpuid2(changed)).toBeAccepted();
  },
);

claim(
  "unowned-xsavec-size-silent",
  "without XSAVEC, KVM_SET_CPUID2 still compares the compacted size after KVM_SET_XCRS enabled AVX",
  { number: 59 },
  (kit) => {
    kit.requireVcpuHas("xsave", "avx");
    const { vcpu, stored } = kit.ran({ table: withD1(kit.supported, 0) });
    const changed = otherSize(stored);
    enableAvx(vcpu);
    expect(() => vcpu.setCpuid2(changed)).toFailWith("EINVAL");
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);
