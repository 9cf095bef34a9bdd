/**
 * Decodes the exit in kvm_run by its reason. The exits are exit.ts; exits that take an answer are decoded by
 * exit-access-decoder.ts and exit-hypercall-decoder.ts.
 */
import { constants } from "node:os";
import * as kvm from "../../abi/generated/constants.ts";
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
import { EHWPOISON } from "../../errors.ts";
import type {
  DebugExit,
  EmulationFailure,
  Exit,
  InternalErrorExit,
  SystemEventExit,
  TprAccessExit,
} from "./exit.ts";
import { decodeIo, decodeMmio, decodeRdmsr, decodeWrmsr } from "./exit-access-decoder.ts";
import {
  decodeHypercall,
  decodeHyperv,
  decodeSnpReqCerts,
  decodeTdx,
  decodeXen,
} from "./exit-hypercall-decoder.ts";
import type { ExitSource } from "./exit-source.ts";

const CR8 = offsetOf(Run, "cr8");
const MOST_WORDS = 16;
const MOST_INSN_BYTES = 15;
const { EFAULT } = constants.errno;

type Decode = (source: ExitSource) => Exit;

/**
 * The exits of x86: the 27 that arch/x86/kvm and virt/kvm of Linux 7.2 return, and KVM_EXIT_NMI, which only the headers
 * define. All others belong to another architecture or a later kernel.
 */
const DECODERS: Readonly<Record<number, Decode>> = {
  [kvm.KVM_EXIT_UNKNOWN]: (s) => ({ kind: "hw", ...s.read(RunHw) }),
  [kvm.KVM_EXIT_EXCEPTION]: (s) => ({ kind: "exception", ...s.read(RunEx) }),
  [kvm.KVM_EXIT_IO]: decodeIo,
  [kvm.KVM_EXIT_HYPERCALL]: decodeHypercall,
  [kvm.KVM_EXIT_DEBUG]: decodeDebug,
  [kvm.KVM_EXIT_HLT]: () => ({ kind: "hlt" }),
  [kvm.KVM_EXIT_MMIO]: decodeMmio,
  [kvm.KVM_EXIT_IRQ_WINDOW_OPEN]: () => ({ kind: "irq_window_open" }),
  [kvm.KVM_EXIT_SHUTDOWN]: () => ({ kind: "shutdown" }),
  [kvm.KVM_EXIT_FAIL_ENTRY]: (s) => ({ kind: "fail_entry", ...s.read(RunFailEntry) }),
  [kvm.KVM_EXIT_INTR]: () => ({ kind: "intr" }),
  [kvm.KVM_EXIT_SET_TPR]: (s) => ({ kind: "set_tpr", cr8: s.view.getBigUint64(CR8, true) }),
  [kvm.KVM_EXIT_TPR_ACCESS]: decodeTprAccess,
  [kvm.KVM_EXIT_NMI]: () => ({ kind: "nmi" }),
  [kvm.KVM_EXIT_INTERNAL_ERROR]: decodeInternalError,
  [kvm.KVM_EXIT_SYSTEM_EVENT]: decodeSystemEvent,
  [kvm.KVM_EXIT_IOAPIC_EOI]: (s) => ({ kind: "ioapic_eoi", ...s.read(RunEoi) }),
  [kvm.KVM_EXIT_HYPERV]: decodeHyperv,
  [kvm.KVM_EXIT_X86_RDMSR]: decodeRdmsr,
  [kvm.KVM_EXIT_X86_WRMSR]: decodeWrmsr,
  [kvm.KVM_EXIT_DIRTY_RING_FULL]: () => ({ kind: "dirty_ring_full" }),
  [kvm.KVM_EXIT_AP_RESET_HOLD]: () => ({ kind: "ap_reset_hold" }),
  [kvm.KVM_EXIT_X86_BUS_LOCK]: () => ({ kind: "x86_bus_lock" }),
  [kvm.KVM_EXIT_XEN]: decodeXen,
  [kvm.KVM_EXIT_NOTIFY]: (s) => ({ kind: "notify", ...s.read(RunNotify) }),
  [kvm.KVM_EXIT_MEMORY_FAULT]: (s) => ({ kind: "memory_fault", ...s.read(RunMemoryFault) }),
  [kvm.KVM_EXIT_TDX]: decodeTdx,
  [kvm.KVM_EXIT_SNP_REQ_CERTS]: decodeSnpReqCerts,
};

/** Whether KVM_RUN's errno is accompanied by an exit that explains it (api.rst 5, KVM_EXIT_MEMORY_FAULT). */
export function isExitBesideErrno(source: ExitSource, errno: number): boolean {
  return (errno === EFAULT || errno === EHWPOISON) && source.reason === kvm.KVM_EXIT_MEMORY_FAULT;
}

/** Decodes the current exit into values that do not change with `kvm_run`. */
export function decodeExit(source: ExitSource): Exit {
  const decode = DECODERS[source.reason];
  return decode === undefined ? source.unknown() : decode(source);
}

function decodeDebug(source: ExitSource): DebugExit {
  const { exception, pc, dr6, dr7 } = source.read(RunDebug).arch;
  return { kind: "debug", exception, pc, dr6, dr7 };
}

function decodeTprAccess(source: ExitSource): TprAccessExit {
  const { rip, isWrite } = source.read(RunTprAccess);
  return { kind: "tpr_access", rip, isWrite: isWrite !== 0 };
}

function decodeSystemEvent(source: ExitSource): SystemEventExit {
  const { type, ndata, data } = source.read(RunSystemEvent);
  return { kind: "system_event", type, data: data.slice(0, Math.min(ndata, MOST_WORDS)) };
}

function decodeInternalError(source: ExitSource): InternalErrorExit {
  const { suberror, ndata, data } = source.read(RunInternal);
  return {
    kind: "internal_error",
    suberror,
    data: data.slice(0, Math.min(ndata, MOST_WORDS)),
    emulationFailure:
      suberror === kvm.KVM_INTERNAL_ERROR_EMULATION ? emulationFailure(source) : undefined,
  };
}

/** `ndata` counts the following words: the first has the flags, the next two the instruction. */
function emulationFailure(source: ExitSource): EmulationFailure | undefined {
  const { ndata, flags, insnSize, insnBytes } = source.read(RunEmulationFailure);
  if (ndata < 1) return undefined;
  const flag = BigInt(kvm.KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
  const isTold = ndata >= 3 && (flags & flag) !== 0n;
  const bytes = insnBytes.slice(0, Math.min(insnSize, MOST_INSN_BYTES));
  return { flags, insnBytes: isTold ? bytes : undefined };
}
