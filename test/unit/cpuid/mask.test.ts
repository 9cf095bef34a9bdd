/** Tests of applying a mask to a table. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { CpuidMask, CpuidMaskEntry } from "../../../lib/cpuid/formats/dump.ts";
import { applyMask } from "../../../lib/cpuid/mask.ts";
import { CpuidTable } from "../../../lib/cpuid/table.ts";

const change = (patch: Partial<CpuidMaskEntry>): CpuidMaskEntry => ({
  function: 7,
  indexes: { first: 0, last: 0 },
  register: "ebx",
  mask: 0,
  value: 0,
  flags: undefined,
  line: 1,
  ...patch,
});
const keep = (...mask: readonly CpuidMaskEntry[]): CpuidMask => ({
  mask,
  unlisted: "keep",
  capabilities: [],
});
const clear = (...mask: readonly CpuidMaskEntry[]): CpuidMask => ({
  ...keep(...mask),
  unlisted: "clear",
});
const table = CpuidTable.from([
  { function: 1, eax: 5, edx: 6 },
  { function: 7, flags: 1, ebx: 0xf0, ecx: 9 },
  { function: 7, index: 1, flags: 1, ebx: 0xf0 },
]);

describe("applyMask", () => {
  test("computes (old & ~mask) | value and keeps the other registers", () => {
    const { table: after, absent } = applyMask(table, keep(change({ mask: 0x33, value: 0x21 })));
    expect(after.toJSON()).toEqual(table.replace(1, { ebx: 0xe1 }).toJSON());
    expect(absent).toEqual([]);
  });

  test("returns a register with bit 31 set as an unsigned number", () => {
    const { table: after } = applyMask(
      table,
      keep(change({ mask: 0x80000000, value: 0x80000000 })),
    );
    expect(after.find(7, 0)?.ebx).toBe(0x800000f0);
  });

  test("overwrites the flags of the entry", () => {
    const { table: after } = applyMask(table, keep(change({ flags: 0 })));
    expect([...after].map((e) => e.flags)).toEqual([0, 0, 1]);
  });

  test("changes each sub-leaf of a range, or all sub-leaves without a range", () => {
    const bits = { mask: 0xff, value: 0 };
    const ofRange = applyMask(table, keep(change({ ...bits, indexes: { first: 1, last: 5 } })));
    expect([...ofRange.table].map((e) => e.ebx)).toEqual([0, 0xf0, 0]);
    const ofAll = applyMask(table, keep(change({ ...bits, indexes: undefined })));
    expect([...ofAll.table].map((e) => e.ebx)).toEqual([0, 0, 0]);
  });

  test("lists a change whose entry is missing, and adds no entry", () => {
    const missing = change({ function: 0x14 });
    const result = applyMask(table, keep(missing));
    expect(result.absent).toEqual([missing]);
    expect(result.table.equals(table)).toBe(true);
  });

  test("applies the changes of one register in order", () => {
    const mask = keep(change({ mask: 0xff, value: 1 }), change({ mask: 0xff, value: 2 }));
    expect(applyMask(table, mask).table.find(7, 0)?.ebx).toBe(2);
  });

  test('with unlisted "clear" sets unnamed registers to 0, and applies the first change only', () => {
    const mask = clear(change({ mask: 0xff, value: 1 }), change({ mask: 0xff, value: 2 }));
    const { table: after } = applyMask(table, mask);
    expect([...after].map((e) => [e.eax, e.ebx, e.ecx, e.edx])).toEqual([
      [0, 0, 0, 0],
      [0, 1, 0, 0],
      [0, 0, 0, 0],
    ]);
  });

  test('with unlisted "clear" lists a change without an entry only if the change sets a bit', () => {
    const sets = change({ function: 0x14, mask: 1, value: 1 });
    expect(applyMask(table, clear(sets, change({ function: 0x15, mask: 1 }))).absent).toEqual([
      sets,
    ]);
  });

  test("copies bits of the host's table, and throws without that table", () => {
    const mask = keep(change({ host: 0x0f }));
    const host = table.replace(1, { ebx: 0xff });
    expect(applyMask(table, mask, { host }).table.find(7, 0)?.ebx).toBe(0xff);
    expect(() => applyMask(table, mask)).toThrow(
      "applyMask(): the mask copies bits of the host; pass its table as host",
    );
  });

  test("refuses an argument that is not a table, a mask or an option", () => {
    expect(() => applyMask([] as unknown as CpuidTable, keep())).toThrow(TypeError);
    expect(() => applyMask(table, {} as CpuidMask)).toThrow(
      "applyMask(): missing members mask, unlisted, capabilities",
    );
    expect(() => applyMask(table, keep(), { hots: table } as object)).toThrow(
      'applyMask(): unknown option "hots"; did you mean "host"?',
    );
  });

  test.each([
    [
      { value: 1 },
      "applyMask(): mask[0]: value has bits outside of mask, or host has bits of mask",
    ],
    [{ mask: 1, host: 1 }, "value has bits outside of mask, or host has bits of mask"],
    [{ mask: -1 }, "applyMask(): mask[0]: mask: -1 does not fit u32"],
    [{ function: 0.5 }, "applyMask(): mask[0]: function: 0.5 is not an integer"],
    [{ indexes: { first: 0, last: 2 ** 32 } }, "mask[0]: last: 4294967296 does not fit u32"],
    [{ register: "eex" as "eax" }, 'mask[0]: register is eax, ebx, ecx or edx, not "eex"'],
  ])("refuses a change with %j", (patch, message) => {
    expect(() => applyMask(table, keep(change(patch)))).toThrow(message);
  });

  test('refuses a value of `unlisted` other than "keep" and "clear"', () => {
    const mask = { ...keep(), unlisted: "drop" as "keep" };
    expect(() => applyMask(table, mask)).toThrow('unlisted is "keep" or "clear", not "drop"');
  });

  test("changes nothing if it is applied a second time", () => {
    const u32 = fc.integer({ min: 0, max: 0xffffffff });
    const any = fc
      .tuple(u32, u32)
      .map(([mask, bits]) => change({ mask, value: (mask & bits) >>> 0 }));
    fc.assert(
      fc.property(any, (one) => {
        const once = applyMask(table, keep(one)).table;
        expect(applyMask(once, keep(one)).table.equals(once)).toBe(true);
        expect(((once.find(7, 0)?.ebx ?? 0) & one.mask) >>> 0).toBe(one.value);
      }),
    );
  });
});
