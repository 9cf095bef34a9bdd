/** Changes of a vCPU's state that change its CPUID. */
import type { Vcpu } from "node-kvm";

/** CR4.OSXSAVE, which leaf 1's OSXSAVE follows. */
export const CR4_OSXSAVE: bigint = 1n << 18n;

/** Flips bits of CR4 from outside, with KVM_SET_SREGS. */
export function toggleCr4(vcpu: Vcpu, mask: bigint): void {
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cr4: sregs.cr4 ^ mask });
}
