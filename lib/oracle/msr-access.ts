/** An access to an MSR, and the state that the rules of msrs.ts, feature-msrs.ts and pv-msrs.ts read. */
import type { CpuidTable } from "../cpuid/index.ts";

/** An access to an MSR by KVM_GET_MSRS or KVM_SET_MSRS. Undefined parts are not known; a getter may delay a question. */
export interface MsrAccess {
  readonly index: number;
  /** The value to write; undefined for a read. */
  readonly data?: bigint | undefined;
  /** The vCPU's CPUID table. */
  readonly table: CpuidTable | undefined;
  /** The result of KVM_GET_SUPPORTED_CPUID. */
  readonly supported: CpuidTable | undefined;
  /** The MSR's value before the access; `unreadable` if KVM refuses to read it. */
  readonly current: bigint | "unreadable" | undefined;
  /** The value from KVM_GET_MSRS of /dev/kvm; `none` if KVM has no such feature MSR. */
  readonly featureValue: bigint | "none" | undefined;
  /** Whether the guest was entered. */
  readonly hasEntered: boolean | undefined;
  /** Whether the LAPIC is in the kernel. */
  readonly hasLapic: boolean | undefined;
  /** Whether a memory slot has the byte at a guest physical address. */
  readonly hasMemoryAt: (this: void, gpa: bigint) => boolean | undefined;
}
