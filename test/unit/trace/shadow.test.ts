/** Tests of comparing memory: it finds all differences and nothing else. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Range } from "../../../lib/trace/record.ts";
import { differences, Shadow } from "../../../lib/trace/shadow.ts";

class Memory {
  readonly bytes: Uint8Array;
  constructor(length: number) {
    this.bytes = new Uint8Array(length);
  }
  get byteLength(): number {
    return this.bytes.length;
  }
  read(offset: number, length: number): Uint8Array {
    return this.bytes.slice(offset, offset + length);
  }
}

function applied(before: Uint8Array, ranges: readonly Range[]): Uint8Array {
  const result = before.slice();
  for (const { offset, bytes } of ranges) result.set(bytes, offset);
  return result;
}

const change = fc.record({ at: fc.nat(199), value: fc.integer({ min: 0, max: 255 }) });

describe("the differences between two arrays of bytes", () => {
  test("are none if the bytes are equal", () => {
    expect(differences(Uint8Array.of(1, 2), Uint8Array.of(1, 2))).toEqual([]);
  });

  test.each([1, 8])("turn the first array into the second, in units of %i", (unit) => {
    fc.assert(
      fc.property(fc.array(change), fc.array(change), (first, second) => {
        const [before, now] = [new Uint8Array(200), new Uint8Array(200)];
        for (const { at, value } of first) before[at] = value;
        for (const { at, value } of second) now[at] = value;
        const found = differences(before, now, unit);
        expect(applied(before, found)).toEqual(now);
        expect(found.filter(({ offset, bytes }) => (offset | bytes.length) % unit !== 0)).toEqual(
          [],
        );
      }),
    );
  });

  test("are two ranges if they are far apart, and one if they are near", () => {
    const now = new Uint8Array(100);
    for (const at of [0, 10, 60]) now[at] = 1;
    expect(differences(new Uint8Array(100), now)).toEqual([
      { offset: 0, bytes: now.slice(0, 11) },
      { offset: 60, bytes: Uint8Array.of(1) },
    ]);
  });
});

describe("the shadow of guest memory, which finds changes for a recording,", () => {
  test("returns all nonzero bytes in the first call, and only changes in later calls", () => {
    const memory = new Memory(600_000);
    const shadow = new Shadow(memory);
    memory.bytes.set([1, 2], 0x1000);
    memory.bytes[599_999] = 3;
    const first = shadow.changes("program");
    expect(Buffer.compare(applied(new Uint8Array(600_000), first), memory.bytes)).toBe(0);
    expect(shadow.changes("program")).toEqual([]);
    memory.bytes[0x1001] = 0;
    expect(shadow.changes("program")).toEqual([
      { offset: 0x1000, bytes: Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0) },
    ]);
  });

  test("ignores accessed and dirty bits that a guest's run has set, but returns the bits that the program has set", () => {
    const memory = new Memory(4096);
    const shadow = new Shadow(memory);
    memory.bytes.set([0x83, 0x90], 0x10);
    shadow.changes("program");
    memory.bytes[0x10] = 0xe3;
    expect(shadow.changes("guest")).toEqual([]);
    memory.bytes[0x10] = 0x83;
    expect(shadow.changes("program")).toHaveLength(1);
    memory.bytes[0x10] = 0xa1;
    expect(shadow.changes("guest")).toHaveLength(1);
  });
});
