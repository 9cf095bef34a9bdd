/**
 * The differences between kernels that the life-cycle model knows, each with the rules that it changes and its source.
 * The rules themselves are those of Linux 7.2 (rules.ts). lib/explore decides by behaviour which rows hold on a kernel.
 */
import { TRAITS, type TraitFacts } from "../traits.ts";
import type { RuleChanges } from "./rules.ts";

/** The name of a row. */
export type KernelRowName =
  | "eager"
  | "lazy"
  | "pv-each-update"
  | "stale-base"
  | "late-disable-exits"
  | "fresh-cr4"
  | "compares-incoming"
  | "leaves-osxsave"
  | "leaves-ospke"
  | "get-leaves-nent"
  | "sgx-mask"
  | "checks-same-apic-base"
  | "xss-any-table"
  | "xss-any-write"
  | "without-xsave2"
  | "never-frozen";

/** A difference between a kernel and Linux 7.2. */
export interface KernelRowFacts extends TraitFacts {
  readonly changes: RuleChanges;
  /** Whether the difference is a bug of KVM that later kernels fix. */
  readonly isBug?: true;
}

const RUNTIME = "arch/x86/kvm/cpuid.c:__kvm_update_cpuid_runtime";

/** The rows by name, in the order in which they are decided: the decision of a row may need the rows before it. */
export const KERNEL_ROWS: Readonly<Record<KernelRowName, KernelRowFacts>> = {
  "get-leaves-nent": {
    behaviour: "a successful KVM_GET_CPUID2 leaves nent as the caller sent it",
    where: "6.1; not 6.12 and later",
    source: "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_get_cpuid2; observed on 6.1 and 6.12",
    changes: { getReturns: "room" },
  },
  "without-xsave2": { ...TRAITS["without-xsave2"], changes: { hasDynamicComponents: false } },
  "leaves-osxsave": { ...TRAITS["leaves-osxsave"], changes: { leaves: ["leaves-osxsave"] } },
  "leaves-ospke": { ...TRAITS["leaves-ospke"], changes: { leaves: ["leaves-ospke"] } },
  "fresh-cr4": {
    behaviour: "a vCPU without a table may set each bit of CR4 that the host supports",
    where: "before Linux 6.14",
    source: "arch/x86/kvm/x86.c:kvm_arch_vcpu_create; observed on 6.1, 6.12, 6.14 and 6.17",
    changes: { freshCr4: "host" },
  },
  "never-frozen": {
    behaviour: "KVM_SET_CPUID2 replaces the table of a vCPU that has run",
    where: "before Linux 5.16",
    source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid; the comparison came with 5.16",
    changes: { frozen: "replaces" },
  },
  "compares-incoming": { ...TRAITS["compares-incoming"], changes: { accepted: "old" } },
  "late-disable-exits": {
    behaviour: "KVM_CAP_X86_DISABLE_EXITS is accepted after a vCPU was created",
    where: "before Linux 6.14",
    source: "arch/x86/kvm/x86.c:kvm_vm_ioctl_enable_cap; observed on 6.1, 6.12 and 6.14",
    changes: { lateDisableExits: "accepted" },
  },
  "stale-base": {
    behaviour:
      "KVM clears PV_UNHALT of a new table at the base of KVM's leaves in the previous table, so the first SET keeps the bit",
    where: "Linux 5.17 to 6.8",
    source: "arch/x86/kvm/cpuid.c:__kvm_find_kvm_cpuid_features; observed on 6.1",
    fix: "4736d85f0d18 (6.9)",
    changes: { pvBase: "previous", pvUpdates: "each-update" },
  },
  "pv-each-update": {
    behaviour: "KVM clears PV_UNHALT in each update of its own bits, not only in SET",
    where: "before Linux 6.14",
    source: `${RUNTIME}; observed on 6.1, 6.12 and 6.14`,
    changes: { pvUpdates: "each-update" },
  },
  eager: {
    behaviour:
      "KVM updates its own bits of the stored table at once, not at the next use of the table",
    where: "before Linux 6.15",
    source: "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime; deferred since 6.15",
    changes: { updates: "eager" },
  },
  lazy: {
    behaviour:
      "KVM_SET_CPUID2 on a vCPU that has run applies a deferred update to the new table only, and forgets it for the " +
      "stored one; an equal table is then refused, and the stored one stays out of date",
    where: "Linux 6.15 to 6.18 without the fix; 6.16.12 and 6.17.13, not 6.18.15",
    source: "arch/x86/kvm/cpuid.c:kvm_set_cpuid, kvm_cpuid_check_equal; observed on 6.16 and 6.17",
    fix: "6.19-rc1: KVM: x86: Apply runtime updates to current CPUID during KVM_SET_CPUID{,2}",
    changes: { updates: "lost" },
    isBug: true,
  },
  "sgx-mask": {
    behaviour:
      "KVM masks ECX and EDX of leaf 0x12.1 with the supported XCR0, and sets bits 0 and 1 of ECX",
    where: "6.1; not 6.12 and later",
    source: `${RUNTIME}; observed on 6.1 and 6.12`,
    changes: { masksSgx: true },
  },
  "checks-same-apic-base": {
    behaviour:
      "each KVM_SET_SREGS fails if the APIC base has more bits than MAXPHYADDR of the table, also if it does not change the base",
    where: "6.1 and 6.12; not 6.16 and later",
    source: "arch/x86/kvm/lapic.c:kvm_apic_set_base; found by the explorer on 7.2",
    changes: { sameApicBase: "checked" },
  },
  "xss-any-table": {
    behaviour: "KVM_SET_MSRS writes IA32_XSS = 0 also if the table has no XSAVES",
    where: "6.1 to 6.17; not 6.18.15 and later",
    source:
      "arch/x86/kvm/x86.c:kvm_set_msr_common; observed on 6.1, 6.12, 6.16, 6.17, 6.18 and 7.2",
    changes: { xss: "any-table" },
  },
  "xss-any-write": {
    behaviour: "a write of IA32_XSS updates KVM's own bits, also if it does not change the value",
    where: "6.1, 6.12, 6.16 and 6.17; not 6.18.15 and later",
    source: "arch/x86/kvm/x86.c:kvm_set_msr_common; found by the explorer on 6.1",
    changes: { xssTrigger: "any-write" },
  },
};

/** The names of all rows, in the order in which they are decided. */
export const KERNEL_ROW_NAMES: readonly KernelRowName[] = Object.keys(
  KERNEL_ROWS,
) as KernelRowName[];

/**
 * Returns the changes of these rows in the order of the table, so that each combination of rows has one meaning.
 */
export function changesOf(rows: Iterable<KernelRowName>): readonly RuleChanges[] {
  const chosen = new Set(rows);
  const leaves = (["leaves-osxsave", "leaves-ospke"] as const).filter((name) => chosen.has(name));
  return [
    ...KERNEL_ROW_NAMES.filter((name) => chosen.has(name)).map((name) => KERNEL_ROWS[name].changes),
    // Both rows change the same rule.
    { leaves },
  ];
}
