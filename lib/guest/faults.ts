/**
 * The handlers of the 32 exception vectors: a handler reports the exception to the host, or ends the actions of
 * `attempt()` in the guest. modes.ts builds the tables that contain the addresses of the handlers.
 */

import { refuseUnknown } from "../options.ts";
import { Assembler } from "./assemble.ts";
import { CODE_GPA, HANDLERS_GPA } from "./layout.ts";
import { mem } from "./operand.ts";
import { ATTEMPT_STACK_GPA, FAULT_GPA, UCALL_FAULT, UCALL_PORT } from "./ucall.ts";

/** The number of vectors with a handler: the 32 vectors that are reserved for exceptions. */
export const VECTORS = 32;

/** The linear address of the handler of each vector. */
export const handlerAddresses: readonly number[] = Array.from(
  { length: VECTORS },
  (_, vector) => HANDLERS_GPA + vector * 8,
);

/** The selectors with which a handler returns to ring 3. */
export interface UserSelectorsInput {
  /** The CS selector, whose RPL is 3. */
  readonly cs: number;
  /** The SS selector, whose RPL is 3. */
  readonly ss: number;
  /** RFLAGS. */
  readonly rflags: bigint;
}

// #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX push an error code (Intel SDM Vol. 3A 7.3.1, AMD APM Vol. 2 8.2).
const errorCodeVectors = [8, 10, 11, 12, 13, 14, 17, 21, 29, 30];
const ERROR_CODES = errorCodeVectors.reduce((mask, vector) => mask | (1 << vector), 0);

const [VECTOR, ERROR_CODE, RIP, CR2] = [0, 8, 16, 24].map((i) => FAULT_GPA + i) as [
  number,
  number,
  number,
  number,
];

// The entry of each vector calls the common code, and the return address of this call identifies the vector.
// A CALL has 3 or 5 bytes, and NOPs extend each entry to 8 bytes.
function entries(a: Assembler): void {
  const filler = Array.from({ length: a.bitness === 16 ? 5 : 3 }, () => 0x90);
  for (let vector = 0; vector < VECTORS; vector += 1) a.call("common").db(...filler);
  a.label("common");
}

function report(a: Assembler): void {
  a.label("report").mov("dx", UCALL_PORT).mov("al", UCALL_FAULT);
  // If the host runs the guest again after a report, the guest repeats the report.
  a.label("again").out(8, "dx").jmp("again");
}

/**
 * Assembles the exception handlers of 32-bit or 64-bit code for the address {@link HANDLERS_GPA}. The handlers write
 * the exception to the mailbox. If the exception occurs inside `attempt()`, the handler returns to the end of the
 * attempt with the attempt's stack pointer, and preserves the general registers. Otherwise, the handler reports the
 * exception to the host and never returns.
 *
 * @param user the selectors and flags for a return to ring 3 by IRETQ; if omitted, the handlers stay in ring 0 and use
 *   RET
 */
export function protectedHandlers(bits: 32 | 64, user?: UserSelectorsInput): Uint8Array {
  if (user) refuseUnknown("protectedHandlers()", user, ["cs", "ss", "rflags"], "member");
  const a = new Assembler(bits);
  const word = bits / 8;
  const [ax, cx, sp] =
    bits === 64 ? (["rax", "rcx", "rsp"] as const) : (["eax", "ecx", "esp"] as const);
  const stack = (words: number) => mem(bits, { base: sp, displacement: words * word });

  entries(a);
  // The stack contains cx, ax, the return address in the entry, the error code of vectors that have one, rip, cs and
  // the flags.
  a.push(ax).push(cx).mov(ax, stack(2)).sub("eax", HANDLERS_GPA).shr("eax", 3);
  a.mov(mem(bits, VECTOR), ax);
  a.mov("ecx", ERROR_CODES).emit("Bt_rm32_r32", "ecx", "eax").jcc("b", "coded");
  a.xor("eax", "eax").mov(cx, stack(3)).jmp("store");
  a.label("coded").mov(ax, stack(3)).mov(cx, stack(4));
  a.label("store").mov(mem(bits, ERROR_CODE), ax).mov(mem(bits, RIP), cx);
  a.mov(ax, "cr2").mov(mem(bits, CR2), ax);
  a.mov(cx, mem(bits, ATTEMPT_STACK_GPA)).test(cx, cx).jcc("e", "report");
  if (user === undefined) {
    a.pop(cx).pop(ax).mov(sp, mem(bits, ATTEMPT_STACK_GPA)).ret();
  } else {
    a.mov(ax, mem(bits, { base: cx })).add(cx, word);
    a.push(user.ss).push(cx).push(Number(user.rflags)).push(user.cs).push(ax);
    a.mov(cx, stack(5)).mov(ax, stack(6)).iret();
  }
  report(a);
  return a.assemble(BigInt(HANDLERS_GPA));
}

/**
 * Assembles the exception handlers of real mode for the address {@link HANDLERS_GPA}, with CS 0. In real mode, the CPU
 * pushes no error code, and the handlers report RIP as the linear address: CS * 16 + IP.
 */
export function realHandlers(): Uint8Array {
  const a = new Assembler(16);
  const frame = (bytes: number) => mem(16, { base: "bp", displacement: bytes });

  entries(a);
  // The stack contains ds, ecx, eax, bp, the return address in the entry, ip, cs and the flags.
  // On this stack, ecx and eax have 32 bits, and all other values have 16 bits.
  a.push("bp").push("eax").push("ecx").push("ds").mov("bp", "sp");
  a.xor("ax", "ax").mov("ds", "ax");
  a.emit("Movzx_r32_rm16", "eax", frame(12)).sub("ax", HANDLERS_GPA);
  a.shr("eax", 3).mov(mem(32, VECTOR), "eax");
  a.emit("Movzx_r32_rm16", "eax", frame(14)).emit("Movzx_r32_rm16", "ecx", frame(16));
  a.shl("ecx", 4).add("eax", "ecx").mov(mem(32, RIP), "eax").mov("eax", "cr2");
  a.mov(mem(32, CR2), "eax").mov("bp", mem(16, ATTEMPT_STACK_GPA)).test("bp", "bp");
  a.jcc("e", "report");
  // The near return address on the attempt's stack becomes a far return address.
  // For a far return, ip is stored one word lower, and the code's segment is stored above ip.
  a.mov("ax", frame(0))
    .mov(frame(-2), "ax")
    .mov(frame(0), CODE_GPA >> 4);
  a.pop("ds").pop("ecx").pop("eax").pop("bp");
  // The access uses CS, which is 0, because the program may have changed DS.
  a.mov("sp", mem(16, { displacement: ATTEMPT_STACK_GPA, segment: "cs" }))
    .sub("sp", 2)
    .retf();
  report(a);
  return a.assemble(BigInt(HANDLERS_GPA));
}
