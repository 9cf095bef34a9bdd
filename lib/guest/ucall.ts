/** The guest's way to speak: what a value in the mailbox and a code at the port mean. Writing them is program.ts and faults.ts. */
import { isBytes } from "../abi/bytes.ts";
import { MAILBOX_GPA, RESULTS_GPA, TABLE_SIZE } from "./layout.ts";

/** Names the I/O port a guest speaks through, unused by PC hardware. One byte is written: the code. */
export const UCALL_PORT = 0x505;

/** Names the code of "here are values from the mailbox". */
export const UCALL_SYNC = 1;
/** Names the code of "the program is over". */
export const UCALL_DONE = 2;
/** Names the code of "an exception came that no attempt expected". */
export const UCALL_FAULT = 3;
/** Names the code of "here are values from the results area", 32 bits each. */
export const UCALL_RESULTS = 4;

/** Names the gpa of the number of values of a sync, a u32. */
export const SYNC_COUNT_GPA: number = MAILBOX_GPA;
/** Names the gpa of the number of values in the results area, a u32. */
export const RESULTS_COUNT_GPA: number = MAILBOX_GPA + 0x08;
/** Names the gpa of vector, error code, RIP and CR2 of the last exception, a u64 each. */
export const FAULT_GPA: number = MAILBOX_GPA + 0x20;
/** Names the gpa of the stack pointer a running attempt resumes with; 0 when there is none. */
export const ATTEMPT_STACK_GPA: number = MAILBOX_GPA + 0x40;
/** Names the gpa of the values of a sync, a u64 each. */
export const VALUES_GPA: number = MAILBOX_GPA + 0x100;
/** States how many values one sync can send. */
export const VALUES_MAX: number = (0x1000 - 0x100) / 8;

/** Is what `attempt` records as the vector when there was no exception: no exception has vector 255. */
export const NO_FAULT = 0xffn;

/** Is what a guest has said. */
export type Ucall =
  | { readonly kind: "sync"; readonly values: readonly bigint[] }
  | { readonly kind: "done" }
  | Fault;

/** States an exception that no attempt expected. */
export interface Fault {
  /** Tells it from the other ucalls. */
  readonly kind: "fault";
  /** The vector, 0 to 31: 6 is #UD, 13 is #GP, 14 is #PF (Intel SDM Vol. 3A 7.3.1). */
  readonly vector: number;
  /** The error code; 0 when the vector has none, and in real mode. */
  readonly errorCode: number;
  /** The linear address of the instruction, in real mode too. */
  readonly rip: bigint;
  /** CR2, which only a #PF writes. */
  readonly cr2: bigint;
}

/** States the part of an I/O exit that {@link isUcall} looks at. */
export interface PortExit {
  /** The port. */
  readonly port: number;
  /** The direction: `"out"` for KVM_EXIT_IO_OUT. */
  readonly direction: "in" | "out";
}

/** Tells whether an I/O exit (KVM_EXIT_IO) is the guest speaking. */
export function isUcall(exit: PortExit): boolean {
  return exit.port === UCALL_PORT && exit.direction === "out";
}

/** States what {@link decodeUcall} needs of guest memory that is not one array. */
export interface ReadableMemory {
  /** Copies bytes from a gpa. */
  read(gpa: number, length: number): Uint8Array;
}

/**
 * Decodes what a guest has said. The result is a copy; memory may change afterwards.
 *
 * @param memory guest memory from gpa 0, as an array or something to read from
 * @param code the byte written to {@link UCALL_PORT}
 * @throws Error when the code is unknown or a count is impossible
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

/** States one input of CPUID, in the words of `struct kvm_cpuid_entry2`. */
export interface CpuidInput {
  /** EAX, the leaf. */
  readonly function: number;
  /** ECX, the subleaf. */
  readonly index: number;
}

/** States one input of CPUID and what it returned, as unsigned 32-bit numbers. */
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
 * Pairs the inputs of `cpuidAll`, or of several `cpuid`, with the values of the sync that followed.
 *
 * @throws RangeError when there are not four values for each input
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
