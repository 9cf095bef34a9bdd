/**
 * The rules of the life-cycle model as data: one value for each rule that a kernel, or a wrong model, could have
 * otherwise. kernel-rows.ts has the kernels' differences, and step.ts applies the rules.
 */
import { KVM_MAX_CPUID_ENTRIES } from "../../abi/limits.ts";
import type { CpuidEntry2 } from "../../cpuid/entry.ts";
import type { CpuidFieldName } from "../../cpuid/field.ts";
import type { RuntimeOwnedBits } from "../../cpuid/runtime-owned.ts";
import { VIRTUAL_ADDRESS_WIDTHS } from "../set-cpuid2.ts";
import type { Trait } from "../traits.ts";
import type { Cr4BitName, LifecycleOperation } from "./operation.ts";

/** The way in which a run ended. KVM sets last_vmentry_cpu in some of these runs. */
export type RunHow = Extract<LifecycleOperation, { call: "run" }>["how"];

/** The rules, and the values that the model knows; the comment of each rule explains the value of Linux 7.2. */
export interface LifecycleRules {
  /** The first of several matching entries counts (cpuid.c:cpuid_entry2_find). */
  readonly match: "first" | "last";
  /** An entry without SIGNIFICANT_INDEX matches every index (cpuid.c:cpuid_entry2_find). */
  readonly unflagged: "any-index" | "own-index";
  /** KVM's own lookups ignore the index of an unindexed leaf, even of a flagged entry (cpuid.c:kvm_find_cpuid_entry). */
  readonly rewriteLookup: "ignores-index" | "index-0";
  /** As `rewriteLookup`, for the check of leaf 0x80000008 (cpuid.c:kvm_check_cpuid). */
  readonly widthLookup: "ignores-index" | "index-0";
  /** A lookup of a feature uses the feature's index, which is 0 for leaf 1 (cpuid.c:kvm_vcpu_after_set_cpuid). */
  readonly featureLookup: "index-0" | "ignores-index";
  /** The guest's CPUID uses ECX as the index (cpuid.c:kvm_cpuid). */
  readonly guestLookup: "ecx" | "ignores-index";

  /** The largest number of entries (cpuid.c:kvm_vcpu_ioctl_set_cpuid2). */
  readonly mostEntries: number;
  /** Too many entries are refused in each state of the vCPU; `when-free` checks only a vCPU that has not run. */
  readonly countCheck: "always" | "when-free";
  /** The checks of a table in their order (cpuid.c:kvm_check_cpuid). */
  readonly checks: readonly ("width" | "permission")[];
  /** A table for a vCPU that has run is only compared; `checked` also applies the checks. */
  readonly frozenTable: "compared" | "checked";
  /** The widths of virtual addresses that KVM accepts. */
  readonly widths: readonly number[];
  /** The stored table after a refused SET (cpuid.c:kvm_set_cpuid). */
  readonly refused: "keeps" | "empties";
  /** The members that a comparison reads (cpuid.c:kvm_cpuid_check_equal). */
  readonly compared: readonly (Exclude<keyof CpuidEntry2, "padding"> | "padding")[];
  /** Entries are compared at the same position; `sorted` compares them without their order. */
  readonly comparison: "positions" | "sorted" | "common-prefix";
  /** The array that KVM keeps after an accepted comparison; it decides the padding that GET returns. */
  readonly accepted: "new" | "old";
  /** KVM_SET_CPUID stores index 0 and flags 0 (cpuid.c:kvm_vcpu_ioctl_set_cpuid). */
  readonly v1Stores: "zeros" | "index";
  /** The nent after a successful KVM_GET_CPUID2 (cpuid.c:kvm_vcpu_ioctl_get_cpuid2). */
  readonly getReturns: "count" | "room";
  /** A KVM_GET_CPUID2 with too little room is refused. */
  readonly shortGet: "refused" | "accepted";

  /** The runs after which a table is only compared (x86.c:vcpu_enter_guest sets last_vmentry_cpu). */
  readonly freezing: readonly (RunHow | "guest")[];
  /** A vCPU without a table is frozen too by its first entry. */
  readonly emptyFreezes: boolean;
  /** An entry freezes only its own vCPU. */
  readonly freezesAll: boolean;
  /** KVM refuses another table after the first entry. */
  readonly frozen: "compares" | "replaces";

  /**
   * The time at which KVM writes its own bits after a change of the vCPU's state. `deferred`: at the next GET, guest
   * CPUID or SET. `eager`: at once. `lost`: as `deferred`, but a SET on a vCPU that has run writes only to the new
   * table, and forgets the update of the stored one.
   */
  readonly updates: "deferred" | "eager" | "lost";
  /** The events that start an update (cpuid.c:kvm_update_cpuid_runtime and its callers). */
  readonly triggers: readonly ("osxsave" | "pke" | "xcr0" | "apicBase" | "miscEnable" | "xss")[];
  /** The components of XCR0 whose change starts an update: all except x87 and SSE. */
  readonly xcr0Trigger: "extended" | "any";
  /** KVM writes its own bits in each SET. */
  readonly updatesOnSet: boolean;
  /** KVM_GET_CPUID2 applies a deferred update. */
  readonly getFlushes: boolean;
  /** A KVM_GET_CPUID2 with too little room fails before it applies a deferred update. */
  readonly shortGetFlushes: boolean;
  /** The guest's CPUID applies a deferred update. */
  readonly guestFlushes: boolean;
  /** The conditions of KVM's own bits that differ from RUNTIME_OWNED, by the field; `never` leaves the bits unchanged. */
  readonly when: Partial<Record<CpuidFieldName, RuntimeOwnedBits["when"] | "never">>;
  /** The traits of kernels that store some of these bits unchanged (KVM_OWNED). */
  readonly leaves: readonly Trait[];
  /** The bits of 0xD.1.EAX, XSAVEC and XSAVES, with one of which KVM writes 0xD.1.EBX. */
  readonly compacted: number;
  /** Leaf 0x12.1 is masked with the supported XCR0. */
  readonly masksSgx: boolean;
  /** PV_UNHALT is cleared only by SET (cpuid.c:kvm_apply_cpuid_pv_features_quirk). */
  readonly pvUpdates: "set" | "each-update" | "never";
  /** The table in which KVM searches its signature: the new one, or the one of the last successful SET. */
  readonly pvBase: "incoming" | "previous";
  /** KVM_CAP_X86_DISABLE_EXITS after the creation of a vCPU (x86.c:kvm_vm_ioctl_enable_cap). */
  readonly lateDisableExits: "refused" | "accepted";
  /** A quirk can be disabled at any time. */
  readonly lateQuirk: "applies" | "ignored";

  /** The bits of CR4 that a vCPU without a table may set (x86.c:kvm_arch_vcpu_create). */
  readonly freshCr4: "none" | "host";
  /** The bits of CR4 that require a feature of the table. */
  readonly cr4Checks: readonly Cr4BitName[];
  /** CR4 after a refused change. */
  readonly refusedCr4: "keeps" | "changes";
  /** KVM_SET_SREGS checks the whole state, also if it changes only the APIC base. */
  readonly sregsChecks: "all" | "changes";
  /** The APIC base may not have more bits than MAXPHYADDR of the table (lapic.c:kvm_apic_set_base). */
  readonly apicBaseWidth: "checked" | "unchecked";
  /** KVM_SET_SREGS with the current APIC base does not check it (lapic.c:kvm_apic_set_base). */
  readonly sameApicBase: "accepted" | "checked";
  /** XCR0 is limited by leaf 0xD.0 of the table, and by the host's XCR0 (x86.c:__kvm_set_xcr). */
  readonly xcr0Limits: readonly ("table" | "host")[];
  /** x87 is valid without leaf 0xD. */
  readonly xcr0WithoutLeaf: "x87" | "nothing";
  /** The state of the vCPU after a SET whose table no longer allows it. */
  readonly shrinkingSet: "keeps-state" | "resets-xcr0" | "resets-cr4";
  /** Without the quirk, the MWAIT bit of IA32_MISC_ENABLE requires SSE3 (x86.c:kvm_set_msr_common). */
  readonly mwaitNeedsSse3: "without-quirk" | "never" | "always";
  /** KVM_SET_MSRS of IA32_XSS requires XSAVES in the table, also for the value 0. */
  readonly xss: "needs-xsaves" | "any-table";
  /** A write of IA32_XSS starts an update only if it changes the value (x86.c:kvm_set_msr_common). */
  readonly xssTrigger: "change" | "any-write";
  /** KVM requires permission for the XSAVE component of AMX tile data. */
  readonly hasDynamicComponents: boolean;
}

/** A set of changed rules; a kernel's row and a wrong model are such sets. */
export type RuleChanges = Partial<LifecycleRules>;

/** The rules of Linux 7.2. */
export const LIFECYCLE_RULES: LifecycleRules = {
  match: "first",
  unflagged: "any-index",
  rewriteLookup: "ignores-index",
  widthLookup: "ignores-index",
  featureLookup: "index-0",
  guestLookup: "ecx",
  mostEntries: KVM_MAX_CPUID_ENTRIES,
  countCheck: "always",
  checks: ["width", "permission"],
  frozenTable: "compared",
  widths: VIRTUAL_ADDRESS_WIDTHS,
  refused: "keeps",
  compared: ["function", "index", "flags", "eax", "ebx", "ecx", "edx"],
  comparison: "positions",
  accepted: "new",
  v1Stores: "zeros",
  getReturns: "count",
  shortGet: "refused",
  freezing: ["io", "internalError", "guest"],
  emptyFreezes: true,
  freezesAll: false,
  frozen: "compares",
  updates: "deferred",
  triggers: ["osxsave", "pke", "xcr0", "apicBase", "miscEnable", "xss"],
  xcr0Trigger: "extended",
  updatesOnSet: true,
  getFlushes: true,
  shortGetFlushes: false,
  guestFlushes: true,
  when: {},
  leaves: [],
  compacted: 0b1010,
  masksSgx: false,
  pvUpdates: "set",
  pvBase: "incoming",
  lateDisableExits: "refused",
  lateQuirk: "applies",
  freshCr4: "none",
  cr4Checks: ["osxsave", "pke"],
  refusedCr4: "keeps",
  sregsChecks: "all",
  apicBaseWidth: "checked",
  sameApicBase: "accepted",
  xcr0Limits: ["table", "host"],
  xcr0WithoutLeaf: "x87",
  shrinkingSet: "keeps-state",
  mwaitNeedsSse3: "without-quirk",
  xss: "needs-xsaves",
  xssTrigger: "change",
  hasDynamicComponents: true,
};
