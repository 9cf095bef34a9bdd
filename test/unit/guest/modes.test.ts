/** Tests of the four CPU modes: the special registers, and the memory around a program. */
import { describe, expect, test } from "vitest";
import type { Sregs } from "../../../lib/abi/index.ts";
import {
  CR4_OSXSAVE,
  EFER_NX,
  handlerAddresses,
  MEMORY_SIZE,
  type ModeName,
  modes,
  nullSegment,
  protectedHandlers,
  realHandlers,
} from "../../../lib/guest/index.ts";
import { listing } from "./listing.ts";

const names: readonly ModeName[] = ["real", "protected", "long", "user"];
const nothing = { base: 0n, limit: 0xffff, padding: [0, 0, 0] };
const segment = nullSegment();
const reset: Sregs = {
  ...{ cs: segment, ds: segment, es: segment, fs: segment, gs: segment, ss: segment },
  ...{ tr: segment, ldt: segment, gdt: nothing, idt: nothing },
  ...{ cr0: 0x6000_0010n, cr2: 0n, cr3: 0n, cr4: 0n, cr8: 5n, efer: 0n },
  ...{ apicBase: 0xfee0_0900n, interruptBitmap: [0n, 0n, 0n, 0n] },
};

describe("the special registers that the guest toolkit makes", () => {
  test.each([
    ["real", 0x10n, 0n, 0n],
    ["protected", 0x31n, 0x200n, 0n],
    ["long", 0x8000_0031n, 0x220n, 0x500n],
    ["user", 0x8000_0031n, 0x220n, 0x500n],
  ] as const)("for %s have the control registers of the mode", (name, cr0, cr4, efer) => {
    expect(modes[name].sregs(reset)).toMatchObject({ cr0, cr4, efer });
  });

  test.each(names)("for %s keep the host's values, and the input is not changed", (name) => {
    const before = structuredClone(reset);
    expect(modes[name].sregs(reset)).toMatchObject({ apicBase: 0xfee0_0900n, cr8: 5n });
    expect(reset).toEqual(before);
  });

  test.each(names)(
    "for %s have the additional bits of CR4 and EFER that the caller requests",
    (name) => {
      const { cr4, efer } = modes[name].sregs(reset, { cr4: CR4_OSXSAVE, efer: EFER_NX });
      expect([cr4 & CR4_OSXSAVE, efer & EFER_NX]).toEqual([CR4_OSXSAVE, EFER_NX]);
    },
  );

  test("for user mode have privilege level 3 in CS and SS", () => {
    const { cs, ss } = modes.user.sregs(reset);
    expect([cs.dpl, cs.selector & 3, ss.dpl, ss.selector & 3]).toEqual([3, 3, 3, 3]);
  });
});

describe("the memory layout of a guest's tables", () => {
  test.each(names)("for %s has no overlaps, and fits into memory", (name) => {
    const pieces = modes[name].pieces().toSorted((a, b) => a.gpa - b.gpa);
    const ends = pieces.map((piece) => piece.gpa + piece.bytes.length);
    const starts = [...pieces.slice(1).map((piece) => piece.gpa), MEMORY_SIZE];
    expect(ends.every((end, i) => end <= (starts[i] ?? 0))).toBe(true);
  });

  test("has tables of the lengths in the descriptor table registers", () => {
    const { gdt, idt, tr } = modes.long.sregs(reset);
    const sizes = modes.long.pieces().map((piece) => [piece.gpa, piece.bytes.length - 1]);
    const told = [gdt, idt, tr].map((table) => [Number(table.base), table.limit]);
    expect(sizes).toEqual(expect.arrayContaining(told));
  });
});

describe("the exception handlers of a guest", () => {
  const user = { cs: 0x23, ss: 0x1b, rflags: 0x3002n };
  test.each([
    ["real", 16, realHandlers()],
    ["protected", 32, protectedHandlers(32)],
    ["long", 64, protectedHandlers(64)],
    ["user", 64, protectedHandlers(64, user)],
  ] as const)("for %s are 32 calls, 8 bytes apart, and their common part", (_, bitness, code) => {
    const lines = listing(bitness, code, BigInt(handlerAddresses[0] ?? 0)).split("\n");
    const calls = lines.filter((line) => line.startsWith("call"));
    expect(new Set(calls).size).toBe(1);
    expect(calls.length).toBe(32);
    expect(lines.slice(lines.lastIndexOf("nop") + 1)).toMatchSnapshot();
  });
});
