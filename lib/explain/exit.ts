/**
 * Explains exits that end a guest, from the exit and from evidence about the vCPU. exit-names.ts has the names of exit
 * codes.
 */
import {
  KVM_INTERNAL_ERROR_DELIVERY_EV,
  KVM_INTERNAL_ERROR_EMULATION,
  KVM_INTERNAL_ERROR_SIMUL_EX,
  KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON,
  KVM_MEM_READONLY,
  KVM_MEMORY_EXIT_FLAG_PRIVATE,
} from "../abi/generated/constants.ts";
import type { Regs, Sregs, VcpuEvents } from "../abi/generated/structs.ts";
import { hasBit } from "../oracle/bits.ts";
import { failedChecks } from "./entry-checks.ts";
import {
  entryFailureName,
  exceptionName,
  exitCodeName,
  isStateRefused,
  suberrorName,
  type Vendor,
} from "./exit-names.ts";
import { slotAt } from "./kernel-pages.ts";
import { type Ask, known, type MemorySlot } from "./refusal.ts";
import { linearRip, type ReadWord, translate } from "./translate.ts";
import { hex, range } from "./wording.ts";

/** The fields of an exit that this file reads; kvm/exits defines the exits. */
export type ExplainedExit =
  | { readonly kind: "shutdown" }
  | { readonly kind: "fail_entry"; readonly hardwareEntryFailureReason: bigint }
  | { readonly kind: "hw"; readonly hardwareExitReason: bigint }
  | {
      readonly kind: "internal_error";
      readonly suberror: number;
      readonly data: readonly bigint[];
      readonly emulationFailure:
        | { readonly flags: bigint; readonly insnBytes: Uint8Array | undefined }
        | undefined;
    }
  | { readonly kind: "memory_fault"; readonly flags: bigint; readonly gpa: bigint }
  | { readonly kind: "mmio"; readonly isWrite: boolean; readonly physAddr: bigint };

/** Evidence about the vCPU of an exit; each function is called only if its result is needed. */
export interface ExitEvidence {
  /** The CPU vendor that defines the exit codes. */
  readonly vendor?: Vendor | undefined;
  readonly sregs?: Ask<Sregs>;
  readonly regs?: Ask<Regs>;
  /** Calls KVM_GET_VCPU_EVENTS, which writes a pending exception's payload to CR2 or DR6. */
  readonly events?: Ask<VcpuEvents>;
  readonly slots?: Ask<readonly MemorySlot[]>;
  readonly read?: ReadWord;
}

/** Explains an exit; undefined if the evidence adds no fact that the exit does not contain. */
export function explainExit(exit: ExplainedExit, evidence: ExitEvidence): string | undefined {
  switch (exit.kind) {
    case "shutdown":
      return explainShutdown(evidence);
    case "fail_entry":
      return explainFailEntry(exit.hardwareEntryFailureReason, evidence);
    case "hw":
      return `KVM does not handle the hardware's exit ${exitCodeName(exit.hardwareExitReason, evidence.vendor)}`;
    case "internal_error":
      return explainInternalError(exit, evidence);
    case "memory_fault":
      return explainMemoryFault(exit, evidence);
    case "mmio":
      return explainMmio(exit, evidence);
    default:
      return exit satisfies never;
  }
}

const RESET = { rip: 0xfff0n, selector: 0xf000, base: 0xffff_0000n } as const;
const [PE, LMA] = [0, 10];

function explainShutdown(evidence: ExitEvidence): string {
  const [sregs, regs] = [known(evidence.sregs), known(evidence.regs)];
  const isReset =
    regs?.rip === RESET.rip &&
    sregs?.cs.selector === RESET.selector &&
    sregs.cs.base === RESET.base;
  if (evidence.vendor === "kvm_amd" && isReset) {
    return (
      "a triple fault; the registers are those of a reset (RIP 0xfff0, CS 0xf000), because kvm_amd " +
      "resets the vCPU at a shutdown: they do not show the guest's state"
    );
  }
  const told = known(evidence.events)?.exception;
  const isTold = told !== undefined && (told.injected === 1 || told.pending === 1);
  const parts = [isTold ? whileDelivering(told) : "a triple fault"];
  if (isTold && told.nr === PF && sregs !== undefined) parts.push(`CR2 is ${hex(sregs.cr2)}`);
  if (sregs !== undefined) parts.push(idtOf(sregs, isTold ? told.nr : DF));
  return parts.join("; ");
}

const [DF, PF] = [8, 14];

function whileDelivering(told: VcpuEvents["exception"]): string {
  const code = told.hasErrorCode === 1 ? ` (error code ${hex(told.errorCode)})` : "";
  return `a triple fault while exception ${exceptionName(told.nr)}${code} was being delivered`;
}

/**
 * Returns whether the IDT's limit includes the entry of a vector. An entry has 16 bytes in long mode, 8 in protected
 * mode and 4 in real mode.
 */
function idtOf({ idt, cr0, efer }: Sregs, vector: number): string {
  const bytes = hasBit(efer, LMA) ? 16 : hasBit(cr0, PE) ? 8 : 4;
  const where = `the IDT is at ${hex(idt.base)} with limit ${hex(idt.limit)}`;
  const isInside = (vector + 1) * bytes - 1 <= idt.limit;
  return isInside ? where : `${where}, which has no entry for vector ${vector}`;
}

function explainFailEntry(reason: bigint, evidence: ExitEvidence): string {
  const { vendor } = evidence;
  const name = `the CPU refused to enter the guest: ${entryFailureName(reason, vendor)}`;
  if (!isStateRefused(reason, vendor)) return name;
  const [sregs, regs] = [known(evidence.sregs), known(evidence.regs)];
  if (sregs === undefined || regs === undefined) return name;
  const failed = failedChecks({ sregs, rflags: regs.rflags }, vendor);
  return failed.length === 0
    ? `${name}; the guest's registers pass the checks that this package knows`
    : `${name}; the guest's state fails a check: ${failed.join("; ")}`;
}

type InternalError = Extract<ExplainedExit, { kind: "internal_error" }>;

function explainInternalError(exit: InternalError, evidence: ExitEvidence): string {
  const name = suberrorName(exit.suberror);
  const code = (at: number): string | undefined =>
    exit.data[at] === undefined ? undefined : exitCodeName(exit.data[at], evidence.vendor);
  switch (exit.suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
      return `${name}: ${emulation(exit, evidence)}`;
    case KVM_INTERNAL_ERROR_SIMUL_EX:
      return `${name}: an exception occurred while ${event(exit.data[0])} was being delivered`;
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
      return `${name}: the exit ${code(1) ?? "(unknown)"} occurred while ${event(exit.data[0])} was being delivered`;
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
      return `${name}: KVM does not expect the hardware's exit ${code(0) ?? "(unknown)"}`;
    default:
      return name;
  }
}

/**
 * Formats the vector and the type of an event. Intel's IDT-vectoring information and AMD's EXITINTINFO have the same
 * format.
 */
function event(info: bigint | undefined): string {
  if (info === undefined) return "an event";
  const types = ["interrupt", "", "NMI", "exception", "software interrupt"];
  const type = types[Number((info >> 8n) & 7n)] ?? "";
  const vector = Number(info & 0xffn);
  return type === "exception"
    ? `exception ${exceptionName(vector)}`
    : `${type === "" ? "event" : type} ${vector}`;
}

function emulation({ data, emulationFailure }: InternalError, evidence: ExitEvidence): string {
  const place = fetched(evidence);
  const parts: string[] = [];
  if (place?.slot === undefined && place !== undefined) {
    parts.push(`the guest fetched its instruction from ${hex(place.gpa)}, which is in no slot`);
  } else {
    const bytes = emulationFailure?.insnBytes;
    const which = bytes === undefined ? "an instruction" : `the instruction ${hexBytes(bytes)}`;
    const at = place === undefined ? "" : ` at RIP ${hex(place.rip)}`;
    parts.push(`KVM could not emulate ${which}${at}`);
  }
  // In the data, the hardware's exit code follows the flags and, if present, the instruction's size and bytes.
  const code = emulationFailure === undefined ? undefined : data[hasInsn(emulationFailure) ? 3 : 1];
  if (code !== undefined) parts.push(`the exit was ${exitCodeName(code, evidence.vendor)}`);
  return parts.join("; ");
}

const hasInsn = ({ flags }: { readonly flags: bigint }): boolean => hasBit(flags, 0);

const hexBytes = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");

/** Finds the slot and the address of the instruction at RIP. */
function fetched(evidence: ExitEvidence) {
  const [sregs, regs] = [known(evidence.sregs), known(evidence.regs)];
  const slots = known(evidence.slots);
  const { read } = evidence;
  if (sregs === undefined || regs === undefined || slots === undefined) return undefined;
  const word: ReadWord = (gpa) => known(read && (() => read(gpa)));
  const gpa = translate(linearRip(sregs, regs.rip), sregs, word);
  return gpa === undefined ? undefined : { rip: regs.rip, gpa, slot: slotAt(slots, gpa, 1n) };
}

const nameOf = ({ slot, guestPhysAddr, memorySize }: MemorySlot): string =>
  `slot ${slot & 0xffff} (${range(guestPhysAddr, memorySize)})`;

function explainMemoryFault(
  { flags, gpa }: { readonly flags: bigint; readonly gpa: bigint },
  evidence: ExitEvidence,
): string | undefined {
  const slots = known(evidence.slots);
  if (slots === undefined) return undefined;
  const slot = slotAt(slots, gpa, 1n);
  const isPrivate = (flags & BigInt(KVM_MEMORY_EXIT_FLAG_PRIVATE)) !== 0n;
  const access = `the guest's ${isPrivate ? "private " : ""}access to ${hex(gpa)}`;
  if (slot === undefined) return `${access}: it is in no slot`;
  const page = gpa - slot.guestPhysAddr;
  const where = `${nameOf(slot)}, page at offset ${hex(page - (page % 4096n))}`;
  return isPrivate
    ? `${access}: ${where}: either the page is shared, or its slot has no guest_memfd that can give it`
    : `${access}: ${where}: either the page is private, or the host page behind it is not available`;
}

function explainMmio(
  { isWrite, physAddr }: { readonly isWrite: boolean; readonly physAddr: bigint },
  evidence: ExitEvidence,
): string | undefined {
  const slots = known(evidence.slots);
  if (slots === undefined) return undefined;
  const slot = slotAt(slots, physAddr, 1n);
  const access = `the guest ${isWrite ? "wrote to" : "read from"} ${hex(physAddr)}`;
  if (slot === undefined) return `${access}, which is in no slot`;
  return isWrite && (slot.flags & Number(KVM_MEM_READONLY)) !== 0
    ? `${access}, in ${nameOf(slot)}, which is read-only`
    : undefined;
}
