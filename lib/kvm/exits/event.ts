/** Exits that report an event or an error, and to which user space does not reply. */
import {
  KVM_INTERNAL_ERROR_EMULATION,
  KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES,
} from "../../abi/generated/constants.ts";
import {
  Run,
  RunDebug,
  RunEmulationFailure,
  RunEoi,
  RunEx,
  RunFailEntry,
  RunHw,
  RunInternal,
  RunMemoryFault,
  RunNotify,
  RunSystemEvent,
  RunTprAccess,
} from "../../abi/generated/structs.ts";
import { offsetOf } from "../../abi/struct.ts";
import type { ExitSource } from "./source.ts";

/** An exit that has only a kind. */
export interface BareExit {
  /**
   * - `hlt`: the guest executed HLT, and the VM has no in-kernel APIC.
   * - `shutdown`: a triple fault.
   * - `intr`: a signal or `immediate_exit` interrupted KVM_RUN; the guest may not have run.
   * - `irq_window_open`: an interrupt can be injected; this exit occurs only if `request_interrupt_window` was set.
   * - `nmi`: the headers define this exit, but the x86 code of Linux 7.2 does not return it.
   * - `dirty_ring_full`: the dirty ring is full; read its entries with `harvest()`, then run the vCPU again.
   * - `ap_reset_hold`: a CPU of an SEV-ES guest without an in-kernel APIC waits for its start.
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
 * The hardware reported an exit reason that KVM does not know: `KVM_EXIT_UNKNOWN`, whose value is 0. The kind is the
 * name of the member of `kvm_run`, because the kind `unknown` means an exit that _this package_ does not know.
 */
export interface HwExit {
  readonly kind: "hw";
  /** The hardware's exit reason. If KVM sets no reason, this field has the bytes of the previous exit. */
  readonly hardwareExitReason: bigint;
}

/** The CPU failed to enter the guest: `KVM_EXIT_FAIL_ENTRY`. */
export interface FailEntryExit {
  readonly kind: "fail_entry";
  /** The reason: on Intel, the VM-instruction error or the exit reason; on AMD, the VMCB exit code. */
  readonly hardwareEntryFailureReason: bigint;
  /** The host CPU on which the entry failed. */
  readonly cpu: number;
}

/** The instruction that KVM could not emulate: `kvm_run.emulation_failure`. */
export interface EmulationFailure {
  /** The flags `KVM_INTERNAL_ERROR_EMULATION_FLAG_*` of the valid fields. */
  readonly flags: bigint;
  /**
   * The 1 to 15 bytes that KVM had fetched, starting with the instruction; `undefined` if the flag for these bytes is
   * not set.
   */
  readonly insnBytes: Uint8Array | undefined;
}

/** KVM could not continue the guest: `KVM_EXIT_INTERNAL_ERROR`. */
export interface InternalErrorExit {
  readonly kind: "internal_error";
  /** The suberror, a `KVM_INTERNAL_ERROR_*`; KVM_INTERNAL_ERROR_EMULATION (1) comes with `emulationFailure`. */
  readonly suberror: number;
  /** KVM's additional data: `ndata` words, at most 16. */
  readonly data: readonly bigint[];
  /**
   * Details of an emulation failure; `undefined` for every other suberror, and if the kernel does not provide the
   * details.
   */
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

/** The guest of a VM without an in-kernel APIC lowered its task priority: `KVM_EXIT_SET_TPR`. */
export interface SetTprExit {
  readonly kind: "set_tpr";
  /** The new task priority, from `kvm_run.cr8`. */
  readonly cr8: bigint;
}

/** The guest accessed the task priority while KVM_TPR_ACCESS_REPORTING was enabled: `KVM_EXIT_TPR_ACCESS`. */
export interface TprAccessExit {
  readonly kind: "tpr_access";
  /** The address of the instruction that accessed the task priority. */
  readonly rip: bigint;
  readonly isWrite: boolean;
}

/** The guest requests a reset or a shutdown, or has crashed: `KVM_EXIT_SYSTEM_EVENT`. */
export interface SystemEventExit {
  readonly kind: "system_event";
  /** A `KVM_SYSTEM_EVENT_*`. */
  readonly type: number;
  /** KVM's additional data: `ndata` words, at most 16; undefined without KVM_CAP_SYSTEM_EVENT_DATA. */
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
  /** The flags; with `KVM_NOTIFY_CONTEXT_INVALID`, the guest cannot run again. */
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

const CR8 = offsetOf(Run, "cr8");
const MOST_WORDS = 16;
const MOST_INSN_BYTES = 15;

/** Returns the decoder of an exit without further data. */
export function bare<K extends BareExit["kind"]>(kind: K): () => BareExit & { readonly kind: K } {
  return () => ({ kind });
}

/** Decodes `KVM_EXIT_UNKNOWN`. */
export function decodeHw(source: ExitSource): HwExit {
  return { kind: "hw", ...source.read(RunHw) };
}

/** Decodes `KVM_EXIT_EXCEPTION`. */
export function decodeException(source: ExitSource): ExceptionExit {
  return { kind: "exception", ...source.read(RunEx) };
}

/** Decodes `KVM_EXIT_FAIL_ENTRY`. */
export function decodeFailEntry(source: ExitSource): FailEntryExit {
  return { kind: "fail_entry", ...source.read(RunFailEntry) };
}

/** Decodes `KVM_EXIT_IOAPIC_EOI`. */
export function decodeIoapicEoi(source: ExitSource): IoapicEoiExit {
  return { kind: "ioapic_eoi", ...source.read(RunEoi) };
}

/** Decodes `KVM_EXIT_NOTIFY`. */
export function decodeNotify(source: ExitSource): NotifyExit {
  return { kind: "notify", ...source.read(RunNotify) };
}

/** Decodes `KVM_EXIT_MEMORY_FAULT`. */
export function decodeMemoryFault(source: ExitSource): MemoryFaultExit {
  return { kind: "memory_fault", ...source.read(RunMemoryFault) };
}

/** Decodes `KVM_EXIT_SET_TPR`. */
export function decodeSetTpr(source: ExitSource): SetTprExit {
  return { kind: "set_tpr", cr8: source.view.getBigUint64(CR8, true) };
}

/** Decodes `KVM_EXIT_DEBUG`. */
export function decodeDebug(source: ExitSource): DebugExit {
  const { exception, pc, dr6, dr7 } = source.read(RunDebug).arch;
  return { kind: "debug", exception, pc, dr6, dr7 };
}

/** Decodes `KVM_EXIT_TPR_ACCESS`. */
export function decodeTprAccess(source: ExitSource): TprAccessExit {
  const { rip, isWrite } = source.read(RunTprAccess);
  return { kind: "tpr_access", rip, isWrite: isWrite !== 0 };
}

/** Decodes `KVM_EXIT_SYSTEM_EVENT`. */
export function decodeSystemEvent(source: ExitSource): SystemEventExit {
  const { type, ndata, data } = source.read(RunSystemEvent);
  return { kind: "system_event", type, data: data.slice(0, Math.min(ndata, MOST_WORDS)) };
}

/** Decodes `KVM_EXIT_INTERNAL_ERROR`. */
export function decodeInternalError(source: ExitSource): InternalErrorExit {
  const { suberror, ndata, data } = source.read(RunInternal);
  return {
    kind: "internal_error",
    suberror,
    data: data.slice(0, Math.min(ndata, MOST_WORDS)),
    emulationFailure:
      suberror === KVM_INTERNAL_ERROR_EMULATION ? emulationFailure(source) : undefined,
  };
}

/**
 * In kvm_run, `ndata` is the number of following words: the first word contains the flags, and the next two contain the
 * instruction's size and bytes.
 */
function emulationFailure(source: ExitSource): EmulationFailure | undefined {
  const { ndata, flags, insnSize, insnBytes } = source.read(RunEmulationFailure);
  if (ndata < 1) return undefined;
  const flag = BigInt(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
  const hasBytes = ndata >= 3 && (flags & flag) !== 0n;
  const bytes = insnBytes.slice(0, Math.min(insnSize, MOST_INSN_BYTES));
  return { flags, insnBytes: hasBytes ? bytes : undefined };
}
