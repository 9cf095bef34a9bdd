/** The exits of a vCPU as values, distinguished by `kind`. Decoding them from kvm_run is exit-decoder.ts. */
import type {
  IoInExit,
  IoOutExit,
  MmioReadExit,
  MmioWriteExit,
  RdmsrExit,
  WrmsrExit,
} from "./exit-access.ts";
import type {
  HypercallExit,
  HypervHcallExit,
  HypervSyndbgExit,
  HypervSynicExit,
  SnpReqCertsExit,
  TdxGetQuoteExit,
  TdxGetTdvmcallInfoExit,
  TdxSetupEventNotifyExit,
  TdxUnknownExit,
  XenExit,
} from "./exit-hypercall.ts";

export type * from "./exit-access.ts";
export type * from "./exit-hypercall.ts";

/** An exit without further data. */
export interface BareExit {
  /**
   * - `hlt`: the guest halted, without an in-kernel APIC.
   * - `shutdown`: a triple fault.
   * - `intr`: a signal or `immediate_exit`; the guest may not have run.
   * - `irq_window_open`: an interrupt can be injected, after `request_interrupt_window` was set.
   * - `nmi`: in the headers, but no x86 code of Linux 7.2 returns it.
   * - `dirty_ring_full`: harvest the dirty ring, then run again.
   * - `ap_reset_hold`: an SEV-ES guest's CPU waits for its start, without an in-kernel APIC.
   * - `x86_bus_lock`: the guest locked the bus (KVM_CAP_X86_BUS_LOCK_EXIT).
   */
  readonly kind:
    | "hlt"
    | "shutdown"
    | "intr"
    | "irq_window_open"
    | "nmi"
    | "dirty_ring_full"
    | "ap_reset_hold"
    | "x86_bus_lock";
}

/**
 * The hardware exited for a reason that KVM does not know: `KVM_EXIT_UNKNOWN`, which is 0. Its kind is the name of its
 * member of `kvm_run`, because `unknown` is an exit that _this package_ does not know.
 */
export interface HwExit {
  readonly kind: "hw";
  /** The hardware's exit reason. KVM_EXIT_UNKNOWN without one leaves the previous exit's bytes here. */
  readonly hardwareExitReason: bigint;
}

/** The CPU failed to enter the guest: `KVM_EXIT_FAIL_ENTRY`. */
export interface FailEntryExit {
  readonly kind: "fail_entry";
  /** Intel: the VM-instruction error or exit reason; AMD: the VMCB exit code. */
  readonly hardwareEntryFailureReason: bigint;
  /** The host CPU on which the entry failed. */
  readonly cpu: number;
}

/** The instruction that KVM could not emulate: `kvm_run.emulation_failure`. */
export interface EmulationFailure {
  /** The valid fields: `KVM_INTERNAL_ERROR_EMULATION_FLAG_*`. */
  readonly flags: bigint;
  /** The bytes that KVM had fetched, 1 to 15, starting with the instruction; `undefined` without the flag. */
  readonly insnBytes: Uint8Array | undefined;
}

/** KVM could not continue the guest: `KVM_EXIT_INTERNAL_ERROR`. */
export interface InternalErrorExit {
  readonly kind: "internal_error";
  /** A `KVM_INTERNAL_ERROR_*`; KVM_INTERNAL_ERROR_EMULATION (1) comes with `emulationFailure`. */
  readonly suberror: number;
  /** KVM's further data, `ndata` of at most 16 words. */
  readonly data: readonly bigint[];
  /** `undefined` for every other suberror, and if the kernel does not provide it. */
  readonly emulationFailure: EmulationFailure | undefined;
}

/** An exception that KVM does not handle: `KVM_EXIT_EXCEPTION`. */
export interface ExceptionExit {
  readonly kind: "exception";
  readonly exception: number;
  readonly errorCode: number;
}

/** A breakpoint or single step of KVM_SET_GUEST_DEBUG: `KVM_EXIT_DEBUG`. */
export interface DebugExit {
  readonly kind: "debug";
  readonly exception: number;
  readonly pc: bigint;
  readonly dr6: bigint;
  readonly dr7: bigint;
}

/** The guest lowered its task priority, without an in-kernel APIC: `KVM_EXIT_SET_TPR`. */
export interface SetTprExit {
  readonly kind: "set_tpr";
  /** The new priority, `kvm_run.cr8`. */
  readonly cr8: bigint;
}

/** The guest accessed the task priority, with KVM_TPR_ACCESS_REPORTING enabled: `KVM_EXIT_TPR_ACCESS`. */
export interface TprAccessExit {
  readonly kind: "tpr_access";
  /** The address of the instruction. */
  readonly rip: bigint;
  readonly isWrite: boolean;
}

/** The guest requests a reset or a shutdown, or has crashed: `KVM_EXIT_SYSTEM_EVENT`. */
export interface SystemEventExit {
  readonly kind: "system_event";
  /** A `KVM_SYSTEM_EVENT_*`. */
  readonly type: number;
  /** KVM's further data, `ndata` of at most 16 words; undefined without KVM_CAP_SYSTEM_EVENT_DATA. */
  readonly data: readonly bigint[];
}

/** The guest acknowledged a level interrupt of a split irqchip: `KVM_EXIT_IOAPIC_EOI`. */
export interface IoapicEoiExit {
  readonly kind: "ioapic_eoi";
  readonly vector: number;
}

/** The guest had no event window for too long (KVM_CAP_X86_NOTIFY_VMEXIT): `KVM_EXIT_NOTIFY`. */
export interface NotifyExit {
  readonly kind: "notify";
  /** `KVM_NOTIFY_CONTEXT_INVALID`: the guest cannot be run again. */
  readonly flags: number;
}

/** A guest memory access that KVM could not resolve: `KVM_EXIT_MEMORY_FAULT`. */
export interface MemoryFaultExit {
  readonly kind: "memory_fault";
  /** `KVM_MEMORY_EXIT_FLAG_PRIVATE`. */
  readonly flags: bigint;
  readonly gpa: bigint;
  readonly size: bigint;
}

/**
 * An exit that this package does not know: one of a later kernel, of another architecture, or an impossible one (an I/O
 * of 3 bytes).
 */
export interface UnknownExit {
  readonly kind: "unknown";
  /** `kvm_run.exit_reason`. */
  readonly reason: number;
  /** The exit's union in `kvm_run`, 256 bytes. */
  readonly bytes: Uint8Array;
}

/**
 * The exit of a vCPU. `kind` is the name after `KVM_EXIT_`, in lower case, except for KVM_EXIT_UNKNOWN ({@link
 * HwExit}). If a kind has several forms, `direction`, `isWrite` or `type` distinguishes them.
 *
 * An exit with a `reply` waits for an answer until the vCPU runs again. It can be answered once; each `reply` documents
 * the result for the guest without an answer.
 */
export type Exit =
  | IoOutExit
  | IoInExit
  | MmioWriteExit
  | MmioReadExit
  | RdmsrExit
  | WrmsrExit
  | BareExit
  | HwExit
  | FailEntryExit
  | InternalErrorExit
  | ExceptionExit
  | DebugExit
  | SetTprExit
  | TprAccessExit
  | SystemEventExit
  | IoapicEoiExit
  | NotifyExit
  | MemoryFaultExit
  | HypercallExit
  | HypervSynicExit
  | HypervHcallExit
  | HypervSyndbgExit
  | XenExit
  | TdxGetQuoteExit
  | TdxGetTdvmcallInfoExit
  | TdxSetupEventNotifyExit
  | TdxUnknownExit
  | SnpReqCertsExit
  | UnknownExit;
