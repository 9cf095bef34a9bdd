/**
 * The only importer of iced-x86, a WebAssembly library: its types under local names, and loading it. instruction.ts
 * creates instructions.
 */
import type * as Iced from "iced-x86";

/** The module iced-x86. */
export type X86 = typeof Iced;

/** One instruction, in the memory of the module. The code that creates it must free it. */
export type Instruction = Iced.Instruction;

/** The name of an instruction form in iced-x86: `"Mov_r64_cr"`, `"Cpuid"`. */
export type Code = Exclude<keyof typeof Iced.Code, "prototype">;

/** The width of the assembler's code in bits. */
export type Bitness = 16 | 32 | 64;

/** The number of a register in iced-x86. */
export type RegisterNumber = Iced.Register;

/** A memory operand, in the memory of the module. Creating an instruction consumes it. */
export type MemoryOperand = Iced.MemoryOperand;

/** The number of an instruction form in iced-x86. */
export type CodeNumber = Iced.Code;

let loaded: X86 | undefined;

/**
 * Loads iced-x86 on first use. Loading takes about 35 ms (a WebAssembly module of 784 kB and its 924 kB of JavaScript),
 * too long for a program that only imports a constant.
 *
 * @throws Error outside Node.js, because the build of iced-x86 for Node.js reads its file.
 */
export function iced(): X86 {
  // This is not an import of node:module, because a browser would load it, although the rest of guest/ needs no module
  // of Node.js.
  const { createRequire } = globalThis.process?.getBuiltinModule?.("node:module") ?? {};
  if (createRequire === undefined) throw new Error("the assembler needs Node.js");
  loaded ??= createRequire(import.meta.url)("iced-x86") as X86;
  return loaded;
}
