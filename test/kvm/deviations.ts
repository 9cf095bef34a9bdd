/**
 * Where KVM breaks a claim of the suite for a known reason. A row is chosen by a trait of the KVM behind /dev/kvm,
 * never by a version number. It fails when the claim holds again.
 */
import type { ClaimDeviation } from "node-kvm/test";

const NO_PKU =
  "the CPU has no protection keys, so KVM does not derive OSPKE from CR4.PKE; " +
  "it stores and compares the bit as it was sent";

const NO_XSAVE =
  "the CPU has no XSAVE, so KVM does not derive OSXSAVE from CR4; " +
  "it stores and compares the bit as it was sent";

const OVERLAY =
  "kvm_pvm replaces bits of leafs 1, 7.0, 7.1 and D.1 by the host CPU's when a table is set, " +
  "because its guest's ring 3 runs natively and reads the host's CPUID";

/** All known deviations of the suite. */
export const deviations: readonly ClaimDeviation[] = [
  {
    claim: "resend-original",
    on: "kvm_pvm",
    shows: "KVM_SET_CPUID2 (vcpu 0): EINVAL",
    reason: `${OVERLAY}; the stored table then differs from the sent one, and sending that again fails`,
  },
  {
    claim: "rollback-caps-sregs",
    on: "kvm_pvm",
    shows: "expected KVM to refuse with EINVAL, but: it accepted",
    reason: `${OVERLAY}; a guest always has FSGSBASE, so CR4 may have its bit`,
  },
  {
    claim: "rollback-caps-guest",
    on: "kvm_pvm",
    shows: "expected { kind: 'sync', values: [ 255n ] } to deeply equal",
    reason: `${OVERLAY}; a guest always has FSGSBASE, so its MOV CR4 causes no #GP`,
  },
  {
    claim: "unowned-xsavec-size",
    on: "kvm_pvm",
    shows: "expected KVM to refuse with EINVAL, but: it accepted",
    reason: `${OVERLAY}; the table has XSAVEC even if it was sent without, so KVM sets the compacted size`,
  },
  {
    claim: "padding-free",
    on: "compares-incoming",
    shows: "expected [ +0, +0, +0 ] to deeply equal [ 1, 2, 3 ]",
    reason:
      "before Linux 6.14, KVM_SET_CPUID2 on a vCPU that has run compared the new array and freed it, " +
      "so the padding of the first array stays",
  },
  {
    claim: "xtile-eperm",
    on: "without-xsave2",
    shows: "expected KVM to refuse with EPERM, but: it accepted",
    reason:
      "before Linux 5.17, KVM had no XSAVE component that requires permission; it stores the bit of " +
      "AMX tile data like any unknown bit",
  },
  {
    claim: "vaddr-index",
    on: "without-xsave2",
    shows: "expected KVM to refuse with EINVAL, but: it accepted",
    reason:
      "before Linux 6.0, KVM compared the index even of leafs that have none, so it does not find " +
      "leaf 0x80000008 with index 7",
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
