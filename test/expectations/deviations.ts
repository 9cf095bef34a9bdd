/**
 * The claims that some KVMs are known to break, and why. A row applies if KVM has its trait (traits.ts), whatever the
 * version; it fails when the claim holds again.
 */
import { TRAITS, type Trait } from "node-kvm/oracle";

/** One claim that does not hold on a KVM with a trait. */
export interface Deviation {
  /** The claim's short name. */
  readonly claim: string;
  /** The trait of the KVMs that break the claim. */
  readonly on: Trait;
  /** A part of the expected failure, so that another failure does not match the row. */
  readonly shows: string;
  /** The cause. */
  readonly reason: string;
}

const NO_PKU = TRAITS["leaves-ospke"].behaviour;
const NO_XSAVE = TRAITS["leaves-osxsave"].behaviour;
const OVERLAY = TRAITS.kvm_pvm.behaviour;

/** Every known deviation. */
export const deviations: readonly Deviation[] = [
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
    // The kernels that break this claim are older than 6.1, and of these the suite runs on 5.10 only.
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
];
