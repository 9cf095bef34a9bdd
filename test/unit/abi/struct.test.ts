/**
 * Tests of single cases of encode, write, read and offsetOf. roundtrip.test.ts tests arbitrary values,
 * against-c.test.ts compares with C, and refusal.test.ts tests rejected values.
 */

import { describe, expect, test } from "vitest";
import * as structs from "../../../lib/abi/generated/structs.ts";
import { layoutOf } from "../../../lib/abi/layout.ts";
import { encode, offsetOf, read, sizeOf, write } from "../../../lib/abi/struct.ts";

describe("a layout", () => {
  test("that was frozen before its first use reads and writes structs", () => {
    const text = Object.freeze(layoutOf<{ a: number }>("t", 4, "a 0 u16, b 2 u8[2]"));
    expect(encode(text, { a: 5 })).toEqual(Uint8Array.of(5, 0, 0, 0));
    expect(text.fields).toBe(text.fields);
  });

  test("is parsed correctly although Object.prototype has a member get", () => {
    const text = layoutOf<{ a: number }>("t", 2, "a 0 u16");
    let { fields }: { fields?: unknown } = {};
    Reflect.set(Object.prototype, "get", 1);
    try {
      ({ fields } = text);
    } finally {
      Reflect.deleteProperty(Object.prototype, "get");
    }
    expect(fields).toEqual([{ name: "a", offset: 0, type: "u16" }]);
  });
});

describe("encode()", () => {
  test("omitted fields are written as zero", () => {
    const regs = read(structs.Regs, encode(structs.Regs, { rip: 0x1000n }));
    expect(regs).toMatchObject({ rip: 0x1000n, rax: 0n, rflags: 0n });
  });

  test("an omitted count is written as the length of its tail", () => {
    const bytes = encode(structs.Cpuid2, { entries: [{ function: 1 }, { function: 7 }] });
    expect(bytes.length).toBe(sizeOf(structs.Cpuid2, 2));
    expect(read(structs.Cpuid2, bytes).nent).toBe(2);
  });

  test("an omitted 64-bit count is written as the length of its tail", () => {
    const bytes = encode(structs.RegList, { reg: [1n, 2n, 3n] });
    expect(read(structs.RegList, bytes)).toEqual({ n: 3n, reg: [1n, 2n, 3n] });
  });

  test("a count that the value contains is written unchanged, before or after its tail", () => {
    const before = encode(structs.Msrs, { nmsrs: 0, entries: [{ index: 0x10 }] });
    const after = encode(structs.Msrs, { entries: [{ index: 0x10 }], nmsrs: 0 });
    expect([before[0], after[0], before.length]).toEqual([0, 0, sizeOf(structs.Msrs, 1)]);
  });

  test("the count of a tail of bytes is a number of bytes", () => {
    const bytes = encode(structs.SignalMask, { sigset: new Uint8Array(8).fill(0xff) });
    expect(bytes).toEqual(new Uint8Array([8, 0, 0, 0, ...new Array<number>(8).fill(0xff)]));
  });

  test("a tail without a count consists of all remaining bytes", () => {
    const bytes = encode(structs.Xsave, { extra: [1, 2] });
    expect(bytes.length).toBe(4096 + 8);
    expect(read(structs.Xsave, bytes).extra).toEqual([1, 2]);
  });

  test("the tail of a nested struct is the value of that nested struct", () => {
    const bytes = encode(structs.TdxInitVm, { cpuid: { entries: [{ function: 0x24 }] } });
    expect(bytes.length).toBe(sizeOf(structs.TdxInitVm, 1));
    expect(read(structs.TdxInitVm, bytes).cpuid).toMatchObject({ nent: 1 });
  });

  test("if a value has two members of a union, the last one in the value is written", () => {
    const irqFirst = encode(structs.IrqLevel, { irq: 5, status: -1 });
    const irqLast = encode(structs.IrqLevel, { status: -1, irq: 5 });
    expect(read(structs.IrqLevel, irqFirst)).toMatchObject({ irq: 0xffff_ffff, status: -1 });
    expect(read(structs.IrqLevel, irqLast)).toMatchObject({ irq: 5, status: 5 });
  });

  test("an array shorter than the field is filled with zeros", () => {
    const bytes = new Uint8Array(structs.Sregs.size).fill(0xff);
    write(structs.Sregs, { interruptBitmap: [1n] }, bytes);
    expect(read(structs.Sregs, bytes).interruptBitmap).toEqual([1n, 0n, 0n, 0n]);
  });

  test("write() does not change the bytes of omitted fields", () => {
    const bytes = new Uint8Array(structs.Run.size).fill(0xff);
    write(structs.Run, { immediateExit: 0 }, bytes);
    expect(bytes.filter((byte) => byte === 0).length).toBe(1);
  });

  test("two bit fields are written to one byte", () => {
    const fields = { deliveryMode: 5, polarity: 1, mask: 1 };
    const bytes = encode(structs.IoapicStateRedirtbl, { fields });
    expect(read(structs.IoapicStateRedirtbl, bytes).bits).toBe(0x1_2500n);
  });

  test("a value that was read does not change when the bytes change", () => {
    const bytes = Buffer.alloc(structs.LapicState.size);
    const { regs } = read(structs.LapicState, bytes);
    bytes.fill(0xff);
    expect(regs.every((byte) => byte === 0)).toBe(true);
  });
});

describe("offsets", () => {
  test.each([
    ["cs.base", 0],
    ["ds.base", 24],
    ["interruptBitmap[2]", 296],
  ])("kvm_sregs.%s is at offset %i", (path, offset) => {
    expect(offsetOf(structs.Sregs, path)).toBe(offset);
  });

  test("an element of a tail starts at a multiple of its size", () => {
    expect(offsetOf(structs.Cpuid2, "entries[2].eax")).toBe(8 + 2 * 40 + 12);
  });

  test.each(["raxx", "rax.low", "rax[0]", "[0]"])(
    "the layout of kvm_regs has no field %s",
    (path) => {
      expect(() => offsetOf(structs.Regs, path)).toThrow(TypeError);
    },
  );

  test.each([
    "",
    ".",
    "..",
    "nent.",
    ".nent",
    "entries[",
    "entries]",
    "entries[2]eax",
    "entries[-1]",
  ])("offsetOf() rejects %j, which is not a path", (path) => {
    expect(() => offsetOf(structs.Cpuid2, path)).toThrow(TypeError);
    expect(() => offsetOf(structs.Cpuid2, path)).toThrow(
      `offsetOf(): path: ${JSON.stringify(path)} is not a path`,
    );
  });

  test.each([undefined, null, 3])("offsetOf() rejects the path %j", (path) => {
    expect(() => offsetOf(structs.Cpuid2, path as unknown as string)).toThrow(
      `offsetOf(): path: expected a string, got ${path}`,
    );
  });

  test("offsetOf() rejects an index behind the last element", () => {
    expect(offsetOf(structs.Cpuid2, "entries[2].padding[2]")).toBe(8 + 2 * 40 + 36);
    for (const path of ["entries[2].padding[3]", "entries[99999999999999999999].eax"]) {
      expect(() => offsetOf(structs.Cpuid2, path)).toThrow(RangeError);
      expect(() => offsetOf(structs.Cpuid2, path)).toThrow(
        `offsetOf(): path: "${path}": no element`,
      );
    }
    expect(() => offsetOf(structs.Sregs, "interruptBitmap[4]")).toThrow(RangeError);
  });

  test.each([
    ["3", TypeError, 'expected a number, got "3"'],
    [null, TypeError, "expected a number, got null"],
    [-1, RangeError, "-1 is not an integer of at least 0"],
    [1.5, RangeError, "1.5 is not an integer of at least 0"],
    [Number.NaN, RangeError, "NaN is not an integer of at least 0"],
  ])("sizeOf() rejects the tail length %j", (length, type, message) => {
    for (const layout of [structs.Cpuid2, structs.Regs]) {
      const call = (): number => sizeOf(layout, length as number);
      expect(call).toThrow(type);
      expect(call).toThrow(`sizeOf(): tailLength: ${message}`);
    }
  });

  test("sizeOf() rejects a tail length for a struct without a tail", () => {
    expect(() => sizeOf(structs.Regs, 1)).toThrow(new RangeError("kvm_regs has no tail"));
  });
});
