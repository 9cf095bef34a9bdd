/** Builds guest programs, with their memory content and registers. ucall.ts decodes the values that a program sends. */
import { isBytes } from "../abi/bytes.ts";
import type { Sregs } from "../abi/generated/structs.ts";
import { describe, refuseUnknown } from "../options.ts";
import { Assembler } from "./assemble.ts";
import { GuestBuilder } from "./builder.ts";
import { CODE_GPA, CODE_SIZE, MEMORY_SIZE, TABLE_GPA } from "./layout.ts";
import { type ModeName, type ModeOptions, modes, type Piece, type StartRegs } from "./modes.ts";

/** The interface that `Program.load` requires of guest memory that is not a single array. */
export interface WritableMemory {
  /** Copies bytes to a gpa. */
  write(gpa: number, bytes: Uint8Array): void;
}

/** A finished program: its code, its tables in memory, and the initial registers. */
export interface Program {
  /** The mode in which the program starts. */
  readonly mode: ModeName;
  /** The machine code, whose address is `entry`. */
  readonly code: Uint8Array;
  /** The linear address, and gpa, of the first instruction: 0x10000. */
  readonly entry: bigint;
  /** The number of bytes of guest memory that the program needs from gpa 0: 2 MiB. */
  readonly memorySize: number;
  /** The general registers with which the program starts. */
  readonly regs: StartRegs;
  /**
   * Writes the program and its tables into guest memory; all other memory stays unchanged.
   *
   * @param memory guest memory from gpa 0: an array, or an object with a method `write`
   * @throws RangeError if memory is an array smaller than `memorySize`
   */
  load(memory: Uint8Array | WritableMemory): void;
  /** Lists copies of all bytes that `load` writes, with their gpa. */
  image(): readonly Piece[];
  /**
   * Computes the special registers for KVM_SET_SREGS. Call KVM_SET_CPUID2 before KVM_SET_SREGS, because KVM refuses
   * EFER.LME if the guest's CPUID has no long mode.
   *
   * @param base the value of KVM_GET_SREGS
   */
  sregs(base: Sregs): Sregs;
}

/**
 * Builds a guest program.
 *
 * A program that reaches its end executes HLT. Use `done()` to notify the host.
 *
 * @param name the name of the mode
 * @param build a function that adds the guest's actions
 * @throws Error if an instruction cannot be encoded
 * @throws RangeError if a value does not fit the mode, or if the code is larger than 64 KiB
 * @example
 * ```ts run
 * import { CR4_OSXSAVE, guest } from "node-kvm/guest";
 *
 * const program = guest("long", (g) =>
 *   g.cpuid(0x1).sync().setCr4(CR4_OSXSAVE).cpuid(0x1).sync().done(),
 * );
 * console.log(program.mode, program.entry);
 * ```
 *
 * ```text output
 * long 65536n
 * ```
 */
export function guest(
  name: ModeName,
  build: (g: GuestBuilder) => unknown,
  options: ModeOptions = {},
): Program {
  if (!Object.hasOwn(modes, name)) {
    const known = Object.keys(modes).join(", ");
    throw new TypeError(`guest(): expected a mode (${known}), got ${describe(name)}`);
  }
  refuseUnknown("guest()", options, ["pageSize", "efer", "cr4"]);
  const mode = modes[name];
  const assembler = new Assembler(mode.bitness);
  const builder = new GuestBuilder(assembler);
  build(builder);
  assembler.label(".end").hlt().jmp(".end");
  const code = assembler.assemble(mode.regs.rip);
  if (code.length > CODE_SIZE) throw new RangeError(`${code.length} bytes of code: at most 65536`);
  const pieces: readonly Piece[] = [
    ...mode.pieces(options),
    { gpa: CODE_GPA, bytes: code },
    { gpa: TABLE_GPA, bytes: builder.table() },
  ];
  return {
    mode: name,
    code,
    entry: BigInt(CODE_GPA),
    memorySize: MEMORY_SIZE,
    regs: mode.regs,
    load: (memory) => load(pieces, memory),
    image: () => pieces.map(({ gpa, bytes }) => ({ gpa, bytes: bytes.slice() })),
    sregs: (base) => mode.sregs(base, options),
  };
}

function load(pieces: readonly Piece[], memory: Uint8Array | WritableMemory): void {
  if (isBytes(memory) && memory.length < MEMORY_SIZE) {
    throw new RangeError(`${memory.length} bytes of guest memory: a program needs ${MEMORY_SIZE}`);
  }
  for (const { gpa, bytes } of pieces) {
    if (isBytes(memory)) memory.set(bytes, gpa);
    else memory.write(gpa, bytes);
  }
}
