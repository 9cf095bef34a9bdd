/**
 * Claims about MONITOR and MWAIT in a guest: KVM emulates both as NOP, or raises #UD if a quirk is off and the CPUID
 * table lacks MWAIT. Quirks are never enabled again, so every case has its own VM.
 */

import { vendorModule } from "node-kvm";
import {
  KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT,
  KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS,
  MSRS,
} from "node-kvm/abi";
import { guest, NO_FAULT } from "node-kvm/guest";
import { claim, expect, type Kit } from "node-kvm/test";

const MISC_ENABLE_MWAIT = 1 << 18;
const UD = 6n;

/** A guest that sets MISC_ENABLE.MWAIT or clears it, and sends CPUID 1:ecx and the vectors of MONITOR and MWAIT. */
const program = (isSet: boolean) =>
  guest("long", (g) =>
    g
      .asm((a) => {
        a.mov("ecx", MSRS.MSR_IA32_MISC_ENABLE).rdmsr();
        return (isSet ? a.or("eax", MISC_ENABLE_MWAIT) : a.and("eax", ~MISC_ENABLE_MWAIT)).wrmsr();
      })
      .cpuid(1)
      .attempt((a) => a.monitor())
      .attempt((a) => a.mwait())
      .sync()
      .done(),
  );

/** Runs the guest; returns the CPUID bit MWAIT and both vectors. */
function mwait(kit: Kit, quirks: number, inTable: 0 | 1, inMsr: 0 | 1): readonly bigint[] {
  kit.requireCapability("KVM_CAP_DISABLE_QUIRKS2");
  kit.require(vendorModule() !== "kvm_pvm", "kvm_pvm cannot emulate MONITOR and MWAIT at CPL 0");
  kit.requireCpuFlag("monitor");
  const { box } = kit.configured({
    table: kit.supported.with({ monitor: inTable }),
    program: program(inMsr === 1),
    prepare: (vm) => vm.enableCap({ cap: "KVM_CAP_DISABLE_QUIRKS2", args: [BigInt(quirks)] }),
  });
  const [, , ecx = 0n, , monitorVector = -1n, mwaitVector = -1n] = box.syncs().flat();
  return [(ecx >> 3n) & 1n, monitorVector, mwaitVector];
}

/** The quirks that are off, the id and the text of a claim, and the cases: MWAIT in the table, and in MISC_ENABLE. */
const CLAIMS = [
  [0, "quirks-on", "with both MWAIT quirks on", false],
  [KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS, "ud-quirk-off", "with only the #UD quirk off", false],
  [KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT, "msr-quirk-off", "with only the MSR quirk off", true],
  [
    KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS | KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT,
    "both-quirks-off",
    "with both MWAIT quirks off",
    true,
  ],
] as const;

for (const [quirks, id, text, byMsr] of CLAIMS) {
  const raises = (quirks & KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS) !== 0;
  const owner = byMsr ? "MISC_ENABLE" : "the table";
  const effect = raises
    ? `a guest gets #UD from MONITOR and MWAIT if and only if ${owner} lacks MWAIT`
    : "a guest gets no exception from MONITOR and MWAIT";
  claim(
    `monitor-${id}`,
    `${text}, the guest's CPUID bit MWAIT follows ${owner}, and ${effect}`,
    { number: 146 },
    (kit) => {
      const cases = [
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
      ] as const;
      const seen = cases.map(([inTable, inMsr]) => mwait(kit, quirks, inTable, inMsr));
      const expected = cases.map(([inTable, inMsr]) => {
        const has = byMsr ? inMsr : inTable;
        const vector = raises && has === 0 ? UD : NO_FAULT;
        return [BigInt(has), vector, vector];
      });
      expect(seen).toEqual(expected);
    },
  );
}
