/** Tests of applyDiff(): applying the differences of two tables to the first table gives the second table. */
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  applyDiff,
  type CpuidChange,
  type CpuidEntry2Input,
  CpuidTable,
  diff,
} from "../../../lib/cpuid/index.ts";

const word = fc.oneof(fc.nat({ max: 3 }), fc.nat({ max: 0xffffffff }));
const leaf = fc.constantFrom(0, 1, 4, 7, 0xd, 0x40000000, 0x40000001, 0x80000008, 0x12345);
const anEntry: fc.Arbitrary<CpuidEntry2Input> = fc.record({
  function: leaf,
  index: fc.nat({ max: 2 }),
  flags: fc.nat({ max: 2 }),
  eax: word,
  ebx: word,
  ecx: word,
  edx: word,
});
const tables = fc.array(anEntry, { maxLength: 9 }).map((list) => CpuidTable.from(list));

test("applyDiff(a, diff(a, b)) equals b, including duplicates and order", () => {
  fc.assert(
    fc.property(tables, tables, (a, b) => {
      expect([...applyDiff(a, diff(a, b))]).toEqual([...b]);
    }),
    { numRuns: 2000 },
  );
});

test("applyDiff(a, diff(a, b)) equals b if b is a shuffled copy of a with one change", () => {
  const pair = tables.chain((a) =>
    fc.tuple(fc.constant(a), fc.shuffledSubarray([...a]), anEntry, fc.nat({ max: 9 })),
  );
  fc.assert(
    fc.property(pair, ([a, shuffled, more, at]) => {
      const b = CpuidTable.from(
        shuffled.toSpliced(at, 0, { ...more, padding: [0, 0, 0] } as never),
      );
      expect(applyDiff(a, diff(a, b)).equals(b)).toBe(true);
    }),
    { numRuns: 1000 },
  );
});

test("applyDiff() keeps the fields that diff() ignored", () => {
  const a = CpuidTable.from([{ function: 1 }]);
  const b = a.with({ osxsave: 1, avx: 1 });
  const made = applyDiff(a, diff(a, b, { ignore: ["runtime-owned"] }));
  expect(made.equals(a.with({ avx: 1 }))).toBe(true);
});

const a = CpuidTable.from([{ function: 1 }, { function: 7, flags: 1 }]);
const changed = diff(a, a.with({ avx2: 1 }));
const moved = diff(a, [...a].reverse());
const added = diff(a, a.append({ function: 2 }));

test.each([
  [
    "a field that has another value",
    () => applyDiff(a.with({ avx2: 1 }), changed),
    "applyDiff(): 0x7.0:ebx[5] avx2: 0 -> 1: the table has 1",
  ],
  [
    "an entry that is absent",
    () => applyDiff(a.without(7), changed),
    "the table has no such entry at position 1",
  ],
  [
    "an entry of another leaf",
    () => applyDiff([...a].reverse(), changed),
    "the table has no such entry at position 1",
  ],
  [
    "flags that have another value",
    () => applyDiff(a.replace(1, { flags: 2 }), diff(a, a.replace(1, { flags: 0 }))),
    "0x7.0 flags: 1 -> 0: the table has 2",
  ],
  [
    "two entries at one position",
    () => applyDiff(a, [...moved, { ...moved[0], position: 0, function: 1 } as CpuidChange]),
    "two changes put an entry at 0",
  ],
  [
    "a position beyond the table",
    () => applyDiff(a, [{ ...added[1], position: 9 } as CpuidChange]),
    "position 9 in a table of 3 entries",
  ],
  [
    "a change of an unknown kind",
    () => applyDiff(a, [{ kind: "new" } as never]),
    'unknown kind "new"',
  ],
  ["a change without a kind", () => applyDiff(a, [{} as never]), "missing member kind"],
])("applyDiff() refuses %s", (_, call, message) => {
  expect(call).toThrow(message);
});
