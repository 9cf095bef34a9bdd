/** Tests that compare the CPU models with an installed QEMU, and tests of reading a model from QEMU's response. */
import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import {
  importedModelTable,
  importQemuModel,
  modelTable,
  namedModels,
} from "../../../../lib/cpuid/index.ts";
import { differences, expansions, INTENDED } from "../../../../scripts/models.js";

const QEMU = "qemu-system-x86_64";
const hasQemu = spawnSync(QEMU, ["--version"]).status === 0;
const all = namedModels();
const answers = hasQemu
  ? await expansions(
      QEMU,
      all.flatMap(({ aliases }) => aliases.qemu),
    )
  : new Map<string, string>();
const pairs = all.flatMap((model) =>
  model.aliases.qemu.flatMap((alias) => {
    const answer = answers.get(alias);
    return answer === undefined ? [] : [[model.name, alias, model, answer] as const];
  }),
);

describe.skipIf(!hasQemu)(`the installed ${QEMU}`, () => {
  test("has at least 60 of the models' aliases", () => {
    expect(pairs.length).toBeGreaterThan(60);
  });

  test.each(pairs)(
    "%s has the features of %s, except for the listed differences",
    (_, __, model, answer) => {
      const rows = differences(model, importQemuModel(answer));
      expect(rows.filter(({ reason = "gone: " }) => reason.startsWith("gone: "))).toEqual([]);
    },
  );

  test.each(pairs)(
    "%s has the vendor, family, model and maximum of %s",
    (_, __, { model }, answer) => {
      const { vendor, signature, maxLeaf } = importQemuModel(answer);
      const { family, model: number } = signature;
      expect([vendor, family, number, maxLeaf]).toEqual([
        model.vendor,
        model.signature.family,
        model.signature.model,
        model.maxLeaf,
      ]);
    },
  );
});

test("each listed difference belongs to a model", () => {
  const idle = INTENDED.filter(({ models }) => !all.some(({ name }) => models.test(name)));
  expect(idle).toEqual([]);
});

const PROPS = {
  ...{ vendor: "GenuineIntel", family: 6, model: 60, stepping: 4, level: 13, xlevel: 2147483656 },
  ...{
    "model-id": "A CPU",
    "phys-bits": 0,
    fpu: true,
    "sse4.2": true,
    "sse4-2": true,
    xsave: true,
  },
  ...{ avx: true, "rdctl-no": true, mmx: false, svm: true, npt: true, lm: true, fxsr: true },
};
const answer = (props: object): string =>
  JSON.stringify({ return: { model: { name: "X", props } } });

describe("importQemuModel()", () => {
  test("reads the identity, the features, and the names that are not fields", () => {
    expect(importQemuModel(answer(PROPS))).toEqual({
      name: "X",
      vendor: "GenuineIntel",
      signature: { family: 6, model: 60, stepping: 4 },
      maxLeaf: 13,
      maxExtended: 0x8000_0008,
      features: ["fpu", "sse4_2", "xsave", "avx", "svm", "lm", "fxsr"],
      unknown: ["rdctl-no"],
      brand: "A CPU",
      physicalBits: 40,
      assumed: ["physicalBits"],
    });
  });

  test("assumes nothing if the response contains the width of physical addresses", () => {
    const { physicalBits, assumed } = importQemuModel(answer({ ...PROPS, "phys-bits": 46 }));
    expect({ physicalBits, assumed }).toEqual({ physicalBits: 46, assumed: [] });
  });

  test("gives a table that has the features and the identity", () => {
    const table = importedModelTable(importQemuModel(answer(PROPS)));
    expect(table.get("max_std_leaf")).toBe(13);
    expect(table.get("base_model")).toBe(12);
    expect(["avx", "sse4_2", "mmx"].map((name) => table.has(name as "avx"))).toEqual([
      true,
      true,
      false,
    ]);
    expect(table.get("xsave_sz_max")).toBe(832);
  });

  test.each([
    ["", "importQemuModel(): "],
    ["{}", "there is no model"],
    [answer({ ...PROPS, family: undefined }), 'family of the model "X" is missing'],
    [answer({ ...PROPS, model: 300 }), 'model of the model "X" is "300"'],
    [answer({ ...PROPS, vendor: "Intel" }), 'vendor of the model "X" is not twelve characters'],
  ])("refuses %j", (text, message) => {
    expect(() => importQemuModel(text)).toThrow(SyntaxError);
    expect(() => importQemuModel(text)).toThrow(message);
  });

  test("refuses an argument that is not a string", () => {
    expect(() => importQemuModel(5 as never)).toThrow(
      "importQemuModel(): expected a string, got 5",
    );
  });
});

test.each(["EPYC-Milan", "Skylake-Server"])(
  "%s and QEMU's model give tables with the same leaf 0xD",
  (name) => {
    const found = pairs.find(([own]) => own === name);
    const theirs =
      found === undefined ? modelTable(name) : importedModelTable(importQemuModel(found[3]));
    const leaf = (table: Iterable<{ function: number }>): unknown =>
      [...table].filter((e) => e.function === 0xd);
    expect(leaf(theirs)).toEqual(leaf(modelTable(name)));
  },
);
