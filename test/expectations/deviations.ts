/**
 * Where KVM is known not to keep a claim, and why. A row is chosen by what stands behind /dev/kvm
 * (traits.ts), never by version numbers; it turns red when the claim holds again.
 */
import type { Trait } from "./traits.ts";

/** One claim that does not hold where KVM has a trait. */
export interface Deviation {
  /** The claim's short name. */
  readonly claim: string;
  /** Which KVM does so. */
  readonly on: Trait;
  /** What the failure must say, so that another failure is not taken for this one. */
  readonly shows: string;
  /** Why it is so. */
  readonly reason: string;
}

const NO_PKU =
  "the CPU has no protection keys, and only where it has KVM works OSPKE out from CR4.PKE; " +
  "here the bit is stored, and compared, as it was sent";

const NO_XSAVE =
  "the CPU has no XSAVE, and only where it has KVM works OSXSAVE out from CR4; " +
  "here the bit is stored, and compared, as it was sent";

const OVERLAY =
  "kvm_pvm lays the host CPU's own bits over leafs 1, 7.0, 7.1 and D.1 when a table is set, " +
  "because its guest's ring 3 runs natively and sees the host's CPUID";

/** Every known deviation. */
export const deviations: readonly Deviation[] = [
  {
    claim: "resend-original",
    on: "kvm_pvm",
    shows: "KVM_SET_CPUID2 (vcpu 0): EINVAL",
    reason: `${OVERLAY}; what was sent is then not what is stored, and sending it again is refused`,
  },
  {
    claim: "rollback-caps-sregs",
    on: "kvm_pvm",
    shows: "expected KVM to refuse with EINVAL, but: it accepted",
    reason: `${OVERLAY}; FSGSBASE cannot be taken from a guest, so CR4 may have it`,
  },
  {
    claim: "rollback-caps-guest",
    on: "kvm_pvm",
    shows: "expected { kind: 'sync', values: [ 255n ] } to deeply equal",
    reason: `${OVERLAY}; FSGSBASE cannot be taken from a guest, so its MOV CR4 is no #GP`,
  },
  {
    claim: "unowned-xsavec-size",
    on: "kvm_pvm",
    shows: "expected KVM to refuse with EINVAL, but: it accepted",
    reason: `${OVERLAY}; the table has XSAVEC whatever was sent, so the compacted size is KVM's`,
  },
  {
    claim: "padding-free",
    on: "compares-incoming",
    shows: "expected [ +0, +0, +0 ] to deeply equal [ 1, 2, 3 ]",
    reason:
      "until Linux 6.14 KVM_SET_CPUID2 on a vCPU that has run compared the new array and threw it " +
      "away, so the padding stays as it was first sent",
  },
  {
    claim: "xtile-eperm",
    on: "without-xsave2",
    shows: "expected KVM to refuse with EPERM, but: it accepted",
    reason:
      "before Linux 5.17 KVM knew no XSAVE component that needs permission; it stores the bit of " +
      "AMX tile data as any other that it does not know",
  },
  {
    claim: "vaddr-index",
    on: "without-xsave2",
    shows: "expected KVM to refuse with EINVAL, but: it accepted",
    reason:
      "until Linux 6.0 KVM looked leafs up by their index even where CPUID has none, so it does " +
      "not find leaf 0x80000008 under index 7",
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
