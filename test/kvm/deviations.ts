/**
 * The known deviations: kernels or vendor modules that break a claim of the suite for a known reason. A row applies if
 * the KVM behind /dev/kvm has a certain property; no row depends on a version number. The suite fails for a row whose
 * claim holds again.
 */
import { type Kvm, KvmError, vendorModule } from "node-kvm";
import { TRAITS, type Trait } from "node-kvm/oracle";
import type { ClaimDeviation } from "node-kvm/test";

/** Returns the reason of a deviation: what a KVM with the trait does, which kernels have the trait, and what fixes it. */
function known(trait: Trait): string {
  const { behaviour, where, fix } = TRAITS[trait];
  return `${behaviour}; kernels: ${where}${fix === undefined ? "" : `; fixed by ${fix}`}`;
}

const NO_PKU = known("leaves-ospke");
const NO_XSAVE = known("leaves-osxsave");
const OVERLAY = TRAITS.kvm_pvm.behaviour;
const NO_MWAIT =
  "kvm_pvm stores MISC_ENABLE[18], but without the quirk the MWAIT bit of its tables is always 0 " +
  "(observed on Linux 6.18)";
const NO_MONITOR =
  "kvm_pvm cannot emulate MONITOR in ring 0: KVM_RUN returns KVM_EXIT_INTERNAL_ERROR (observed on Linux 6.18)";
const STALE_BASE = known("stale-base");

const REFUSED = "expected KVM to accept, but: KVM_SET_CPUID2 (vcpu 0): EINVAL";
const ACCEPTED = "expected KVM to refuse with EINVAL, but: it accepted";
const NO_GP = "values: [ 255n ] } to deeply equal { kind: 'sync', values: [ 13n ] }";

/** The claims that fail because KVM loses a pending update, and their messages. */
const LOST_UPDATES: readonly (readonly [claim: string, shows: string])[] = [
  ["silent-osxsave-free", REFUSED],
  ["owned-mwait-silent", REFUSED],
  ["owned-xsavec-size-silent", REFUSED],
  ["unowned-xsavec-size-silent", REFUSED],
  ["silent-cr4", REFUSED],
  ["silent-cr4-guest", REFUSED],
  ["silent-xcr0", REFUSED],
  ["silent-xcr0-guest", REFUSED],
  ["silent-xsavec", REFUSED],
  ["silent-apic-sregs", REFUSED],
  ["silent-apic-msr", REFUSED],
  ["silent-apic-guest", REFUSED],
  ["silent-mwait", REFUSED],
  ["silent-cr4-pke", REFUSED],
  ["irqchip-silent-cr4", REFUSED],
  ["irqchip-silent-apic", REFUSED],
  ["pending-not-dropped", "expected +0 to be 1"],
  ["pending-seen-by-guest", "expected 0n to be 1n"],
];

/** The claims that fail because KVM searches its leaves in the previous table, and their messages. */
const STALE_BASES: readonly (readonly [claim: string, shows: string])[] = [
  ["unhalt-resend-sent", REFUSED],
  ["unhalt-resend-get", REFUSED],
  ["unhalt-first-set", "expected 1 to be +0"],
  ["unhalt-bad-to-good", "expected 1 to be +0"],
  ["unhalt-good-to-bad", "expected +0 to be 1"],
  ["base-100", "expected [ 1, 1 ] to deeply equal [ 1, +0 ]"],
  ["base-move", "expected 1 to be +0"],
  ["pv-unhalt-consumed", "expected { kind: 'sync', values: [ 0n ] } to deeply equal"],
];

/** The claims that fail because KVM does not search its leaves, and their messages. */
const FIXED_BASES: readonly (readonly [claim: string, shows: string])[] = [
  ["unhalt-bad-signature", "expected +0 to be 1"],
  ["unhalt-good-to-bad", "expected +0 to be 1"],
  ["base-100", "expected [ +0, 1 ] to deeply equal [ 1, +0 ]"],
  ["base-move", "expected 1 to be +0"],
  ["base-edge-last", "expected 1 to be +0"],
  ["base-lowest", "expected [ 1, 1 ] to deeply equal [ +0, 1 ]"],
];

/** The claims that fail because KVM_RUN does not freeze the table. */
const NEVER_FROZEN: readonly string[] = [
  ...["resend-changed", "recover", "v1-after-v2", "v1-change", "empty-run", "per-vcpu-ran"],
  ...["change-feature", "change-maxphyaddr", "change-count-fewer", "change-count-more"],
  ...["change-count-none", "change-order", "change-flags", "change-flags-deprecated"],
  ...["change-index", "change-apicid", "change-max-xsave", "unowned-mwait", "unowned-xsavec-size"],
  ...["real-exit-io", "real-exit-hlt", "real-exit-mmio", "real-exit-error", "fail-entry"],
  ...["no-way-back", "irqchip-change", "pv-frozen", "frozen-caps-nx", "frozen-caps-fsgsbase"],
  ...["frozen-xtile", "pending-not-dropped", "pending-seen-by-guest", "unowned-mwait-silent"],
  "unowned-xsavec-size-silent",
];

/** The claims that hold on newer kernels than 5.10, with their messages. */
const OLD_KERNELS: readonly (readonly [trait: Trait, shows: string, ...claims: string[]])[] = [
  ["compares-every-index", ACCEPTED, "vaddr-index"],
  ["compares-every-index", "expected +0 to be 512", "index-of-leaf-1"],
  ["accepts-any-cr0", ACCEPTED, "cr0-high-bits", "cr0-nw-needs-cd", "cr0-pg-needs-pe"],
  ["sets-bsp-flag", "expected 2304n to be 2048n", "apic-base-enabled"],
  ["clears-misc-enable", "values: [ 0n, 6145n ]", "msr-value-misc-enable"],
  ["clears-misc-enable", "expected 255n to be 13n", "msr-reserved-misc-enable"],
  ["hides-base-msrs", "expected undefined to be", "msr-value-fs-base", "msr-value-gs-base"],
  ["keeps-wide-tsc-aux", "expected { kind: 'sync', …(1) } to deeply equal", "tsc-aux-amd"],
  ["keeps-wide-sysenter", "to be 1450741760n", "sysenter-esp-amd", "sysenter-eip-amd"],
];

/** The CR4 bits that kvm_pvm may accept although a table lacks their features. */
const CR4_OF_PVM: Readonly<Record<string, bigint>> = {
  umip: 1n << 11n,
  fsgsbase: 1n << 16n,
  xsave: 1n << 18n,
  smep: 1n << 20n,
  smap: 1n << 21n,
  pku: 1n << 22n,
};

/** Returns whether kvm_pvm accepts a CR4 bit on a vCPU without a table. */
function pvmTakesCr4(kvm: Kvm, bit: bigint): boolean {
  if (vendorModule() !== "kvm_pvm") return false;
  using vm = kvm.createVm();
  using vcpu = vm.createVcpu(0);
  const sregs = vcpu.getSregs();
  try {
    vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | bit });
    return true;
  } catch (error) {
    if (error instanceof KvmError) return false;
    throw error;
  }
}

/** All known deviations of the suite. */
export const deviations: readonly ClaimDeviation[] = [
  {
    claim: "resend-original",
    on: "kvm_pvm",
    shows: "KVM_SET_CPUID2 (vcpu 0): EINVAL",
    reason: `${OVERLAY}; the stored table then differs from the sent one, so KVM refuses the sent one again`,
  },
  {
    claim: "rollback-caps-sregs",
    on: "kvm_pvm",
    shows: ACCEPTED,
    reason: `${OVERLAY}; FSGSBASE cannot be removed from a guest, so CR4 may have it`,
  },
  {
    claim: "rollback-caps-guest",
    on: "kvm_pvm",
    shows: "expected { kind: 'sync', values: [ 255n ] } to deeply equal",
    reason: `${OVERLAY}; FSGSBASE cannot be removed from a guest, so its MOV CR4 does not raise #GP`,
  },
  {
    claim: "unowned-xsavec-size",
    on: "kvm_pvm",
    shows: ACCEPTED,
    reason: `${OVERLAY}; the stored table always has XSAVEC, so KVM sets the compacted size`,
  },
  {
    claim: "padding-free",
    on: "compares-incoming",
    shows: "expected [ +0, +0, +0 ] to deeply equal [ 1, 2, 3 ]",
    reason: known("compares-incoming"),
  },
  {
    claim: "xtile-eperm",
    on: "without-xsave2",
    shows: "expected KVM to refuse with EPERM, but: it accepted",
    reason: known("without-xsave2"),
  },
  {
    claim: "owned-bits-good",
    on: "leaves-osxsave",
    shows: "0x1.0:ecx[27] osxsave",
    reason: NO_XSAVE,
  },
  {
    claim: "ignore-osxsave",
    on: "leaves-osxsave",
    shows: "0x1.0:ecx[27] osxsave",
    reason: NO_XSAVE,
  },
  {
    claim: "owned-bits-good",
    on: "leaves-ospke",
    shows: "0x7.0:ecx[4] ospke",
    reason: NO_PKU,
  },
  {
    claim: "ignore-ospke",
    on: "leaves-ospke",
    shows: "0x7.0:ecx[4] ospke",
    reason: NO_PKU,
  },
  {
    claim: "get-count",
    on: "leaves-get-count",
    shows: "to be 3",
    reason: known("leaves-get-count"),
  },
  {
    claim: "rollback-first-caps",
    on: "cr4-before-cpuid",
    shows: ACCEPTED,
    reason: known("cr4-before-cpuid"),
  },
  {
    claim: "rollback-eperm",
    on: "without-xsave2",
    shows: "expected KVM to refuse with EPERM, but: it accepted",
    reason: known("without-xsave2"),
  },
  {
    claim: "sgx-attributes",
    on: "masks-sgx-attributes",
    shows: "0x12.1:ecx",
    reason: known("masks-sgx-attributes"),
  },
  {
    claim: "xsave-size-max",
    on: "kvm_pvm",
    shows: "but:\n0xd.0:ecx[31:0] xsave_sz_max: expected 0x777",
    reason: OVERLAY,
  },
  {
    claim: "xsavec-size-absent",
    on: "kvm_pvm",
    shows: "expected 576 to be 1911",
    reason: `${OVERLAY}; the stored table always has XSAVEC, so KVM sets the compacted size`,
  },
  {
    claim: "flagged-index-d",
    on: "kvm_pvm",
    shows: "but:\n0xd.40:eax[31:0] xsave_sz: expected 0x2, got 0x0",
    reason: `${OVERLAY}; the CPU has no component 40`,
  },
  {
    claim: "mwait-quirk-off",
    on: "kvm_pvm",
    shows: "expected [ +0, +0, +0 ] to deeply equal [ 1, +0, 1 ]",
    reason: NO_MWAIT,
  },
  {
    claim: "mwait-quirk-off-set",
    on: "kvm_pvm",
    shows: "expected [ +0, +0, +0, +0 ] to deeply equal [ +0, +0, 1, 1 ]",
    reason: NO_MWAIT,
  },
  {
    claim: "mwait-guest-wrmsr",
    on: "kvm_pvm",
    shows: "expected [ 0n, 0n ] to deeply equal [ 1n, 0n ]",
    reason: NO_MWAIT,
  },
  {
    claim: "mwait-needs-sse3",
    on: "kvm_pvm",
    shows: "expected 1 to be +0",
    reason: `${OVERLAY}; SSE3 cannot be removed from a guest`,
  },
  {
    claim: "mwait-ud",
    on: "kvm_pvm",
    shows: "internal_error",
    reason: NO_MONITOR,
  },
  {
    claim: "mwait-executes",
    on: "kvm_pvm",
    shows: "internal_error",
    reason: NO_MONITOR,
  },
  {
    claim: "mwait-never-ud",
    on: "kvm_pvm",
    shows: "internal_error",
    reason: NO_MONITOR,
  },
  {
    claim: "osxsave-without-xsave",
    on: "leaves-osxsave",
    shows: "expected 1n to be 0n",
    reason: NO_XSAVE,
  },
  {
    claim: "ospke-without-pku",
    on: "leaves-ospke",
    shows: "expected 1n to be 0n",
    reason: NO_PKU,
  },
  {
    claim: "unowned-xsavec-size-silent",
    on: "kvm_pvm",
    shows: ACCEPTED,
    reason: `${OVERLAY}; the stored table always has XSAVEC, so KVM sets the compacted size`,
  },
  {
    claim: "frozen-caps-fsgsbase",
    on: "kvm_pvm",
    shows: NO_GP,
    reason: `${OVERLAY}; FSGSBASE cannot be removed from a guest, so its MOV CR4 does not raise #GP`,
  },
  ...NEVER_FROZEN.map(
    (claim): ClaimDeviation => ({
      claim,
      on: "never-frozen",
      shows: ACCEPTED,
      reason: known("never-frozen"),
    }),
  ),
  ...OLD_KERNELS.flatMap(([on, shows, ...claims]) =>
    claims.map((claim): ClaimDeviation => ({ claim, on, shows, reason: known(on) })),
  ),
  {
    claim: "xen-time-leaf",
    on: "fills-xen-leaf",
    shows: "expected [ 4369n, 8738n, ",
    reason: known("fills-xen-leaf"),
  },
  ...LOST_UPDATES.map(
    ([claim, shows]): ClaimDeviation => ({
      claim,
      on: "lazy-updates-lost",
      shows,
      reason: known("lazy-updates-lost"),
    }),
  ),
  ...STALE_BASES.map(
    ([claim, shows]): ClaimDeviation => ({ claim, on: "stale-base", shows, reason: STALE_BASE }),
  ),
  ...FIXED_BASES.map(
    ([claim, shows]): ClaimDeviation => ({
      claim,
      on: "fixed-base",
      shows,
      reason: known("fixed-base"),
    }),
  ),
  ...["pv-stale-leaf", "pv-stale-signature", "pv-stale-table"].map(
    (claim): ClaimDeviation => ({
      claim,
      on: "keeps-pv-features",
      shows: NO_GP,
      reason: known("keeps-pv-features"),
    }),
  ),
  {
    claim: "disable-exits-late",
    on: "disables-exits-late",
    shows: ACCEPTED,
    reason: known("disables-exits-late"),
  },
  ...["frozen-msr-arch-capabilities-changed", "frozen-msr-de-cfg-changed"].map(
    (claim): ClaimDeviation => ({
      claim,
      on: "writable-feature-msrs",
      shows: "expected 1 to be +0",
      reason: known("writable-feature-msrs"),
    }),
  ),
  {
    claim: "frozen-msr-platform-info-changed",
    on: "writable-platform-info",
    shows: "expected 1 to be +0",
    reason: known("writable-platform-info"),
  },
  {
    claim: "nested-change",
    on: "open-in-nested-guest",
    shows: ACCEPTED,
    reason: known("open-in-nested-guest"),
  },
  {
    claim: "fresh-cr4",
    on: "cr4-before-cpuid",
    shows: ACCEPTED,
    reason: known("cr4-before-cpuid"),
  },
  ...Object.entries(CR4_OF_PVM).map(
    ([name, bit]): ClaimDeviation => ({
      claim: `cr4-needs-${name}`,
      on: (kvm) => pvmTakesCr4(kvm, bit),
      shows: ACCEPTED,
      reason:
        "kvm_pvm accepts the CR4 bits that the host's CPU has, independent of the vCPU's table",
    }),
  ),
  {
    claim: "cr4-kept-refused",
    on: "kvm_pvm",
    shows: ACCEPTED,
    reason: `${OVERLAY}; FSGSBASE cannot be removed from a guest`,
  },
  ...["lme", "nx", "svme", "ffxsr", "autoibrs"].map(
    (name): ClaimDeviation => ({
      claim: `efer-${name}-needs-feature`,
      on: "efer-before-cpuid",
      shows: ACCEPTED,
      reason: known("efer-before-cpuid"),
    }),
  ),
  {
    claim: "efer-fresh",
    on: "efer-before-cpuid",
    shows: ACCEPTED,
    reason: known("efer-before-cpuid"),
  },
  ...["xcr0-beyond-table", "xcr0-needs-leaf"].map(
    (claim): ClaimDeviation => ({
      claim,
      on: "kvm_pvm",
      shows: ACCEPTED,
      reason:
        "kvm_pvm allows the XCR0 of the host's CPU, independent of leaf 0xD of the vCPU's table",
    }),
  ),
  {
    claim: "xen-table",
    on: "rewrites-xen-leaf",
    shows: "expected the tables to be equal",
    reason: known("rewrites-xen-leaf"),
  },
  {
    claim: "xen-resend",
    on: "rewrites-xen-leaf",
    shows: "KVM_SET_CPUID2 (vcpu 0): EINVAL",
    reason: known("rewrites-xen-leaf"),
  },
  ...["hypervisor", "tsc-deadline"].map(
    (name): ClaimDeviation => ({
      claim: `supported-emulated-${name}`,
      on: "without-emulated-bits",
      shows: "expected +0 to be 1",
      reason: known("without-emulated-bits"),
    }),
  ),
  {
    claim: "supported-stored",
    on: "kvm_pvm",
    shows: "but:\n0x1.0:ecx[",
    reason: OVERLAY,
  },
  ...["fs-base", "gs-base", "kernel-gs-base", "lstar", "cstar"].map(
    (name): ClaimDeviation => ({
      claim: `msr-reserved-${name}`,
      on: "unchecked-wrmsr",
      shows: "expected 255n to be 13n",
      reason: known("unchecked-wrmsr"),
    }),
  ),
  {
    claim: "feature-msrs-reset",
    on: "kvm_pvm",
    shows: "expected [ [ 266, 0n ],",
    reason: "kvm_pvm does not set the feature MSRs of a new vCPU; they are 0",
  },
  {
    claim: "feature-msr-ucode-rev",
    on: "kvm_pvm",
    shows: "expected [ [ 139, 0n ] ] to deeply equal",
    reason: "kvm_pvm does not set the feature MSRs of a new vCPU; they are 0",
  },
  {
    claim: "feature-msrs-written",
    on: "kvm_pvm",
    shows: "…(2) ] to deeply equal [ [ 139, 16777317n ], …(3) ]",
    reason: `${OVERLAY}; the stored table does not have ARCH_CAPABILITIES, so KVM refuses a value of this MSR`,
  },
  {
    claim: "msr-value-misc-enable",
    on: "kvm_pvm",
    shows: "values: [ 1n, 6145n ]",
    reason: "the value of MISC_ENABLE in a new vCPU of kvm_pvm is 1: FAST_STRING alone",
  },
  {
    claim: "msr-reserved-misc-enable",
    on: "kvm_pvm",
    shows: "expected 255n to be 13n",
    reason:
      "the value of MISC_ENABLE in a new vCPU of kvm_pvm is 1, so the guest does not change it",
  },
  {
    claim: "hv-invtsc-hidden",
    on: "shows-invtsc",
    shows: "expected [ 256n, 255n, 256n ] to deeply equal",
    reason: known("shows-invtsc"),
  },
  {
    claim: "hv-cpuid-msr-bitmap-vcpu",
    on: "hides-nested-leaf",
    shows: "expected undefined to be 1",
    reason: known("hides-nested-leaf"),
  },
  {
    claim: "hv-cpuid-msr-bitmap-system",
    on: "hides-nested-leaf",
    shows: "expected undefined to be 1",
    reason: known("hides-nested-leaf"),
  },
];
