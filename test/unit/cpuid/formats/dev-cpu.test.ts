/** Tests of bytes read from /dev/cpu/N/cpuid. */
import { describe, expect, test } from "vitest";
import { detectFormat, formatCpuid } from "../../../../lib/cpuid/index.ts";
import { readFile } from "./read-table.ts";
import { oneCpu } from "./sample-tables.ts";

const GENUINE_INTEL = [0x756e6547, 0x6c65746e, 0x49656e69];

/** Encodes registers as the device returns them: 16 little-endian bytes per leaf. */
function device(...leaves: readonly (readonly number[])[]): Uint8Array {
  const bytes = new Uint8Array(leaves.length * 16);
  const view = new DataView(bytes.buffer);
  for (const [i, registers] of leaves.entries()) {
    for (const [j, value] of registers.entries()) view.setUint32(i * 16 + j * 4, value, true);
  }
  return bytes;
}

const two = device([1, ...GENUINE_INTEL], [0x906ea, 0x100800, 0x80000000, 0xffffffff]);
const ENTRIES = ["0.0 0 1 756e6547 6c65746e 49656e69", "1.0 0 906ea 100800 80000000 ffffffff"];

describe("bytes of /dev/cpu/N/cpuid", () => {
  test("are detected and read as the leaves from 0 on", () => {
    expect(detectFormat(two)?.name).toBe("dev-cpu");
    expect(readFile(two)).toEqual({
      ...{ cpus: [undefined], tables: [ENTRIES], problems: [], notes: [], complete: [false] },
    });
  });

  test("above the highest leaf are left out, with a note", () => {
    const more = device([1, ...GENUINE_INTEL], [0x906ea, 0x100800, 0x80000000, 0xffffffff], [9]);
    expect(readFile(more)).toMatchObject({
      tables: [ENTRIES],
      problems: [],
      notes: ["the leaves above the highest one, 0x1, are left out"],
    });
  });

  test("give a flagged leaf 4 and an incomplete table, because the other sub-leaves of leaf 4 are absent", () => {
    const leaves = Array.from({ length: 4 }, () => [1]);
    const { tables, complete } = readFile(device([4, ...GENUINE_INTEL], ...leaves), "dev-cpu");
    expect(tables[0]?.at(-1)).toBe("4.0 1 1 0 0 0");
    expect(complete).toEqual([false]);
  });

  test.each([
    ["a part of a leaf", two.subarray(0, 27), ["0: the file ends within the 16 bytes of a leaf"]],
    [
      "a highest leaf of 256",
      device([256, ...GENUINE_INTEL]),
      [
        "0: the highest leaf is 256, and at most 255 is read",
        "0: the file has no CPUID entry that can be read",
      ],
    ],
    [
      "3 bytes",
      two.subarray(0, 3),
      [
        "0: the file ends within the 16 bytes of a leaf",
        "0: the file has no CPUID entry that can be read",
      ],
    ],
  ])("with %s have a fault", (_, bytes, problems) => {
    expect(readFile(bytes, "dev-cpu").problems).toEqual(problems);
  });

  test("can be read, but not written", () => {
    expect(() => formatCpuid(oneCpu, "dev-cpu")).toThrow(
      'formatCpuid(): the format "dev-cpu" is only read',
    );
  });
});
