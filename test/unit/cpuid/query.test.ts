/**
 * Tests of query(), which implements KVM's lookup for a guest's CPUID instruction; each test covers one rule. The test
 * test/lab/cpuid-query.test.ts compares query() with guests.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type CpuidEntry2Input,
  type CpuidQueryOptions,
  CpuidTable,
  formatQuery,
  query,
} from "../../../lib/cpuid/index.ts";

const vendor = (name: string): Pick<CpuidEntry2Input, "ebx" | "ecx" | "edx"> => {
  const word = (at: number): number =>
    [3, 2, 1, 0].reduce((sum, i) => sum * 256 + name.charCodeAt(at + i), 0);
  return { ebx: word(0), edx: word(4), ecx: word(8) };
};

const AMD = vendor("AuthenticAMD");
const INTEL = vendor("GenuineIntel");

const LEAVES: readonly CpuidEntry2Input[] = [
  { function: 1, eax: 1, ecx: 1 << 26, edx: 1 << 9 },
  { function: 4, index: 0, flags: 1, eax: 0x40 },
  { function: 4, index: 1, flags: 1, eax: 0x41 },
  { function: 7, index: 0, flags: 1, ebx: (1 << 4) | (1 << 11) },
  { function: 0xb, index: 0, flags: 1, ecx: 0x100, edx: 0x33 },
  { function: 0xb, index: 1, flags: 1, ecx: 0x201, edx: 0x33 },
  { function: 0xd, index: 0, flags: 1, eax: 0x207, ebx: 0x111, ecx: 0x988 },
  { function: 0xd, index: 1, flags: 1, eax: 0xf, ebx: 0x222 },
  { function: 0xd, index: 2, flags: 1, eax: 256, ebx: 576 },
  { function: 0xd, index: 9, flags: 1, eax: 8, ebx: 2432, ecx: 2 },
  { function: 0xd, index: 11, flags: 1, eax: 16, ecx: 1 },
  { function: 0x40000000, eax: 0x40000001, ...vendor("KVMK" + "MVKV\0\0\0M") },
  { function: 0x80000000, eax: 0x80000008 },
  { function: 0x80000007, edx: 1 << 8 },
  { function: 0x80000008, eax: 0x3028 },
];

const make = (name: typeof AMD, max = 0xd): CpuidTable =>
  CpuidTable.from([{ function: 0, eax: max, ...name }, ...LEAVES]);

const amd = make(AMD);
const intel = make(INTEL);

const registers = (
  table: CpuidTable,
  fn: number,
  index = 0,
  options: CpuidQueryOptions = {},
): readonly number[] => {
  const { eax, ebx, ecx, edx } = table.query(fn, index, options);
  return [eax, ebx, ecx, edx];
};

const NOTHING = [0, 0, 0, 0];
const D0 = [0x207, 0x111, 0x988, 0];
const D9 = [8, 2432, 2, 0];

describe("an entry", () => {
  test("with the significant-index flag matches only its index", () => {
    expect(registers(amd, 4, 1)).toEqual([0x41, 0, 0, 0]);
    expect(registers(amd, 4, 2)).toEqual(NOTHING);
  });

  test("without the flag matches every index, and hides later entries", () => {
    const table = CpuidTable.from([
      { function: 7, index: 3, eax: 1 },
      { function: 7, index: 9, flags: 1, eax: 2 },
    ]);
    expect(registers(table, 7, 9)).toEqual([1, 0, 0, 0]);
    expect(registers(table, 7, 0xffffffff)).toEqual([1, 0, 0, 0]);
  });

  test("with the flag is found before a later entry without the flag", () => {
    const table = CpuidTable.from([
      { function: 7, index: 9, flags: 1, eax: 2 },
      { function: 7, index: 3, eax: 1 },
    ]);
    expect(registers(table, 7, 9)).toEqual([2, 0, 0, 0]);
    expect(registers(table, 7, 3)).toEqual([1, 0, 0, 0]);
  });

  test("above the advertised maximum is found", () => {
    const table = intel.append({ function: 0x2000, eax: 5 });
    expect(registers(table, 0x2000)).toEqual([5, 0, 0, 0]);
    expect(table.query(0x2000)).toMatchObject({
      from: { kind: "entry", position: 16, why: "entry 16 (0x2000.0)" },
    });
  });
});

describe("an absent leaf", () => {
  test.each([
    ["AMD", AMD],
    ["AMD (the K6's)", vendor("AMDisbetter!")],
    ["Hygon", vendor("HygonGenuine")],
  ])("reads zeros if the vendor is %s", (_, name) => {
    expect(registers(make(name), 0x2000)).toEqual(NOTHING);
    expect(make(name).query(0x2000).from).toMatchObject({ kind: "zeros", position: undefined });
  });

  test.each([
    ["Intel", INTEL],
    ["Centaur", vendor("CentaurHauls")],
    ["an unknown one", vendor("NoSuchVendor")],
  ])("reads the highest basic leaf if the vendor is %s", (_, name) => {
    expect(registers(make(name), 0x2000)).toEqual(D0);
    expect(make(name).query(0x2000).from).toMatchObject({ kind: "max-basic-leaf", position: 7 });
  });

  test("reads the highest basic leaf at the given index", () => {
    expect(registers(intel, 0x2000, 9)).toEqual(D9);
    expect(registers(intel, 0x2000, 3)).toEqual(NOTHING);
  });

  test("reads zeros if the table has no leaf 0", () => {
    expect(registers(intel.without(0), 0x2000)).toEqual(NOTHING);
  });

  test("reads zeros if the highest basic leaf is absent too", () => {
    expect(registers(make(INTEL, 0xc), 0x2000)).toEqual(NOTHING);
  });

  test("inside the range of its class reads zeros", () => {
    expect(registers(intel, 0xc)).toEqual(NOTHING);
    expect(registers(intel, 0x80000003)).toEqual(NOTHING);
    expect(intel.query(0x80000003).from.why).toContain("0x80000000.eax is 0x80000008");
  });

  test.each([
    [0x20000000, "the basic leaves"],
    [0x80000009, "the extended leaves"],
    [0x80860000, "the extended leaves"],
    [0x40000002, "the hypervisor leaves of its block"],
    [0x40000100, "a block without a base"],
    [0xc0000000, "the Centaur leaves, which are absent"],
    [0xffffffff, "the Centaur leaves, which are absent"],
  ])("%i (in decimal) is beyond %s", (fn) => {
    expect(registers(intel, fn)).toEqual(D0);
  });

  test("of an existing Centaur class is in range up to the limit of the class", () => {
    const table = intel.append({ function: 0xc0000000, eax: 0xc0000004 });
    expect(registers(table, 0xc0000004)).toEqual(NOTHING);
    expect(registers(table, 0xc0000005)).toEqual(D0);
  });

  test("0x40000100 belongs to a separate hypervisor block, and not to the block of 0x40000000", () => {
    const table = intel.append({ function: 0x40000100, eax: 0x40000105 });
    expect(registers(table, 0x40000103)).toEqual(NOTHING);
    expect(registers(table, 0x40000003)).toEqual(D0);
  });

  test("follows the given vendor instead of the vendor in the table", () => {
    expect(registers(amd, 0x2000, 0, { vendor: "GenuineIntel" })).toEqual(D0);
    expect(registers(intel, 0x2000, 0, { vendor: "AuthenticAMD" })).toEqual(NOTHING);
  });
});

describe("an undefined sub-leaf of a topology leaf", () => {
  test("reads the low byte of the sub-leaf's number, and the x2APIC id", () => {
    expect(registers(amd, 0xb, 0x105)).toEqual([0, 0, 5, 0x33]);
    expect(amd.query(0xb, 0x105).from).toMatchObject({ kind: "topology", position: 6 });
  });

  test("reads zeros if sub-leaf 1 is absent", () => {
    expect(registers(amd.without(0xb, 1), 0xb, 5)).toEqual(NOTHING);
  });

  test("is also read through an out-of-range leaf if 0xB is the highest basic leaf", () => {
    expect(registers(make(INTEL, 0xb), 0x2000, 7)).toEqual([0, 0, 7, 0x33]);
  });

  test("of leaf 0x1F reads as in leaf 0xB, but an undefined sub-leaf of any other leaf reads zeros", () => {
    const more = amd.append(
      { function: 0x1f, index: 1, flags: 1, edx: 0x44 },
      { function: 0x80000026, index: 1, flags: 1, edx: 0x55 },
    );
    expect(registers(more, 0x1f, 3)).toEqual([0, 0, 3, 0x44]);
    expect(registers(more, 0x80000026, 3)).toEqual(NOTHING);
  });
});

describe("bits that KVM computes", () => {
  test("are returned as stored if the vCPU's state is not given", () => {
    expect(registers(amd, 1)).toEqual([1, 0, 1 << 26, 1 << 9]);
    expect(registers(amd, 0xd)).toEqual(D0);
    expect(amd.query(1).written).toEqual([]);
  });

  test.each([
    ["CR4.OSXSAVE", 1, 0, { cr4: 1 << 18 }, { ecx: (1 << 26) + (1 << 27) }],
    ["a clear CR4.OSXSAVE", 1, 0, { cr4: 0 }, { ecx: 1 << 26 }],
    ["CR4.PKE", 7, 0, { cr4: 1 << 22 }, { ecx: 1 << 4 }],
    ["a disabled local APIC", 1, 0, { apicBase: 0xfee00000 }, { edx: 0 }],
    ["an enabled local APIC", 1, 0, { apicBase: 0xfee00800 }, { edx: 1 << 9 }],
    ["MISC_ENABLE[18]", 1, 0, { miscEnable: 1 << 18 }, { ecx: (1 << 26) + (1 << 3) }],
    ["XCR0 with SSE", 0xd, 0, { xcr0: 3 }, { ebx: 576 }],
    ["XCR0 with AVX", 0xd, 0, { xcr0: 7 }, { ebx: 832 }],
    ["XCR0 with PKRU", 0xd, 0, { xcr0: 0x207n }, { ebx: 2440 }],
    ["XCR0, compacted and aligned", 0xd, 1, { xcr0: 0x207n }, { ebx: 832 + 8 }],
    ["XCR0 and IA32_XSS", 0xd, 1, { xcr0: 3, xss: 0x800 }, { ebx: 592 }],
    ["TSX_CTRL.CPUID_CLEAR", 7, 0, { tsxCtrl: 2 }, { ebx: 0 }],
    ["a TSX_CTRL without CPUID_CLEAR", 7, 0, { tsxCtrl: 1 }, { ebx: (1 << 4) + (1 << 11) }],
  ] as const)("follow %s", (_, fn, index, options, expected) => {
    expect(amd.query(fn, index, options)).toMatchObject(expected);
  });

  test("align a compacted component to 64 bytes if bit 1 of its sub-leaf's ecx is set", () => {
    const odd = amd.replace(9, { eax: 260 });
    expect(odd.query(0xd, 1, { xcr0: 0x207n }).ebx).toBe(896 + 8);
  });

  test("keep 0xd.1:ebx if the table has neither XSAVEC nor XSAVES", () => {
    expect(amd.replace(8, { eax: 5 }).query(0xd, 1, { xcr0: 7 }).ebx).toBe(0x222);
  });

  test("use the sizes of the host if they are given", () => {
    const host = [...CpuidTable.from([{ function: 0xd, index: 2, flags: 1, eax: 256, ebx: 1000 }])];
    expect(amd.query(0xd, 0, { xcr0: 7, host }).ebx).toBe(1256);
  });

  test("are returned as stored, with a note, if a component has no size", () => {
    const result = amd.query(0xd, 0, { xcr0: 0xe7 });
    expect(result).toMatchObject({ ebx: 0x111, written: [] });
    expect(result.notes).toEqual([
      "0xd.0:ebx[31:0] is as stored: no entry has the size of XSAVE components 5, 6, 7",
    ]);
  });

  test("do not use the values of an unflagged leaf 0xD as the size of every component", () => {
    const table = CpuidTable.from([{ function: 0xd, eax: 5, ebx: 1 }]);
    expect(table.query(0xd, 0, { xcr0: 7 }).notes).toHaveLength(1);
  });

  test("include the compacted size in the entry 0xd.0 of a table without flags, because KVM writes the compacted size last", () => {
    const table = CpuidTable.from([{ function: 0xd, eax: 0xf, ebx: 1 }]);
    expect(table.query(0xd, 0, { xcr0: 3 }).ebx).toBe(576);
    expect(table.query(0xd, 5, { xcr0: 3 }).written.map(({ why }) => why)).toEqual([
      "the XSAVE size for XCR0",
      "the compacted XSAVE size for XCR0, on 7.2 also for IA32_XSS",
    ]);
  });

  test("are written into leaf 1, whatever index the entry has", () => {
    const table = CpuidTable.from([{ function: 1, index: 5, flags: 1 }]);
    expect(table.query(1, 5, { cr4: 1 << 18 }).ecx).toBe(1 << 27);
  });

  test("are not written into a second entry", () => {
    const table = CpuidTable.from([
      { function: 1, index: 1, flags: 1 },
      { function: 1, index: 2, flags: 1 },
    ]);
    expect(table.query(1, 1, { cr4: 1 << 18 }).ecx).toBe(1 << 27);
    expect(table.query(1, 2, { cr4: 1 << 18 }).ecx).toBe(0);
  });

  test("are read through an out-of-range leaf too", () => {
    expect(intel.query(0x2000, 0, { xcr0: 7 }).ebx).toBe(832);
  });

  test("hide the invariant TSC only if Hyper-V's control of the invariant TSC is available and 0", () => {
    const hyperv = amd
      .without(0x40000000)
      .append({ function: 0x40000001, eax: 0x31237648 }, { function: 0x40000003, eax: 1 << 15 });
    expect(hyperv.query(0x80000007, 0, { hvTscInvariantControl: 0 }).edx).toBe(0);
    expect(hyperv.query(0x80000007, 0, { hvTscInvariantControl: 1 }).edx).toBe(1 << 8);
    expect(hyperv.query(0x80000007).edx).toBe(1 << 8);
    expect(amd.query(0x80000007, 0, { hvTscInvariantControl: 0 }).edx).toBe(1 << 8);
  });

  test("replace the values in Xen's TSC leaf by the values of the guest clock, up to Xen's maximum leaf", () => {
    const xen = (limit: number): CpuidTable =>
      CpuidTable.from([
        { function: 0x40000000, eax: limit, ebx: 0x566e6558, ecx: 0x65584d4d, edx: 0x4d4d566e },
        { function: 0x40000003, index: 1, flags: 1 },
        { function: 0x40000003, index: 2, flags: 1 },
      ]);
    const xenTsc = { multiplier: 7, shift: 0xffffffff, khz: 1000 };
    const read = (limit: number, index: number): readonly number[] =>
      registers(xen(limit), 0x40000003, index, { xenTsc });
    expect(read(0x40000003, 1)).toEqual([0, 0, 7, 0xffffffff]);
    expect(read(0x40000003, 2)).toEqual([1000, 0, 0, 0]);
    expect(read(0x40000002, 1)).toEqual(NOTHING);
  });

  test("are reported with position, value and reason", () => {
    expect(amd.query(1, 0, { cr4: 1 << 18 }).written).toEqual([
      { where: "0x1.0:ecx[27]", register: "ecx", low: 27, high: 27, value: 1, why: "CR4.OSXSAVE" },
    ]);
  });
});

test("formatQuery() prints the registers, the origin and each computed bit", () => {
  expect(formatQuery(amd.query(1, 0, { cr4: 1 << 18, apicBase: 0 }))).toBe(
    "eax=0x00000001 ebx=0x00000000 ecx=0x0c000000 edx=0x00000000\n" +
      "entry 1 (0x1.0)\n" +
      "0x1.0:ecx[27]: 1 (CR4.OSXSAVE)\n" +
      "0x1.0:edx[9]: 0 (APIC_BASE.EN)",
  );
});

test("formatQuery() prints that a guest reads zeros for an absent leaf", () => {
  expect(formatQuery(amd.query(0x3)).split("\n")).toEqual([
    "eax=0x00000000 ebx=0x00000000 ecx=0x00000000 edx=0x00000000",
    "the guest reads zeros: the table has no entry 0x3.0, and the vendor is AuthenticAMD",
  ]);
  expect(formatQuery(amd.query(7))).not.toContain("the guest reads zeros");
});

test("query() with an entry's own function and index finds the first entry that matches", () => {
  const word = fc.nat({ max: 0xffffffff });
  const anEntry = fc.record({
    function: fc.nat({ max: 3 }),
    index: fc.nat({ max: 2 }),
    flags: fc.nat({ max: 1 }),
    eax: word,
  });
  fc.assert(
    fc.property(
      fc.array(anEntry, { maxLength: 8 }),
      fc.nat({ max: 3 }),
      fc.nat(),
      (list, fn, i) => {
        const table = CpuidTable.from(list);
        const { from } = table.query(fn, i);
        const own = [...table].findIndex(
          (e) => e.function === fn && (e.flags === 0 || e.index === i),
        );
        expect(from.kind === "entry" ? from.position : -1).toBe(own);
      },
    ),
  );
});

test.each([
  [() => query(amd, -1), RangeError, "query(): function: -1 does not fit u32"],
  [() => query(amd, 1, 2 ** 32), RangeError, "query(): index: 4294967296 does not fit u32"],
  [() => query(amd, 1, 0, { cr5: 1 } as object), TypeError, 'did you mean "cr4"?'],
  [() => query(amd, 1, 0, { cr4: "1" as unknown as number }), TypeError, "query(): cr4"],
  [
    () => query(amd, 1, 0, { vendor: "Intel" }),
    TypeError,
    "query(): vendor: expected 12 characters",
  ],
  [
    () => query(amd, 1, 0, { xenTsc: { khz: 1 } as never }),
    TypeError,
    "query(): xenTsc: missing members multiplier, shift",
  ],
  [() => formatQuery({} as never), TypeError, "formatQuery(): missing members"],
])("the wrong argument in this call is refused: %s", (call, kind, message) => {
  expect(call).toThrow(kind);
  expect(call).toThrow(message);
});
