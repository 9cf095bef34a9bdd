/** The one door to iced-x86, a WebAssembly library: makes its instructions and frees them. What to make is assemble.ts. */
import { createRequire } from "node:module";
import type * as Iced from "iced-x86";
import {
  type LabelOperand,
  type Memory,
  type Operand,
  operandKind,
  type Register,
} from "./operand.ts";

/** Is the module iced-x86. */
export type X86 = typeof Iced;

/** Is one instruction, in the memory of the module. Whoever makes it frees it. */
export type Instruction = Iced.Instruction;

/** Names an instruction form as iced-x86 does: `"Mov_r64_cr"`, `"Cpuid"`. */
export type Code = Exclude<keyof typeof Iced.Code, "prototype">;

/** States the width of the code an assembler makes, in bits. */
export type Bitness = 16 | 32 | 64;

/** Finds the number that stands for a label while instructions are not yet placed. */
export type LabelIds = (label: string) => bigint;

let loaded: X86 | undefined;

/**
 * Loads iced-x86 on first use. Loading takes about 35 ms (a WebAssembly module of 784 kB and its
 * 924 kB of JavaScript), too long for whoever only imports a constant.
 */
export function iced(): X86 {
  loaded ??= createRequire(import.meta.url)("iced-x86") as X86;
  return loaded;
}

/**
 * Makes one instruction. The caller frees it.
 *
 * @throws Error when there is no such form, register, label, or an immediate does not fit
 */
export function createInstruction(
  code: Code,
  operands: readonly Operand[],
  labels: LabelIds,
  bitness: Bitness,
): Iced.Instruction {
  const x86 = iced();
  const form = x86.Code[code];
  if (form === undefined) throw new Error(`no instruction form ${code}`);
  const first = operands[0];
  if (typeof first === "object" && first.kind === "label") {
    return x86.Instruction.createBranch(form, labels(first.name));
  }
  const { method, wide } = creator(operands);
  const create = (x86.Instruction as unknown as Record<string, Create>)[method];
  if (create === undefined) throw new Error(`no instruction takes these operands (${method})`);
  // Immediates are converted, registers looked up, before memory operands exist: only those need freeing,
  // and iced-x86's create functions consume them.
  const plain = operands.map((operand) => {
    if (typeof operand === "string") return register(operand);
    return typeof operand === "object" ? operand : wide ? BigInt(operand) : Number(operand);
  });
  const args = plain.map((operand) => {
    if (typeof operand !== "object") return operand;
    return operand.kind === "label" ? ripRelative(operand, labels) : memory(operand, bitness);
  });
  return create.call(x86.Instruction, form, ...args);
}

type Create = (form: Iced.Code, ...operands: unknown[]) => Iced.Instruction;

// iced-x86 has a function for each row of operand kinds: createRegMem, createMemU32, createRegU64...
function creator(operands: readonly Operand[]): { method: string; wide: boolean } {
  const kinds = operands.map((operand) => operandKind(operand).replace("Label", "Mem"));
  const wide = kinds.join() === "Reg,Imm";
  const sign = operands.some((operand, i) => kinds[i] === "Imm" && Number(operand) < 0);
  const immediate = `${sign ? "I" : "U"}${wide ? 64 : 32}`;
  for (const [i, operand] of operands.entries()) {
    if (kinds[i] === "Imm" && !wide && !fits32(operand as number | bigint)) {
      throw new Error("an immediate does not fit in 32 bits");
    }
  }
  return { method: `create${kinds.join("").replaceAll("Imm", immediate)}`, wide };
}

function fits32(value: number | bigint): boolean {
  return value >= -(2 ** 31) && value < 2 ** 32;
}

let registers: ReadonlyMap<string, Iced.Register> | undefined;

function register(name: Register): Iced.Register {
  registers ??= new Map(
    Object.entries(iced().Register).flatMap(([key, value]) =>
      typeof value === "number" ? [[key.toLowerCase(), value] as const] : [],
    ),
  );
  const found = registers.get(name);
  if (found === undefined) throw new Error(`no register ${name}`);
  return found;
}

function memory(operand: Memory, bitness: Bitness): Iced.MemoryOperand {
  const x86 = iced();
  const none = x86.Register.None;
  const named = (name: Register | undefined) => (name === undefined ? none : register(name));
  const displacement = operand.displacement ?? 0;
  const absoluteSize = bitness === 16 && displacement < 0x1_0000 ? 2 : 4;
  return new x86.MemoryOperand(
    named(operand.base),
    named(operand.index),
    operand.scale ?? 1,
    BigInt(displacement),
    // With a base, 1 lets the encoder choose between none, 8 bits and more.
    operand.base === undefined ? absoluteSize : Number(displacement !== 0 && displacement !== 0n),
    false,
    named(operand.segment),
  );
}

function ripRelative(label: LabelOperand, labels: LabelIds): Iced.MemoryOperand {
  const x86 = iced();
  return x86.MemoryOperand.createBaseDisplSize(x86.Register.RIP, labels(label.name), 8);
}
