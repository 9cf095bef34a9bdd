/**
 * Loads iced-x86, a WebAssembly library, and exports its types under local names. No other file imports iced-x86.
 * instruction.ts creates instructions.
 */
import type * as Iced from "iced-x86";

/** The type of the module iced-x86. */
export type X86 = typeof Iced;

/**
 * One instruction, which is stored in the memory of the WebAssembly module. The code that creates an instruction must
 * free it.
 */
export type Instruction = Iced.Instruction;

/** The name of an instruction form in iced-x86: `"Mov_r64_cr"`, `"Cpuid"`. */
export type Code = Exclude<keyof typeof Iced.Code, "prototype">;

/** The width of the assembler's code in bits. */
export type Bitness = 16 | 32 | 64;

/** The number of a register in iced-x86. */
export type RegisterNumber = Iced.Register;

/**
 * A memory operand, which is stored in the memory of the WebAssembly module. Creating an instruction frees its memory
 * operand.
 */
export type MemoryOperand = Iced.MemoryOperand;

/** The number of an instruction form in iced-x86. */
export type CodeNumber = Iced.Code;

let loaded: X86 | undefined;

/**
 * Loads iced-x86 at the first call. A program that only imports a constant must not load iced-x86, because loading
 * takes about 35 ms (a WebAssembly module of 784 kB and 924 kB of JavaScript).
 *
 * @throws Error outside Node.js, because the build of iced-x86 for Node.js reads the module from a file.
 */
export function iced(): X86 {
  // The module is not imported statically, because a browser would then load it too. The rest of guest/ works in a
  // browser.
  const { createRequire } = globalThis.process?.getBuiltinModule?.("node:module") ?? {};
  if (createRequire === undefined) throw new Error("the assembler needs Node.js");
  loaded ??= createRequire(import.meta.url)("iced-x86") as X86;
  return loaded;
}
