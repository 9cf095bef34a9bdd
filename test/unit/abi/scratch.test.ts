/** Bytes that are lent: zeros, to one at a time, and given back after a mistake. */

import { expect, test } from "vitest";
import { Cpuid2, Regs } from "../../../lib/abi/generated/structs.ts";
import { borrow, borrowEncoded } from "../../../lib/abi/scratch.ts";
import { encode } from "../../../lib/abi/struct.ts";

test("what was given back is lent again, as zeros", () => {
  const first = borrow({ ...Regs });
  const layout = { ...Regs };
  const second = borrow(layout);
  second.bytes.fill(7);
  second.isFree = true;
  const third = borrow(layout);
  expect(third.bytes).toBe(second.bytes);
  expect(third.bytes).toEqual(first.bytes);
});

test("what is lent is not lent to a second", () => {
  const layout = { ...Regs };
  const outer = borrow(layout);
  const inner = borrow(layout);
  expect(inner.bytes).not.toBe(outer.bytes);
  inner.isFree = true;
  expect(borrow(layout).bytes).not.toBe(outer.bytes);
});

test("what is lent again is not lent to a second", () => {
  const layout = { ...Regs };
  borrow(layout).isFree = true;
  const outer = borrow(layout);
  expect(borrow(layout).bytes).not.toBe(outer.bytes);
});

test("a value that is refused leaves nothing lent", () => {
  const layout = { ...Regs };
  const { bytes } = Object.assign(borrow(layout), { isFree: true });
  expect(() => borrowEncoded(layout, { rip: -1n })).toThrow(RangeError);
  expect(borrow(layout).bytes).toBe(bytes);
});

test("the bytes are as many as the tail needs, whatever was lent before", () => {
  for (const count of [3, 2, 2, 3]) {
    const value = { entries: Array.from({ length: count }, () => ({ function: count })) };
    const scratch = borrowEncoded(Cpuid2, value);
    expect(scratch.bytes).toEqual(encode(Cpuid2, value));
    scratch.isFree = true;
  }
});
