/**
 * Wrong models, each with one wrong rule. An exploration that agrees proves only as much as the wrong models that it
 * would have found; test/unit/explore/mutants.test.ts counts the steps until each one is found.
 */
import { type KernelRowName, LIFECYCLE_RULES, type RuleChanges } from "../oracle/index.ts";

/** A wrong model. */
export interface Mutant {
  readonly changes: RuleChanges;
  /** The rows of the kernel on which the wrong rule can be observed; by default none, which is Linux 7.2. */
  readonly on?: readonly KernelRowName[];
  /** The reason why no sequence of the generator distinguishes the wrong model from the right one. */
  readonly equivalent?: string;
}

/** The rows of 6.1, 6.12 and 6.17, as their fingerprints show them. */
export const OLD_KERNELS: Readonly<Record<"6.1" | "6.12" | "6.17", readonly KernelRowName[]>> = {
  "6.1": [
    ...([
      "leaves-get-count",
      "cr4-before-cpuid",
      "compares-incoming",
      "disables-exits-late",
    ] as const),
    ...([
      "stale-base",
      "pv-each-update",
      "eager",
      "masks-sgx-attributes",
      "xss-any-table",
    ] as const),
    ...(["checks-same-apic-base", "xss-any-write"] as const),
  ],
  "6.12": [
    ...(["cr4-before-cpuid", "compares-incoming", "disables-exits-late"] as const),
    ...([
      "pv-each-update",
      "eager",
      "xss-any-table",
      "xss-any-write",
      "checks-same-apic-base",
    ] as const),
  ],
  "6.17": ["lazy", "xss-any-table", "xss-any-write"],
};

type List = "compared" | "triggers" | "freezing" | "cr4Checks" | "xcr0Limits" | "checks";

/** Returns a rule that is a list, without one member. */
const without = <Name extends List>(name: Name, member: string): RuleChanges => ({
  [name]: (LIFECYCLE_RULES[name] as readonly string[]).filter((one) => one !== member),
});

const { compared, freezing, widths } = LIFECYCLE_RULES;

/** The wrong models by name. */
export const MUTANTS: Readonly<Record<string, Mutant>> = {
  // Lookups.
  "last-match": { changes: { match: "last" } },
  "exact-index": { changes: { unflagged: "own-index" } },
  "owned-by-index": { changes: { rewriteLookup: "index-0" } },
  "width-by-index": { changes: { widthLookup: "index-0" } },
  "features-any-index": { changes: { featureLookup: "ignores-index" } },
  "guest-any-index": { changes: { guestLookup: "ignores-index" } },
  // Validation and roll-back.
  "takes-257": { changes: { mostEntries: 257 } },
  "refuses-256": { changes: { mostEntries: 255 } },
  "counts-late": { changes: { countCheck: "when-free" } },
  "permission-first": { changes: { checks: ["permission", "width"] } },
  "no-width": { changes: without("checks", "width") },
  "no-permission": { changes: without("checks", "permission") },
  "no-57-bits": { changes: { widths: widths.filter((width) => width !== 57) } },
  "no-0-bits": { changes: { widths: widths.filter((width) => width !== 0) } },
  "47-bits": { changes: { widths: [...widths, 47] } },
  "no-rollback": { changes: { refused: "empties" } },
  "v1-keeps-index": { changes: { v1Stores: "index" } },
  "short-get": { changes: { shortGet: "accepted" } },
  // The comparison.
  "flags-free": { changes: without("compared", "flags") },
  "index-free": { changes: without("compared", "index") },
  "function-free": { changes: without("compared", "function") },
  "eax-free": { changes: without("compared", "eax") },
  "ebx-free": { changes: without("compared", "ebx") },
  "ecx-free": { changes: without("compared", "ecx") },
  "edx-free": { changes: without("compared", "edx") },
  "padding-compared": { changes: { compared: [...compared, "padding"] } },
  "order-free": { changes: { comparison: "sorted" } },
  "prefix-only": { changes: { comparison: "common-prefix" } },
  "old-padding": { changes: { accepted: "old" } },
  "frozen-checked": { changes: { frozenTable: "checked" } },
  // The first entry.
  "never-frozen": { changes: { frozen: "replaces" } },
  "io-not-frozen": { changes: without("freezing", "io") },
  "guest-not-frozen": { changes: without("freezing", "guest") },
  "crash-not-frozen": { changes: without("freezing", "internalError") },
  "triple-freezes": { changes: { freezing: [...freezing, "tripleFault"] } },
  "immediate-freezes": { changes: { freezing: [...freezing, "immediateExit"] } },
  "empty-not-frozen": { changes: { emptyFreezes: false } },
  "freezes-vm": { changes: { freezesAll: true } },
  // KVM's own bits.
  lazy: { changes: { updates: "lost" } },
  eager: { changes: { updates: "eager" } },
  deferred: { changes: { updates: "deferred" }, on: OLD_KERNELS["6.12"] },
  "cr4-osxsave-silent": { changes: without("triggers", "osxsave") },
  "cr4-pke-silent": { changes: without("triggers", "pke") },
  "xcr0-silent": { changes: without("triggers", "xcr0") },
  "apic-silent": { changes: without("triggers", "apicBase") },
  "misc-silent": { changes: without("triggers", "miscEnable") },
  "xss-silent": {
    changes: without("triggers", "xss"),
    equivalent: "no host of the lab has a component of IA32_XSS, so IA32_XSS stays 0",
  },
  "x87-triggers": { changes: { xcr0Trigger: "any" } },
  "not-on-set": { changes: { updatesOnSet: false } },
  "get-stale": { changes: { getFlushes: false } },
  "short-get-flushes": { changes: { shortGetFlushes: true }, on: OLD_KERNELS["6.17"] },
  "guest-stale": { changes: { guestFlushes: false } },
  "osxsave-users": { changes: { when: { osxsave: "never" } } },
  "apic-users": { changes: { when: { apic: "never" } } },
  "ospke-users": { changes: { when: { ospke: "never" } } },
  "d0-users": { changes: { when: { xsave_sz_xcr0: "never" } } },
  "d1-users": { changes: { when: { xsave_sz_xcr0_xss: "never" } } },
  "d1-always": { changes: { when: { xsave_sz_xcr0_xss: "leaf" } } },
  "d1-xsaves-only": { changes: { compacted: 0b1000 } },
  "d1-xsavec-only": { changes: { compacted: 0b0010 } },
  "mwait-users": { changes: { when: { monitor: "never" } } },
  "mwait-owned": { changes: { when: { monitor: "leaf" } } },
  "quirk-fixed": { changes: { lateQuirk: "ignored" } },
  "pv-kept": { changes: { pvUpdates: "never" } },
  "pv-each-update": {
    changes: { pvUpdates: "each-update" },
    equivalent: "it needs HLT exits that are disabled after a SET, which 6.14 and later refuse",
  },
  "pv-on-set": { changes: { pvUpdates: "set" }, on: OLD_KERNELS["6.12"] },
  "pv-previous": { changes: { pvBase: "previous" } },
  "pv-incoming": { changes: { pvBase: "incoming" }, on: OLD_KERNELS["6.1"] },
  "late-disable": { changes: { lateDisableExits: "accepted" } },
  "sgx-kept": { changes: { masksSgx: false }, on: OLD_KERNELS["6.1"] },
  "sgx-masked": { changes: { masksSgx: true } },
  "keeps-nent": { changes: { getReturns: "room" } },
  // CR4, XCR0 and MSRs.
  "cr4-before-cpuid": { changes: { freshCr4: "host" } },
  "cr4-osxsave-free": { changes: without("cr4Checks", "osxsave") },
  "cr4-pke-free": { changes: without("cr4Checks", "pke") },
  "cr4-stays": { changes: { refusedCr4: "changes" } },
  "cr4-shrinks": { changes: { shrinkingSet: "resets-cr4" } },
  "xcr0-shrinks": { changes: { shrinkingSet: "resets-xcr0" } },
  "sregs-partial": { changes: { sregsChecks: "changes" } },
  "apic-width": { changes: { apicBaseWidth: "unchecked" } },
  "same-apic-base": { changes: { sameApicBase: "checked" } },
  "same-apic-base-free": { changes: { sameApicBase: "accepted" }, on: OLD_KERNELS["6.12"] },
  "xcr0-any-table": { changes: without("xcr0Limits", "table") },
  "xcr0-any-host": { changes: without("xcr0Limits", "host") },
  "xcr0-needs-leaf": { changes: { xcr0WithoutLeaf: "nothing" } },
  "misc-unchecked": { changes: { mwaitNeedsSse3: "never" } },
  "misc-checked": { changes: { mwaitNeedsSse3: "always" } },
  "xss-unchecked": { changes: { xss: "any-table" } },
  "xss-change-only": { changes: { xssTrigger: "change" }, on: OLD_KERNELS["6.1"] },
};
