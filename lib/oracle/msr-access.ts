/** An access to an MSR, and the state that the rules of msrs.ts, feature-msrs.ts and pv-msrs.ts read. */
import type { CpuidTable } from "../cpuid/index.ts";

/**
 * An access to an MSR by KVM_GET_MSRS or KVM_SET_MSRS. An undefined member is unknown. A member may be a getter, which
 * gathers its value only if a rule reads it.
 */
export interface MsrAccess {
  readonly index: number;
  /** The value to write; undefined for a read. */
  readonly data?: bigint | undefined;
  /** The vCPU's CPUID table. */
  readonly table: CpuidTable | undefined;
  /** The result of KVM_GET_SUPPORTED_CPUID. */
  readonly supported: CpuidTable | undefined;
  /** The MSR's value before the access; `unreadable` if KVM refuses to read the MSR. */
  readonly current: bigint | "unreadable" | undefined;
  /** The value that KVM_GET_MSRS of /dev/kvm returns; `none` if KVM has no feature MSR with this index. */
  readonly featureValue: bigint | "none" | undefined;
  /** Whether the vCPU has entered the guest. */
  readonly hasEntered: boolean | undefined;
  /** Whether the vCPU's LAPIC is in the kernel. */
  readonly hasLapic: boolean | undefined;
  /** Returns whether a memory slot contains a guest physical address. */
  readonly hasMemoryAt: (this: void, gpa: bigint) => boolean | undefined;
}
