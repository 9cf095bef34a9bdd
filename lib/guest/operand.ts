/**
 * The operands of an instruction: registers, memory, immediates, labels. assemble.ts adds instructions with these
 * operands.
 */
import { describe, refuseUnknown, toBigInt } from "../options.ts";
import type { X86 } from "./iced.ts";

/** The name of a register in iced-x86, in lower case: `"eax"`, `"r8"`, `"r8d"`, `"cr4"`, `"ds"`. */
export type Register = Lowercase<keyof X86["Register"]>;

/** The size of a general operand in bits. */
export type Size = 8 | 16 | 32 | 64;

/** The parts of a memory operand: `segment:[base + index * scale + displacement]`. */
export interface Address {
  /** The base register. */
  readonly base?: Register;
  /** The index register. */
  readonly index?: Register;
  /** The factor of the index; 1 if omitted. */
  readonly scale?: 1 | 2 | 4 | 8;
  /** The displacement in bytes; 0 if omitted. */
  readonly displacement?: number | bigint;
  /** The segment register, if it is not the default one. */
  readonly segment?: Register;
}

/** A memory operand; created by {@link mem}. */
export interface Memory extends Address {
  /** The operand's kind. */
  readonly kind: "memory";
  /** The size of the access in bits. */
  readonly size: Size;
}

/** A label as an operand; created by {@link at}. */
export interface LabelOperand {
  /** The operand's kind. */
  readonly kind: "label";
  readonly name: string;
}

/** An operand: a register's name, memory, an immediate, or a label. */
export type Operand = Register | Memory | LabelOperand | number | bigint;

/**
 * Creates a memory operand.
 *
 * @param size the size of the access in bits: 8, 16, 32 or 64
 * @param address an absolute linear address (below 4 GiB, and below 2 GiB in 64-bit code), a register that contains the
 *   address, or the address's parts
 */
export function mem(size: Size, address: number | bigint | Register | Address): Memory {
  if (!SIZES.includes(size)) {
    throw new TypeError(`mem(): size: expected 8, 16, 32 or 64, got ${describe(size)}`);
  }
  if (typeof address === "string") return { kind: "memory", size, base: address };
  if (typeof address !== "object") {
    toBigInt("mem(): address", address);
    return { kind: "memory", size, displacement: address };
  }
  refuseUnknown("mem()", address, PARTS, "part");
  return { kind: "memory", size, ...address };
}

const SIZES: readonly unknown[] = [8, 16, 32, 64];
const PARTS: readonly string[] = ["base", "index", "scale", "displacement", "segment"];

/** Creates an operand that is a label, for `Assembler.emit`. */
export function at(name: string): LabelOperand {
  return { kind: "label", name };
}

/** Returns the word for an operand's kind in the names of iced-x86's `create…` functions. */
export function operandKind(operand: Operand): "Reg" | "Mem" | "Label" | "Imm" {
  if (typeof operand === "string") return "Reg";
  if (typeof operand === "object") return operand.kind === "memory" ? "Mem" : "Label";
  return "Imm";
}

/** Writes an operand as text, for error messages: `eax`, `dword [rdi+0x8]`, `0x10`. */
export function operandText(operand: Operand): string {
  if (typeof operand === "string") return operand;
  if (typeof operand === "object") {
    return operand.kind === "label" ? operand.name : memoryText(operand);
  }
  return operand < 0 ? `-0x${(-operand).toString(16)}` : `0x${operand.toString(16)}`;
}

const sizeNames: Readonly<Record<Size, string>> = {
  8: "byte",
  16: "word",
  32: "dword",
  64: "qword",
};

function memoryText(memory: Memory): string {
  const parts = [
    memory.base,
    memory.index && `${memory.index}*${memory.scale ?? 1}`,
    memory.displacement === undefined ? undefined : operandText(memory.displacement),
  ];
  const segment = memory.segment === undefined ? "" : `${memory.segment}:`;
  const inside = parts.filter((part) => part !== undefined).join("+");
  return `${sizeNames[memory.size]} ${segment}[${inside}]`;
}

const registerSizes: readonly (readonly [RegExp, Size])[] = [
  [/^([abcd][lh]|[sd]il|[sb]pl|r\d+l)$/, 8],
  [/^([abcd]x|[sd]i|[sb]p|r\d+w)$/, 16],
  [/^(e[abcd]x|e[sd]i|e[sb]p|r\d+d)$/, 32],
  [/^(r[abcd]x|r[sd]i|r[sb]p|r\d+)$/, 64],
];

/**
 * Returns the size in bits of a general register.
 *
 * @throws Error if the name is not that of a general register
 */
export function registerSize(register: Register): Size {
  const found = registerSizes.find(([pattern]) => pattern.test(register));
  if (found === undefined) throw new Error(`${register} is not a general register`);
  return found[1];
}

/** Returns the form of MOV that a register requires. */
export function registerClass(register: Register): "cr" | "dr" | "Sreg" | "general" {
  if (/^cr\d+$/.test(register)) return "cr";
  if (/^dr\d+$/.test(register)) return "dr";
  if (/^[cdefgs]s$/.test(register)) return "Sreg";
  return "general";
}
