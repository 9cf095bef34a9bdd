/**
 * The protocol between guest and host: values in the mailbox, and codes that the guest writes to a port. recorder.ts,
 * builder.ts and faults.ts generate the code that writes them.
 */
import { isBytes } from "../abi/bytes.ts";
import { MAILBOX_GPA, RESULTS_GPA, TABLE_SIZE } from "./layout.ts";

/**
 * The I/O port to which a guest writes its codes. PC hardware does not use this port. A ucall writes one byte: the
 * code.
 */
export const UCALL_PORT = 0x505;

/** The code for values in the mailbox. */
export const UCALL_SYNC = 1;
/** The code for the end of the program. */
export const UCALL_DONE = 2;
/** The code for an exception outside an attempt. */
export const UCALL_FAULT = 3;
/** The code for values in the results area, 32 bits each. */
export const UCALL_RESULTS = 4;

/** The gpa of the number of values of a sync, a u32. */
export const SYNC_COUNT_GPA: number = MAILBOX_GPA;
/** The gpa of the number of values in the results area, a u32. */
export const RESULTS_COUNT_GPA: number = MAILBOX_GPA + 0x08;
/** The gpa of the last exception's vector, error code, RIP and CR2, each a u64. */
export const FAULT_GPA: number = MAILBOX_GPA + 0x20;
/** The gpa of the stack pointer for the end of the running attempt; its value is 0 if no attempt is running. */
export const ATTEMPT_STACK_GPA: number = MAILBOX_GPA + 0x40;
/** The gpa of the values of a sync, each a u64. */
export const VALUES_GPA: number = MAILBOX_GPA + 0x100;
/** The maximum number of values of one sync. */
export const VALUES_MAX: number = (0x1000 - 0x100) / 8;

/** The vector that `attempt` records if no exception occurred; no exception has the vector 255. */
export const NO_FAULT = 0xffn;

/** A decoded code of a guest. */
export type Ucall =
  | { readonly kind: "sync"; readonly values: readonly bigint[] }
  | { readonly kind: "done" }
  | Fault;

/** An exception outside an attempt. */
export interface Fault {
  /** The kind of ucall. */
  readonly kind: "fault";
  /** The vector, 0 to 31: 6 is #UD, 13 is #GP, 14 is #PF (Intel SDM Vol. 3A 7.3.1). */
  readonly vector: number;
  /** The error code; 0 in real mode, and if the vector has no error code. */
  readonly errorCode: number;
  /** The linear address of the instruction, also in real mode. */
  readonly rip: bigint;
  /** The value of CR2, which only a #PF changes. */
  readonly cr2: bigint;
}

/** The part of an I/O exit that {@link isUcall} needs. */
export interface PortExit {
  /** The port. */
  readonly port: number;
  /** The direction of the access: `"out"` for KVM_EXIT_IO_OUT. */
  readonly direction: "in" | "out";
}

/** Whether an I/O exit (KVM_EXIT_IO) is a ucall. */
export function isUcall(exit: PortExit): boolean {
  return exit.port === UCALL_PORT && exit.direction === "out";
}

/** The interface that {@link decodeUcall} requires of guest memory that is not a single array. */
export interface ReadableMemory {
  /** Copies bytes from a gpa. */
  read(gpa: number, length: number): Uint8Array;
}

/**
 * Decodes a ucall. The result is a copy, so later changes of guest memory do not affect it.
 *
 * @param memory guest memory from gpa 0: an array, or an object with a method `read`
 * @param code the byte that the guest wrote to {@link UCALL_PORT}
 * @throws Error if the code is unknown or a count is impossible
 */
export function decodeUcall(memory: Uint8Array | ReadableMemory, code: number): Ucall {
  switch (code) {
    case UCALL_SYNC: {
      const count = readCount(memory, SYNC_COUNT_GPA, VALUES_MAX);
      const view = viewOf(memory, VALUES_GPA, count * 8);
      const values = Array.from({ length: count }, (_, i) => view.getBigUint64(i * 8, true));
      return { kind: "sync", values };
    }
    case UCALL_RESULTS: {
      const count = readCount(memory, RESULTS_COUNT_GPA, TABLE_SIZE / 4);
      const view = viewOf(memory, RESULTS_GPA, count * 4);
      const values = Array.from({ length: count }, (_, i) => BigInt(view.getUint32(i * 4, true)));
      return { kind: "sync", values };
    }
    case UCALL_DONE:
      return { kind: "done" };
    case UCALL_FAULT: {
      const view = viewOf(memory, FAULT_GPA, 32);
      const [vector, errorCode] = [view.getUint32(0, true), view.getUint32(8, true)];
      const [rip, cr2] = [view.getBigUint64(16, true), view.getBigUint64(24, true)];
      return { kind: "fault", vector, errorCode, rip, cr2 };
    }
    default:
      throw new Error(`unknown ucall code ${code}`);
  }
}

function viewOf(memory: Uint8Array | ReadableMemory, gpa: number, length: number): DataView {
  const bytes = isBytes(memory) ? memory.subarray(gpa, gpa + length) : memory.read(gpa, length);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function readCount(memory: Uint8Array | ReadableMemory, gpa: number, most: number): number {
  const count = viewOf(memory, gpa, 4).getUint32(0, true);
  if (count > most) throw new Error(`${count} values in a ucall: the mailbox is broken`);
  return count;
}

/** An input of CPUID, with the field names of `struct kvm_cpuid_entry2`. */
export interface CpuidInput {
  /** The input EAX: the leaf. */
  readonly function: number;
  /** The input ECX: the subleaf. */
  readonly index: number;
}

/** One input of CPUID and its results, as unsigned 32-bit numbers. */
export interface CpuidResult extends CpuidInput {
  /** EAX. */
  readonly eax: number;
  /** EBX. */
  readonly ebx: number;
  /** ECX. */
  readonly ecx: number;
  /** EDX. */
  readonly edx: number;
}

/**
 * Combines the inputs of `cpuidAll`, or of several calls of `cpuid`, with the values of the following sync.
 *
 * @throws RangeError if there are not exactly four values for each input
 */
export function decodeCpuid(
  inputs: readonly CpuidInput[],
  values: readonly bigint[],
): readonly CpuidResult[] {
  if (values.length !== inputs.length * 4) {
    throw new RangeError(`${inputs.length} inputs of CPUID but ${values.length} values`);
  }
  const word = (i: number): number => Number((values[i] ?? 0n) & 0xffff_ffffn);
  return inputs.map(({ function: leaf, index }, i) => {
    const [eax, ebx, ecx, edx] = [word(i * 4), word(i * 4 + 1), word(i * 4 + 2), word(i * 4 + 3)];
    return { function: leaf, index, eax, ebx, ecx, edx };
  });
}
