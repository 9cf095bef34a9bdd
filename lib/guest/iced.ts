/** The one door to iced-x86, a WebAssembly library: its types by our names, and loading it. Making instructions with it is instruction.ts. */
import { createRequire } from "node:module";
import type * as Iced from "iced-x86";

/** Is the module iced-x86. */
export type X86 = typeof Iced;

/** Is one instruction, in the memory of the module. Whoever makes it frees it. */
export type Instruction = Iced.Instruction;

/** Names an instruction form as iced-x86 does: `"Mov_r64_cr"`, `"Cpuid"`. */
export type Code = Exclude<keyof typeof Iced.Code, "prototype">;

/** States the width of the code an assembler makes, in bits. */
export type Bitness = 16 | 32 | 64;

/** Names a register by number, as iced-x86 does. */
export type RegisterNumber = Iced.Register;

/** Is a memory operand, in the memory of the module. Creating an instruction consumes it. */
export type MemoryOperand = Iced.MemoryOperand;

/** Names an instruction form by number, as iced-x86 does. */
export type CodeNumber = Iced.Code;

let loaded: X86 | undefined;

/**
 * Loads iced-x86 on first use. Loading takes about 35 ms (a WebAssembly module of 784 kB and its
 * 924 kB of JavaScript), too long for whoever only imports a constant.
 */
export function iced(): X86 {
  loaded ??= createRequire(import.meta.url)("iced-x86") as X86;
  return loaded;
}
