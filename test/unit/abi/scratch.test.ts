/** Tests of scratch bytes: they are zeros, have one borrower at a time, and are released after an error. */

import { expect, test } from "vitest";
import { Cpuid2, Regs } from "../../../lib/abi/generated/structs.ts";
import { borrow, borrowEncoded } from "../../../lib/abi/scratch.ts";
import { encode } from "../../../lib/abi/struct.ts";

test("bytes that were released are lent again, filled with zeros", () => {
  const first = borrow({ ...Regs });
  const layout = { ...Regs };
  const second = borrow(layout);
  second.bytes.fill(7);
  second.isFree = true;
  const third = borrow(layout);
  expect(third.bytes).toBe(second.bytes);
  expect(third.bytes).toEqual(first.bytes);
});

test("bytes that are lent are not lent to a second borrower at the same time", () => {
  const layout = { ...Regs };
  const outer = borrow(layout);
  const inner = borrow(layout);
  expect(inner.bytes).not.toBe(outer.bytes);
  inner.isFree = true;
  expect(borrow(layout).bytes).not.toBe(outer.bytes);
});

test("bytes that were released and lent again are not lent to a second borrower", () => {
  const layout = { ...Regs };
  borrow(layout).isFree = true;
  const outer = borrow(layout);
  expect(borrow(layout).bytes).not.toBe(outer.bytes);
});

test("the scratch bytes are released when encode() rejects a value", () => {
  const layout = { ...Regs };
  const { bytes } = Object.assign(borrow(layout), { isFree: true });
  expect(() => borrowEncoded(layout, { rip: -1n })).toThrow(RangeError);
  expect(borrow(layout).bytes).toBe(bytes);
});

test("the number of lent bytes depends only on the tail, not on earlier loans", () => {
  for (const count of [3, 2, 2, 3]) {
    const value = { entries: Array.from({ length: count }, () => ({ function: count })) };
    const scratch = borrowEncoded(Cpuid2, value);
    expect(scratch.bytes).toEqual(encode(Cpuid2, value));
    scratch.isFree = true;
  }
});
