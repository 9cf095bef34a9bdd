/** Structs survive the way to bytes and back. What is refused is refusal.test.ts. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as structs from "../../../lib/abi/generated/structs.ts";
import { sizeOfType } from "../../../lib/abi/layout.ts";
import {
  encode,
  type Field,
  type FieldType,
  type Layout,
  offsetOf,
  read,
  type Scalar,
  sizeOf,
  type Tail,
  write,
} from "../../../lib/abi/struct.ts";

const layouts: readonly Layout[] = Object.values(structs);
const byName = layouts.map((layout) => [layout.name, layout] as const);

const integers: Readonly<Record<Scalar, fc.Arbitrary<number | bigint>>> = {
  u8: fc.integer({ min: 0, max: 0xff }),
  u16: fc.integer({ min: 0, max: 0xffff }),
  u32: fc.integer({ min: 0, max: 0xffff_ffff }),
  u64: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  s8: fc.integer({ min: -0x80, max: 0x7f }),
  s16: fc.integer({ min: -0x8000, max: 0x7fff }),
  s32: fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }),
  s64: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
};

/** Large arrays differ in a few elements only: thousands of arbitrary ones are slow. */
function arrayOf(of: FieldType, count: number): fc.Arbitrary<unknown> {
  if (of === "u8") return fc.uint8Array({ minLength: count, maxLength: count });
  return fc
    .array(anyOf(of), { minLength: 1, maxLength: Math.min(count, 4) || 1 })
    .map((some) => Array.from({ length: count }, (_, i) => some[i % some.length]));
}

function anyOf(type: FieldType): fc.Arbitrary<unknown> {
  if (typeof type === "string") return integers[type];
  return "of" in type ? arrayOf(type.of, type.count) : membersOf(type);
}

/** A field's values: of a bit field, those its width allows. */
function fieldValue({ type, bits }: Field): fc.Arbitrary<unknown> {
  return bits ? fc.integer({ min: 0, max: 2 ** bits[1] - 1 }) : anyOf(type);
}

function tailValue({ element }: Tail): fc.Arbitrary<unknown> {
  return fc.integer({ min: 0, max: 5 }).chain((count) => arrayOf(element, count));
}

const countOf = (layout: Layout): string | undefined => layout.tail?.count;

/** A member of a union is alone: writing another over it would change it. */
function membersOf(layout: Layout): fc.Arbitrary<Record<string, unknown>> {
  const fields = layout.fields.filter(({ name }) => name !== countOf(layout));
  const members = fields.map((field) => [field.name, fieldValue(field)] as const);
  const tail = layout.tail ? [[layout.tail.name, tailValue(layout.tail)] as const] : [];
  return overlaps(layout)
    ? fc.constantFrom(...members).chain((member) => fc.record(Object.fromEntries([member])))
    : fc.record(Object.fromEntries([...members, ...tail]));
}

/** Whether any two fields share bytes, as in a union, flattened or not. */
function overlaps(layout: Layout): boolean {
  const whole = layout.fields.filter(({ bits }) => !bits);
  return whole.some(({ offset }, i) => {
    const last = whole[i - 1];
    return last !== undefined && offset < last.offset + sizeOfType(last.type);
  });
}

describe.each(byName)("%s", (_, layout) => {
  test("what is written is read", () => {
    fc.assert(
      fc.property(membersOf(layout), fc.nat(16), (value, offset) => {
        const bytes = encode(layout, value);
        const moved = new Uint8Array([...new Uint8Array(offset).fill(0xaa), ...bytes]);
        expect(read(layout, moved, offset)).toMatchObject(value);
      }),
      { numRuns: 25 },
    );
  });

  test.each(
    layout.fields
      .filter(({ name }) => name !== countOf(layout))
      .map((field) => [field.name, field] as const),
  )("%s alone is read as written, where offsetOf says", (name, field) => {
    fc.assert(
      fc.property(fieldValue(field), (value) => {
        const bytes = encode(layout, { [name]: value });
        expect(read(layout, bytes)).toMatchObject({ [name]: value });
        const before = bytes.subarray(0, offsetOf(layout, name));
        expect(before.every((byte) => byte === 0)).toBe(true);
      }),
      { numRuns: 3 },
    );
  });

  test("bytes that are read are written back the same", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: layout.size, maxLength: layout.size }), (noise) => {
        const value = readCountless(layout, noise);
        const again = new Uint8Array(noise.length);
        write(layout, value, again);
        expect(read(layout, again)).toEqual(value);
      }),
      { numRuns: 10 },
    );
  });

  test("nothing given is all zero", () => {
    const bytes = encode(layout, {});
    expect(bytes).toEqual(new Uint8Array(layout.size));
  });
});

/** Reads noise as a struct, its counts set to zero so that no tail is claimed. */
function readCountless(layout: Layout, noise: Uint8Array): object {
  clearCounts(layout, noise, 0);
  return read(layout as Layout<object>, noise);
}

function clearCounts(layout: Layout, bytes: Uint8Array, at: number): void {
  const count = layout.fields.find(({ name }) => name === countOf(layout));
  bytes.fill(
    0,
    at + (count?.offset ?? 0),
    at + (count ? count.offset + sizeOfType(count.type) : 0),
  );
  const last = layout.fields.at(-1);
  const inner = typeof last?.type === "object" && !("of" in last.type) ? [last.type] : [];
  for (const nested of inner) clearCounts(nested, bytes, at + (last?.offset ?? 0));
}

describe("what encode fills in", () => {
  test("fields that are not named are zero", () => {
    const regs = read(structs.Regs, encode(structs.Regs, { rip: 0x1000n }));
    expect(regs).toMatchObject({ rip: 0x1000n, rax: 0n, rflags: 0n });
  });

  test("a count follows from its tail", () => {
    const bytes = encode(structs.Cpuid2, { entries: [{ function: 1 }, { function: 7 }] });
    expect(bytes.length).toBe(sizeOf(structs.Cpuid2, 2));
    expect(read(structs.Cpuid2, bytes).nent).toBe(2);
  });

  test("a count of 64 bits does too", () => {
    const bytes = encode(structs.RegList, { reg: [1n, 2n, 3n] });
    expect(read(structs.RegList, bytes)).toEqual({ n: 3n, reg: [1n, 2n, 3n] });
  });

  test("a count that is given stands, before its tail or after", () => {
    const before = encode(structs.Msrs, { nmsrs: 0, entries: [{ index: 0x10 }] });
    const after = encode(structs.Msrs, { entries: [{ index: 0x10 }], nmsrs: 0 });
    expect([before[0], after[0], before.length]).toEqual([0, 0, sizeOf(structs.Msrs, 1)]);
  });

  test("a tail of bytes is counted in bytes", () => {
    const bytes = encode(structs.SignalMask, { sigset: new Uint8Array(8).fill(0xff) });
    expect(bytes).toEqual(new Uint8Array([8, 0, 0, 0, ...new Array<number>(8).fill(0xff)]));
  });

  test("a tail without a count takes the bytes there are", () => {
    const bytes = encode(structs.Xsave, { extra: [1, 2] });
    expect(bytes.length).toBe(4096 + 8);
    expect(read(structs.Xsave, bytes).extra).toEqual([1, 2]);
  });

  test("the tail of a nested struct is the struct's own", () => {
    const bytes = encode(structs.TdxInitVm, { cpuid: { entries: [{ function: 0x24 }] } });
    expect(bytes.length).toBe(sizeOf(structs.TdxInitVm, 1));
    expect(read(structs.TdxInitVm, bytes).cpuid).toMatchObject({ nent: 1 });
  });

  test("of a union, the last member named wins", () => {
    const irqFirst = encode(structs.IrqLevel, { irq: 5, status: -1 });
    const irqLast = encode(structs.IrqLevel, { status: -1, irq: 5 });
    expect(read(structs.IrqLevel, irqFirst)).toMatchObject({ irq: 0xffff_ffff, status: -1 });
    expect(read(structs.IrqLevel, irqLast)).toMatchObject({ irq: 5, status: 5 });
  });

  test("a short array is filled with zeros", () => {
    const bytes = new Uint8Array(structs.Sregs.size).fill(0xff);
    write(structs.Sregs, { interruptBitmap: [1n] }, bytes);
    expect(read(structs.Sregs, bytes).interruptBitmap).toEqual([1n, 0n, 0n, 0n]);
  });

  test("write leaves the fields it is not given", () => {
    const bytes = new Uint8Array(structs.Run.size).fill(0xff);
    write(structs.Run, { immediateExit: 0 }, bytes);
    expect(bytes.filter((byte) => byte === 0).length).toBe(1);
  });

  test("bit fields share their byte", () => {
    const fields = { deliveryMode: 5, polarity: 1, mask: 1 };
    const bytes = encode(structs.IoapicStateRedirtbl, { fields });
    expect(read(structs.IoapicStateRedirtbl, bytes).bits).toBe(0x1_2500n);
  });

  test("what is read does not change with the bytes", () => {
    const bytes = Buffer.alloc(structs.LapicState.size);
    const { regs } = read(structs.LapicState, bytes);
    bytes.fill(0xff);
    expect(regs.every((byte) => byte === 0)).toBe(true);
  });
});

describe("where things are", () => {
  test.each([
    ["cs.base", 0],
    ["ds.base", 24],
    ["interruptBitmap[2]", 296],
  ])("kvm_sregs.%s is at %i", (path, offset) => {
    expect(offsetOf(structs.Sregs, path)).toBe(offset);
  });

  test("an entry of a tail is at its multiple", () => {
    expect(offsetOf(structs.Cpuid2, "entries[2].eax")).toBe(8 + 2 * 40 + 12);
  });

  test.each(["raxx", "rax.low", "rax[0]", "[0]"])("kvm_regs has no %s", (path) => {
    expect(() => offsetOf(structs.Regs, path)).toThrow(TypeError);
  });

  test("a struct without a tail has no size with one", () => {
    expect(() => sizeOf(structs.Regs, 1)).toThrow(new RangeError("kvm_regs has no tail"));
  });
});
