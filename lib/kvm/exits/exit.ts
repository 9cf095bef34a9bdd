/**
 * The union type of all exits of a vCPU, and the function that decodes an exit from kvm_run. Each other file of this
 * folder defines the exits of one subject.
 */
import { constants } from "node:os";
import type { EXITS, X86ExitName } from "../../abi/exits.ts";
import { KVM_EXIT_MEMORY_FAULT } from "../../abi/generated/constants.ts";
import { KVM_EXIT_REASONS } from "../../abi/generated/names.ts";
import { EHWPOISON } from "../../errors.ts";
import {
  decodeIo,
  decodeMmio,
  decodeRdmsr,
  decodeWrmsr,
  type IoInExit,
  type IoOutExit,
  type MmioReadExit,
  type MmioWriteExit,
  type RdmsrExit,
  type WrmsrExit,
} from "./access.ts";
import {
  type BareExit,
  bare,
  type DebugExit,
  decodeDebug,
  decodeException,
  decodeFailEntry,
  decodeHw,
  decodeInternalError,
  decodeIoapicEoi,
  decodeMemoryFault,
  decodeNotify,
  decodeSetTpr,
  decodeSystemEvent,
  decodeTprAccess,
  type ExceptionExit,
  type FailEntryExit,
  type HwExit,
  type InternalErrorExit,
  type IoapicEoiExit,
  type MemoryFaultExit,
  type NotifyExit,
  type SetTprExit,
  type SystemEventExit,
  type TprAccessExit,
} from "./event.ts";
import {
  decodeHypercall,
  decodeHyperv,
  decodeSnpReqCerts,
  decodeTdx,
  decodeXen,
  type HypercallExit,
  type HypervHcallExit,
  type HypervSyndbgExit,
  type HypervSynicExit,
  type SnpReqCertsExit,
  type TdxGetQuoteExit,
  type TdxGetTdvmcallInfoExit,
  type TdxSetupEventNotifyExit,
  type TdxUnknownExit,
  type XenHcallExit,
} from "./hypercall.ts";
import type { ExitSource, UnknownExit } from "./source.ts";

/**
 * The exit of a vCPU. `kind` is the name after `KVM_EXIT_`, in lower case, except for KVM_EXIT_UNKNOWN ({@link
 * HwExit}). If a kind has several forms, `direction`, `isWrite` or `type` distinguishes them.
 *
 * An exit with a method `reply` can be answered until the vCPU runs again. An exit can be answered once. The
 * documentation of each `reply` states the result that the guest gets without a reply.
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
  | XenHcallExit
  | TdxGetQuoteExit
  | TdxGetTdvmcallInfoExit
  | TdxSetupEventNotifyExit
  | TdxUnknownExit
  | SnpReqCertsExit
  | UnknownExit;

const { EFAULT } = constants.errno;

/** The result of a decoder: an exit of the kind in the table, or the undecoded exit if its fields are invalid. */
type ExitOf<Kind> = (Exit & { readonly kind: Kind }) | UnknownExit;

/** The decoder of each exit in `EXITS`. */
const DECODERS: {
  readonly [Name in X86ExitName]: (source: ExitSource) => ExitOf<(typeof EXITS)[Name]["kind"]>;
} = {
  KVM_EXIT_UNKNOWN: decodeHw,
  KVM_EXIT_EXCEPTION: decodeException,
  KVM_EXIT_IO: decodeIo,
  KVM_EXIT_HYPERCALL: decodeHypercall,
  KVM_EXIT_DEBUG: decodeDebug,
  KVM_EXIT_HLT: bare("hlt"),
  KVM_EXIT_MMIO: decodeMmio,
  KVM_EXIT_IRQ_WINDOW_OPEN: bare("irq_window_open"),
  KVM_EXIT_SHUTDOWN: bare("shutdown"),
  KVM_EXIT_FAIL_ENTRY: decodeFailEntry,
  KVM_EXIT_INTR: bare("intr"),
  KVM_EXIT_SET_TPR: decodeSetTpr,
  KVM_EXIT_TPR_ACCESS: decodeTprAccess,
  KVM_EXIT_NMI: bare("nmi"),
  KVM_EXIT_INTERNAL_ERROR: decodeInternalError,
  KVM_EXIT_SYSTEM_EVENT: decodeSystemEvent,
  KVM_EXIT_IOAPIC_EOI: decodeIoapicEoi,
  KVM_EXIT_HYPERV: decodeHyperv,
  KVM_EXIT_X86_RDMSR: decodeRdmsr,
  KVM_EXIT_X86_WRMSR: decodeWrmsr,
  KVM_EXIT_DIRTY_RING_FULL: bare("dirty_ring_full"),
  KVM_EXIT_AP_RESET_HOLD: bare("ap_reset_hold"),
  KVM_EXIT_X86_BUS_LOCK: bare("x86_bus_lock"),
  KVM_EXIT_XEN: decodeXen,
  KVM_EXIT_NOTIFY: decodeNotify,
  KVM_EXIT_MEMORY_FAULT: decodeMemoryFault,
  KVM_EXIT_TDX: decodeTdx,
  KVM_EXIT_SNP_REQ_CERTS: decodeSnpReqCerts,
};

/** The decoders by `exit_reason`, for a fast lookup at each exit. */
const byReason: ((source: ExitSource) => Exit)[] = [];
for (const name of Object.keys(DECODERS) as X86ExitName[]) {
  byReason[KVM_EXIT_REASONS[name]] = DECODERS[name];
}

/** Decodes the current exit into an object that does not change when `kvm_run` changes. */
export function decodeExit(source: ExitSource): Exit {
  const decode = byReason[source.reason];
  return decode === undefined ? source.unknown() : decode(source);
}

/** Returns whether KVM_RUN sets a valid exit together with this errno (api.rst 5, KVM_EXIT_MEMORY_FAULT). */
export function isExitWithErrno(source: ExitSource, errno: number): boolean {
  return (errno === EFAULT || errno === EHWPOISON) && source.reason === KVM_EXIT_MEMORY_FAULT;
}
