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
    claim: "hv-invtsc-hidden",
    on: "shows-invtsc",
    shows: "expected [ 256n, 255n, 256n ] to deeply equal",
    reason: TRAITS["shows-invtsc"].behaviour,
  },
  {
    claim: "hv-cpuid-msr-bitmap-vcpu",
    on: "hides-nested-leaf",
    shows: "expected undefined to be 1",
    reason: TRAITS["hides-nested-leaf"].behaviour,
  },
  {
    claim: "hv-cpuid-msr-bitmap-system",
    on: "hides-nested-leaf",
    shows: "expected undefined to be 1",
    reason: TRAITS["hides-nested-leaf"].behaviour,
  },
];
