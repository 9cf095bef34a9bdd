/** Tests of baseline(): the common table of several hosts. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  baseline,
  type CpuidBaseline,
  type CpuidEntry2Input,
  CpuidTable,
  compare,
  formatBaseline,
  lint,
  models,
  modelTable,
} from "../../../lib/cpuid/index.ts";

const INTEL = { ebx: 0x756e6547, ecx: 0x6c65746e, edx: 0x49656e69 };

/** Returns the baseline, or fails the test. */
function tableOf(result: CpuidBaseline): CpuidTable {
  if (result.kind !== "table") throw new Error(result.why);
  return result.table;
}

const old = CpuidTable.from([
  { function: 0, eax: 0xd, ...INTEL },
  { function: 1, eax: 0x906ea, ebx: 0x100800, ecx: (1 << 26) | (1 << 28) },
  { function: 7, flags: 1, ebx: 1 << 5 },
  { function: 0xd, flags: 1, eax: 7, ebx: 0x340, ecx: 0x340 },
  { function: 0xd, index: 2, flags: 1, eax: 256, ebx: 576 },
  { function: 0x80000000, eax: 0x80000008 },
  { function: 0x80000008, eax: 0x3028 },
]);

const young = old
  .with({ max_std_leaf: 0x1f, phys_addr_bits: 52, virt_addr_bits: 57, fdp_excptn_only: 1, adx: 1 })
  .with({ stepping: 2, base_model: 6, ext_model: 10, guest_phys_addr_bits: 48 })
  .with({ xcr0_pkru: 1, xsave_sz_max: 0xa88, pku: 1 })
  .append({ function: 0xd, index: 9, flags: 1, eax: 8, ebx: 2688 })
  .append({ function: 0x1f, flags: 1, ebx: 2 });

describe("the baseline of two hosts", () => {
  const result = baseline([young, old]);
  const table = tableOf(result);

  test("has the common features of both hosts, and the lower maximum of basic leaves", () => {
    expect(table.get("avx2")).toBe(1);
    expect(table.get("adx")).toBe(0);
    expect(table.get("pku")).toBe(0);
    expect(table.get("max_std_leaf")).toBe(0xd);
  });

  test("has the smaller address sizes", () => {
    expect(table.get("phys_addr_bits")).toBe(40);
    expect(table.get("virt_addr_bits")).toBe(48);
    expect(table.get("guest_phys_addr_bits")).toBe(0);
  });

  test("has a bit that reports a missing function if any host has the bit", () => {
    expect(table.get("fdp_excptn_only")).toBe(1);
  });

  test("has the common XSAVE components of both hosts, and the XSAVE size of these components", () => {
    expect(table.find(0xd, 0)).toMatchObject({ eax: 7, ecx: 0x340 });
    expect(table.find(0xd, 9)).toBeUndefined();
  });

  test("has the lowest signature", () => {
    expect(table.find(1)?.eax).toBe(0x906ea);
    expect(tableOf(baseline([old, young])).find(1)?.eax).toBe(0x906ea);
  });

  test("lists the features that each host loses", () => {
    expect(formatBaseline(result).split("\n")).toEqual([
      "topology, caches, brand string and ids are those of the first table",
      "family, model and stepping are the lowest of the tables",
      "host 1 loses 9",
      "  0x0.0:eax[31:0] max_std_leaf: the host has 0x1f, the baseline 0xd",
      "  0x7.0:ebx[19] adx: the host has 1, the baseline 0",
      "  0x7.0:ecx[3] pku: the host has 1, the baseline 0",
      "  0xd.0:eax[9] xcr0_pkru: the host has 1, the baseline 0",
      "  0xd.0:ecx[31:0] xsave_sz_max: the host has 0xa88, the baseline 0x340",
      "  0xd.9:eax[31:0] xsave_sz: the host has 0x8, the baseline 0x0",
      "  0xd.9:ebx[31:0] xsave_offset: the host has 0xa80, the baseline 0x0",
      "  0x80000008.0:eax[7:0] phys_addr_bits: the host has 52, the baseline 40",
      "  0x80000008.0:eax[15:8] virt_addr_bits: the host has 57, the baseline 48",
      "host 2 loses 1",
      "  0x7.0:ebx[6] fdp_excptn_only: the host has 0, the baseline 1 (1 reports that the CPU lacks a function)",
    ]);
  });
});

test("the guest's number of physical address bits is the smallest of all hosts", () => {
  const wide = young.with({ guest_phys_addr_bits: 0, phys_addr_bits: 52 });
  const limited = young.with({ guest_phys_addr_bits: 48, phys_addr_bits: 52 });
  expect(tableOf(baseline([wide, limited])).get("guest_phys_addr_bits")).toBe(48);
});

test("an XSAVE component whose offset differs between hosts is left out of the baseline", () => {
  const moved = young.map((e) => (e.function === 0xd && e.index === 9 ? { ...e, ebx: 832 } : e));
  const result = baseline([young, moved]);
  expect(tableOf(result).find(0xd, 9)).toBeUndefined();
  expect(tableOf(result).find(0xd, 0)).toMatchObject({ eax: 7, ecx: 0x340 });
  expect(formatBaseline(result)).toContain(
    "0xd.9 is left out: the tables have different xsave_offset",
  );
});

test("if one XSAVE component of AVX-512 is left out, the others and the AVX-512 features are left out too", () => {
  const wide = young
    .with({ avx512f: 1, avx512vl: 1, xcr0_avx512_opmask: 1 })
    .with({ xcr0_avx512_zmm_hi256: 1, xcr0_avx512_hi16_zmm: 1 })
    .append({ function: 0xd, index: 5, flags: 1, eax: 64, ebx: 1088 })
    .append({ function: 0xd, index: 6, flags: 1, eax: 512, ebx: 1152 })
    .append({ function: 0xd, index: 7, flags: 1, eax: 1024, ebx: 1664 });
  const moved = wide.map((e) => (e.function === 0xd && e.index === 5 ? { ...e, ebx: 832 } : e));
  const table = tableOf(baseline([wide, moved]));
  expect(table.find(0xd, 0)?.eax).toBe(0x207);
  expect([table.get("avx512f"), table.get("avx512vl"), table.get("adx")]).toEqual([0, 0, 1]);
  expect(table.find(0xd, 6)).toBeUndefined();
});

test("the baseline of dumps whose leaf 0xD has only sub-leaf 0 keeps their XSAVE components and size", () => {
  const bare = young.filter((e) => e.function !== 0xd || e.index === 0);
  expect(tableOf(baseline([bare, bare])).find(0xd, 0)).toMatchObject({ eax: 0x207, ecx: 0xa88 });
});

test("a leaf that belongs to different hypervisor interfaces on two hosts is left out of the baseline", () => {
  const kvm = old.append(
    { function: 0x40000000, ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d },
    { function: 0x40000001, eax: 0x1 },
  );
  const hyperv = old.append({ function: 0x40000000 }, { function: 0x40000001, eax: 0x31237648 });
  const result = baseline([kvm, hyperv]);
  expect(tableOf(result).find(0x40000001)).toBeUndefined();
  expect(formatBaseline(result)).toContain("different hypervisor interfaces");
  const bare = formatBaseline(baseline([kvm, old]));
  expect(bare).toContain("0x40000000.0 is left out: not every table has it");
  expect(bare).not.toContain("different hypervisor interfaces");
  expect(tableOf(baseline([kvm, kvm])).has("kvm_clocksource")).toBe(true);
});

test("tables of different vendors have no baseline, and the error names the vendors", () => {
  const amd = old.with({ cpu_vendorid_0: 0x68747541 });
  const result = baseline([old, amd, old]);
  expect(result).toMatchObject({
    kind: "vendors",
    vendors: ["GenuineIntel", "AuthineIntel", "GenuineIntel"],
  });
  expect(formatBaseline(result)).toBe(
    "the tables have different vendors: GenuineIntel, AuthineIntel",
  );
});

test("the baseline of one table equals that table", () => {
  expect(compare(tableOf(baseline([old])), old)).toMatchObject({
    relation: "identical",
    notes: [],
  });
  expect(
    tableOf(baseline([young])).equals(
      CpuidTable.from([...young].sort((a, b) => a.function - b.function || a.index - b.index)),
    ),
  ).toBe(true);
});

test.each([
  [() => baseline([]), "baseline(): expected at least one table, got none"],
  [() => baseline(5 as never), "baseline(): expected an array"],
  [() => formatBaseline({} as never), "formatBaseline(): missing member kind"],
  [() => baseline([5 as never]), "baseline(): [0]: expected an array"],
])("the wrong argument in this call is refused: %s", (call, message) => {
  expect(call).toThrow(message);
});

const word = fc.oneof(fc.nat({ max: 0xffffffff }), fc.constantFrom(0, 7, 0x207, 0xffffffff));
const leaves = [0, 1, 2, 4, 7, 0xa, 0xb, 0xd, 0xf, 0x10, 0x12, 0x14, 0x15, 0x18, 0x1d, 0x24];
const extended = [0x80000000, 0x80000001, 0x80000008, 0x8000000a, 0x8000001d, 0x8000001f];
const anEntry: fc.Arbitrary<CpuidEntry2Input> = fc.record({
  function: fc.constantFrom(...leaves, ...extended, 0x40000000, 0x40000001, 0x12345),
  index: fc.nat({ max: 3 }),
  flags: fc.nat({ max: 1 }),
  eax: word,
  ebx: word,
  ecx: word,
  edx: word,
});

/** Arbitrary tables of one vendor, some of whose leaves are equal. */
const tables = fc.tuple(
  fc.array(anEntry, { maxLength: 12 }),
  fc.array(anEntry, { maxLength: 8 }),
  fc.array(anEntry, { maxLength: 8 }),
  fc.array(anEntry, { maxLength: 8 }),
);

test("the baseline of any three tables is a subset of each table", () => {
  fc.assert(
    fc.property(tables, ([common, ...own]) => {
      const three = own.map((more) =>
        CpuidTable.from([{ function: 0, eax: 0xd, ...INTEL }, ...more, ...common]),
      );
      const table = tableOf(baseline(three));
      const relations = three.map((host) => compare(table, host).relation);
      expect(relations.filter((it) => it !== "subset" && it !== "identical")).toEqual([]);
    }),
    { numRuns: 300 },
  );
});

test("the baseline does not depend on the order of the tables", () => {
  fc.assert(
    fc.property(tables, ([common, ...own]) => {
      const three = own.map((more) =>
        CpuidTable.from([{ function: 0, eax: 0xd, ...INTEL }, ...more, ...common]),
      );
      const [one, other] = [tableOf(baseline(three)), tableOf(baseline(three.toReversed()))];
      expect(compare(one, other).relation).toBe("identical");
    }),
    { numRuns: 50 },
  );
});

test("the baseline has an index if one host's only entry of the leaf has it, in any order of the hosts", () => {
  const leaf = { function: 0xd, index: 1 };
  const hosts = [0, 1].map((flags) =>
    CpuidTable.from([
      { function: 0, eax: 0xd, ...INTEL },
      { ...leaf, flags },
    ]),
  );
  for (const order of [hosts, hosts.toReversed()]) {
    expect(tableOf(baseline(order)).find(0xd, 1)?.flags).toBe(1);
  }
});

describe("the baseline of models", () => {
  const all = models().map(({ name, vendor }) => ({ name, vendor, table: modelTable(name) }));
  const pairs = all.flatMap((first) =>
    all
      .filter((second) => second !== first && second.vendor === first.vendor)
      .map((second) => [first, second] as const),
  );

  /** Lists the errors and warnings, but not the remarks, of the lint for a baseline of these tables. */
  const faults = (tables: readonly CpuidTable[]): readonly string[] =>
    lint(tableOf(baseline(tables)), { profile: "guest" })
      .findings.filter(({ severity }) => severity !== "info")
      .map(({ rule, message }) => `${rule} ${message}`);

  test("has no error and no warning for any two models of one vendor", () => {
    const found = pairs.flatMap(([a, b]) =>
      faults([a.table, b.table]).map((fault) => `${a.name}, ${b.name}: ${fault}`),
    );
    expect(pairs.length).toBeGreaterThan(500);
    expect(found).toEqual([]);
  }, 60_000);

  test("is a subset of both models for any two models of one vendor", () => {
    const relations = pairs.flatMap(([a, b]) => {
      const made = tableOf(baseline([a.table, b.table]));
      return [a, b].map((one) => `${a.name}, ${b.name}: ${compare(made, one.table).relation}`);
    });
    const others = relations.filter((text) => !/: (subset|identical)$/.test(text));
    expect(others).toEqual([]);
  }, 60_000);

  test("has no error and no warning for Rome, Milan and Genoa", () => {
    expect(faults(["EPYC-Rome", "EPYC-Milan", "EPYC-Genoa"].map(modelTable))).toEqual([]);
  });
});
