/** Tests of page tables, with a reference page walk. */
import { describe, expect, test } from "vitest";
import {
  type IdentityMapOptions,
  identityMap,
  PAGE_LARGE,
  PAGE_PRESENT,
  PAGE_USER,
  PAGE_WRITE,
} from "../../../lib/guest/index.ts";

// A page walk according to Intel SDM Vol. 3A 5.5.4, independent of the code that builds the tables.
function walk(
  options: IdentityMapOptions,
  address: bigint,
): { gpa: bigint; flags: bigint } | "not present" {
  const tables = identityMap(options);
  const view = new DataView(tables.buffer);
  let table = BigInt(options.gpa);
  let flags = PAGE_WRITE | PAGE_USER;
  for (let shift = options.levels === 5 ? 48n : 39n; shift >= 12n; shift -= 9n) {
    const index = (address >> shift) & 0x1ffn;
    const entry = view.getBigUint64(Number(table + index * 8n) - options.gpa, true);
    if ((entry & PAGE_PRESENT) === 0n) return "not present";
    flags &= entry;
    const frame = entry & 0x000f_ffff_ffff_f000n;
    const inside = (1n << shift) - 1n;
    if (shift === 12n || (entry & PAGE_LARGE) !== 0n) {
      return { gpa: (frame & ~inside) | (address & inside), flags };
    }
    table = frame;
  }
  return "not present";
}

const maps: [string, IdentityMapOptions][] = [
  ["4 GiB of 2 MiB pages", { gpa: 0x8000, size: 2 ** 32 }],
  ["4 MiB of 4 KiB pages", { gpa: 0x8000, size: 2 ** 22, pageSize: 0x1000 }],
  ["5 levels", { gpa: 0x10_0000, size: 2 ** 30, levels: 5 }],
];

describe("identityMap()", () => {
  test.each(maps)("maps every address to itself: %s", (_, options) => {
    const size = BigInt(options.size);
    for (const address of [0n, 0x1000n, 0x1f_ffffn, 0x20_0000n, size / 2n + 7n, size - 1n]) {
      expect(walk(options, address)).toEqual({ gpa: address, flags: PAGE_WRITE });
    }
  });

  test.each(maps)("maps no address above the requested size: %s", (_, options) => {
    expect(walk(options, BigInt(options.size))).toBe("not present");
    expect(walk(options, 0xffff_8000_0000_0000n)).toBe("not present");
  });

  test("makes pages accessible to privilege level 3 on request", () => {
    const options = { gpa: 0x8000, size: 2 ** 32, user: true };
    expect(walk(options, 0x1_2345n)).toEqual({ gpa: 0x1_2345n, flags: PAGE_WRITE | PAGE_USER });
  });

  test("uses 6 pages for 4 GiB", () => {
    expect(identityMap({ gpa: 0, size: 2 ** 32 }).length).toBe(6 * 4096);
  });

  test("rejects unaligned tables and invalid sizes", () => {
    expect(() => identityMap({ gpa: 0x8001, size: 1 })).toThrow(RangeError);
    expect(() => identityMap({ gpa: 0x8000, size: 0 })).toThrow("cannot map 0 bytes");
    expect(() => identityMap({ gpa: 0x8000, size: 2 ** 40 })).toThrow(RangeError);
  });
});
