/**
 * Claims about the CPUID bit MWAIT (1:ECX[3]) and the instruction MONITOR: the quirks of the VM determine whether they
 * follow MISC_ENABLE or the passed table.
 */
import type { Vcpu } from "node-kvm";
import {
  KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT,
  KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS,
  MSRS,
} from "node-kvm/abi";
import { guest, NO_FAULT } from "node-kvm/guest";
import { type Configured, claim, expect, type Kit, type Setup, tableOf } from "node-kvm/test";

const MISC_ENABLE_MWAIT = 1n << 18n;
const UD = 6n;

/** Returns the argument of KVM_SET_MSRS that sets or clears MISC_ENABLE[18]. */
function miscEnable(vcpu: Vcpu, isSet: boolean): [{ index: number; data: bigint }] {
  const index = MSRS.MSR_IA32_MISC_ENABLE;
  const [before = { data: 0n }] = vcpu.getMsrs([index]);
  const rest = before.data & ~MISC_ENABLE_MWAIT;
  return [{ index, data: isSet ? rest | MISC_ENABLE_MWAIT : rest }];
}

/** Creates a vCPU in a VM on which these quirks are disabled. */
function withoutQuirks(kit: Kit, quirks: number, setup: Setup = {}): Configured {
  const disabled = kit.kvm.checkExtension("KVM_CAP_DISABLE_QUIRKS2");
  kit.require((disabled & quirks) === quirks, "KVM_CAP_DISABLE_QUIRKS2 does not have the quirk");
  return kit.configured({
    ...setup,
    prepare: (vm) => vm.enableCap({ cap: "KVM_CAP_DISABLE_QUIRKS2", args: [BigInt(quirks)] }),
  });
}

claim(
  "mwait-quirk-on",
  "with KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT on, KVM stores the MWAIT bit as it was sent, whatever MISC_ENABLE has",
  { number: 42 },
  (kit) => {
    const { vcpu, sent } = kit.configured();
    const seen = [false, true].flatMap((isSet) => {
      expect(vcpu.setMsrs(miscEnable(vcpu, isSet))).toBe(1);
      return ([0, 1] as const).map((monitor) => {
        vcpu.setCpuid2(sent.with({ monitor }));
        return tableOf(vcpu).get("monitor");
      });
    });
    expect(seen).toEqual([0, 1, 0, 1]);
  },
);

claim(
  "mwait-quirk-off",
  "with KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT off, the MWAIT bit follows MISC_ENABLE after KVM_SET_MSRS",
  { number: 43 },
  (kit) => {
    const { vcpu } = withoutQuirks(kit, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT);
    const seen = [true, false, true].map((isSet) => {
      expect(vcpu.setMsrs(miscEnable(vcpu, isSet))).toBe(1);
      return tableOf(vcpu).get("monitor");
    });
    expect(seen).toEqual([1, 0, 1]);
  },
);

claim(
  "mwait-quirk-off-set",
  "with KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT off, KVM stores the MWAIT bit of MISC_ENABLE and not the sent one",
  { number: 43 },
  (kit) => {
    const { vcpu, sent } = withoutQuirks(kit, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT);
    const seen = [false, true].flatMap((isSet) => {
      expect(vcpu.setMsrs(miscEnable(vcpu, isSet))).toBe(1);
      return ([0, 1] as const).map((monitor) => {
        vcpu.setCpuid2(sent.with({ monitor }));
        return tableOf(vcpu).get("monitor");
      });
    });
    expect(seen).toEqual([0, 0, 1, 1]);
  },
);

claim(
  "mwait-guest-wrmsr",
  "with KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT off, the MWAIT bit follows MISC_ENABLE when the guest writes it",
  { number: 43 },
  (kit) => {
    // The guest keeps the other bits of MISC_ENABLE, because KVM does not allow a guest to change some of them.
    const msr = MSRS.MSR_IA32_MISC_ENABLE;
    const program = guest("long", (g) =>
      g
        .asm((a) => a.mov("ecx", msr).rdmsr().or("eax", Number(MISC_ENABLE_MWAIT)).wrmsr())
        .cpuid(1)
        .sync()
        .asm((a) => a.mov("ecx", msr).rdmsr().and("eax", 0xfffbffff).wrmsr())
        .cpuid(1)
        .sync()
        .done(),
    );
    const { box } = withoutQuirks(kit, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT, { program });
    const seen = box.syncs().map(([, , ecx = 0n]) => (ecx >> 3n) & 1n);
    expect(seen).toEqual([1n, 0n]);
  },
);

claim(
  "mwait-needs-sse3",
  "with KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT off, KVM_SET_MSRS refuses to set MISC_ENABLE[18] of a vCPU without SSE3",
  { number: 43 },
  (kit) => {
    const table = kit.supported.with({ pni: 0 });
    const { vcpu } = withoutQuirks(kit, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT, { table });
    expect(vcpu.setMsrs(miscEnable(vcpu, true))).toBe(0);
  },
);

/** Runs MONITOR in a guest, and returns the vector of its exception or `NO_FAULT`. */
function monitor(kit: Kit, quirks: number, isSet: boolean): unknown {
  const program = guest("long", (g) =>
    g
      .attempt((a) => a.monitor())
      .sync()
      .done(),
  );
  const table = kit.supported.with({ monitor: 0 });
  const { box, vcpu } = withoutQuirks(kit, quirks, { program, table });
  expect(vcpu.setMsrs(miscEnable(vcpu, isSet))).toBe(1);
  return box.next();
}

const BOTH_QUIRKS = KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT | KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS;

claim(
  "mwait-ud",
  "with KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS off, MONITOR raises #UD if the vCPU's CPUID has no MWAIT",
  { number: 44 },
  (kit) => {
    expect(monitor(kit, BOTH_QUIRKS, false)).toEqual({ kind: "sync", values: [UD] });
  },
);

claim(
  "mwait-executes",
  "with KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS off, MONITOR executes if the vCPU's CPUID has MWAIT",
  { number: 44 },
  (kit) => {
    expect(monitor(kit, BOTH_QUIRKS, true)).toEqual({ kind: "sync", values: [NO_FAULT] });
  },
);

claim(
  "mwait-never-ud",
  "with KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS on, MONITOR executes even if the vCPU's CPUID has no MWAIT",
  { number: 44 },
  (kit) => {
    const seen = monitor(kit, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT, false);
    expect(seen).toEqual({ kind: "sync", values: [NO_FAULT] });
  },
);
