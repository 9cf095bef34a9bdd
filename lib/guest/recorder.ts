/**
 * Records and sends a guest's values: syncs, attempts, the end. builder.ts has the actions whose results are recorded;
 * ucall.ts decodes the values.
 */
import type { Assembler } from "./assemble.ts";
import { mem, type Register, registerSize } from "./operand.ts";
import {
  ATTEMPT_STACK_GPA,
  FAULT_GPA,
  NO_FAULT,
  SYNC_COUNT_GPA,
  UCALL_DONE,
  UCALL_PORT,
  UCALL_SYNC,
  VALUES_GPA,
  VALUES_MAX,
} from "./ucall.ts";

/** Adds the recording and sending of values to a guest program; `GuestBuilder` adds the other actions. */
export class Recorder {
  /** The assembler of the program. @internal */
  protected readonly a: Assembler;
  #recorded = 0;
  #labels = 0;
  #attempts = 0;

  /** Starts a program whose code is added to an assembler. */
  constructor(assembler: Assembler) {
    if (typeof assembler?.emit !== "function") {
      throw new TypeError(`new ${new.target.name}(): use guest(), or an Assembler`);
    }
    this.a = assembler;
  }

  /**
   * Sends to the host the values that were recorded since the last sync, and then the values of the argument.
   *
   * @param values constants of up to 64 bits, for example to mark a place in the program
   * @throws RangeError for more than 480 values, or for a value that does not fit in 64 bits
   */
  sync(...values: readonly (number | bigint)[]): this {
    if (this.#attempts > 0) throw new Error("the inner actions of an attempt cannot sync");
    for (const value of values) this.#recordConstant(value);
    this.a.mov(mem(32, SYNC_COUNT_GPA), this.#recorded);
    this.#recorded = 0;
    return this.out(UCALL_SYNC);
  }

  /**
   * Notifies the host that the program has ended. If the host runs the guest again, the guest repeats the notification.
   */
  done(): this {
    const again = this.newLabel();
    this.a.mov("dx", UCALL_PORT).mov("al", UCALL_DONE).label(again).out(8, "dx").jmp(again);
    return this;
  }

  /** Records registers, zero-extended to 64 bits: `asm((a) => a.mov("rax", "cr3")).record("rax")`. */
  record(...registers: readonly Register[]): this {
    for (const register of registers) {
      const slot = this.#slot();
      const size = registerSize(register);
      if (size === 64) {
        this.a.mov(mem(64, slot), register);
      } else {
        // The slot may contain an earlier 64-bit value, so the upper bytes of the slot are cleared.
        this.a.mov(mem(32, slot + 4), 0);
        if (size !== 32) this.a.mov(mem(32, slot), 0);
        this.a.mov(mem(size, slot), register);
      }
    }
    return this;
  }

  #recordConstant(value: number | bigint): void {
    const [low, high] = halves(value);
    const slot = this.#slot();
    this.a.mov(mem(32, slot), low).mov(mem(32, slot + 4), high);
  }

  /** Records EDX:EAX as one value. @internal */
  protected recordPair(): this {
    const slot = this.#slot();
    this.a.mov(mem(32, slot), "eax").mov(mem(32, slot + 4), "edx");
    return this;
  }

  #slot(): number {
    if (this.#recorded >= VALUES_MAX) {
      throw new RangeError(`more than ${VALUES_MAX} values in one sync`);
    }
    this.#recorded += 1;
    return VALUES_GPA + (this.#recorded - 1) * 8;
  }

  /** Writes a ucall code to the port. @internal */
  protected out(code: number): this {
    this.a.mov("dx", UCALL_PORT).mov("al", code).out(8, "dx");
    return this;
  }

  /** Creates an unused label. @internal */
  protected newLabel(): string {
    this.#labels += 1;
    return `.${this.#labels}`;
  }

  /**
   * Runs inner actions that may raise an exception. After the values of the inner actions, `attempt` records the vector
   * of the exception, or {@link NO_FAULT} without an exception. An exception ends the inner actions; values that were
   * not recorded before the exception are 0. The inner actions must restore the stack pointer, and must not sync.
   *
   * @throws Error if attempts are nested, or the inner actions sync
   */
  attempt(inner: (g: this) => unknown): this {
    if (this.#attempts > 0) throw new Error("an attempt cannot hold another");
    const a = this.a;
    const [body, prepare, after] = [this.newLabel(), this.newLabel(), this.newLabel()];
    const bits = a.bitness;
    const sp = ({ 16: "sp", 32: "esp", 64: "rsp" } as const)[bits];

    // This CALL pushes a return address, which the inner actions and the exception handler both use.
    a.call(prepare).jmp(after).label(body);
    const first = this.#recorded;
    this.#attempts += 1;
    inner(this);
    this.#attempts = 0;
    a.mov(mem(32, FAULT_GPA), Number(NO_FAULT)).ret();

    a.label(prepare).mov(mem(bits, ATTEMPT_STACK_GPA), sp);
    for (let i = first * 2; i < this.#recorded * 2; i += 1) a.mov(mem(32, VALUES_GPA + i * 4), 0);
    a.jmp(body).label(after).mov(mem(bits, ATTEMPT_STACK_GPA), 0).mov("eax", mem(32, FAULT_GPA));
    return this.record("eax");
  }
}

/** Splits a value into two 32-bit words, unsigned. */
export function halves(value: number | bigint): [low: number, high: number] {
  const wide = BigInt(value);
  if (BigInt.asUintN(64, wide) !== wide && BigInt.asIntN(64, wide) !== wide) {
    throw new RangeError(`${value} does not fit in 64 bits`);
  }
  return [Number(BigInt.asUintN(32, wide)), Number(BigInt.asUintN(32, wide >> 32n))];
}
