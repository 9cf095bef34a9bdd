/** Tests of walkCpuid(): the leaves and sub-leaves that it reads, and its limits. */
import { describe, expect, test } from "vitest";
import { type CpuidReader, CpuidTable, lint, walkCpuid } from "../../../lib/cpuid/index.ts";

const NONE = { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/** Reads a recorded table; a leaf that the table does not have reads zeros. */
const readerOf =
  (table: CpuidTable): CpuidReader =>
  (fn, index) =>
    [...table].find((e) => e.function === fn && e.index === index) ?? NONE;

const leaf = (fn: number, registers: Partial<typeof NONE>, index = 0, flags = 0) => ({
  function: fn,
  index,
  flags,
  ...registers,
});

const named = (table: CpuidTable): readonly string[] =>
  [...table].map((e) => `${e.function.toString(16)}.${e.index}/${e.flags}`);

describe("walkCpuid()", () => {
  test("reads each leaf up to the limit of its range", () => {
    const recorded = CpuidTable.from([
      leaf(0, { eax: 2 }),
      leaf(1, { ebx: 5 }),
      leaf(2, { eax: 1 }),
      leaf(3, { eax: 7 }),
      leaf(0x80000000, { eax: 0x80000001 }),
      leaf(0x80000001, { edx: 1 }),
      leaf(0x80000002, { edx: 1 }),
    ]);
    const walked = ["0.0/0", "1.0/0", "2.0/0", "80000000.0/0", "80000001.0/0"];
    expect(named(walkCpuid(readerOf(recorded)))).toEqual(walked);
  });

  test("flags the entries of the leaves whose index KVM treats as significant, and no other entries", () => {
    const recorded = CpuidTable.from([leaf(0, { eax: 7 }), leaf(7, { ebx: 1 })]);
    const flags = [...walkCpuid(readerOf(recorded))].map((e) => [e.function, e.flags]);
    expect(flags).toContainEqual([7, 1]);
    expect(flags).toContainEqual([4, 1]);
    expect(flags).toContainEqual([1, 0]);
  });

  test("flags the entries of each leaf with several sub-leaves, as the lint requires", () => {
    const recorded = CpuidTable.from([
      leaf(0, { eax: 0x23 }),
      leaf(0x20, { eax: 1 }),
      leaf(0x20, { ebx: 1 }, 1),
      leaf(0x23, { eax: 0b11 }),
      leaf(0x23, { eax: 0xff }, 1),
      leaf(0x80000000, { eax: 0x80000026 }),
      leaf(0x80000020, { ebx: 2 }),
      leaf(0x80000020, { eax: 11 }, 1),
      leaf(0x80000026, { ecx: 0x100 }),
    ]);
    const walked = walkCpuid(readerOf(recorded));
    const unflagged = [...walked].filter(({ flags }) => flags === 0).map((e) => e.function);
    for (const fn of [0x20, 0x23, 0x80000020, 0x80000026]) expect(unflagged).not.toContain(fn);
    const { findings } = lint(walked, { profile: "guest" });
    expect(findings.filter(({ rule }) => rule === "S09" || rule === "S10")).toEqual([]);
  });

  test.each<[string, CpuidTable, readonly string[]]>([
    [
      "leaf 7, whose eax is the highest sub-leaf",
      CpuidTable.from([
        leaf(0, { eax: 7 }),
        leaf(7, { eax: 2 }),
        leaf(7, { eax: 0xffff }, 1),
        leaf(7, { edx: 3 }, 2),
        leaf(7, { edx: 3 }, 3),
      ]),
      ["7.0/1", "7.1/1", "7.2/1"],
    ],
    [
      "leaf 4, whose list ends with a cache of type 0",
      CpuidTable.from([leaf(0, { eax: 4 }), leaf(4, { eax: 1 }), leaf(4, { eax: 3 }, 1)]),
      ["4.0/1", "4.1/1", "4.2/1"],
    ],
    [
      "leaf 0x12, whose list of memory begins at sub-leaf 2",
      CpuidTable.from([leaf(0, { eax: 0x12 }), leaf(0x12, { eax: 1 }, 2)]),
      ["12.0/1", "12.1/1", "12.2/1", "12.3/1"],
    ],
    [
      "leaf 0x23, whose eax has a bit for each sub-leaf",
      CpuidTable.from([leaf(0, { eax: 0x23 }), leaf(0x23, { eax: 0b1011 })]),
      ["23.0/1", "23.1/1", "23.2/1", "23.3/1"],
    ],
    [
      "leaf 0xd, without the sub-leaves that have no component",
      CpuidTable.from([leaf(0, { eax: 0xd }), leaf(0xd, { eax: 7 }), leaf(0xd, { eax: 64 }, 63)]),
      ["d.0/1", "d.63/1"],
    ],
  ])("reads the sub-leaves of %s", (_, recorded, wanted) => {
    const fn = recorded.at(0)?.eax.toString(16);
    const walked = named(walkCpuid(readerOf(recorded))).filter((one) => one.startsWith(`${fn}.`));
    expect(walked).toEqual(wanted);
  });

  test("reads two hypervisor interfaces", () => {
    const recorded = CpuidTable.from([
      leaf(0x40000000, { eax: 0x40000001 }),
      leaf(0x40000100, { eax: 0x40000101 }),
    ]);
    const walked = ["0.0/0", "40000000.0/0", "40000001.0/0", "40000100.0/0", "40000101.0/0"];
    expect(named(walkCpuid(readerOf(recorded)))).toEqual(walked);
  });

  test("leaves out a range whose first leaf returns the data of another leaf", () => {
    const intel: CpuidReader = (fn) => (fn === 0 ? { ...NONE, eax: 1 } : { ...NONE, eax: 0x123 });
    expect(named(walkCpuid(intel))).toEqual(["0.0/0", "1.0/0"]);
  });

  test("ends for any values that the function returns", () => {
    const ones = 0xffffffff;
    const table = walkCpuid(() => ({ eax: ones, ebx: ones, ecx: ones, edx: ones }));
    expect(table.length).toBeGreaterThan(256);
    expect(table.length).toBeLessThan(2000);
  });

  test("refuses an argument that is not a function", () => {
    expect(() => walkCpuid("cpuid" as unknown as CpuidReader)).toThrow(
      'walkCpuid(): expected a function, got "cpuid"',
    );
  });

  test("throws the error that the function throws", () => {
    const broken: CpuidReader = () => {
      throw new Error("no CPUID here");
    };
    expect(() => walkCpuid(broken)).toThrow("no CPUID here");
  });
});
