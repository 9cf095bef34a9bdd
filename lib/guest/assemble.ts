/**
 * A small assembler with a method for each instruction: branches, moves, arithmetic, I/O. block.ts encodes the
 * instructions; builder.ts has a guest's actions.
 */
import type { Code, X86 } from "./iced.ts";
import {
  at,
  type Memory,
  type Operand,
  type Register,
  registerClass,
  registerSize,
  type Size,
} from "./operand.ts";
import { SystemBlock } from "./system.ts";

/** Names a condition as in the mnemonic of a Jcc: `"e"` of JE, `"ne"` of JNE. */
export type Condition =
  | ("a" | "ae" | "b" | "be" | "e" | "g" | "ge" | "l")
  | ("le" | "ne" | "no" | "np" | "ns" | "o" | "p" | "s");

// For each code width, the forms whose names contain the width, and the last letter of the form for PUSH of a segment.
const forms = {
  16: { suffix: "w", call: "Call_rel16", loop: "Loop_rel8_16_CX" },
  32: { suffix: "d", call: "Call_rel32_32", loop: "Loop_rel8_32_ECX" },
  64: { suffix: "q", call: "Call_rel32_64", loop: "Loop_rel8_64_RCX" },
} as const;

const accumulators = { 8: "al", 16: "ax", 32: "eax" } as const;
const stringLetters = { 8: "b", 16: "w", 32: "d" } as const;

/**
 * Writes code for 16, 32 or 64 bits. Every method that adds an instruction returns the assembler, so calls can be
 * chained. Operands are in Intel's order, the destination first. Only `assemble` encodes the instructions, and loads
 * iced-x86.
 */
export class Assembler extends SystemBlock {
  /** Adds JMP to a label; the encoder chooses the short or near form. */
  jmp(label: string): this {
    return this.emit(`Jmp_rel8_${this.bitness}`, at(label));
  }

  /** Adds a conditional jump to a label: `jcc("ne", "again")`. */
  jcc(condition: Condition, label: string): this {
    return this.emit(`J${condition}_rel8_${this.bitness}`, at(label));
  }

  /** Adds LOOP, which decrements (R/E)CX, and jumps to the label if (R/E)CX is not zero. */
  loop(label: string): this {
    return this.emit(forms[this.bitness].loop, at(label));
  }

  /** Adds a near CALL of a label. */
  call(label: string): this {
    return this.emit(forms[this.bitness].call, at(label));
  }

  /** Adds LEA of a label's address. The method works only in 64-bit code, because the address is relative to RIP. */
  lea(register: Register, label: string): this {
    return this.emit("Lea_r64_m", register, at(label));
  }

  /** Adds MOV; an operand may be a control, debug or segment register. */
  mov(destination: Register | Memory, source: Register | Memory | number | bigint): this {
    if (typeof source === "string" && registerClass(source) !== "general") {
      return this.#movFromSpecial(destination, registerClass(source), source);
    }
    if (typeof destination === "string" && registerClass(destination) !== "general") {
      return this.#movToSpecial(destination, registerClass(destination), source);
    }
    if (typeof destination === "string" && isImmediate(source)) {
      const size = registerSize(destination);
      const wide = size === 64 && (source < -(2 ** 31) || source >= 2 ** 31);
      const code = size === 64 && !wide ? "Mov_rm64_imm32" : `Mov_r${size}_imm${size}`;
      return this.emit(code as Code, destination, source);
    }
    return this.#twoOperands("Mov", destination, source);
  }

  #movFromSpecial(to: Register | Memory, kind: string, from: Register): this {
    if (kind === "Sreg") return this.emit("Mov_rm16_Sreg", to, from);
    return this.emit(`Mov_r${this.bitness === 64 ? 64 : 32}_${kind}` as Code, to, from);
  }

  #movToSpecial(to: Register, kind: string, from: Register | Memory | number | bigint): this {
    if (kind === "Sreg") return this.emit("Mov_Sreg_rm16", to, from);
    return this.emit(`Mov_${kind}_r${this.bitness === 64 ? 64 : 32}` as Code, to, from);
  }

  #twoOperands(name: string, destination: Register | Memory, source: Operand): this {
    const size = typeof destination === "string" ? registerSize(destination) : destination.size;
    const short = name !== "Mov" && name !== "Test" && size !== 8;
    let form = `rm${size}_r${size}`;
    if (isImmediate(source)) {
      const fits8 = source >= -128 && source <= 127;
      form = `rm${size}_imm${short && fits8 ? 8 : Math.min(size, 32)}`;
    } else if (typeof source === "object") {
      form = `r${size}_rm${size}`;
    }
    return this.emit(`${name}_${form}` as Code, destination, source);
  }

  /** Adds ADD. */
  add(destination: Register | Memory, source: Register | Memory | number | bigint): this {
    return this.#twoOperands("Add", destination, source);
  }

  /** Adds SUB. */
  sub(destination: Register | Memory, source: Register | Memory | number | bigint): this {
    return this.#twoOperands("Sub", destination, source);
  }

  /** Adds CMP. */
  cmp(first: Register | Memory, second: Register | Memory | number | bigint): this {
    return this.#twoOperands("Cmp", first, second);
  }

  /** Adds AND. */
  and(destination: Register | Memory, source: Register | Memory | number | bigint): this {
    return this.#twoOperands("And", destination, source);
  }

  /** Adds OR. */
  or(destination: Register | Memory, source: Register | Memory | number | bigint): this {
    return this.#twoOperands("Or", destination, source);
  }

  /** Adds XOR. */
  xor(destination: Register | Memory, source: Register | Memory | number | bigint): this {
    return this.#twoOperands("Xor", destination, source);
  }

  /** Adds TEST. */
  test(first: Register | Memory, second: Register | number | bigint): this {
    return this.#twoOperands("Test", first, second);
  }

  /** Adds INC. */
  inc(operand: Register | Memory): this {
    return this.emit(`Inc_rm${sizeOf(operand)}`, operand);
  }

  /** Adds DEC. */
  dec(operand: Register | Memory): this {
    return this.emit(`Dec_rm${sizeOf(operand)}`, operand);
  }

  /** Adds SHL, which shifts left by a constant. */
  shl(operand: Register | Memory, count: number): this {
    return this.emit(`Shl_rm${sizeOf(operand)}_imm8`, operand, count);
  }

  /** Adds SHR, which shifts right by a constant. */
  shr(operand: Register | Memory, count: number): this {
    return this.emit(`Shr_rm${sizeOf(operand)}_imm8`, operand, count);
  }

  /** Adds PUSH of a general or segment register, or of an immediate of up to 32 bits that fits the stack's width. */
  push(operand: Register | number): this {
    if (typeof operand === "string" && registerClass(operand) === "Sreg") {
      return this.emit(this.#segmentForm("Push", operand), operand);
    }
    if (typeof operand === "string") return this.emit(`Push_r${sizeOf(operand)}` as Code, operand);
    const byte = operand >= -128 && operand <= 127;
    const wide = { 16: "Push_imm16", 32: "Pushd_imm32", 64: "Pushq_imm32" } as const;
    const narrow = { 16: "Pushw_imm8", 32: "Pushd_imm8", 64: "Pushq_imm8" } as const;
    return this.emit((byte ? narrow : wide)[this.bitness], operand);
  }

  /** Adds POP of a general or segment register. */
  pop(register: Register): this {
    if (registerClass(register) === "Sreg") {
      return this.emit(this.#segmentForm("Pop", register), register);
    }
    return this.emit(`Pop_r${sizeOf(register)}` as Code, register);
  }

  #segmentForm(name: string, register: Register): Code {
    return `${name}${forms[this.bitness].suffix}_${register.toUpperCase()}` as Code;
  }

  /** Adds IN, which reads a port into AL, AX or EAX. The port number is in DX, or is a constant below 256. */
  in(size: 8 | 16 | 32, port: "dx" | number): this {
    const accumulator = accumulators[size];
    const name = accumulator.toUpperCase();
    return this.emit(`In_${name}_${port === "dx" ? "DX" : "imm8"}` as Code, accumulator, port);
  }

  /** Adds OUT, which writes AL, AX or EAX to a port. The port number is in DX, or is a constant below 256. */
  out(size: 8 | 16 | 32, port: "dx" | number): this {
    const accumulator = accumulators[size];
    const name = accumulator.toUpperCase();
    return this.emit(`Out_${port === "dx" ? "DX" : "imm8"}_${name}` as Code, port, accumulator);
  }

  /** Adds REP INSB, INSW or INSD: (R/E)CX units from port DX to ES:(R/E)DI. */
  repIns(size: 8 | 16 | 32): this {
    const letter = stringLetters[size];
    const make = (x86: X86) => x86.Instruction[`createRepIns${letter}`](this.bitness);
    return this.emitWith(`rep ins${letter}`, make);
  }

  /** Adds REP OUTSB, OUTSW or OUTSD: (R/E)CX units from DS:(R/E)SI to port DX. */
  repOuts(size: 8 | 16 | 32): this {
    const letter = stringLetters[size];
    const make = (x86: X86) => x86.Instruction[`createRepOuts${letter}`](this.bitness);
    return this.emitWith(`rep outs${letter}`, make);
  }
}

function isImmediate(operand: Operand): operand is number | bigint {
  return typeof operand === "number" || typeof operand === "bigint";
}

function sizeOf(operand: Register | Memory): Size {
  return typeof operand === "string" ? registerSize(operand) : operand.size;
}
