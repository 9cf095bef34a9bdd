/**
 * The known deviations: kernels or vendor modules that break a claim of the suite for a known reason. A row applies if
 * the KVM behind /dev/kvm has a certain property; no row depends on a version number. The suite fails for a row whose
 * claim holds again.
 */
import { type Kvm, KvmError, vendorModule } from "node-kvm";
import { TRAITS } from "node-kvm/oracle";
import type { ClaimDeviation } from "node-kvm/test";

const NO_PKU = TRAITS["leaves-ospke"].behaviour;
const NO_XSAVE = TRAITS["leaves-osxsave"].behaviour;
const OVERLAY = TRAITS.kvm_pvm.behaviour;

const ACCEPTED = "expected KVM to refuse with EINVAL, but: it accepted";

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
    claim: "fresh-cr4",
    on: "cr4-before-cpuid",
    shows: ACCEPTED,
    reason: TRAITS["cr4-before-cpuid"].behaviour,
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
      reason: TRAITS["efer-before-cpuid"].behaviour,
    }),
  ),
  {
    claim: "efer-fresh",
    on: "efer-before-cpuid",
    shows: ACCEPTED,
    reason: TRAITS["efer-before-cpuid"].behaviour,
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
    reason: TRAITS["rewrites-xen-leaf"].behaviour,
  },
  {
    claim: "xen-resend",
    on: "rewrites-xen-leaf",
    shows: "KVM_SET_CPUID2 (vcpu 0): EINVAL",
    reason: TRAITS["rewrites-xen-leaf"].behaviour,
  },
  ...["hypervisor", "tsc-deadline"].map(
    (name): ClaimDeviation => ({
      claim: `supported-emulated-${name}`,
      on: "without-emulated-bits",
      shows: "expected +0 to be 1",
      reason: TRAITS["without-emulated-bits"].behaviour,
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
      reason: TRAITS["unchecked-wrmsr"].behaviour,
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
  ...["esp", "eip"].map(
    (name): ClaimDeviation => ({
      claim: `sysenter-${name}-amd`,
      on: "kvm_pvm",
      shows: "expected 20015998341120n to be 1450741760n",
      reason: "kvm_pvm keeps 64 bits of SYSENTER_ESP and SYSENTER_EIP for each vendor",
    }),
  ),
];
