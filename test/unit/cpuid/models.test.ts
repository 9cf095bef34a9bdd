/**
 * Tests of the named CPU models: their data, the search for a model, and their tables. The test models/qemu.test.ts
 * compares the models with QEMU.
 */
import { describe, expect, test } from "vitest";
import {
  cachesOf,
  closeFeatures,
  field,
  findModel,
  missingDependencies,
  models,
  modelTable,
  namedModels,
  topologyOf,
} from "../../../lib/cpuid/index.ts";
import { lint } from "../../../lib/cpuid/lint/lint.ts";

const FAMILIES = [
  ...["Nehalem", "Westmere", "SandyBridge", "IvyBridge", "Haswell", "Broadwell", "Skylake-Client"],
  ...["Skylake-Server", "Cascadelake-Server", "Cooperlake", "Icelake-Server", "SapphireRapids"],
  ...["GraniteRapids", "SierraForest", "ClearwaterForest", "DiamondRapids", "Denverton"],
  ...["Snowridge", "EPYC", "EPYC-Rome", "EPYC-Milan", "EPYC-Genoa", "EPYC-Turin", "Dhyana"],
];
const OTHERS = ["x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4", "kvm-base"];
const sorted = (names: Iterable<string>): string[] => [...names].sort((a, b) => a.localeCompare(b));
const keyOf = (name: string): string => name.toLowerCase().replace(/[-_]/g, "");

describe("the models", () => {
  test("are the psABI levels, kvm-base, and the 24 families", () => {
    expect(sorted(models().map(({ name }) => name))).toEqual(sorted([...OTHERS, ...FAMILIES]));
  });

  test("come after the model from which they inherit", () => {
    const names = models().map(({ name }) => name);
    const late = models().filter(
      (m) => m.from && !names.slice(0, names.indexOf(m.name)).includes(m.from),
    );
    expect(late).toEqual([]);
  });

  test(`have names and aliases that are unique even without case, "-" and "_"`, () => {
    const owners = namedModels().flatMap(({ name, aliases }) =>
      [...new Set([name, ...aliases.qemu, ...aliases.libvirt].map(keyOf))].map((key) => ({
        key,
        name,
      })),
    );
    const twice = owners.filter(({ key, name }) =>
      owners.some((other) => other.key === key && other.name !== name),
    );
    expect(twice).toEqual([]);
  });

  test("have a source for each kind of fact, and a note for each variant", () => {
    const texts = models().flatMap(({ name, sources, variants }) => [
      ...[sources.identity, sources.features, sources.sizes].map((text) => [name, text]),
      ...variants.map(({ name: own, note }) => [own, note]),
    ]);
    expect(texts.filter(([, text = ""]) => text.length < 15)).toEqual([]);
  });

  test("add no feature that they inherit, and remove no feature that they do not have", () => {
    const useless = models().flatMap((model) =>
      [model, ...model.variants].flatMap((row) => {
        const parent = row === model ? model.from : model.name;
        const base = parent ? findModel(parent).features : [];
        const added = row.add.filter((name) => base.includes(name));
        const removed = row.remove.filter((name) => !base.includes(name));
        const twice = row.add.filter((name, i) => row.add.indexOf(name) !== i);
        return [...added, ...removed, ...twice].map((name) => `${row.name}: ${name}`);
      }),
    );
    expect(useless).toEqual([]);
  });

  test("list only one-bit fields", () => {
    const wide = namedModels().flatMap(({ name, features }) =>
      features
        .map(field)
        .filter(({ low, high }) => low !== high)
        .map((f) => `${name}: ${f.name}`),
    );
    expect(wide).toEqual([]);
  });

  test("have every feature that another feature of the model needs", () => {
    const open = namedModels().flatMap(({ name, features }) =>
      closeFeatures(features)
        .filter((needed) => !features.includes(needed))
        .map((needed) => `${name}: ${needed}`),
    );
    expect(open).toEqual([]);
  });
});

describe("the x86-64 levels", () => {
  // Source: x86-64 psABI, table "Micro-Architecture Levels"; the levels presuppose long mode, which is lm and pae.
  const ADDED: readonly (readonly [string, string])[] = [
    ["x86-64-v1", "cmov cx8 fpu fxsr lm mmx pae sse sse2 syscall"],
    ["x86-64-v2", "cx16 lahf_lm pni popcnt sse4_1 sse4_2 ssse3"],
    ["x86-64-v3", "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"],
    ["x86-64-v4", "avx512bw avx512cd avx512dq avx512f avx512vl"],
  ];

  test.each(ADDED)("%s has exactly the features of the psABI", (name) => {
    const upTo = ADDED.slice(0, ADDED.findIndex(([level]) => level === name) + 1);
    const wanted = upTo.flatMap(([, text]) => text.split(" "));
    expect(sorted(findModel(name).features)).toEqual(sorted(wanted));
  });
});

test("a table with amx_tile has the sizes of the tiles, even if leaf 0x1e has feature bits", () => {
  const fields = ["amx_palette_size", "amx_tile_nr_rows", "tmul_maxk", "tmul_maxn"] as const;
  const sizes = ["SapphireRapids", "DiamondRapids"].map((name) =>
    fields.map((wide) => modelTable(name).get(wide)),
  );
  expect(sizes).toEqual([
    [8192, 16, 16, 64],
    [8192, 16, 16, 64],
  ]);
});

describe("findModel()", () => {
  test.each([
    ["haswell", "Haswell"],
    ["X86_64_V3", "x86-64-v3"],
    ["epyc_milan", "EPYC-Milan"],
    ["kvm64", "kvm-base"],
    ["Haswell-v4", "Haswell-noTSX-IBRS"],
    ["Skylake-Server-v5", "Skylake-Server-noTSX-IBRS-XSAVES"],
    ["EPYC-IBPB", "EPYC-IBPB"],
  ])("finds the name %s as the model %s", (name, found) => {
    expect(findModel(name).name).toBe(found);
  });

  test("finds each name and each alias", () => {
    const lost = namedModels().flatMap(({ name, aliases }) =>
      [name, ...aliases.qemu, ...aliases.libvirt].filter((own) => findModel(own).name !== name),
    );
    expect(lost).toEqual([]);
  });

  test.each([
    ["Hasswell", 'unknown CPU model "Hasswell"; did you mean Haswell?'],
    ["milan", 'unknown CPU model "milan"; did you mean EPYC-Milan, '],
    ["EPYC-v4", 'unknown CPU model "EPYC-v4"; the known versions are EPYC-v1, EPYC-v2, EPYC-v3'],
    [
      "epyc_milan_v9",
      'unknown CPU model "epyc_milan_v9"; the known versions are EPYC-Milan-v1, EPYC-Milan-v2',
    ],
    ["Hasswell-v1", 'unknown CPU model "Hasswell-v1"; did you mean Haswell-v1?'],
    ["host", 'the CPU model "host" stands for the CPU of the host in QEMU'],
    ["base", 'the CPU model "base" is QEMU\'s model without features'],
    ["Pentium", 'unknown CPU model "Pentium"; models() lists the names'],
    ["", 'unknown CPU model ""; models() lists the names'],
    ["constructor", 'unknown CPU model "constructor"; models() lists the names'],
  ])("refuses %j with a suggestion", (name, message) => {
    expect(() => findModel(name)).toThrow(TypeError);
    expect(() => findModel(name)).toThrow(message);
  });

  test.each([undefined, null, 5, {}])("refuses %j, which is not a string", (name) => {
    expect(() => findModel(name as string)).toThrow("findModel(): name: expected a string, got");
    expect(() => modelTable(name as string)).toThrow("expected a string, got");
  });
});

describe.each(namedModels().map((m) => [m.name, m] as const))("the table of %s", (name, named) => {
  const table = modelTable(name);
  const { model, features } = named;

  test("has each feature of the model, and no bit that is a feature of another model only", () => {
    const all = new Set(namedModels().flatMap((m) => m.features));
    expect(sorted([...all].filter((f) => table.has(f)))).toEqual(sorted(features));
  });

  test("has the vendor, the signature and the maxima of the model", () => {
    const family = (table.get("base_family_id") ?? 0) + (table.get("ext_family") ?? 0);
    const number = ((table.get("ext_model") ?? 0) << 4) | (table.get("base_model") ?? 0);
    const signature = { family, model: number, stepping: table.get("stepping") };
    expect(signature).toEqual(model.signature);
    expect(table.get("max_std_leaf")).toBe(model.maxLeaf);
    expect(table.get("max_ext_leaf")).toBe(named.variant?.maxExtended ?? model.maxExtended);
  });

  test("has the caches of the model, each shared by one logical CPU only", () => {
    const read = cachesOf(table).map(({ level, type, size, ways, sharedBy }) => ({
      ...{ level, type, kib: size / 1024, ways, sharedBy },
    }));
    expect(read).toEqual(model.caches.map((cache) => ({ ...cache, sharedBy: 1 })));
  });

  test("has one package with one core and one thread", () => {
    const { coresPerPackage, threadsPerCore, apicId } = topologyOf(table) ?? {};
    expect({ coresPerPackage, threadsPerCore, apicId }).toEqual({
      ...{ coresPerPackage: 1, threadsPerCore: 1, apicId: 0 },
    });
  });

  test("has leaf 0xb or 0x1f if and only if the maximum basic leaf is large enough", () => {
    const reached = [0xb, 0x1f].filter((fn) => fn <= model.maxLeaf);
    // Bits 15 to 8 of ECX in sub-leaf 1 contain the type of the second level, which is the core.
    const written = [0xb, 0x1f].filter((fn) => (table.find(fn, 1)?.ecx ?? 0) >>> 8 === 2);
    expect(written).toEqual(reached);
  });

  test("has no leaf above its maxima, and has a leaf at each maximum", () => {
    const basic = [...table].filter((e) => e.function < 0x8000_0000).map((e) => e.function);
    const extended = [...table].filter((e) => e.function >= 0x8000_0000).map((e) => e.function);
    expect([Math.max(...basic), Math.max(...extended)]).toEqual([
      table.get("max_std_leaf"),
      table.get("max_ext_leaf"),
    ]);
  });

  test("has no error and no warning of lint", () => {
    const found = lint([table]).findings.filter(({ severity }) => severity !== "info");
    expect(found.map(({ rule, where, message }) => `${rule} ${where}: ${message}`)).toEqual([]);
  });

  test("has no feature without the features that it needs", () => {
    expect(missingDependencies(table)).toEqual([]);
  });
});
