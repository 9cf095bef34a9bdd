/**
 * The known deviations: kernels or vendor modules that break a claim of the suite for a known reason. A row applies if
 * the KVM behind /dev/kvm has a certain property; no row depends on a version number. The suite fails for a row whose
 * claim holds again.
 */
import { TRAITS } from "node-kvm/oracle";
import type { ClaimDeviation } from "node-kvm/test";

const NO_PKU = TRAITS["leaves-ospke"].behaviour;
const NO_XSAVE = TRAITS["leaves-osxsave"].behaviour;
const OVERLAY = TRAITS.kvm_pvm.behaviour;
const NO_MWAIT =
  "kvm_pvm stores MISC_ENABLE[18], but without the quirk the MWAIT bit of its tables is always 0 " +
  "(observed on Linux 6.18)";
const NO_MONITOR =
  "kvm_pvm cannot emulate MONITOR in ring 0: KVM_RUN returns KVM_EXIT_INTERNAL_ERROR (observed on Linux 6.18)";
const STALE_BASE = TRAITS["stale-base"].behaviour;

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
    shows: "expected KVM to refuse with EINVAL, but: it accepted",
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
    shows: "expected KVM to refuse with EINVAL, but: it accepted",
    reason: `${OVERLAY}; the stored table always has XSAVEC, so KVM sets the compacted size`,
  },
  {
    claim: "padding-free",
    on: "compares-incoming",
    shows: "expected [ +0, +0, +0 ] to deeply equal [ 1, 2, 3 ]",
    reason: TRAITS["compares-incoming"].behaviour,
  },
  {
    claim: "xtile-eperm",
    on: "without-xsave2",
    shows: "expected KVM to refuse with EPERM, but: it accepted",
    reason: TRAITS["without-xsave2"].behaviour,
  },
  {
    claim: "vaddr-index",
    on: "without-xsave2",
    shows: "expected KVM to refuse with EINVAL, but: it accepted",
    // Only kernels before 6.1 break this claim, and the only such kernel on which the suite runs is 5.10.
    reason:
      "until Linux 6.0 KVM compares the index of every leaf in a look-up, so it does not find leaf " +
      "0x80000008 with index 7",
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
    reason: TRAITS["leaves-get-count"].behaviour,
  },
  {
    claim: "rollback-first-caps",
    on: "cr4-before-cpuid",
    shows: "expected KVM to refuse with EINVAL, but: it accepted",
    reason: TRAITS["cr4-before-cpuid"].behaviour,
  },
  {
    claim: "rollback-eperm",
    on: "without-xsave2",
    shows: "expected KVM to refuse with EPERM, but: it accepted",
    reason: TRAITS["without-xsave2"].behaviour,
  },
  {
    claim: "sgx-attributes",
    on: "masks-sgx-attributes",
    shows: "0x12.1:ecx",
    reason: TRAITS["masks-sgx-attributes"].behaviour,
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
  ...LOST_UPDATES.map(
    ([claim, shows]): ClaimDeviation => ({
      claim,
      on: "lazy-updates-lost",
      shows,
      reason: TRAITS["lazy-updates-lost"].behaviour,
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
      reason: TRAITS["fixed-base"].behaviour,
    }),
  ),
  ...["pv-stale-leaf", "pv-stale-signature", "pv-stale-table"].map(
    (claim): ClaimDeviation => ({
      claim,
      on: "keeps-pv-features",
      shows: NO_GP,
      reason: TRAITS["keeps-pv-features"].behaviour,
    }),
  ),
  {
    claim: "disable-exits-late",
    on: "disables-exits-late",
    shows: ACCEPTED,
    reason: TRAITS["disables-exits-late"].behaviour,
  },
  ...["frozen-msr-arch-capabilities-changed", "frozen-msr-de-cfg-changed"].map(
    (claim): ClaimDeviation => ({
      claim,
      on: "writable-feature-msrs",
      shows: "expected 1 to be +0",
      reason: TRAITS["writable-feature-msrs"].behaviour,
    }),
  ),
  {
    claim: "frozen-msr-platform-info-changed",
    on: "writable-platform-info",
    shows: "expected 1 to be +0",
    reason: TRAITS["writable-platform-info"].behaviour,
  },
  {
    claim: "nested-change",
    on: "open-in-nested-guest",
    shows: ACCEPTED,
    reason: TRAITS["open-in-nested-guest"].behaviour,
  },
];
