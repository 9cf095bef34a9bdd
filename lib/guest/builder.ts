/**
 * The actions of a guest, under KVM's and Intel's names. program.ts builds a program from the actions; assemble.ts has
 * single instructions.
 */
import type { Assembler } from "./assemble.ts";
import { MAILBOX_GPA, RESULTS_GPA, TABLE_GPA, TABLE_SIZE } from "./layout.ts";
import { type Memory, mem, type Register, type Size } from "./operand.ts";
import { halves, Recorder } from "./recorder.ts";
import { type CpuidInput, RESULTS_COUNT_GPA, UCALL_RESULTS } from "./ucall.ts";

const RESULT_SIZE = 16;
const INPUT_SIZE = 8;

/**
 * Adds actions to a guest program; each method returns the builder. The next {@link GuestBuilder.sync} sends the
 * recorded values in order. Every action may change RAX, RBX, RCX, RDX, RSI, RDI, RBP and the flags, and in real mode
 * also ES and FS. In real mode, DS must be 0. `guest()` creates the builder.
 */
export class GuestBuilder extends Recorder {
  readonly #inputs: CpuidInput[] = [];

  /** Executes CPUID and records EAX, EBX, ECX, EDX: four values. */
  cpuid(leaf: number, index = 0): this {
    this.a
      .mov("eax", leaf >>> 0)
      .mov("ecx", index >>> 0)
      .cpuid();
    // In 64-bit code, one store per register is enough: CPUID clears the upper halves (Intel SDM Vol. 2A, CPUID).
    return this.a.bitness === 64
      ? this.record("rax", "rbx", "rcx", "rdx")
      : this.record("eax", "ebx", "ecx", "edx");
  }

  /**
   * Executes CPUID for each input in a loop and sends all results in one sync: four values per input. `decodeCpuid`
   * combines the values with the inputs. The next `sync()` sends the values that were recorded before this call.
   *
   * @throws RangeError if there are more than 4096 inputs, or more than 8192 in the whole program
   */
  cpuidAll(inputs: readonly CpuidInput[]): this {
    const first = this.#inputs.length * INPUT_SIZE;
    this.#inputs.push(...inputs);
    if (inputs.length * RESULT_SIZE > TABLE_SIZE) {
      throw new RangeError(`${inputs.length} inputs of CPUID: at most ${TABLE_SIZE / RESULT_SIZE}`);
    }
    if (this.#inputs.length * INPUT_SIZE > TABLE_SIZE) {
      throw new RangeError(
        `${this.#inputs.length} inputs of CPUID in one program, but at most 8192 are possible`,
      );
    }
    if (inputs.length > 0) this.#cpuidLoop(first, inputs.length);
    this.a.mov(mem(32, RESULTS_COUNT_GPA), inputs.length * 4);
    return this.out(UCALL_RESULTS);
  }

  #cpuidLoop(first: number, count: number): void {
    const a = this.a;
    const again = this.newLabel();
    const real = a.bitness === 16;
    const [si, di] = pointers[a.bitness];
    // In real mode, the code accesses the tables above 64 KiB through FS and ES.
    if (real) this.#segment("fs", TABLE_GPA).#segment("es", RESULTS_GPA);
    const input = (n: number): Memory =>
      mem(32, { base: si, displacement: n, ...(real ? { segment: "fs" } : {}) });
    const result = (n: number): Memory =>
      mem(32, { base: di, displacement: n, ...(real ? { segment: "es" } : {}) });
    a.mov("esi", first + (real ? 0 : TABLE_GPA)).mov("edi", real ? 0 : RESULTS_GPA);
    a.mov("ebp", count).label(again);
    a.mov("eax", input(0)).mov("ecx", input(4)).cpuid();
    a.mov(result(0), "eax").mov(result(4), "ebx").mov(result(8), "ecx").mov(result(12), "edx");
    a.add(si, INPUT_SIZE).add(di, RESULT_SIZE).dec("ebp").jcc("ne", again);
  }

  /** Executes HLT. At CPL 3, this instruction raises #GP. */
  hlt(): this {
    this.a.hlt();
    return this;
  }

  /** Executes UD2, which raises #UD. */
  ud2(): this {
    this.a.ud2();
    return this;
  }

  /** Sets bits of CR4: reads it, ORs the mask, writes it. */
  setCr4(mask: bigint): this {
    return this.#changeCr4("or", mask);
  }

  /** Clears bits of CR4: reads it, ANDs the mask's complement, writes it. */
  clearCr4(mask: bigint): this {
    return this.#changeCr4(
      "and",
      this.a.bitness === 64 ? BigInt.asIntN(64, ~mask) : ~mask & 0xffff_ffffn,
    );
  }

  #changeCr4(operation: "or" | "and", mask: bigint): this {
    const wide = this.a.bitness === 64;
    if (!wide && mask >> 32n !== 0n)
      throw new RangeError(`CR4 has 32 bits in ${this.a.bitness}-bit code`);
    const [ax, cx] = wide ? (["rax", "rcx"] as const) : (["eax", "ecx"] as const);
    this.a.mov(ax, "cr4").mov(cx, mask)[operation](ax, cx).mov("cr4", ax);
    return this;
  }

  /** Executes RDMSR and records the 64-bit value, in every mode. */
  rdmsr(msr: number): this {
    this.a.mov("ecx", msr >>> 0).rdmsr();
    return this.recordPair();
  }

  /** Executes WRMSR with a 64-bit value. */
  wrmsr(msr: number, value: number | bigint): this {
    this.#pair(msr, value).wrmsr();
    return this;
  }

  /** Executes XGETBV and records the 64-bit value. CR4.OSXSAVE must be set. */
  xgetbv(index = 0): this {
    this.a.mov("ecx", index).xgetbv();
    return this.recordPair();
  }

  /** Executes XSETBV with a 64-bit value for XCR0. CR4.OSXSAVE must be set, and CPL must be 0. */
  xsetbv(value: number | bigint, index = 0): this {
    this.#pair(index, value).xsetbv();
    return this;
  }

  /** Executes RDTSC and records the 64-bit value. */
  rdtsc(): this {
    this.a.rdtsc();
    return this.recordPair();
  }

  /** Executes MONITOR on the address of the mailbox, without extensions and hints. */
  monitor(): this {
    this.a.mov("eax", MAILBOX_GPA).mov("ecx", 0).mov("edx", 0).monitor();
    return this;
  }

  /** Executes MWAIT without extensions and hints. */
  mwait(): this {
    this.a.mov("eax", 0).mov("ecx", 0).mwait();
    return this;
  }

  #pair(index: number, value: number | bigint): Assembler {
    const [low, high] = halves(value);
    return this.a
      .mov("ecx", index >>> 0)
      .mov("eax", low)
      .mov("edx", high);
  }

  /** Writes a byte to a port. */
  outb(port: number, value: number): this {
    this.a.mov("dx", port).mov("al", value).out(8, "dx");
    return this;
  }

  /** Writes 16 bits to a port. */
  outw(port: number, value: number): this {
    this.a.mov("dx", port).mov("ax", value).out(16, "dx");
    return this;
  }

  /** Writes 32 bits to a port. */
  outl(port: number, value: number): this {
    this.a
      .mov("dx", port)
      .mov("eax", value >>> 0)
      .out(32, "dx");
    return this;
  }

  /** Reads a byte from a port and records it. */
  inb(port: number): this {
    this.a.mov("dx", port).in(8, "dx");
    return this.record("al");
  }

  /** Reads 16 bits from a port and records them. */
  inw(port: number): this {
    this.a.mov("dx", port).in(16, "dx");
    return this.record("ax");
  }

  /** Reads 32 bits from a port and records them. */
  inl(port: number): this {
    this.a.mov("dx", port).in(32, "dx");
    return this.record("eax");
  }

  /**
   * Reads memory and records the value. At an address without memory, KVM exits with KVM_EXIT_MMIO.
   *
   * @param gpa the guest physical address: below 4 GiB; in real mode, below 1 MiB
   * @param size the size of the access in bits: 8, 16 or 32; in 64-bit code, also 64
   */
  read(gpa: number, size: Size): this {
    const accumulator = this.#accumulator(size);
    this.a.mov(accumulator, this.#memory(gpa, size));
    return this.record(accumulator);
  }

  /**
   * Writes memory. At an address without memory, KVM exits with KVM_EXIT_MMIO.
   *
   * @param gpa the guest physical address: below 4 GiB; in real mode, below 1 MiB
   * @param size the size of the access in bits: 8, 16 or 32; in 64-bit code, also 64
   */
  write(gpa: number, value: number | bigint, size: Size): this {
    const accumulator = this.#accumulator(size);
    const operand = this.#memory(gpa, size);
    this.a.mov(accumulator, BigInt.asUintN(size, BigInt(value))).mov(operand, accumulator);
    return this;
  }

  #accumulator(size: Size): Register {
    if (size > 32 && this.a.bitness !== 64) {
      throw new RangeError(`${this.a.bitness}-bit code cannot move 64 bits`);
    }
    return accumulators[size];
  }

  #memory(gpa: number, size: Size): Memory {
    const limit = this.a.bitness === 16 ? 0x10_0000 : 0x1_0000_0000;
    if (gpa < 0 || gpa + size / 8 > limit) {
      throw new RangeError(`${this.a.bitness}-bit code cannot reach gpa 0x${gpa.toString(16)}`);
    }
    const [, base] = pointers[this.a.bitness];
    if (this.a.bitness !== 16) {
      this.a.mov("edi", gpa);
      return mem(size, { base });
    }
    this.#segment("es", gpa & ~0xf).a.mov("di", gpa & 0xf);
    return mem(size, { base, segment: "es" });
  }

  #segment(register: "es" | "fs", gpa: number): this {
    this.a.mov("ax", gpa >>> 4).mov(register, "ax");
    return this;
  }

  /**
   * Repeats the inner actions forever; without inner actions, the guest spins. If the inner actions record values, they
   * must also call `sync()`.
   */
  loopForever(inner: (g: this) => unknown = () => this): this {
    const again = this.newLabel();
    this.a.label(again);
    inner(this);
    this.a.jmp(again);
    return this;
  }

  /**
   * Calls a function that adds instructions with the assembler. Labels that begin with a dot are reserved for the
   * builder.
   */
  asm(add: (a: Assembler) => unknown): this {
    add(this.a);
    return this;
  }

  /** Encodes the inputs of all calls of `cpuidAll`, for guest memory. */
  table(): Uint8Array {
    const words = this.#inputs.flatMap((input) => [input.function, input.index]);
    return new Uint8Array(Uint32Array.from(words).buffer);
  }
}

// For each code width, the registers that contain the addresses of reads and writes.
const pointers = { 16: ["si", "di"], 32: ["esi", "edi"], 64: ["rsi", "rdi"] } as const;
const accumulators = { 8: "al", 16: "ax", 32: "eax", 64: "rax" } as const;
