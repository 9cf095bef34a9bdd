/**
 * Tests that generated readers and writers agree with an interpreter of layouts, and that a writer leaves every
 * incomplete value to codec.ts.
 */

import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Frequent } from "../../../lib/abi/frequent.ts";
import { frequent } from "../../../lib/abi/generated/frequent.ts";
import { Regs, Segment, Sregs } from "../../../lib/abi/generated/structs.ts";
import { encode, type Layout, read } from "../../../lib/abi/struct.ts";
import { interpretedEncode, interpretedRead } from "./interpreter.ts";
import { type Members, structValue } from "./values.ts";

const all = [...frequent].map(([layout, codec]) => [layout.name, layout, codec] as const);
const written = all.flatMap(([name, layout, { write }]) =>
  write ? [[name, layout, write] as const] : [],
);
const NUMBERS = { numRuns: 20 };

/** Any value of a struct with all members, in the order of the struct, as a reader returns them. */
const wholeValue = (layout: Layout): fc.Arbitrary<Members> =>
  structValue(layout).map((value) => read(layout, encode(layout, value)) as Members);

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Values for a member: most values fit no member, and some fit a member after a conversion. */
const UNUSUAL = [
  ...[null, undefined, "1", 0, 1, 0.5, -1, 2 ** 8, 2 ** 16, 2 ** 32, 2 ** 53, Number.NaN, true],
  ...[0n, -1n, 2n ** 64n - 1n, 2n ** 64n],
  ...[[], [7], [7n], [7, 7, 7], [7, 2 ** 16, 7], [2 ** 32, 7, 7], [7, 7, 7, 7], new Array(3)],
  ...[[1n, 2n, 3n, 4n], [1n, 2n, 3n, 2n ** 64n], {}, new Map(), new Uint32Array(3)],
];

/**
 * Compares a writer's result with the interpreter's: a writer may leave a value to codec.ts, but must not write it
 * wrongly.
 */
function outcome(layout: Layout, value: Members, isWritten: boolean, bytes: Uint8Array): string {
  if (!isWritten) return "as interpreted";
  try {
    const isSame = isDeepStrictEqual(bytes, interpretedEncode(layout, value, 0, 0xff));
    return isSame ? "as interpreted" : "written differently";
  } catch {
    return "written though it does not fit";
  }
}

const writerOf = (layout: Layout): NonNullable<Frequent["write"]> => {
  const write = frequent.get(layout)?.write;
  if (!write) throw new Error(`no plain writer of ${layout.name}`);
  return write;
};

test.each(all)(
  "the generated reader of %s returns the same value as the reference interpreter, at any offset",
  (_, layout, { read }) => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: layout.size, maxLength: layout.size }), (bytes) => {
        const moved = new Uint8Array(layout.size + 3);
        moved.set(bytes, 3);
        return isDeepStrictEqual(read(viewOf(moved), 3), interpretedRead(layout, bytes));
      }),
      NUMBERS,
    );
  },
);

test.each(all)(
  "the generated reader of %s returns a value that shares no memory with the buffer",
  (_, layout, { read }) => {
    const bytes = new Uint8Array(layout.size).fill(1);
    const value = read(viewOf(bytes), 0);
    bytes.fill(2);
    expect(value).toEqual(interpretedRead(layout, new Uint8Array(layout.size).fill(1)));
  },
);

describe.each(written)("the generated writer of struct %s", (_, layout, write) => {
  test("writes the same bytes as the reference interpreter, at any offset", () => {
    fc.assert(
      fc.property(wholeValue(layout), (value) => {
        const bytes = new Uint8Array(layout.size + 3);
        const isWritten = write(viewOf(bytes), 3, value);
        return isWritten && isDeepStrictEqual(bytes.slice(3), interpretedEncode(layout, value, 0));
      }),
      NUMBERS,
    );
  });

  test("rejects a value with a missing member, an extra member, or members in another order", () => {
    const value = read(layout, new Uint8Array(layout.size).fill(1)) as Members;
    const entries = Object.entries(value);
    const [first = "", ...others] = Object.keys(value);
    const odd: readonly object[] = [
      Object.fromEntries(entries.slice(1)),
      Object.fromEntries(entries.slice(0, -1)),
      Object.fromEntries(entries.toReversed()),
      { ...value, another: 1 },
      Object.fromEntries([...others.map((name) => [name, value[name]]), ["another", 1]]),
      Object.create(value),
      Object.defineProperty({ ...value }, first, { enumerable: false }),
      { ...value, [Symbol.iterator]: () => [].values() },
    ];
    const bytes = new Uint8Array(layout.size);
    expect(odd.map((one) => write(viewOf(bytes), 0, one))).toEqual(odd.map(() => false));
    expect(bytes).toEqual(new Uint8Array(layout.size));
  });

  test("writes the members before the first member that does not fit", () => {
    const value = read(layout, new Uint8Array(layout.size).fill(1)) as Members;
    for (const { name, offset } of layout.fields) {
      const bytes = new Uint8Array(layout.size);
      expect(write(viewOf(bytes), 0, { ...value, [name]: "wrong" })).toBe(false);
      expect(bytes).toEqual(new Uint8Array(layout.size).fill(1, 0, offset));
    }
  });

  test.each(layout.fields.map(({ name }) => [name] as const))(
    "accepts or rejects a value of any %s as the reference interpreter does",
    (name) => {
      const value = read(layout, new Uint8Array(layout.size).fill(1)) as Members;
      for (const one of UNUSUAL) {
        const given = { ...value, [name]: one };
        const bytes = new Uint8Array(layout.size).fill(0xff);
        const isWritten = write(viewOf(bytes), 0, given);
        expect([one, outcome(layout, given, isWritten, bytes)]).toEqual([one, "as interpreted"]);
      }
    },
  );
});

test.each([null, undefined, 1, "rax", [], new Map()])(
  "the generated writer of kvm_regs rejects %s",
  (value) => {
    expect(writerOf(Regs)(viewOf(new Uint8Array(Regs.size)), 0, value)).toBe(false);
  },
);

test("the generated writer of kvm_segment ignores members of Object.prototype", () => {
  const { unusable: _, padding: __, ...rest } = read(Segment, new Uint8Array(Segment.size).fill(1));
  const names = ["unusable", "padding"];
  for (const name of names) {
    Object.defineProperty(Object.prototype, name, {
      value: 7,
      enumerable: true,
      configurable: true,
      writable: true,
    });
  }
  try {
    const bytes = encode(Sregs, { cs: rest });
    expect(bytes).toEqual(new Uint8Array(Sregs.size).fill(1, 0, 22));
  } finally {
    for (const name of names) Reflect.deleteProperty(Object.prototype, name);
  }
});
