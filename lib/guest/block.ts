/**
 * A piece of code: its instructions and labels, and their encoding. system.ts and assemble.ts have a method for each
 * instruction.
 */
import { describe } from "../options.ts";
import { type Bitness, type Code, type Instruction, iced, type X86 } from "./iced.ts";
import { createInstruction, type LabelIds } from "./instruction.ts";
import { type Operand, operandText } from "./operand.ts";

interface Item {
  readonly text: string;
  readonly make: (labels: LabelIds) => Instruction;
}

const nop: Item = {
  text: "nop",
  make: () => iced().Instruction.createDeclareByte(Uint8Array.of(0x90)),
};

/**
 * Collects instructions and turns them into bytes. Every method that adds an instruction returns the assembler, so
 * calls can be chained. Operands are in Intel's order, the destination first. Only {@link Block.assemble} encodes the
 * instructions, and loads iced-x86.
 */
export class Block {
  /** The width of the code in bits: 16, 32 or 64. */
  readonly bitness: Bitness;
  readonly #items: Item[] = [];
  readonly #labels: Map<string, number> = new Map();

  /** Starts an empty piece of code of this width. */
  constructor(bitness: Bitness) {
    if (bitness !== 16 && bitness !== 32 && bitness !== 64) {
      const got = describe(bitness);
      throw new TypeError(`new ${new.target.name}(): use a width of 16, 32 or 64 bits, not ${got}`);
    }
    this.bitness = bitness;
  }

  /**
   * Encodes all instructions that were added, for execution at this address.
   *
   * @param rip the address of the first byte; in real mode, the IP instead of the linear address
   * @throws Error that names the instruction that cannot be encoded, or the unknown label
   */
  assemble(rip: bigint): Uint8Array {
    const x86 = iced();
    const encoder = new x86.BlockEncoder(this.bitness, x86.BlockEncoderOptions.None);
    const labelled = new Set(this.#labels.values());
    try {
      for (const [index, item] of this.#placed().entries()) {
        // The block encoder finds a branch's target by the `ip` of the target instruction, so `ip` is the label's id.
        this.#add(encoder, item, labelled.has(index) ? BigInt(index + 1) : 0n);
      }
      return encoder.encode(rip);
    } catch (error) {
      // The encoder's message ends with the text of the instruction: "Invalid operand : 0x0 mov [4000h],eax".
      throw new Error(`cannot assemble: ${(error as Error).message}`, { cause: error });
    } finally {
      encoder.free();
    }
  }

  // A label after the last instruction needs an instruction that follows it, so a NOP is added.
  #placed(): readonly Item[] {
    const trailing = [...this.#labels.values()].includes(this.#items.length);
    return trailing ? [...this.#items, nop] : this.#items;
  }

  #add(encoder: InstanceType<X86["BlockEncoder"]>, item: Item, ip: bigint): void {
    let instruction: Instruction | undefined;
    try {
      instruction = item.make((label) => this.#labelId(label));
      instruction.ip = ip;
      encoder.add(instruction);
    } catch (error) {
      throw new Error(`${item.text}: ${(error as Error).message}`, { cause: error });
    } finally {
      instruction?.free();
    }
  }

  #labelId(label: string): bigint {
    const index = this.#labels.get(label);
    if (index === undefined) throw new Error(`unknown label ${label}`);
    return BigInt(index + 1);
  }

  #item(code: Code, operands: readonly Operand[]): Item {
    const text = `${code.split("_")[0]?.toLowerCase()} ${operands.map(operandText).join(", ")}`;
    const make = (labels: LabelIds) => createInstruction(code, operands, labels, this.bitness);
    return { text: text.trim(), make };
  }

  /**
   * Adds any instruction that iced-x86 knows: `emit("Mov_r64_cr", "rax", "cr4")`.
   *
   * @param code the name of the instruction form in iced-x86's `Code`
   * @param operands the operands in Intel's order; the operand of a branch is `at("label")`
   */
  emit(code: Code, ...operands: readonly Operand[]): this {
    this.#items.push(this.#item(code, operands));
    return this;
  }

  /** Adds an instruction that the function creates with iced-x86; the assembler frees the instruction. */
  emitWith(text: string, make: (x86: X86) => Instruction): this {
    this.#items.push({ text, make: () => make(iced()) });
    return this;
  }

  /** Adds bytes without encoding them. */
  db(...bytes: readonly number[]): this {
    // One declaration of iced-x86 contains at most 16 bytes.
    for (let i = 0; i < bytes.length; i += 16) {
      const chunk = Uint8Array.from(bytes.slice(i, i + 16));
      this.emitWith(`db ${chunk.join(", ")}`, (x86) => x86.Instruction.createDeclareByte(chunk));
    }
    return this;
  }

  /**
   * Defines a label at the next instruction.
   *
   * @throws Error if the label is already defined
   */
  label(name: string): this {
    if (this.#labels.has(name)) throw new Error(`label ${name} is defined twice`);
    this.#labels.set(name, this.#items.length);
    return this;
  }
}
