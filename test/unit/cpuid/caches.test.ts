/** Tests of writing caches: leaves 2 and 4 for Intel; 0x8000001d, 0x80000005 and 0x80000006 for AMD. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type CpuidCacheInput,
  CpuidTable,
  cachesOf,
  cpuid,
  lint,
  namedModels,
  withCaches,
  withTopology,
} from "../../../lib/cpuid/index.ts";

const intel = CpuidTable.from([
  { function: 0, eax: 0xb, ebx: 0x756e6547, edx: 0x49656e69, ecx: 0x6c65746e },
  { function: 1, ebx: 0x00010800 },
  { function: 2, eax: 0x665b5001, edx: 0x007a7040 },
  { function: 0x80000000, eax: 0x80000008 },
  { function: 0x80000006, ecx: 0x01006040 },
]);

const amd = CpuidTable.from([
  { function: 0, eax: 0xd, ebx: 0x68747541, edx: 0x69746e65, ecx: 0x444d4163 },
  { function: 1, ebx: 0x00010800 },
  { function: 0x80000000, eax: 0x8000001e },
  { function: 0x80000001, ecx: 1 << 22 },
  { function: 0x80000005, eax: 0xff40ff40, ebx: 0xff40ff40 },
  { function: 0x80000006, eax: 0x48006400, ebx: 0x68006400 },
  { function: 0x80000008, eax: 0x3030 },
  { function: 0x8000001e },
]);

const KIB = 1024;
const MILAN: readonly CpuidCacheInput[] = [
  { level: 3, type: "unified", size: 32768 * KIB, ways: 16 },
  { level: 1, type: "data", size: 32 * KIB, ways: 8 },
  { level: 1, type: "instruction", size: 32 * KIB, ways: 8 },
  { level: 2, type: "unified", size: 512 * KIB, ways: 8, isInclusive: true },
];

/** Returns the caches of leaf 4 or 0x8000001d in the form of the input, without the terminator. */
function decoded(table: CpuidTable, fn: number): readonly object[] {
  return [...table]
    .filter((e) => e.function === fn && (e.eax & 31) !== 0)
    .map(({ eax, ebx, ecx, edx }) => {
      const [lineSize, partitions, ways] = [
        (ebx & 0xfff) + 1,
        ((ebx >>> 12) & 0x3ff) + 1,
        (ebx >>> 22) + 1,
      ];
      return {
        level: (eax >>> 5) & 7,
        type: (["", "data", "instruction", "unified"] as const)[eax & 31],
        size: lineSize * partitions * ways * (ecx + 1),
        ways: (eax & 0x200) === 0 ? ways : "full",
        lineSize,
        partitions,
        sharedBy: ((eax >>> 14) & 0xfff) + 1,
        isInclusive: (edx & 2) !== 0,
      };
    });
}

const caches = fc
  .uniqueArray(
    fc.record({
      kind: fc.constantFrom(
        ...([1, 2, 3, 4] as const).flatMap((level) =>
          (["data", "instruction", "unified"] as const).map((type) => ({ level, type })),
        ),
      ),
      ways: fc.oneof(fc.integer({ min: 1, max: 24 }), fc.constant("full" as const)),
      lineSize: fc.constantFrom(32, 64, 128),
      partitions: fc.constantFrom(1, 2),
      sets: fc.integer({ min: 1, max: 9 }),
      isInclusive: fc.boolean(),
    }),
    { selector: ({ kind }) => `${kind.level} ${kind.type}`, maxLength: 12 },
  )
  .map((rows) =>
    rows.map(({ kind, ways, lineSize, partitions, sets, isInclusive }) => {
      const size = (ways === "full" ? 1 : ways) * lineSize * partitions * 2 ** (sets + 5);
      const full = ways === "full" ? { lineSize: 1024, partitions: 1 } : { lineSize, partitions };
      return {
        ...kind,
        size: ways === "full" ? 1024 * 64 : size,
        ways,
        ...full,
        isInclusive,
        sharedBy: kind.level,
      };
    }),
  );

describe("the result of cachesOf()", () => {
  test("is written into the table of each model without a change of the caches", () => {
    for (const { name } of namedModels()) {
      const { table } = cpuid.model(name).topology({ cores: 4, threads: 2 });
      const found = cachesOf(table);
      expect(cachesOf(withCaches(table, found)), name).toEqual(found);
      expect(cachesOf(cpuid.from(table).caches(found).table), name).toEqual(found);
    }
  });

  test("is written again for any list of caches, with line partitions", () => {
    const table = intel.with({ max_ext_leaf: 0x80000004 });
    fc.assert(
      fc.property(caches, (wanted) => {
        // Without a cache in leaf 4, cachesOf() reads leaf 0x80000006.
        fc.pre(wanted.length > 0);
        const made = withCaches(table, wanted);
        expect(withCaches(table, cachesOf(made)).toString()).toBe(made.toString());
      }),
    );
  });

  test("is written if it is from AMD's old leaves, which do not report all members", () => {
    const old = withCaches(amd.with({ topoext: 0 }), MILAN);
    expect(cachesOf(old)[0]).toMatchObject({ source: "0x80000005", partitions: undefined });
    expect(cachesOf(withCaches(old, cachesOf(old)))).toEqual(cachesOf(old));
  });
});

describe("withCaches() for Intel", () => {
  const table = withTopology(intel, { packages: 2, cores: 3, threads: 2 });
  const made = withCaches(table, MILAN);

  test("writes leaf 4 in the order of level and type, with the number of CPUs that share each cache, and a terminator", () => {
    const common = { lineSize: 64, partitions: 1, isInclusive: false };
    expect(decoded(made, 4)).toEqual([
      { ...common, level: 1, type: "data", size: 32768, ways: 8, sharedBy: 2 },
      { ...common, level: 1, type: "instruction", size: 32768, ways: 8, sharedBy: 2 },
      {
        ...common,
        level: 2,
        type: "unified",
        size: 524288,
        ways: 8,
        sharedBy: 2,
        isInclusive: true,
      },
      { ...common, level: 3, type: "unified", size: 33554432, ways: 16, sharedBy: 8 },
    ]);
    expect(made.find(4, 4)).toMatchObject({ flags: 1, eax: 0, ebx: 0, ecx: 0, edx: 0 });
    expect(made.get("num_cores_on_die", 3)).toBe(3);
    expect(made.get("cache_self_init", 0)).toBe(1);
  });

  test("writes a leaf 2 that refers to leaf 4, and keeps an existing leaf 2 that refers to leaf 4", () => {
    expect(made.find(2)).toMatchObject({ eax: 0xff01, ebx: 0, ecx: 0, edx: 0 });
    const kept = intel.replace(2, { eax: 0x00feff01, edx: 0xf0 });
    expect(withCaches(kept, MILAN).find(2)).toMatchObject({ eax: 0x00feff01, edx: 0xf0 });
  });

  test("writes the second level of 0x80000006", () => {
    const fields = ["l2_size_kb", "l2_assoc", "l2_line_size"] as const;
    expect(fields.map((name) => made.get(name))).toEqual([512, 6, 64]);
    expect(made.find(0x80000006)?.edx).toBe(0);
  });

  test("raises the maximum basic leaf to 4", () => {
    const low = withCaches(intel.with({ max_std_leaf: 2 }), MILAN);
    expect(low.get("max_std_leaf")).toBe(4);
  });
});

describe("withCaches() for AMD", () => {
  const table = withTopology(amd, { cores: 16, threads: 2 });
  const made = withCaches(
    table,
    MILAN.map((one) => (one.level === 3 ? { ...one, sharedBy: 16 } : one)),
  );

  test("writes 0x8000001d without the number of core ids, which only Intel's leaf 4 contains", () => {
    const shares = decoded(made, 0x8000001d).map((one) => Reflect.get(one, "sharedBy"));
    expect(shares).toEqual([2, 2, 2, 16]);
    expect(
      [...made].filter((e) => e.function === 0x8000001d).every((e) => e.eax >>> 26 === 0),
    ).toBe(true);
    expect(made.find(4)).toBeUndefined();
  });

  test("writes 0x80000005 and 0x80000006, and keeps the TLB fields in these leaves", () => {
    expect(made.find(0x80000005)).toMatchObject({
      eax: 0xff40ff40,
      ecx: 0x20080140,
      edx: 0x20080140,
    });
    expect(made.find(0x80000006)).toMatchObject({ eax: 0x48006400, ecx: 0x02006140 });
  });

  test("writes the third-level size of the whole package to 0x80000006", () => {
    expect(made.get("l3_size_range")).toBe((2 * 32768) / 512);
  });

  test("writes only 0x80000005 and 0x80000006 without topoext", () => {
    const bare = withCaches(amd.with({ topoext: 0 }), MILAN);
    expect(bare.find(0x8000001d)).toBeUndefined();
    expect(bare.get("l2_size_kb")).toBe(512);
  });
});

describe("withCaches()", () => {
  test("writes any list of caches into a table, from which the same caches are decoded", () => {
    // The comparison omits 0x80000006, which can express fewer sizes.
    const table = intel.with({ max_ext_leaf: 0x80000004 });
    const json = JSON.stringify(table);
    const order = ["data", "instruction", "unified"];
    fc.assert(
      fc.property(caches, (wanted) => {
        const sorted = [...wanted].sort(
          (a, b) => a.level - b.level || order.indexOf(a.type) - order.indexOf(b.type),
        );
        expect(decoded(withCaches(table, wanted), 4)).toEqual(sorted);
        expect(JSON.stringify(table)).toBe(json);
      }),
    );
  });

  test.each([
    [{ level: 5 }, "withCaches(): [0]: level: expected an integer from 1 to 4, got 5"],
    [
      { type: "code" },
      'withCaches(): [0]: type: expected one of data, instruction, unified, got "code"',
    ],
    [
      { size: 1000 },
      "withCaches(): [0]: 1000 bytes are not 8 ways of 64-byte lines times a number of sets",
    ],
    [{ ways: 2000 }, "withCaches(): [0]: ways: expected an integer from 1 to 1024, got 2000"],
    [{ ways: "full" }, "withCaches(): [0]: ways: expected an integer from 1 to 1024, got 8192"],
    [
      { sharedBy: "socket" },
      '[0]: sharedBy: expected "core", "die", "package" or a number, got "socket"',
    ],
    [{ sharedBy: 0 }, "[0]: sharedBy: expected an integer from 1 to 4096, got 0"],
    [{ assoc: 8 }, 'withCaches(): [0]: unknown member "assoc"'],
    [{ size: undefined }, "withCaches(): [0]: missing member size"],
    [
      { ways: undefined },
      'withCaches(): [0]: ways is undefined, because the table does not report it: give a number or "full"',
    ],
    [
      { line: 64 },
      'withCaches(): [0]: unknown member "line"; known are level, type, size, ways, lin',
    ],
    [{ lineSize: 0 }, "[0]: lineSize: expected an integer from 1 to 4096, got 0"],
  ])("refuses a cache with %j", (part, message) => {
    const wrong = { level: 2, type: "unified", size: 524288, ways: 8, ...part } as CpuidCacheInput;
    expect(() => withCaches(intel, [wrong])).toThrow(message);
  });

  test.each(["Skylake-Server", "x86-64-v3", "EPYC-Milan"])(
    "leaves no reference to absent caches in the table of %s if there are none",
    (name) => {
      const { table } = cpuid.model(name).caches([]);
      expect(cachesOf(table)).toEqual([]);
      expect(lint(table).findings.map(({ rule }) => rule)).not.toContain("F11");
    },
  );

  test("keeps the TLB descriptors of leaf 2 if there are no caches", () => {
    const leaf2 = { function: 2, eax: 0x00feff01, ebx: 0xf0, ecx: 0, edx: 0x80ff00ff };
    const table = withCaches(intel.withEntry(leaf2), []);
    expect(table.find(2)).toMatchObject({ eax: 0x00fe0001, ebx: 0xf0, edx: 0x80ff00ff });
  });

  test("refuses a cache without ways", () => {
    const wrong = { level: 2, type: "unified", size: 524288 } as unknown as CpuidCacheInput;
    expect(() => withCaches(intel, [wrong])).toThrow("withCaches(): [0]: missing member ways");
  });

  test("refuses two caches of one level and type", () => {
    expect(() => withCaches(intel, [...MILAN, ...MILAN])).toThrow("two caches have level 1");
  });

  test("refuses a cache level that fewer CPUs share than a lower level", () => {
    const wide = MILAN.map((one) => (one.level === 2 ? { ...one, sharedBy: 8 } : one));
    expect(() => withCaches(intel, wide)).toThrow(
      "withCaches(): 1 logical CPUs share level 3, but 8 share level 2",
    );
  });

  test("refuses a size that AMD's leaf 0x80000005 cannot express", () => {
    const big = { level: 1, type: "data", size: 512 * KIB, ways: 8 } as const;
    expect(() => withCaches(amd, [big])).toThrow(
      "withCaches(): 524288 bytes of level 1 are not 1 to 255 times 1024 bytes, which leaf 0x80000005 needs",
    );
  });
});
