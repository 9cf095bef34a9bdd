/** Tests of the builder: each step, the changes that it lists, and properties of any sequence of steps. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  CpuidBuilder,
  type CpuidFeatureEdit,
  type CpuidFieldName,
  CpuidTable,
  cpuid,
  cpuidDependencies,
  fields,
  formatBuildChange,
  lint,
  missingDependencies,
  namedModels,
  topologyOf,
} from "../../../lib/cpuid/index.ts";

const intel = cpuid.empty();
const amd = cpuid.empty("AuthenticAMD");
const texts = (built: CpuidBuilder): readonly string[] => built.changes.map(formatBuildChange);
const leaves = (table: CpuidTable): readonly number[] => [...table].map((e) => e.function);

/**
 * The native features that have dependencies or are dependencies, except for MPX and APX, whose XSAVE components
 * overlap.
 */
const FEATURES: readonly CpuidFieldName[] = [
  ...new Set(cpuidDependencies().flatMap(({ feature, needs }) => [feature, needs])),
].filter((name) => !/^(kvm|hv)_/.test(name) && name !== "mpx" && name !== "apx_f");

/** Features that KVM's table does not report, or that are outside of KVM's feature registers. */
const UNCHECKED: ReadonlySet<CpuidFieldName> = new Set<CpuidFieldName>([
  ...(["tsc_deadline_timer", "cqm_llc", "cqm_occup_llc", "cqm_mbm_total"] as const),
  ...(["cqm_mbm_local", "bmec", "sdciae", "cat_l3", "mba", "per_thread_mba"] as const),
]);

const someFeatures = fc.uniqueArray(fc.constantFrom(...FEATURES), { maxLength: 10 });
const plus = (names: readonly CpuidFieldName[]): readonly CpuidFeatureEdit[] =>
  names.map((name): CpuidFeatureEdit => `+${name}`);

describe("a builder that `cpuid` creates", () => {
  test("starts with leaves 0, 1 and 0x80000000 for a vendor", () => {
    expect(leaves(intel.table)).toEqual([0, 1, 0x80000000]);
    expect(intel.table.find(0)).toMatchObject({
      ebx: 0x756e6547,
      edx: 0x49656e69,
      ecx: 0x6c65746e,
    });
    expect(intel.table.find(0x80000000)?.ebx).toBe(0);
    expect(amd.table.find(0x80000000)).toMatchObject({ ebx: 0x68747541, ecx: 0x444d4163 });
    const hygon = cpuid.empty("HygonGenuine").table;
    expect(hygon.find(0x80000000)?.ebx).toBe(0x6f677948);
    expect(intel.changes).toEqual([]);
  });

  test("starts with a given table or list of entries, and does not change it", () => {
    const entries = [
      { function: 7, flags: 1 },
      { function: 0, eax: 5 },
    ];
    expect(leaves(cpuid.from(entries).table)).toEqual([7, 0]);
    expect(cpuid.from(intel.table).table).toBe(intel.table);
  });

  test("starts with the caches of a model, for each model and each model variant", () => {
    for (const { name, model } of namedModels()) {
      const { table, changes } = cpuid.model(name);
      expect(changes).toEqual([]);
      const leaf = model.vendor === "GenuineIntel" ? 4 : 0x8000001d;
      const sizes = [...table]
        .filter((e) => e.function === leaf && (e.eax & 31) !== 0)
        .map(({ ebx, ecx }) => ((ebx >>> 22) + 1) * ((ebx & 0xfff) + 1) * (ecx + 1));
      expect(sizes).toEqual(model.caches.map(({ kib }) => kib * 1024));
    }
  });

  test("gives each model the requested topology", () => {
    for (const { name } of namedModels()) {
      const { table } = cpuid.model(name).topology({ packages: 2, cores: 4 });
      expect(topologyOf(table), name).toMatchObject({ coresPerPackage: 4, threadsPerCore: 1 });
    }
  });

  test("builds a table without a lint error from each model with a topology, an interface and XSAVE", () => {
    for (const { name } of namedModels()) {
      const built = cpuid.model(name).hypervisor("kvm").xsave().topology({ cores: 3, threads: 2 });
      const found = lint(built.forVcpu(3)).findings.filter(({ severity }) => severity === "error");
      expect(found).toEqual([]);
    }
  });

  test("refuses an unknown vendor", () => {
    expect(() => cpuid.empty("AuthenticAmd" as "AuthenticAMD")).toThrow(
      'empty(): unknown vendor "AuthenticAmd"; did you mean "AuthenticAMD"?',
    );
  });
});

describe("features()", () => {
  test("turns on the dependencies of a feature, adds the feature's leaves and lists the reasons", () => {
    expect(texts(intel.features("+avx2"))).toEqual([
      "features: 0x0.0:eax[31:0] max_std_leaf: 1 -> 0xd, because the leaf of a feature is within it",
      "features: 0x1.0:ecx[26] xsave: 0 -> 1, because avx2 needs it",
      "features: 0x1.0:ecx[28] avx: 0 -> 1, because avx2 needs it",
      "features: 0x1.0:edx[0] fpu: 0 -> 1, because avx2 needs it",
      "features: 0x1.0:edx[24] fxsr: 0 -> 1, because avx2 needs it",
      "features: 0x7.0:ebx[5] avx2: absent -> 1, because it was asked for",
      ...[
        ["0xd.0:eax[0] xcr0_x87", "1"],
        ["0xd.0:eax[1] xcr0_sse", "1"],
        ["0xd.0:eax[2] xcr0_avx", "1"],
        ["0xd.0:ebx[31:0] xsave_sz_xcr0", "0x240"],
        ["0xd.0:ecx[31:0] xsave_sz_max", "0x340"],
        ["0xd.2:eax[31:0] xsave_sz", "0x100"],
        ["0xd.2:ebx[31:0] xsave_offset", "0x240"],
        ["0xd.1", "0"],
      ].map(
        ([where, value]) =>
          `features: ${where}: absent -> ${value}, because it follows from the features with XSAVE state`,
      ),
    ]);
  });

  test("also turns off the features that need the removed feature", () => {
    const made = intel.features("+avx512_fp16", "+aes").features("-avx");
    const on = ["avx", "avx512f", "avx512bw", "avx512_fp16", "xsave", "aes"] as const;
    expect(on.map((name) => made.table.has(name))).toEqual([
      false,
      false,
      false,
      false,
      true,
      true,
    ]);
    expect(texts(made)).toContainEqual(
      "features: 0x7.0:edx[23] avx512_fp16: 1 -> 0, because it needs avx",
    );
  });

  test("names the missing and the conflicting features if dependencies are refused", () => {
    const options = { dependencies: "refuse" } as const;
    expect(() => intel.features("+avx2", options)).toThrow(
      'features(): avx2 needs avx, which the table lacks; add "+avx" or use { dependencies: "close" }',
    );
    const made = intel.features("+avx2");
    expect(() => made.features("-avx", options)).toThrow(
      'features(): avx2 needs avx, which "-avx" turns off; add "-avx2" or use { dependencies: "close" }',
    );
    expect(made.features("-avx", "-avx2", options).table.has("avx2")).toBe(false);
    expect(made.features("+avx2", options).changes).toEqual(made.changes);
  });

  test("raises the maximum leaf and the maximum sub-leaf for a sub-leaf that the table does not have yet", () => {
    const made = intel.features("+amx_fp16").table;
    expect([made.get("max_std_leaf"), made.get("leaf7_n_subleaves")]).toEqual([0x1e, 1]);
    expect(made.has("amx_fp16")).toBe(true);
  });

  test("sets the sizes of AMX tiles with AMX, and clears them without AMX", () => {
    const made = intel.features("+amx_int8");
    expect(made.table.find(0x1d, 1)).toMatchObject({ eax: 0x04002000, ebx: 0x00080040, ecx: 16 });
    expect(made.table.find(0x1e, 0)?.ebx).toBe(0x4010);
    const without = made.features("-amx_tile").table;
    expect([without.find(0x1d, 1)?.eax, without.find(0x1e, 0)?.ebx]).toEqual([0, 0]);
    expect(without.has("amx_int8")).toBe(false);
  });

  test("clears the leaf of SVM when SVM is turned off", () => {
    const made = amd.features("+svm").set({ svm_version: 1, npt: 1 });
    expect(made.features("-svm").table.find(0x8000000a)).toMatchObject({ eax: 0, edx: 0 });
  });

  test("copies bits of 0x1:edx to 0x80000001:edx on AMD only", () => {
    const made = amd.features("+lm", "+mmx").features("+sse", "-mmx");
    expect(made.table.has("e_fxsr")).toBe(true);
    expect(made.table.has("e_mmx")).toBe(false);
    expect(texts(made)).toContainEqual(
      "features: 0x80000001.0:edx[23] e_mmx: 1 -> 0, because AMD repeats 0x1:edx there",
    );
    expect(intel.features("+lm", "+mmx").table.has("e_mmx")).toBe(false);
  });

  test("sets the width of virtual addresses to 57 bits for la57", () => {
    const made = intel.features("+lm").set({ virt_addr_bits: 48 });
    expect(made.features("+la57").table.get("virt_addr_bits")).toBe(57);
    expect(made.features("+la57").features("-la57").table.get("virt_addr_bits")).toBe(48);
  });

  test("keeps leaves that also describe other features", () => {
    const made = intel.features("+lm").set({ phys_addr_bits: 46 }).features("-lm").table;
    expect(made.get("phys_addr_bits")).toBe(46);
  });

  test("clears leaf 0xD when XSAVE is turned off", () => {
    const { table } = intel.features("+avx", "+xsavec").features("-xsave");
    expect([table.get("xsave_sz_max"), table.get("xcr0_avx")]).toEqual([0, 0]);
    expect(leaves(table).filter((fn) => fn === 0xd)).toHaveLength(2);
  });

  test("keeps the contents of an existing leaf, and clears the leaf when the leaf's last feature is turned off", () => {
    const tiles = intel.features("+amx_tile").set({ amx_max_palette: 2 }).features("-amx_int8");
    const bare = tiles.set({ amx_tile: 0 }).features("+amx_tile").table;
    expect(bare.get("amx_max_palette")).toBe(2);
    const both = amd.features("+sme", "+sev").set({ pte_cbit_pos: 47 });
    expect(both.features("-sme").table.get("pte_cbit_pos")).toBe(47);
    expect(
      amd.features("+sev").set({ pte_cbit_pos: 47 }).features("-sev").table.get("pte_cbit_pos"),
    ).toBe(0);
  });

  test("sets version 1 and the three vector widths for AVX10", () => {
    expect(intel.features("+avx10").table.find(0x24, 0)?.ebx).toBe(0x70001);
  });

  test("raises the maximum of a hypervisor interface for a field in a leaf that the interface does not have yet", () => {
    const made = intel.hypervisor("xen").set({ xen_vtsc_mul: 5 }).table;
    expect([made.find(0x40000000)?.eax, made.get("xen_vtsc_mul")]).toEqual([0x40000003, 5]);
  });

  test("turns features of a hypervisor interface on and off", () => {
    const made = intel.hypervisor("kvm").features("-kvm_steal_time");
    expect(made.table.has("kvm_pv_tlb_flush")).toBe(false);
    expect(made.features("+kvm_pv_tlb_flush").table.has("kvm_steal_time")).toBe(true);
    expect(() => intel.features("+kvm_steal_time")).toThrow(
      "kvm_steal_time: the table has no kvm interface; add it with hypervisor()",
    );
  });

  test.each([
    [["+avx3"], RangeError, 'features(): unknown feature "avx3"; did you mean avx'],
    [["avx2"], RangeError, 'features(): "avx2" does not begin with "+" or "-"'],
    [
      ["+stepping"],
      RangeError,
      "features(): stepping (0x1.0:eax[3:0]) is a number, not a feature; use set()",
    ],
    [["+avx2", "-avx2"], RangeError, 'features(): "-avx2" turns off what "+avx2" turns on'],
    [
      ["+avx2", "-avx"],
      RangeError,
      'features(): "-avx" turns off what is turned on, because avx2 needs it',
    ],
    [[5], TypeError, 'features(): expected a text as "+avx2", got 5'],
    [
      [{ dependencies: "ask" }],
      TypeError,
      'features(): dependencies is "close" or "refuse", not "ask"',
    ],
    [[{ dependency: "close" }], TypeError, 'features(): unknown option "dependency"'],
  ])("refuses %j", (edits, type, message) => {
    const call = (): CpuidBuilder => intel.features(...(edits as CpuidFeatureEdit[]));
    expect(call).toThrow(type);
    expect(call).toThrow(message);
  });

  test.each([
    [["+avx2"]],
    [["-avx"]],
    [["-avx2"]],
    [["+avx512f"]],
    [["-avx512f"]],
    [["+avx10"]],
    [["+amx_int8"]],
    [["+pku"]],
    [["-pku"]],
    [["+xsaves"]],
    [["-xsavec"]],
    [["-xsaves"]],
    [["+cet_ss"]],
    [["+xfd"]],
    [["+xsave"]],
    [["-xsave"]],
    [["+avx2", "-pku", "+aes"]],
    [["+aes", "-pae"]],
  ] as const)("gives the table of each model with %j a leaf 0xD without a lint error", (edits) => {
    for (const { name } of namedModels()) {
      const built = cpuid.model(name).features(...edits);
      const found = lint(built.table).findings.filter(({ rule }) => rule.startsWith("X"));
      expect(found.filter(({ severity }) => severity === "error")).toEqual([]);
      expect(built.xsave().changes, name).toEqual(built.changes);
    }
  });

  test.each([[["-mpx", "+apx_f"]], [["-apx_f", "-avx512f", "-avx10", "+mpx"]]] as const)(
    "gives the table of each Intel model with %j a leaf 0xD without a lint error",
    (edits) => {
      for (const { name, model } of namedModels()) {
        if (model.vendor !== "GenuineIntel") continue;
        const built = cpuid.model(name).features(...edits);
        const found = lint(built.table).findings.filter(({ rule }) => rule.startsWith("X"));
        expect(found.filter(({ severity }) => severity === "error")).toEqual([]);
      }
    },
  );

  test("lists the changes of leaf 0xD with the reason", () => {
    const made = cpuid.model("EPYC-Milan").features("-avx");
    expect(texts(made)).toContainEqual(
      "features: 0xd.0:eax[2] xcr0_avx: 1 -> 0, because it follows from the features with XSAVE state",
    );
    expect(made.table.find(0xd, 2)).toBeUndefined();
  });

  test("keeps leaf 0xD, also a faulty one, if the XSAVE components do not change", () => {
    const odd = amd.features("+avx2").set({ xsave_sz_max: 5000 });
    expect(odd.features("+aes", "-avx2").table.get("xsave_sz_max")).toBe(5000);
    expect(odd.features("+pku").table.get("xsave_sz_max")).toBe(2440);
  });

  test("keeps the size and the offset that a CPU's leaf 0xD has for a component", () => {
    const zen2 = amd.features("+avx2", "+pku").set({ xsave_sz: 64, xsave_offset: 832 }, 9);
    const made = zen2.features("-avx").table;
    expect(made.find(0xd, 9)).toMatchObject({ eax: 64, ebx: 832 });
    expect(made.get("xsave_sz_max")).toBe(896);
  });

  test("refuses features whose components overlap, except if one is turned off in the same call", () => {
    const made = intel.features("+mpx");
    expect(() => made.features("+apx_f")).toThrow(
      "features(): components BNDREGS (960 to 1023) and APX (960 to 1087) overlap",
    );
    expect(made.features("-mpx", "+apx_f").table.has("apx_f")).toBe(true);
  });

  test.each([
    ["an empty Intel table", intel],
    ["an empty AMD table", amd],
    ["a model of Intel", cpuid.model("SapphireRapids")],
    ["a model of AMD", cpuid.model("EPYC-Milan")],
  ])("adds no lint error to %s if any one-bit field is turned on or off", (_, start) => {
    const errors = (table: CpuidTable): readonly string[] =>
      lint(table)
        .findings.filter(({ severity }) => severity === "error")
        .map(({ message }) => message);
    const before = errors(start.topology({ cores: 2 }).table);
    const found = fields()
      .filter(
        ({ space, low, high, function: fn }) => space === "native" && low === high && fn !== 0xd,
      )
      // A bit of leaf 0xa reports that an event is absent, and the leaf needs the number of a version.
      .filter(({ function: fn }) => fn !== 0xa)
      .flatMap(({ name }) => [`+${name}`, `-${name}`] as const)
      .flatMap((edit) => {
        const after = errors(start.features(edit).topology({ cores: 2 }).table);
        return after
          .filter((message) => !before.includes(message))
          .map((text) => `${edit}: ${text}`);
      });
    expect(found).toEqual([]);
  });

  test("also turns on the feature whose leaf contains a feature", () => {
    const made = cpuid.model("EPYC-Milan").features("+avx10_256", "+amx_avx512");
    expect([made.table.has("avx10"), made.table.has("amx_tile")]).toEqual([true, true]);
    expect(made.changes.find(({ name }) => name === "avx10")?.reason).toBe("avx10_256 needs it");
  });

  test("also turns off the features that need a bit of a leaf that is cleared", () => {
    const made = amd.features("+sdciae").features("-rdt_a").table;
    expect([made.has("cat_l3"), made.has("sdciae")]).toEqual([false, false]);
  });

  test("copies 0x1:edx to a new leaf 0x80000001 on AMD", () => {
    const { table } = amd.features("+pae").features("+lm");
    expect([table.has("pae"), table.has("pae_80000001")]).toEqual([true, true]);
  });

  test("raises the maximum of Transmeta's leaves for a feature of them, and no other", () => {
    const { table } = cpuid.model("EPYC-Milan").features("+longrun");
    expect(table.find(0x80860000)?.eax).toBe(0x80860001);
    expect(table.find(0x80000000)?.eax).toBeLessThan(0x80000100);
  });

  test.each(["+xcr0_pkru", "-xcr0_sse", "+xss_cet_u", "+is_xss_bit"] as const)(
    "refuses %s, which follows from the features",
    (edit) => {
      expect(() => intel.features("+xsave").features(edit)).toThrow(
        "describes XSAVE components, which follow from the features; set() writes it alone",
      );
    },
  );

  test("leaves no missing dependency for any set of features", () => {
    fc.assert(
      fc.property(someFeatures, someFeatures, (on, off) => {
        const made = amd
          .features(...plus(on))
          .features(...off.map((name): CpuidFeatureEdit => `-${name}`));
        expect(
          missingDependencies(made.table).filter(({ severity }) => severity !== "info"),
        ).toEqual([]);
        expect(off.filter((name) => made.table.has(name))).toEqual([]);
      }),
    );
  });
});

describe("set()", () => {
  test("adds the entry of a field and raises the maximum basic leaf", () => {
    const made = intel.set({ tsc_denominator: 2, tsc_numerator: 5 });
    expect(made.table.find(0x15)).toMatchObject({ eax: 2, ebx: 5 });
    expect(texts(made)).toEqual([
      "set: 0x0.0:eax[31:0] max_std_leaf: 1 -> 0x15, because the field is within it",
      "set: 0x15.0:eax[31:0] tsc_denominator: absent -> 2, because it was asked for",
      "set: 0x15.0:ebx[31:0] tsc_numerator: absent -> 5, because it was asked for",
    ]);
  });

  test("adds nothing if it sets 0 in an absent entry", () => {
    expect(intel.set({ avx2: 0 }).table).toBe(intel.table);
  });

  test("with an index sets the field of that sub-leaf", () => {
    const made = intel.topology({ cores: 2 }).caches([
      { level: 1, type: "data", size: 32768, ways: 8 },
      { level: 2, type: "unified", size: 524288, ways: 8 },
    ]);
    expect(made.set({ cache_nways: 15 }, 1).table.get("cache_nways", 1)).toBe(15);
  });

  test("refuses a value that does not fit and an unknown field", () => {
    expect(() => intel.set({ stepping: 16 })).toThrow("stepping: 16 does not fit 4 bits");
    expect(() => intel.set({ steping: 1 } as object)).toThrow('unknown CPUID field "steping"');
  });
});

describe("brand()", () => {
  test("writes three leaves and raises the maximum extended leaf", () => {
    const { table } = intel.brand("A CPU");
    expect(table.get("max_ext_leaf")).toBe(0x80000004);
    expect(table.find(0x80000002)).toMatchObject({ eax: 0x50432041, ebx: 0x55, ecx: 0 });
    expect(table.find(0x80000004)).toMatchObject({ eax: 0, edx: 0 });
  });

  test("keeps a NUL after 47 characters", () => {
    expect((intel.brand("x".repeat(47)).table.find(0x80000004)?.edx ?? 0) >>> 24).toBe(0);
  });

  test.each(["", "   ", "x".repeat(48), "é", "a\n"])("refuses %j", (text) => {
    expect(() => intel.brand(text)).toThrow("brand(): expected 1 to 47 printable ASCII characters");
  });
});

describe("the address width", () => {
  test("of physical addresses limits the width for nested guests", () => {
    const made = intel.set({ guest_phys_addr_bits: 48 }).physicalBits(40).table;
    expect([made.get("phys_addr_bits"), made.get("guest_phys_addr_bits")]).toEqual([40, 40]);
    const narrow = intel.set({ guest_phys_addr_bits: 36 }).physicalBits(40).table;
    expect(narrow.get("guest_phys_addr_bits")).toBe(36);
  });

  test("of virtual addresses turns la57 on or off when it is set", () => {
    const made = intel.virtualBits(57).table;
    expect([made.get("virt_addr_bits"), made.has("la57"), made.has("lm")]).toEqual([
      57,
      true,
      true,
    ]);
    const back = intel.virtualBits(57).virtualBits(48).table;
    expect([back.get("virt_addr_bits"), back.has("la57")]).toEqual([48, false]);
  });

  test.each([
    ["virtualBits(48)", (built: CpuidBuilder) => built.virtualBits(48), [36, 48]],
    ["virtualBits(57)", (built: CpuidBuilder) => built.virtualBits(57), [36, 57]],
    ["physicalBits(40)", (built: CpuidBuilder) => built.physicalBits(40), [40, 48]],
    ["a feature of leaf 0x80000008", (built: CpuidBuilder) => built.features("+rdpru"), [36, 48]],
    [
      "topology()",
      (built: CpuidBuilder) => built.features("+svm").topology({ cores: 2 }),
      [36, 48],
    ],
  ])("has both widths after %s in a table without leaf 0x80000008", (_, step, widths) => {
    const { table } = step(amd);
    expect([table.get("phys_addr_bits"), table.get("virt_addr_bits")]).toEqual(widths);
    expect(lint(table).findings.map(({ rule }) => rule)).not.toContain("F05");
  });

  test("is refused outside of its range", () => {
    expect(() => intel.physicalBits(31)).toThrow(
      "physicalBits(): expected an integer from 32 to 52, got 31",
    );
    expect(() => intel.virtualBits(52 as 57)).toThrow("virtualBits(): expected 48 or 57, got 52");
  });
});

describe("signature()", () => {
  test.each([
    [{ family: 6, model: 143, stepping: 4 }, 0x000806f4],
    [{ family: 25, model: 1, stepping: 1 }, 0x00a00f11],
    [{ family: 15, model: 6, stepping: 1 }, 0x00000f61],
    [{ family: 5, model: 4 }, 0x00000540],
    [{ family: 7, model: 0x5b, stepping: 3 }, 0x000507b3],
  ])("packs family, model and stepping: %j", (signature, eax) => {
    expect(intel.signature(signature).table.find(1)?.eax).toBe(eax);
  });

  test("keeps omitted members, and repeats the signature on AMD", () => {
    const made = amd.features("+lm").signature({ family: 25, model: 17, stepping: 1 });
    const next = made.signature({ stepping: 2 }).table;
    expect([next.find(1)?.eax, next.find(0x80000001)?.eax]).toEqual([0x00a10f12, 0x00a10f12]);
    expect(intel.features("+lm").signature({ family: 6 }).table.find(0x80000001)?.eax).toBe(0);
  });

  test.each([
    [{ family: 271 }, "signature(): family: expected an integer from 0 to 270, got 271"],
    [
      { family: 5, model: 16 },
      "signature(): model 16 is above 15, which only families from 6 on have",
    ],
    [{ steping: 1 }, 'signature(): unknown member "steping"'],
  ])("refuses %j", (signature, message) => {
    expect(() => intel.signature(signature as object)).toThrow(message);
  });
});

describe("hypervisor()", () => {
  test("without an interface removes all interfaces", () => {
    const made = intel.hypervisor("hyperv", "kvm").hypervisor("none").table;
    expect(made.toString()).toBe(intel.table.toString());
  });

  test("refuses an interface without a name", () => {
    expect(() => intel.hypervisor()).toThrow('expected names of interfaces, or "none", got none');
    expect(() => intel.hypervisor("kvm", "none" as "xen")).toThrow('unknown hypervisor "none"');
  });
});

describe("within()", () => {
  const full = amd
    .features("+avx2", "+cet_ss", "+pku", "+svm", "+lm", "+x2apic")
    .virtualBits(57)
    .physicalBits(52)
    .hypervisor("kvm")
    .xsave();
  const host = full
    .features("-xsaves", "-la57", "-kvm_steal_time")
    .physicalBits(48)
    .xsave()
    .set({ zero_fcs_fds: 1 }).table;

  test("drops features that KVM does not support, drops features that need these, and lists each reason", () => {
    const made = full.within(host);
    const dropped = ["xsaves", "cet_ss", "la57", "kvm_steal_time", "kvm_pv_tlb_flush"] as const;
    expect(dropped.filter((name) => made.table.has(name))).toEqual([]);
    expect(made.table.has("avx2")).toBe(true);
    const steps = texts(made).filter((text) => text.startsWith("within"));
    expect(steps).toContainEqual(
      "within: 0xd.1:eax[3] xsaves: 1 -> 0, because KVM does not support it",
    );
    expect(steps).toContainEqual(
      "within: 0x80000008.0:eax[7:0] phys_addr_bits: 0x34 -> 0x30, because KVM supports no wider addresses",
    );
  });

  test("drops a feature that KVM supports if the feature needs a feature that KVM does not support", () => {
    const odd = host.with({ kvm_pv_tlb_flush: 1 });
    const made = full.within(odd);
    expect(texts(made)).toContainEqual(
      "within: 0x40000001.0:eax[9] kvm_pv_tlb_flush: 1 -> 0, because it needs kvm_steal_time, which KVM does not support",
    );
  });

  test("changes nothing in the table of the CPU itself", () => {
    expect(full.within(full.table).table.toString()).toBe(full.table.toString());
  });

  test("copies, from the CPU's table, the bits that negate a feature", () => {
    expect(full.within(host).table.has("zero_fcs_fds")).toBe(true);
    expect(full.within(host.with({ fdp_excptn_only: 1 })).table.has("fdp_excptn_only")).toBe(true);
    expect(full.set({ zero_fcs_fds: 1 }).within(full.table).table.has("zero_fcs_fds")).toBe(false);
  });

  test("limits the address width for nested guests to the CPU's width, but ignores a width of 0", () => {
    const nested = full.set({ guest_phys_addr_bits: 50 });
    expect(nested.within(host).table.get("guest_phys_addr_bits")).toBe(48);
    const unknown = nested.within(host.with({ phys_addr_bits: 0, virt_addr_bits: 0 })).table;
    expect([unknown.get("phys_addr_bits"), unknown.get("guest_phys_addr_bits")]).toEqual([52, 50]);
  });

  test("gives the reason of each change of leaf 0xD", () => {
    const reasons = full
      .within(host)
      .changes.filter(({ step, where }) => step === "within" && /^0xd\.(0|11):/.test(where))
      .map(({ reason }) => reason);
    expect(new Set(reasons)).toEqual(new Set(["it follows from the features and the CPU's XSAVE"]));
  });

  test("copies the sizes of XSAVE components from the CPU's table", () => {
    const zen2 = host.map((e) =>
      e.function === 0xd && e.index === 9 ? { ...e, eax: 64, ebx: 832 } : e,
    );
    const made = full.within(zen2).table;
    expect(made.find(0xd, 9)).toMatchObject({ eax: 64, ebx: 832 });
    expect(made.get("xsave_sz_max")).toBe(896);
  });

  test("copies the size and the offset of a component that only the CPU's table has", () => {
    const built = intel.features("+avx").set({ pku: 1 });
    const supported = amd.features("+avx", "+pku", "+lm").table;
    const made = built.within(supported);
    expect(made.table.find(0xd, 9)).toMatchObject({ eax: 8, ebx: 2432 });
    expect(made.within(supported).table.toString()).toBe(made.table.toString());
  });

  test("drops a feature that needs a bit of a leaf that KVM does not support", () => {
    const wanted = amd.features("+sdciae");
    const supported = wanted.table.with({ rdt_a: 0 });
    expect(wanted.within(supported).table.has("sdciae")).toBe(false);
  });

  test("drops features whose XSAVE component KVM does not have", () => {
    const made = full.within(host.with({ xcr0_pkru: 0 })).table;
    expect(made.has("pku")).toBe(false);
  });

  test("drops bits that have no name", () => {
    const odd = full.table.replace(1, { ecx: ((full.table.find(1)?.ecx ?? 0) | (1 << 16)) >>> 0 });
    expect((cpuid.from(odd).within(host).table.find(1)?.ecx ?? 0) & (1 << 16)).toBe(0);
  });

  test("keeps the topology, the brand string, and features that KVM does not report", () => {
    const made = full.brand("A CPU").topology({ cores: 4 }).features("+tsc_deadline_timer");
    const kept = made.within(host).table;
    expect([kept.has("ht"), kept.has("tsc_deadline_timer"), kept.get("n_logical_cpu")]).toEqual([
      true,
      true,
      4,
    ]);
    expect(kept.find(0x80000002)?.eax).toBe(0x50432041);
  });

  test("gives a subset of KVM's table for any features, and changes nothing if it is applied again", () => {
    fc.assert(
      fc.property(someFeatures, someFeatures, (own, theirs) => {
        const wanted = amd
          .features("+lm", ...plus(own))
          .set({ phys_addr_bits: 46, virt_addr_bits: 48 });
        const supported = amd.features("+lm", ...plus(theirs)).xsave().table;
        const built = wanted.within(supported);
        const beyond = FEATURES.filter((name) => built.table.has(name) && !supported.has(name));
        expect(beyond.filter((name) => !UNCHECKED.has(name))).toEqual([]);
        expect(built.within(supported).table.toString()).toBe(built.table.toString());
      }),
    );
  });
});

describe("any sequence of steps", () => {
  const steps = fc.constantFrom<(built: CpuidBuilder) => CpuidBuilder>(
    (built) => built.features("+avx512f", "+lm", "+x2apic"),
    (built) => built.features("-avx", "-pae"),
    (built) => built.features("+amx_tile", "+topoext"),
    (built) => built.set({ stepping: 3 }),
    (built) => built.topology({ packages: 2, dies: 2, cores: 3, threads: 2 }),
    (built) => built.caches([{ level: 1, type: "data", size: 32768, ways: 8 }]),
    (built) => built.brand("A CPU"),
    (built) => built.physicalBits(46),
    (built) => built.virtualBits(48),
    (built) => built.signature({ family: 25, model: 1 }),
    (built) => built.xsave(),
    (built) => built.hypervisor("kvm"),
    (built) => built.hypervisor("none"),
    (built) => built.within(intel.features("+avx2", "+lm").table),
  );
  /** An unsorted table, in which some entries belong to no step of the builder. */
  const odd = CpuidTable.from([
    { function: 0x80000001 },
    { function: 0x8fffffff, eax: 1 },
    { function: 7, flags: 1 },
    { function: 1 },
    { function: 0x20000000, ebx: 9 },
    { function: 0, eax: 7, ebx: 0x68747541, edx: 0x69746e65, ecx: 0x444d4163 },
    { function: 0x80000000, eax: 0x80000001 },
  ]);

  test("keeps the order of entries, changes no earlier builder, and lists every change", () => {
    fc.assert(
      fc.property(
        fc.array(steps, { maxLength: 6 }),
        fc.constantFrom(intel.table, amd.table, odd),
        (list, start) => {
          let built = cpuid.from(start);
          for (const step of list) {
            const [json, count] = [JSON.stringify(built.table), built.changes.length];
            const next = step(built);
            expect(JSON.stringify(built.table)).toBe(json);
            expect(built.changes).toHaveLength(count);
            const keys = (table: CpuidTable): readonly string[] =>
              [...table].map((e) => `${e.function}.${e.index}`);
            const [before, after] = [keys(built.table), keys(next.table)];
            expect(after.filter((key) => before.includes(key))).toEqual(
              before.filter((key) => after.includes(key)),
            );
            expect(next.changes.length > count).toBe(!next.table.equals(built.table));
            expect(next.changes.slice(0, count)).toEqual(built.changes);
            built = next;
          }
          expect(built.table.find(0x8fffffff)?.eax).toBe(start === odd ? 1 : undefined);
        },
      ),
    );
  });
});

test("the constructor of CpuidBuilder accepts a list of entries and returns a frozen builder", () => {
  const made = new CpuidBuilder([{ function: 1 }]);
  expect([made.table.length, Object.isFrozen(made)]).toEqual([1, true]);
});

test("forVcpu() names the ids of a topology with gaps as at most 8 ranges", () => {
  const start = cpuid.model("EPYC-Milan");
  const guest = start.topology({ packages: 2, cores: 3, threads: 2 });
  expect(() => guest.forVcpu(6)).toThrow(
    "apicId 6 is not an id of the topology; apicIds() lists them: 0-5, 8-13",
  );
  expect(() => start.topology({ packages: 10, cores: 3 }).forVcpu(3)).toThrow(
    "0-2, 4-6, 8-10, 12-14, 16-18, 20-22, 24-26, 28-30 and 2 more ranges",
  );
});

test("forVcpu() accepts only APIC ids of the topology, but accepts any id if no topology was set", () => {
  const start = cpuid.model("EPYC-Milan");
  const guest = start.topology({ packages: 2, cores: 3 }).brand("guest");
  expect(guest.forVcpu(6).get("local_apic_id")).toBe(6);
  for (const id of [3, 7]) {
    const line = `forVcpu(): apicId ${id} is not an id of the topology; apicIds() lists them: 0-2, 4-6`;
    expect(() => guest.forVcpu(id)).toThrow(new RangeError(line));
  }
  const line = "forVcpu(): apicId 1 is not an id of the topology; apicIds() lists them: 0";
  expect(() => start.topology({}).forVcpu(1)).toThrow(new RangeError(line));
  expect(start.forVcpu(7).get("local_apic_id")).toBe(7);
});

describe("the message of a failed step names the step", () => {
  const bare = cpuid.from([{ function: 7, flags: 1 }]);
  const cache = { level: 1, type: "data", size: 1000, ways: 8 } as const;
  test.each<readonly [message: string, step: () => unknown]>([
    ["caches(): [0]: 1000 bytes are not 8 ways", () => intel.caches([cache])],
    ["topology(): cores: expected an integer", () => intel.topology({ cores: 0 })],
    ['topology(): unknown member "sockets"', () => intel.topology({ sockets: 2 } as object)],
    ["topology(): the table has no leaf 0x1", () => bare.topology({})],
    ["topology(): the highest APIC id is 255", () => intel.topology({ cores: 256 })],
    ["hypervisor(): kvm is there twice", () => intel.hypervisor("kvm", "kvm")],
    ['hypervisor(): unknown hypervisor "hyper-v"', () => intel.hypervisor("hyper-v" as "xen")],
    ["hypervisor(): the table has no leaf 0x1", () => bare.hypervisor("kvm")],
    ['xsave(): vendor is "intel" or "amd"', () => intel.xsave({ vendor: "via" as "amd" })],
    ["forVcpu(): apicId undefined is not", () => intel.forVcpu(undefined as never)],
  ])("%s", (message, step) => {
    expect(step).toThrow(message);
    expect(step).not.toThrow(/with[A-Z]/);
  });
});
