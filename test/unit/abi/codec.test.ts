/**
 * Tests that a compiled codec and the interpreter of its layout agree on any value, and on missing, unusual and wrong
 * members.
 */

import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as structs from "../../../lib/abi/generated/structs.ts";
import { Cpuid2, CpuidEntry2, Msrs, Regs, Sregs } from "../../../lib/abi/generated/structs.ts";
import { encode, type Layout, read, tailLength, write } from "../../../lib/abi/struct.ts";
import { interpretedEncode, interpretedRead } from "./interpreter.ts";
import { MadeBits } from "./made-bits.ts";
import { type Members, structValue } from "./values.ts";

const layouts: readonly Layout[] = [...Object.values(structs), MadeBits];
const byName = layouts.map((layout) => [layout.name, layout] as const);
/** The structs that programs send most often; the test makes each of their members wrong. */
const frequent = [Regs, structs.Segment, Sregs, CpuidEntry2, Cpuid2, structs.MsrEntry, Msrs].map(
  (layout: Layout) => [layout.name, layout] as const,
);

/** A value without some of its members, and with the remaining members in another order. */
const partOf = (layout: Layout): fc.Arbitrary<Members> =>
  structValue(layout).chain((value) =>
    fc.shuffledSubarray(Object.entries(value)).map((some) => Object.fromEntries(some)),
  );

/** Returns the bytes of a value, or the class of the error. */
function outcome(encoding: () => Uint8Array): unknown {
  try {
    return encoding();
  } catch (error) {
    return error instanceof RangeError ? RangeError : TypeError;
  }
}

const compiled = (layout: Layout, value: object): unknown => outcome(() => encode(layout, value));
const interpreted = (layout: Layout, value: object): unknown =>
  outcome(() => interpretedEncode(layout, value, tailLength(layout, value)));

describe.each(byName)("the compiled codec of struct %s", (_, layout) => {
  test("writes the same bytes as the reference interpreter of layouts", () => {
    fc.assert(
      fc.property(fc.oneof(structValue(layout), partOf(layout)), (value) =>
        isDeepStrictEqual(compiled(layout, value), interpreted(layout, value)),
      ),
      { numRuns: layout.size > 512 ? 5 : 20 },
    );
  });

  test("reads the same value as the reference interpreter of layouts", () => {
    fc.assert(
      fc.property(structValue(layout), (value) => {
        const bytes = encode(layout, value);
        return isDeepStrictEqual(read(layout, bytes), interpretedRead(layout, bytes));
      }),
      { numRuns: layout.size > 512 ? 5 : 20 },
    );
  });
});

test("writing a bit field does not change the other bits of its bytes", () => {
  fc.assert(
    fc.property(partOf(MadeBits), (value) => {
      const bytes = new Uint8Array(MadeBits.size).fill(0xff);
      write(MadeBits, value, bytes);
      return isDeepStrictEqual(bytes, interpretedEncode(MadeBits, value, 0, 0xff));
    }),
  );
});

describe.each(frequent)("the compiled codec of struct %s", (_, layout) => {
  test.each(layout.fields.map(({ name }) => [name] as const))(
    "rejects a wrong value of %s if the reference interpreter rejects it",
    (name) => {
      const wrong = [null, "1", 0.5, -1, 2 ** 32, -1n, 2n ** 64n, Number.NaN, [], {}, new Map()];
      const bad = wrong.map((one) => ({ [name]: one }));
      const expected = bad.map((value) => interpreted(layout, value));
      expect(bad.map((value) => compiled(layout, value))).toEqual(expected);
    },
  );
});

class Registers {
  extra: bigint = 1n;
  get rip(): bigint {
    return 5n;
  }
}

describe("the compiled codec and the reference interpreter encode, or reject, the same unusual values", () => {
  test.each<readonly [string, Layout, object]>([
    ["no prototype", Regs, Object.assign(Object.create(null), { rip: 5n })],
    ["inherited members", Regs, Object.create({ rip: 5n })],
    ["members of a class, and one too many", Regs, new Registers()],
    ["undefined members", Regs, { rip: undefined, rax: 7n }],
    ["an undefined member that does not exist", Regs, { raxx: undefined }],
    ["hidden members", Regs, Object.defineProperty({ rax: 7n }, "rip", { value: 5n })],
    ["an iterable", Regs, { rip: 5n, [Symbol.iterator]: () => [].values() }],
    ["an empty array", Regs, []],
    ["an empty array within", Sregs, { cs: [] }],
    ["a short array", CpuidEntry2, { padding: [7] }],
    ["a long array", CpuidEntry2, { padding: [7, 7, 7, 7] }],
    ["a hole in an array", CpuidEntry2, { padding: new Array(2) }],
    ["a typed array", CpuidEntry2, { padding: new Uint32Array(3) }],
    ["a count that is too large", Cpuid2, { nent: 300, entries: [{ function: 1 }] }],
    ["a wrong count", Cpuid2, { nent: -1, entries: [{ function: 1 }] }],
    ["an undefined count", Cpuid2, { nent: undefined, entries: [{ function: 1 }] }],
    ["an undefined count after its tail", Cpuid2, { entries: [{}], nent: undefined }],
    ["an undefined tail", Cpuid2, { nent: 2, entries: undefined }],
    ["a hole in a tail", Msrs, { entries: [{ index: 1 }, undefined] }],
    ["no tail", Msrs, { nmsrs: 3 }],
    ["a tail that is no array", Msrs, { entries: new Set([{ index: 1 }]) }],
    ["numbers for bigints", Regs, { rip: 5, rax: 2 ** 40 }],
  ])("%s", (_, layout, value) => {
    expect(compiled(layout, value)).toEqual(interpreted(layout, value));
  });

  test("encode() ignores members of a polluted Object.prototype", () => {
    const polluted = { rip: 7n, raxx: 1n };
    for (const [name, value] of Object.entries(polluted)) {
      Object.defineProperty(Object.prototype, name, {
        value,
        enumerable: true,
        configurable: true,
        writable: true,
      });
    }
    try {
      expect(encode(Regs, { rax: 1n })).toEqual(new Uint8Array(Regs.size).fill(1, 0, 1));
    } finally {
      for (const name of Object.keys(polluted)) Reflect.deleteProperty(Object.prototype, name);
    }
  });
});

describe("an error that a getter throws while its object is encoded", () => {
  test("reaches the caller unchanged, and the members before the getter have been written", () => {
    const error = new Error("from the getter");
    const value = {
      rax: 1n,
      get rbx(): bigint {
        throw error;
      },
    };
    expect(() => encode(Regs, value)).toThrow(error);
  });

  test("a getter that calls encode() does not change the encoding of its own object", () => {
    const value = {
      rax: 1n,
      get rbx(): bigint {
        encode(Regs, { rax: 9n, rcx: 9n });
        return 2n;
      },
    };
    expect(encode(Regs, value)).toEqual(encode(Regs, { rax: 1n, rbx: 2n }));
  });
});
