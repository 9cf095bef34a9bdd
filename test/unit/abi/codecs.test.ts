/** Compares generated code with its layout, for arbitrary, partial, unusual and wrong values. */

import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { codecs } from "../../../lib/abi/generated/codecs.ts";
import { Cpuid2, CpuidEntry2, Msrs, Regs, Sregs } from "../../../lib/abi/generated/structs.ts";
import { encode, type Layout, read } from "../../../lib/abi/struct.ts";
import { type Members, structValue } from "./values.ts";

/** The same struct without generated code; its nested structs keep theirs for reading. */
const copied = (layout: Layout): Layout => ({ ...layout });

const byName = [...codecs.keys()].map((layout) => [layout.name, layout] as const);

/** A value without some of its members. */
const partOf = (layout: Layout): fc.Arbitrary<Members> =>
  structValue(layout).chain((value) =>
    fc.subarray(Object.entries(value)).map((some) => Object.fromEntries(some)),
  );

/** The result of encode(): bytes, or an error. */
function outcome(layout: Layout, value: object): unknown {
  try {
    return encode(layout, value);
  } catch (error) {
    return error;
  }
}

describe.each(byName)("%s", (_, layout) => {
  const codec = codecs.get(layout);

  test("is written as by its layout", () => {
    fc.assert(
      fc.property(fc.oneof(structValue(layout), partOf(layout)), (value) =>
        isDeepStrictEqual(encode(layout, value), encode(copied(layout), value)),
      ),
      { numRuns: 50 },
    );
  });

  test("is written by the generated code, whole or in part", () => {
    fc.assert(
      fc.property(fc.oneof(structValue(layout), partOf(layout)), (value) => {
        const view = new DataView(new ArrayBuffer(encode(layout, value).length));
        return codec?.put(view, 0, value) === 1;
      }),
      { numRuns: 25 },
    );
  });

  test("is read as by its layout", () => {
    fc.assert(
      fc.property(structValue(layout), (value) => {
        const bytes = encode(layout, value);
        return isDeepStrictEqual(read(layout, bytes), read(copied(layout), bytes));
      }),
      { numRuns: 25 },
    );
  });

  test.each(layout.fields.map(({ name }) => [name] as const))(
    "rejects a wrong %s with the same error",
    (name) => {
      const wrong = [null, "1", 0.5, -1, 2 ** 32, -1n, 2n ** 64n, Number.NaN, [], {}, new Map()];
      const bad = wrong.map((one) => ({ [name]: one }));
      const expected = bad.map((value) => outcome(copied(layout), value));
      expect(bad.map((value) => outcome(layout, value))).toEqual(expected);
    },
  );
});

class Registers {
  extra: bigint = 1n;
  get rip(): bigint {
    return 5n;
  }
}

describe("an unusual value is accepted or rejected as by the layout", () => {
  test.each<readonly [string, Layout, object]>([
    ["no prototype", Regs, Object.assign(Object.create(null), { rip: 5n })],
    ["inherited members", Regs, Object.create({ rip: 5n })],
    ["members of a class, and one too many", Regs, new Registers()],
    ["undefined members", Regs, { rip: undefined, rax: 7n }],
    ["hidden members", Regs, Object.defineProperty({ rax: 7n }, "rip", { value: 5n })],
    ["an iterable", Regs, { rip: 5n, [Symbol.iterator]: () => [].values() }],
    ["an empty array", Regs, []],
    ["an empty array within", Sregs, { cs: [] }],
    ["a short array", CpuidEntry2, { padding: [7] }],
    ["a long array", CpuidEntry2, { padding: [7, 7, 7, 7] }],
    ["a hole in an array", CpuidEntry2, { padding: new Array(2) }],
    ["a typed array", CpuidEntry2, { padding: new Uint32Array(3) }],
    ["a count that lies", Cpuid2, { nent: 300, entries: [{ function: 1 }] }],
    ["a wrong count", Cpuid2, { nent: -1, entries: [{ function: 1 }] }],
    ["an undefined count", Cpuid2, { nent: undefined, entries: [{ function: 1 }] }],
    ["a hole in a tail", Msrs, { entries: [{ index: 1 }, undefined] }],
    ["no tail", Msrs, { nmsrs: 3 }],
    ["a tail that is no array", Msrs, { entries: new Set([{ index: 1 }]) }],
  ])("%s", (_, layout, value) => {
    expect(outcome(layout, value)).toEqual(outcome(copied(layout), value));
  });
});
