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
  | "disables-exits-late"
  | "cr4-before-cpuid"
  | "compares-incoming"
  | "leaves-osxsave"
  | "leaves-ospke"
  | "leaves-get-count"
  | "masks-sgx-attributes"
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
  "leaves-get-count": { ...TRAITS["leaves-get-count"], changes: { getReturns: "room" } },
  "without-xsave2": { ...TRAITS["without-xsave2"], changes: { hasDynamicComponents: false } },
  "leaves-osxsave": { ...TRAITS["leaves-osxsave"], changes: { leaves: ["leaves-osxsave"] } },
  "leaves-ospke": { ...TRAITS["leaves-ospke"], changes: { leaves: ["leaves-ospke"] } },
  "cr4-before-cpuid": { ...TRAITS["cr4-before-cpuid"], changes: { freshCr4: "host" } },
  "never-frozen": { ...TRAITS["never-frozen"], changes: { frozen: "replaces" } },
  "compares-incoming": { ...TRAITS["compares-incoming"], changes: { accepted: "old" } },
  "disables-exits-late": {
    ...TRAITS["disables-exits-late"],
    changes: { lateDisableExits: "accepted" },
  },
  "stale-base": {
    ...TRAITS["stale-base"],
    changes: { pvBase: "previous", pvUpdates: "each-update" },
  },
  "pv-each-update": {
    behaviour: "KVM clears PV_UNHALT in each update of its own bits, not only in SET",
    where: "before Linux 6.14",
    source: `${RUNTIME}; observed on 6.1, 6.12 and 6.14`,
    fix: "63d8c702c2d4 (Linux 6.14)",
    changes: { pvUpdates: "each-update" },
  },
  eager: {
    behaviour:
      "KVM updates its own bits of the stored table at once, not at the next use of the table",
    where: "before Linux 6.15",
    source: "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime; observed on 6.1 and 6.12",
    fix: "93da6af3ae56 (Linux 6.15)",
    changes: { updates: "eager" },
  },
  lazy: { ...TRAITS["lazy-updates-lost"], changes: { updates: "lost" }, isBug: true },
  "masks-sgx-attributes": { ...TRAITS["masks-sgx-attributes"], changes: { masksSgx: true } },
  "checks-same-apic-base": {
    behaviour:
      "each KVM_SET_SREGS fails if the APIC base has more bits than MAXPHYADDR of the table, also if it does not change the base",
    where: "5.10 to 6.12; not 6.16 and later",
    source: "arch/x86/kvm/lapic.c:kvm_apic_set_base; found by the explorer on 7.2",
    changes: { sameApicBase: "checked" },
  },
  "xss-any-table": {
    behaviour: "KVM_SET_MSRS writes IA32_XSS = 0 also if the table has no XSAVES",
    where: "5.10 to 6.17; not 6.18.15 and later",
    source:
      "arch/x86/kvm/x86.c:kvm_set_msr_common; observed on 5.10, 6.1, 6.12, 6.16, 6.17, 6.18 and 7.2",
    changes: { xss: "any-table" },
  },
  "xss-any-write": {
    behaviour: "a write of IA32_XSS updates KVM's own bits, also if it does not change the value",
    where: "5.10 to 6.17; not 6.18.15 and later",
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
