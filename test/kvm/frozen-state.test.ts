/**
 * Claims about the state that KVM derives from a table, on a vCPU that has run: a refused table changes none of it, and
 * the MSRs that describe features are as immutable as the table.
 */
import { vendorModule } from "node-kvm";
import {
  KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT,
  KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS,
  MSRS,
} from "node-kvm/abi";
import type { CpuidTable } from "node-kvm/cpuid";
import { CR4_FSGSBASE, EFER_NX, guest, NO_FAULT } from "node-kvm/guest";
import { claim, expect, type Kit, tableOf } from "node-kvm/test";

const GP = 13n;
const MISC_ENABLE_MWAIT = 1n << 18n;
const MSR_IA32_UCODE_REV = 0x8b;

claim(
  "frozen-caps-nx",
  "a refused table without NX does not take EFER.NX from a guest that has run",
  { number: 71 },
  (kit) => {
    const program = guest("long", (g) =>
      g
        .sync()
        .attempt((t) =>
          t.asm((a) => a.mov("ecx", MSRS.MSR_EFER).rdmsr().or("eax", Number(EFER_NX)).wrmsr()),
        )
        .sync()
        .done(),
    );
    kit.requireVcpuHas("nx");
    const { box, vcpu, stored } = kit.ran({ program });
    expect(() => vcpu.setCpuid2(stored.with({ nx: 0 }))).toFailWith("EINVAL");
    expect(box.next()).toEqual({ kind: "sync", values: [NO_FAULT] });
  },
);

claim(
  "frozen-caps-fsgsbase",
  "a refused table with FSGSBASE does not give CR4.FSGSBASE to a guest that has run",
  { number: 72 },
  (kit) => {
    const program = guest("long", (g) =>
      g
        .sync()
        .attempt((t) => t.setCr4(CR4_FSGSBASE))
        .sync()
        .done(),
    );
    const { box, vcpu, stored } = kit.ran({ program, table: kit.supported.with({ fsgsbase: 0 }) });
    const bad = stored.with({ fsgsbase: 1 }).append({ function: 0x5000_0000 });
    expect(() => vcpu.setCpuid2(bad)).toFailWith("EINVAL");
    expect(box.next()).toEqual({ kind: "sync", values: [GP] });
  },
);

/** Tables that a vCPU with the CPUID bit MWAIT refuses after a run. */
const WITHOUT_MWAIT = [
  [
    "other-count",
    (table: CpuidTable) => table.with({ monitor: 0 }).append({ function: 0x5000_0000 }),
  ],
  ["no-leaf-1", (table: CpuidTable) => table.without(1)],
] as const;
for (const [name, refused] of WITHOUT_MWAIT) {
  claim(
    `frozen-caps-mwait-${name}`,
    `a refused table without MWAIT (${name}) does not make MONITOR raise #UD in a guest that has run`,
    { number: 73 },
    (kit) => {
      const quirks = KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT | KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS;
      kit.require(
        (kit.kvm.checkExtension("KVM_CAP_DISABLE_QUIRKS2") & quirks) === quirks,
        "this KVM cannot disable KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS",
      );
      kit.require(vendorModule() !== "kvm_pvm", "kvm_pvm does not emulate MONITOR at CPL 0");
      kit.requireVcpuHas("pni");
      const program = guest("long", (g) =>
        g
          .attempt((t) => t.monitor())
          .sync()
          .attempt((t) => t.monitor())
          .sync()
          .done(),
      );
      const { box, vcpu } = kit.configured({
        program,
        prepare: (vm) => vm.enableCap({ cap: "KVM_CAP_DISABLE_QUIRKS2", quirks }),
      });
      const index = MSRS.MSR_IA32_MISC_ENABLE;
      const data = (vcpu.getMsrs([index])[0]?.data ?? 0n) | MISC_ENABLE_MWAIT;
      expect(vcpu.setMsrs([{ index, data }])).toBe(1);
      expect(box.next()).toEqual({ kind: "sync", values: [NO_FAULT] });
      const stored = tableOf(vcpu);
      expect(() => vcpu.setCpuid2(refused(stored))).toFailWith("EINVAL");
      expect(box.next()).toEqual({ kind: "sync", values: [NO_FAULT] });
    },
  );
}

/** The MSRs that describe features, and that KVM makes immutable with the first run; and what they need. */
const FEATURE_MSRS: readonly (readonly [
  name: string,
  index: number,
  symbol: string,
  needs: (kit: Kit) => void,
])[] = [
  [
    "arch-capabilities",
    MSRS.MSR_IA32_ARCH_CAPABILITIES,
    "IA32_ARCH_CAPABILITIES",
    (kit) => kit.requireVcpuHas("arch_capabilities"),
  ],
  [
    "de-cfg",
    MSRS.MSR_AMD64_DE_CFG,
    "MSR_AMD64_DE_CFG",
    (kit) => {
      const known = kit.kvm.getMsrFeatureIndexList();
      kit.require(known.includes(MSRS.MSR_AMD64_DE_CFG), "this KVM has no MSR_AMD64_DE_CFG");
    },
  ],
  [
    "platform-info",
    MSRS.MSR_PLATFORM_INFO,
    "MSR_PLATFORM_INFO",
    (kit) => kit.requireCapability("KVM_CAP_MSR_PLATFORM_INFO"),
  ],
];
for (const [name, index, symbol, needs] of FEATURE_MSRS) {
  claim(
    `frozen-msr-${name}-same`,
    `a vCPU that has run accepts the current value of ${symbol}`,
    { number: 75 },
    (kit) => {
      needs(kit);
      const { vcpu } = kit.ran();
      const data = vcpu.getMsrs([index])[0]?.data ?? 0n;
      expect(vcpu.setMsrs([{ index, data }])).toBe(1);
    },
  );

  claim(
    `frozen-msr-${name}-changed`,
    `a vCPU that has run refuses another value of ${symbol}, which it accepts before the run`,
    { number: 75 },
    (kit) => {
      needs(kit);
      const { box, vcpu } = kit.configured();
      const now = vcpu.getMsrs([index])[0]?.data ?? 0n;
      const all = kit.kvm.getMsrs([index])[0]?.data ?? 0n;
      // KVM supports the bits of its own value, and each subset of them.
      const other = now === 0n ? all : 0n;
      kit.require(other !== now, `${symbol} has only one value here`);
      expect(vcpu.setMsrs([{ index, data: other }])).toBe(1);
      expect(vcpu.setMsrs([{ index, data: now }])).toBe(1);
      box.next();
      expect(vcpu.setMsrs([{ index, data: other }])).toBe(0);
      expect(vcpu.getMsrs([index])[0]?.data).toBe(now);
    },
  );
}

claim(
  "frozen-msr-ucode-rev",
  "a vCPU that has run accepts another value of MSR_IA32_UCODE_REV",
  { number: 75 },
  (kit) => {
    const { vcpu } = kit.ran();
    const index = MSR_IA32_UCODE_REV;
    const data = (vcpu.getMsrs([index])[0]?.data ?? 0n) ^ (1n << 32n);
    expect(vcpu.setMsrs([{ index, data }])).toBe(1);
    expect(vcpu.getMsrs([index])[0]?.data).toBe(data);
  },
);
