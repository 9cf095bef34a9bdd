/**
 * Creates instructions with iced-x86; the caller frees them. block.ts and assemble.ts have the methods that add
 * instructions.
 */
import {
  type Bitness,
  type Code,
  type CodeNumber,
  type Instruction,
  iced,
  type MemoryOperand,
  type RegisterNumber,
} from "./iced.ts";
import {
  type LabelOperand,
  type Memory,
  type Operand,
  operandKind,
  type Register,
} from "./operand.ts";

/** Returns the number that represents a label until the instructions have addresses. */
export type LabelIds = (label: string) => bigint;

/**
 * Creates one instruction, which the caller must free.
 *
 * @throws Error if the form, register or label does not exist, or an immediate does not fit
 */
export function createInstruction(
  code: Code,
  operands: readonly Operand[],
  labels: LabelIds,
  bitness: Bitness,
): Instruction {
  const x86 = iced();
  const form = Object.hasOwn(x86.Code, code) ? x86.Code[code] : undefined;
  if (typeof form !== "number") throw new Error(`no instruction form ${code}`);
  const first = operands[0];
  if (typeof first === "object" && first.kind === "label") {
    return x86.Instruction.createBranch(form, labels(first.name));
  }
  const { method, wide } = creator(operands);
  const create = (x86.Instruction as unknown as Record<string, Create>)[method];
  if (create === undefined)
    throw new Error(`no form of the instruction has these operands (${method})`);
  // Immediates and registers are converted first, because memory operands must be freed if a conversion fails.
  // iced-x86's create functions free the memory operands that they use.
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

type Create = (form: CodeNumber, ...operands: unknown[]) => Instruction;

// iced-x86 has a function for each sequence of operand kinds: createRegMem, createMemU32, createRegU64 and others.
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

let registers: ReadonlyMap<string, RegisterNumber> | undefined;

function register(name: Register): RegisterNumber {
  registers ??= new Map(
    Object.entries(iced().Register).flatMap(([key, value]) =>
      typeof value === "number" ? [[key.toLowerCase(), value] as const] : [],
    ),
  );
  const found = registers.get(name);
  if (found === undefined) throw new Error(`no register ${name}`);
  return found;
}

function memory(operand: Memory, bitness: Bitness): MemoryOperand {
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
    // If there is a base register, the displacement size 1 lets the encoder choose the shortest displacement.
    operand.base === undefined ? absoluteSize : Number(displacement !== 0 && displacement !== 0n),
    false,
    named(operand.segment),
  );
}

function ripRelative(label: LabelOperand, labels: LabelIds): MemoryOperand {
  const x86 = iced();
  return x86.MemoryOperand.createBaseDisplSize(x86.Register.RIP, labels(label.name), 8);
}
