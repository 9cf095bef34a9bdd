/** Tests of single entries and of the lookup that KVM does. The file table.test.ts tests tables. */
import { expect, test } from "vitest";
import { entry, formatLeaf, isIndexed, locate, sameEntry } from "../../../lib/cpuid/entry.ts";

test("an entry fills in zeros and three words of padding", () => {
  const zeros = { index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0, padding: [0, 0, 0] };
  expect(entry({ function: 7 })).toEqual({ function: 7, ...zeros });
});

test("an entry is frozen", () => {
  expect(Object.isFrozen(entry({ function: 7 }))).toBe(true);
});

test("an entry's padding is a frozen copy of the caller's array", () => {
  const padding = [1, 2, 3];
  expect(Object.isFrozen(entry({ function: 7, padding }).padding)).toBe(true);
  expect(Object.isFrozen(padding)).toBe(false);
});

test("a register value of 33 bits is refused with the names of the register and the leaf", () => {
  const wrong = new RangeError("cpuid entry 0x7.0: ebx 4294967296 does not fit 32 bits");
  expect(() => entry({ function: 7, ebx: 2 ** 32 })).toThrow(wrong);
});

test("a negative register value is refused", () => {
  const wrong = new RangeError("cpuid entry 0x7.1: eax -1 does not fit 32 bits");
  expect(() => entry({ function: 7, index: 1, eax: -1 })).toThrow(wrong);
});

test("a register value that is a fraction is refused", () => {
  const wrong = new RangeError("cpuid entry 0x1.0: edx 0.5 is not an integer");
  expect(() => entry({ function: 1, edx: 0.5 })).toThrow(wrong);
});

test("an invalid function number is refused, and the error names no leaf", () => {
  const wrong = new RangeError("cpuid entry: function -1 does not fit 32 bits");
  expect(() => entry({ function: -1 })).toThrow(wrong);
});

test("an invalid index is refused, and the error names no leaf", () => {
  const wrong = new RangeError("cpuid entry: index -1 does not fit 32 bits");
  expect(() => entry({ function: 7, index: -1 })).toThrow(wrong);
});

test("entries without padding, and with padding of zeros, share one array", () => {
  const { padding } = entry({ function: 7 });
  expect(entry({ function: 8, padding: [0, 0, 0] }).padding).toBe(padding);
  expect(entry({ function: 8, padding: [0, 0, 1] }).padding).not.toBe(padding);
});

test("padding of two words is refused", () => {
  const wrong = new RangeError("cpuid entry 0x1.0: padding has 2 words, not 3");
  expect(() => entry({ function: 1, padding: [0, 0] })).toThrow(wrong);
});

test("padding that is not a u32 is refused", () => {
  const wrong = new RangeError("cpuid entry 0x1.0: padding -1 does not fit 32 bits");
  expect(() => entry({ function: 1, padding: [0, -1, 0] })).toThrow(wrong);
});

test("a leaf is written with a hexadecimal function and a decimal index", () => {
  expect(formatLeaf(0x8000001d, 10)).toBe("0x8000001d.10");
});

test.each([4, 7, 0xb, 0xd, 0xf, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1d, 0x1e, 0x1f, 0x24, 0x8000001d])(
  "KVM treats function %i as indexed",
  (fn) => expect(isIndexed(fn)).toBe(true),
);

test.each([0, 1, 2, 6, 0x15, 0x23, 0x40000000, 0x80000001, 0x80000026])(
  "KVM does not treat function %i as indexed",
  (fn) => expect(isIndexed(fn)).toBe(false),
);

test.each(["function", "index", "flags", "eax", "ebx", "ecx", "edx"] as const)(
  "entries with different %s are not the same",
  (member) => {
    const plain = entry({ function: 7 });
    expect(sameEntry(plain, entry({ ...plain, [member]: 9 }))).toBe(false);
  },
);

test("the comparison of two entries ignores padding", () => {
  expect(sameEntry(entry({ function: 7 }), entry({ function: 7, padding: [1, 2, 3] }))).toBe(true);
});

test("a lookup with another index does not find a flagged entry", () => {
  expect(locate([entry({ function: 7, index: 5, flags: 1 })], 7)).toBe(-1);
});

test("a lookup with any index finds an unflagged entry", () => {
  expect(locate([entry({ function: 7, index: 5 })], 7, 3)).toBe(0);
});

test("KVM ignores the index of an unindexed function, even if the entry is flagged", () => {
  expect(locate([entry({ function: 1, index: 5, flags: 1 })], 1)).toBe(0);
});

test("a guest's CPUID does not find a flagged entry of another index in an unindexed function", () => {
  expect(locate([entry({ function: 1, index: 5, flags: 1 })], 1, 0)).toBe(-1);
});

test("only bit 0 of the flags makes the index significant", () => {
  expect(locate([entry({ function: 7, index: 5, flags: 6 })], 7, 0)).toBe(0);
});

test("a lookup finds the first of two duplicates", () => {
  const twice = [
    entry({ function: 0 }),
    entry({ function: 1, eax: 1 }),
    entry({ function: 1, eax: 2 }),
  ];
  expect(locate(twice, 1)).toBe(1);
});
