/**
 * Tests of dependencies between features: the table of pairs, its transitive closure, and the pairs that a table
 * violates.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type CpuidFieldName,
  CpuidTable,
  closeFeatures,
  cpuidDependencies,
  dependentFeatures,
  field,
  missingDependencies,
} from "../../../lib/cpuid/index.ts";

const pairs = cpuidDependencies();
const names: readonly CpuidFieldName[] = [
  ...new Set(pairs.flatMap(({ feature, needs }) => [feature, needs])),
];

/** A table with an all-zero entry for each field of the pairs, and the signatures of KVM and Hyper-V. */
function blank(): CpuidTable {
  const places = new Map(
    names
      .map((name) => field(name))
      .filter(({ space }) => space === "native")
      .map(({ function: fn, index }) => {
        const at = typeof index === "number" ? index : index.first;
        return [`${fn}.${at}`, { function: fn, index: at, flags: 1 }] as const;
      }),
  );
  return CpuidTable.from([
    ...places.values(),
    { function: 0x40000000, eax: 0x40000005 },
    { function: 0x40000001, eax: 0x31237648 },
    { function: 0x40000003 },
    { function: 0x40000004 },
    { function: 0x40000100, ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d },
    { function: 0x40000101 },
  ]);
}

const turnOn = (on: readonly CpuidFieldName[]): CpuidTable =>
  blank().with(Object.fromEntries(on.map((name) => [name, 1])));

const someNames = fc.uniqueArray(fc.constantFrom(...names), { maxLength: 12 });

describe("cpuidDependencies()", () => {
  test("has the 72 different pairs of Linux 7.2's cpuid_deps[]", () => {
    const own = pairs.filter(({ rule }) => rule === "D01");
    expect(new Set(own.map(({ feature, needs }) => `${feature} ${needs}`)).size).toBe(72);
    expect(own).toHaveLength(72);
  });

  test("contains no pair twice and no cycle", () => {
    const texts = pairs.map(({ feature, needs }) => `${feature} needs ${needs}`);
    expect(new Set(texts).size).toBe(texts.length);
    for (const { feature, needs } of pairs) expect(closeFeatures([needs])).not.toContain(feature);
  });

  test.each([
    ["avx512_fp16", "avx512bw"],
    ["bmec", "cqm_mbm_local"],
    ["f16c", "avx"],
    ["avx512f", "avx2"],
    ["cet_ss", "xsaves"],
    ["sev_nested_paging", "sev_es"],
    ["vgif", "svm"],
    ["hv_stimer", "hv_synic"],
  ] as const)("contains the pair: %s needs %s", (feature, needs) => {
    expect(pairs).toContainEqual(expect.objectContaining({ feature, needs }));
  });

  test("each pair is frozen and has one-bit fields", () => {
    for (const pair of pairs) {
      expect(Object.isFrozen(pair)).toBe(true);
      for (const name of [pair.feature, pair.needs]) expect(field(name).high).toBe(field(name).low);
    }
  });
});

describe("closeFeatures()", () => {
  test("adds AVX for F16C, but not AVX2 for AVX-512, because that pair is only a remark", () => {
    expect(closeFeatures(["f16c"])).toContain("avx");
    expect(closeFeatures(["avx512f"])).not.toContain("avx2");
  });

  test("adds all dependencies of AMX down to the FPU", () => {
    expect(closeFeatures(["amx_int8"])).toEqual([
      "amx_int8",
      "amx_tile",
      "xfd",
      "xsaves",
      "xgetbv1",
      "xsave",
      "xsavec",
      "fxsr",
      "fpu",
    ]);
  });

  test("does not add a dependency that real CPUs lack", () => {
    expect(closeFeatures(["tsxldtrk", "invpcid"])).toEqual(["tsxldtrk", "invpcid"]);
  });

  test("is idempotent and keeps the given names first", () => {
    fc.assert(
      fc.property(someNames, (on) => {
        const closed = closeFeatures(on);
        expect(closed.slice(0, on.length)).toEqual(on);
        expect(closeFeatures(closed)).toEqual(closed);
      }),
    );
  });

  test("leaves no missing dependency in a table", () => {
    fc.assert(
      fc.property(someNames, (on) => {
        const missing = missingDependencies(turnOn(closeFeatures(on)));
        expect(missing.filter(({ severity }) => severity !== "info")).toEqual([]);
      }),
    );
  });

  test("an unknown name is refused with suggestions", () => {
    expect(() => closeFeatures(["avx3" as CpuidFieldName])).toThrow(
      'unknown CPUID field "avx3"; did you mean avx, avx2?',
    );
  });
});

describe("dependentFeatures()", () => {
  test("returns, for avx512vl, avx512vl itself and the features that need avx512vl", () => {
    expect(dependentFeatures(["avx512vl"])).toEqual(
      ["avx512vl", "avx512_vbmi2", "avx512_vnni", "avx512_bitalg"].concat([
        "avx512_vp2intersect",
        "avx512_bf16",
      ]),
    );
  });

  test("is the inverse of closeFeatures()", () => {
    fc.assert(
      fc.property(fc.constantFrom(...names), fc.constantFrom(...names), (a, b) => {
        expect(dependentFeatures([a]).includes(b)).toBe(closeFeatures([b]).includes(a));
      }),
    );
  });
});

describe("missingDependencies()", () => {
  test("lists a pair if a table has the pair's feature without its dependency", () => {
    for (const pair of pairs) expect(missingDependencies(turnOn([pair.feature]))).toContain(pair);
  });

  test("is empty for an empty table", () => {
    expect(missingDependencies(CpuidTable.from([]))).toEqual([]);
  });
});

test("AVX10 needs AVX, whose XSAVE component the components of AVX-512 need", () => {
  expect(closeFeatures(["avx10"])).toEqual(expect.arrayContaining(["avx", "xsave"]));
  expect(dependentFeatures(["avx"])).toContain("avx10");
});
