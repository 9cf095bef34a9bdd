/** Tests of isComplete: whether a table contains every sub-leaf of its leaves. */
import { describe, expect, test } from "vitest";
import {
  type CpuidEntry2Input,
  CpuidTable,
  formatCpuid,
  readCpuid,
} from "../../../../lib/cpuid/index.ts";

type Row = readonly [
  fn: number,
  index: number,
  eax?: number,
  ebx?: number,
  ecx?: number,
  edx?: number,
];

const entryOf = ([fn, index, eax = 0, ebx = 0, ecx = 0, edx = 0]: Row): CpuidEntry2Input => ({
  ...{ function: fn, index, flags: 1, eax, ebx, ecx, edx },
});

/** Returns whether a table with leaf 0 and these entries is complete after reading its file. */
function isComplete(rows: readonly Row[]): unknown {
  const table = CpuidTable.from([{ function: 0, eax: 0x24 }, ...rows.map(entryOf)]);
  const dump = readCpuid(formatCpuid(table, "kvm"));
  expect(dump).toMatchObject({ kind: "tables", problems: [], tables: [{}] });
  return dump.kind === "tables" && dump.tables[0]?.isComplete;
}

/** The sub-leaves of a leaf; the last one marks the end of the leaf. */
const LEAVES: readonly (readonly [what: string, rows: readonly Row[]])[] = [
  [
    "4, at a cache type of 0",
    [
      [4, 0, 0x121],
      [4, 1, 0x143],
      [4, 2, 0xffe0],
    ],
  ],
  [
    "7, at the number in EAX",
    [
      [7, 0, 2, 1],
      [7, 1, 1],
      [7, 2],
    ],
  ],
  [
    "0xb, at a level type of 0",
    [
      [0xb, 0, 1, 2, 0x100],
      [0xb, 1, 4, 4, 0x201],
      [0xb, 2, 0, 0, 2],
    ],
  ],
  [
    "0xd, at the highest bit of XCR0",
    [
      [0xd, 0, 7],
      [0xd, 1],
      [0xd, 2, 0x100],
    ],
  ],
  [
    "0xd, at the highest bit of XSS",
    [
      [0xd, 0, 3],
      [0xd, 1, 0, 0, 0x800],
      [0xd, 11, 16],
    ],
  ],
  [
    "0xd, at bit 62",
    [
      [0xd, 0, 3, 0, 0, 0x40000000],
      [0xd, 1],
      [0xd, 62, 8],
    ],
  ],
  [
    "0xf, at the highest resource",
    [
      [0xf, 0, 0, 255, 0, 2],
      [0xf, 1, 0, 1],
    ],
  ],
  [
    "0x10, at the highest resource",
    [
      [0x10, 0, 0, 0xa],
      [0x10, 1, 1],
      [0x10, 3, 1],
    ],
  ],
  [
    "0x14, at the number in EAX",
    [
      [0x14, 0, 1, 1],
      [0x14, 1],
    ],
  ],
  [
    "0x17, at the number in EAX",
    [
      [0x17, 0, 1, 1],
      [0x17, 1],
    ],
  ],
  [
    "0x18, at the number in EAX",
    [
      [0x18, 0, 1, 1],
      [0x18, 1],
    ],
  ],
  [
    "0x1d, at the number in EAX",
    [
      [0x1d, 0, 1],
      [0x1d, 1],
    ],
  ],
  [
    "0x1f, at a level type of 0",
    [
      [0x1f, 0, 1, 2, 0x100],
      [0x1f, 1, 0, 0, 1],
    ],
  ],
  [
    "0x20, at the number in EAX",
    [
      [0x20, 0, 1, 1],
      [0x20, 1],
    ],
  ],
  [
    "0x23, at the highest bit of its map",
    [
      [0x23, 0, 0xb],
      [0x23, 1, 3],
      [0x23, 3, 7],
    ],
  ],
  [
    "0x24, at the number in EAX",
    [
      [0x24, 0, 1, 1],
      [0x24, 1],
    ],
  ],
  [
    "0x8000001d, at a cache type of 0",
    [
      [0x8000001d, 0, 0x121],
      [0x8000001d, 1],
    ],
  ],
  [
    "0x80000026, at a level type of 0",
    [
      [0x80000026, 0, 1, 2, 0x100],
      [0x80000026, 1, 0, 0, 1],
    ],
  ],
];

describe("isComplete", () => {
  test.each(LEAVES)("is true if all sub-leaves are present: leaf %s", (_, rows) => {
    expect(isComplete(rows)).toBe(true);
  });

  test.each(LEAVES)("is false without the last sub-leaf of leaf %s", (_, rows) => {
    expect(isComplete(rows.slice(0, -1))).toBe(false);
  });

  test.each(LEAVES)("is false without sub-leaf 0 of leaf %s", (_, rows) => {
    expect(isComplete(rows.slice(1))).toBe(false);
  });

  test.each([4, 7, 0xb, 0xd, 0x14, 0x1d, 0x1f, 0x24, 0x8000001d])(
    "is true for leaf %i with four zeros, which the CPU does not support",
    (fn) => {
      expect(isComplete([[fn, 0]])).toBe(true);
    },
  );

  test("is true for a table of leaves without sub-leaves", () => {
    expect(isComplete([])).toBe(true);
  });

  test("is true for sub-leaves in any order", () => {
    const [[, rows] = ["", []]] = LEAVES;
    expect(isComplete(rows.toReversed())).toBe(true);
  });

  test("is false for a leaf 7 that counts 2**32 - 1 sub-leaves", () => {
    expect(isComplete([[7, 0, 0xffffffff]])).toBe(false);
  });

  test("is false for a table without entries", () => {
    expect(readCpuid('{ "entries": [] }')).toMatchObject({ tables: [{ isComplete: false }] });
  });

  test.each([true, false])("is stated in the JSON file: %s", (complete) => {
    const text = JSON.stringify({ complete, entries: [{ function: 4, eax: complete ? 1 : 0 }] });
    expect(readCpuid(text)).toMatchObject({ tables: [{ isComplete: complete }] });
  });
});
