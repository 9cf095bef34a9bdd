/**
 * Tests of properties of every struct: reading returns any value that was written, and every field that C declares
 * occurs. against-c.test.ts compares with C; struct.test.ts contains single cases.
 */

import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import * as structs from "../../../lib/abi/generated/structs.ts";
import { type FieldType, fieldOf, scalars, sizeOfType } from "../../../lib/abi/layout.ts";
import { encode, type Layout, offsetOf, read, write } from "../../../lib/abi/struct.ts";
import { cStructs, pathsOf, structFacts } from "./c-structs.ts";
import { MadeBits, madeBitsInC } from "./made-bits.ts";
import { bytesOf, covering, fieldValue, type Members, named, only, structValue } from "./values.ts";

const SEED = 7;
const inC = new Map([...cStructs(structFacts()), ...madeBitsInC]);
const generated: readonly Layout[] = Object.values(structs);
const byName = [...generated, MadeBits].map((layout) => [layout.name, layout] as const);

const roundTrip = (layout: Layout) =>
  fc.property(structValue(layout), fc.nat(16), (value, offset) => {
    const bytes = new Uint8Array(offset + encode(layout, value).length).fill(0xaa);
    write(layout, value, bytes, offset);
    const before = bytes.subarray(0, offset).every((byte) => byte === 0xaa);
    return before && isDeepStrictEqual(only(read(layout, bytes, offset), value), value);
  });

/** Lists the fields of a C struct that no test value writes and reads back. */
function unreached(layout: Layout): readonly string[] {
  const wanted = pathsOf(inC, layout.name);
  const back = covering(layout, wanted, SEED)
    .map((value) => [value, only(read(layout, encode(layout, value)), value)] as const)
    .filter(([value, again]) => isDeepStrictEqual(again, value))
    .flatMap(([value]) => named(layout, value));
  const seen = new Set(back.map((path) => path.join(".")));
  return wanted.map((path) => path.join(".")).filter((path) => !seen.has(path));
}

/** Lists the numbers of the bits that `write` changes in bytes of zeros or in bytes of ones. */
function touched(layout: Layout, value: Members): readonly number[] {
  const { length } = encode(layout, value);
  const [zeros, ones] = [new Uint8Array(length), new Uint8Array(length).fill(0xff)];
  write(layout, value, zeros);
  write(layout, value, ones);
  return Array.from({ length: 8 * length }, (_, bit) => bit).filter((bit) => {
    const [byte, mask] = [bit >> 3, 1 << (bit & 7)];
    return ((zeros[byte] ?? 0) & mask) === ((ones[byte] ?? 0) & mask);
  });
}

/** Returns the total number of bits of a value's integers. */
function widthOf(type: FieldType, value: unknown): number {
  if (typeof type === "string") return 8 * sizeOfType(type);
  if ("of" in type) {
    return Array.from(value as ArrayLike<unknown>)
      .map((element) => widthOf(type.of, element))
      .reduce((sum, width) => sum + width, 0);
  }
  const { tail } = type;
  return Object.entries(value as Members)
    .map(([name, member]) => {
      const field = fieldOf(type, name);
      if (field) return field.bits?.[1] ?? widthOf(field.type, member);
      return widthOf({ of: tail?.element ?? type, count: 0 }, member);
    })
    .reduce((sum, width) => sum + width, 0);
}

/** Reads random bytes as a struct, with all counts set to zero, so that the struct has no tail. */
function readCountless(layout: Layout, noise: Uint8Array): object {
  clearCounts(layout, noise, 0);
  return read(layout as Layout<object>, noise);
}

function clearCounts(layout: Layout, bytes: Uint8Array, at: number): void {
  const count = fieldOf(layout, layout.tail?.count ?? "");
  const offset = at + (count?.offset ?? 0);
  bytes.fill(0, offset, offset + (count ? sizeOfType(count.type) : 0));
  const last = layout.fields.at(-1);
  const inner = typeof last?.type === "object" && !("of" in last.type) ? [last.type] : [];
  for (const nested of inner) clearCounts(nested, bytes, at + (last?.offset ?? 0));
}

describe.each(byName)("a random value of struct %s", (_, layout) => {
  test("is read as it was written, at any offset", () => {
    fc.assert(roundTrip(layout), { numRuns: 25 });
  });

  test("is written and read with every field that C declares", () => {
    expect(unreached(layout)).toEqual([]);
  });

  test("changes only the bits of the fields that it contains", () => {
    fc.assert(
      fc.property(structValue(layout), (value) => {
        expect(touched(layout, value)).toHaveLength(widthOf(layout, value));
      }),
      { numRuns: 5 },
    );
  });

  test("with a single field changes no byte before the field's offset", () => {
    const fields = layout.fields.map((field) =>
      fieldValue(field).map((value) => [field, value] as const),
    );
    fc.assert(
      fc.property(fc.oneof(...fields), ([{ name, bits }, value]) => {
        const first = 8 * offsetOf(layout, name) + (bits?.[0] ?? 0);
        const before = touched(layout, { [name]: value }).filter((bit) => bit < first);
        expect(before).toEqual([]);
      }),
      { numRuns: layout.fields.length },
    );
  });

  test("is written with the same bytes from which it was read", () => {
    fc.assert(
      fc.property(bytesOf(layout.size), (noise) => {
        const value = readCountless(layout, noise);
        const again = new Uint8Array(noise.length);
        write(layout, value, again);
        return isDeepStrictEqual(read(layout, again), value);
      }),
      { numRuns: 10 },
    );
  });

  test("without members is written as zeros", () => {
    expect(encode(layout, {})).toEqual(new Uint8Array(layout.size));
  });
});

test("the C headers have fields that this test compares", () => {
  const counts = generated.map(({ name }) => pathsOf(inC, name).length);
  expect(counts.reduce((sum, count) => sum + count, 0)).toBeGreaterThan(1500);
});

describe("a count that the value omits is written as the length of its tail", () => {
  test.each(byName.filter(([, { tail }]) => tail?.count !== undefined))("%s", (_, layout) => {
    fc.assert(
      fc.property(structValue(layout), (value) => {
        const { [layout.tail?.count ?? ""]: count, ...others } = value;
        expect(encode(layout, others)).toEqual(encode(layout, value));
      }),
      { numRuns: 25 },
    );
  });
});

describe("the round trip detects a planted fault", () => {
  afterEach(() => vi.restoreAllMocks());

  test("a writer with the other byte order, while the reader is correct", () => {
    // The test changes copies, because the generated code reads and writes the struct itself.
    const big = (view: DataView, at: number, value: number) => view.setUint16(at, value);
    vi.spyOn(scalars.u16, "set").mockImplementation(big as typeof scalars.u16.set);
    expect(fc.check(roundTrip({ ...structs.Segment })).failed).toBe(true);
    expect(unreached({ ...structs.Segment })).toContain("selector");
  });

  test("a C field that this package does not have", () => {
    const fields = structs.Regs.fields.filter(({ name }) => name !== "rip");
    expect(unreached({ ...structs.Regs, fields })).toEqual(["rip"]);
  });
});
