/** Methods for system instructions, and for instructions without operands. assemble.ts has the other instructions. */
import { Block } from "./block.ts";
import type { Memory, Register } from "./operand.ts";

// For each code width, the last letter of the forms of PUSHF, POPF and IRET, and the name of LGDT's operand.
const suffixes = { 16: "w", 32: "d", 64: "q" } as const;
const tables = { 16: "m1632_16", 32: "m1632", 64: "m1664" } as const;

/** Adds system instructions to a piece of code; the subclass `Assembler` adds the others. */
export class SystemBlock extends Block {
  /** Adds INT n. */
  int(vector: number): this {
    return this.emit("Int_imm8", vector);
  }

  /** Adds LGDT, whose memory operand contains the limit and the base. */
  lgdt(address: Memory): this {
    return this.emit(`Lgdt_${tables[this.bitness]}`, address);
  }

  /** Adds LIDT, whose memory operand contains the limit and the base. */
  lidt(address: Memory): this {
    return this.emit(`Lidt_${tables[this.bitness]}`, address);
  }

  /** Adds LTR from a 16-bit register. */
  ltr(register: Register): this {
    return this.emit("Ltr_rm16", register);
  }

  /** Adds INVLPG of an address. */
  invlpg(address: Memory): this {
    return this.emit("Invlpg_m", address);
  }

  /** Adds a near RET. */
  ret(): this {
    return this.emit(`Retn${suffixes[this.bitness]}`);
  }

  /** Adds a far RET. */
  retf(): this {
    return this.emit(`Retf${suffixes[this.bitness]}`);
  }

  /** Adds IRET, IRETD or IRETQ, according to the width of the code. */
  iret(): this {
    return this.emit(`Iret${suffixes[this.bitness]}`);
  }

  /** Adds PUSHF, PUSHFD or PUSHFQ. */
  pushf(): this {
    return this.emit(`Pushf${suffixes[this.bitness]}`);
  }

  /** Adds POPF, POPFD or POPFQ. */
  popf(): this {
    return this.emit(`Popf${suffixes[this.bitness]}`);
  }

  /** Adds MONITOR of the address in (R/E)AX. */
  monitor(): this {
    return this.emit(`Monitor${suffixes[this.bitness]}`);
  }

  /** Adds MWAIT. */
  mwait(): this {
    return this.emit("Mwait");
  }

  /** Adds CPUID. */
  cpuid(): this {
    return this.emit("Cpuid");
  }

  /** Adds RDMSR. */
  rdmsr(): this {
    return this.emit("Rdmsr");
  }

  /** Adds WRMSR. */
  wrmsr(): this {
    return this.emit("Wrmsr");
  }

  /** Adds XGETBV. */
  xgetbv(): this {
    return this.emit("Xgetbv");
  }

  /** Adds XSETBV. */
  xsetbv(): this {
    return this.emit("Xsetbv");
  }

  /** Adds RDTSC. */
  rdtsc(): this {
    return this.emit("Rdtsc");
  }

  /** Adds HLT. */
  hlt(): this {
    return this.emit("Hlt");
  }

  /** Adds the one-byte NOP. */
  nop(): this {
    return this.db(0x90);
  }

  /** Adds UD2, which always raises #UD. */
  ud2(): this {
    return this.emit("Ud2");
  }

  /** Adds CLI. */
  cli(): this {
    return this.emit("Cli");
  }

  /** Adds STI. */
  sti(): this {
    return this.emit("Sti");
  }

  /** Adds FNINIT. */
  fninit(): this {
    return this.emit("Fninit");
  }

  /** Adds SYSCALL. */
  syscall(): this {
    return this.emit("Syscall");
  }

  /** Adds VMCALL, the hypercall of Intel. */
  vmcall(): this {
    return this.emit("Vmcall");
  }

  /** Adds VMMCALL, the hypercall of AMD. */
  vmmcall(): this {
    return this.emit("Vmmcall");
  }
}
