/** Tests of lint() itself: inputs, several tables, rules that are not judged, limits, and output formats. */
import { describe, expect, test } from "vitest";
import { cpuidDependencies } from "../../../../lib/cpuid/dependencies.ts";
import {
  CpuidTable,
  fixTable,
  formatLint,
  formatLintAnnotations,
  formatLintSarif,
  lint,
  modelTable,
  namedModels,
} from "../../../../lib/cpuid/index.ts";
import { ruleOfPair } from "../../../../lib/cpuid/lint/dependencies.ts";
import { AMD, INTEL } from "./bases.ts";

const FAULTY = INTEL.with({ clflush_size: 16 });
const LINES = Array.from(INTEL, (_, i) => i + 10);

describe("lint()", () => {
  test("lists a rule whose input is missing as not judged, with the reason", () => {
    const { judged, notJudged } = lint(INTEL);
    expect(judged).not.toContain("F07");
    expect(notJudged).toContainEqual({ rule: "F07", reason: "no table of the host is given" });
    expect(judged.length + notJudged.length).toBe(119);
  });

  test("does not judge rules about missing sub-leaves if the table is incomplete", () => {
    const { notJudged } = lint(INTEL.without(0xd, 2), { isComplete: false });
    expect(notJudged.map(({ rule }) => rule)).toEqual(
      expect.arrayContaining(["X13", "X17", "K12"]),
    );
    expect(lint(INTEL.without(0xd, 2), { isComplete: false }).findings).toEqual([]);
  });

  test("finds no fault in the ids that CPUs of AMD's families 5 and 6 have", () => {
    const old = CpuidTable.from(
      [...AMD].map((e) => {
        if (e.function === 0x1) return { ...e, eax: 0x5_62 };
        if (e.function === 0x8000_0000) return { ...e, ebx: 0, ecx: 0, edx: 0 };
        return e.function === 0x8000_0001 ? { ...e, eax: 0x6_62 } : e;
      }),
    );
    const rules = lint(old, { profile: "cpu" }).findings.map(({ rule }) => rule);
    expect(rules.filter((rule) => ["F02", "F03", "S07"].includes(rule))).toEqual([]);
  });

  test("finds a family that AMD does not use, and wrong ids of family 15", () => {
    const rulesOf = (table: CpuidTable): readonly string[] =>
      lint(table, { profile: "cpu" }).findings.map(({ rule }) => rule);
    expect(rulesOf(AMD.with({ base_family_id: 7, ext_family: 0 }))).toContain("F03");
    expect(rulesOf(AMD.with({ base_family_id: 15, ext_family: 0, e_stepping_id: 1 }))).toContain(
      "F02",
    );
  });

  test.each([
    ["AMD", AMD],
    ["Intel", INTEL],
  ])("accepts an extended model of base family 7, which Linux uses, for %s", (_, table) => {
    const { findings } = lint(table.with({ base_family_id: 7, ext_family: 0, ext_model: 5 }));
    expect(findings.map(({ rule }) => rule)).not.toContain("F01");
  });

  test("reports differing APIC ids as info in a dump of a CPU, and as an error in a guest's table", () => {
    const table = AMD.with({ ext_apic_id: 16 });
    const severities = (["cpu", "guest"] as const).map(
      (profile) => lint(table, { profile }).findings.find(({ rule }) => rule === "T02")?.severity,
    );
    expect(severities).toEqual(["info", "error"]);
  });

  test("has the verdict `nothing judged` if every rule is ignored", () => {
    const { judged, notJudged } = lint(FAULTY);
    const ignore = [...judged, ...notJudged.map(({ rule }) => rule)];
    expect(lint(FAULTY, { ignore }).verdict).toBe("nothing judged");
  });

  test("merges the same fault of several tables into one finding", () => {
    const findings = lint([FAULTY, FAULTY, INTEL], { ignore: ["T11", "K18"] }).findings;
    expect(findings.map(({ rule, cpus }) => [rule, cpus])).toEqual([["F10", [0, 1]]]);
  });

  test("names the fields in which the tables of two vCPUs differ", () => {
    const other = INTEL.with({ bmi1: 0, avx2: 0 });
    const { findings } = lint([INTEL, other], { ignore: ["T11"] });
    expect(findings.find(({ rule }) => rule === "K18")?.message).toMatch(
      /^0x7\.0:ebx\[31:0\]: is 0x[0-9a-f]+, but CPU 0 has 0x[0-9a-f]+ \(bmi1, avx2\)$/,
    );
  });

  test("names the CPUs of the findings by the numbers that the caller gives", () => {
    const result = lint([FAULTY, FAULTY, INTEL, INTEL], { cpus: [4, 6, 0, 9], ignore: ["K18"] });
    const text = formatLint(result);
    expect(result.findings.map(({ rule, cpus }) => [rule, cpus])).toEqual([
      ["F10", [4, 6]],
      ["T11", [6, 0, 9]],
    ]);
    expect(text).toMatch(/F10 .* \(CPU 4, 6\)\n/);
    expect(text).toMatch(/T11 .*, which is also the APIC id of CPU 4 \(CPU 6, 0, 9\)\n/);
    expect(formatLintSarif(result)).toMatch(/"cpus": \[\s*4,\s*6\s*\]/);
    expect(() => lint(INTEL, { cpus: [1, 2] })).toThrow("lint(): cpus has 2 numbers for 1 tables");
    expect(() => lint(INTEL, { cpus: [-1] })).toThrow("lint(): cpus[0]: -1 does not fit u32");
  });

  test("reports the line of the entry with each finding", () => {
    expect(lint(FAULTY, { lines: [LINES] }).findings.map(({ line }) => line)).toEqual([11]);
  });

  test("judges a table of 1,025 entries by S12 alone", () => {
    const entries = Array.from({ length: 1025 }, (_, i) => ({ function: i, eax: 1 }));
    expect(lint(entries).judged).toEqual(["S12"]);
  });

  test("reports at most 64 findings of one rule, and counts the omitted findings", () => {
    const entries = Array.from({ length: 100 }, () => ({ function: 0 }));
    const { findings, omitted } = lint(entries);
    expect(findings.filter(({ rule }) => rule === "S08")).toHaveLength(64);
    expect(omitted).toBe(35);
  });

  test.each([0, 0xfe, 0x8000_0000, 0x8000_0004, 0x8000_001d, 0xffff_ffff])(
    "fixes a table whose highest extended leaf is %i so that no finding about it is left",
    (max) => {
      const left = namedModels().flatMap(({ name }) => {
        const table = modelTable(name).with({ max_ext_leaf: max });
        const { findings } = lint(fixTable(table, lint(table).findings));
        return findings
          .filter(({ rule }) => /^(S0[1-5]|L0[1-7])$/.test(rule))
          .map(({ message }) => `${name}: ${message}`);
      });
      expect(left).toEqual([]);
    },
  );

  test("accepts 1,000 tables of random bytes, and their fixes", () => {
    let state = 1;
    const random = (): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state;
    };
    const leaves = [0, 1, 2, 4, 7, 0xa, 0xb, 0xd, 0x1d, 0x1e, 0x1f, 0x24, 0x4000_0000, 0x8000_0000];
    for (let i = 0; i < 1000; i += 1) {
      const entries = Array.from({ length: random() % 12 }, () => ({
        function:
          random() % 3 === 0 ? random() : (leaves[(random() >>> 8) % 14] ?? 0) + (random() >>> 30),
        index: (random() >>> 8) % 4,
        flags: random() >>> 30,
        eax: random() % 2 === 0 ? random() >>> 24 : random(),
        ebx: random(),
        ecx: random(),
        edx: random(),
      }));
      const { findings } = lint(entries);
      expect(findings.length).toBeLessThanOrEqual(4096);
      fixTable(entries, findings);
    }
  });
});

describe("each pair of features", () => {
  const pairs = cpuidDependencies();

  test.each(pairs)("$feature without $needs is found by the rule of the pair", (pair) => {
    const leaves = [0, 1, 7, 0xd, 0xf, 0x10, 0x12, 0x19, 0x8000_0000, 0x8000_0001, 0x8000_0008];
    const more = [0x8000_000a, 0x8000_001f, 0x8000_0020, 0x8000_0022];
    const kvm = { function: 0x4000_0000, ebx: 0x4b4d_564b, ecx: 0x564b_4d56, edx: 0x4d };
    const hyperV = pair.rule === "H02";
    const base = CpuidTable.from([
      ...[...leaves, ...more].flatMap((fn) =>
        [0, 1, 2, 3].map((index) => ({ function: fn, index, flags: 1 })),
      ),
      ...(hyperV
        ? [{ function: 0x4000_0001, eax: 0x3123_7648 }]
        : [kvm, { function: 0x4000_0001 }]),
      ...(hyperV ? [3, 4].map((n) => ({ function: 0x4000_0000 + n })) : []),
    ]);
    const needsXsave = pair.rule === "X23" ? base.with({ xsave: 1 }) : base;
    const table = needsXsave.with({ [pair.feature]: 1 });
    const full = table.with({ max_std_leaf: 0x29 });
    const found = lint(full).findings.filter(({ name }) => name === pair.feature);
    const mine = found.filter(({ rule }) => rule === ruleOfPair(pair));
    expect(mine.map(({ message }) => message).join("\n")).toContain(`needs ${pair.needs}, which`);
    const both = full.with({ [pair.needs]: 1 });
    const after = lint(both)
      .findings.map(({ message }) => message)
      .join("\n");
    expect(after).not.toContain(`${pair.feature}: needs ${pair.needs},`);
  });
});

describe("the outputs", () => {
  const result = lint(FAULTY, { lines: [LINES] });

  test("text output has the position in the file, the message and the remedy", () => {
    expect(formatLint(result, { file: "a.txt" })).toMatch(
      /^a\.txt:11: warning F10 0x1\.0:ebx\[15:8\] clflush_size: is 16, .*\n {4}Set clflush_size to 8\n0 errors, 1 warning, 0 info; \d+ rules judged, \d+ not judged\n$/,
    );
  });

  test("text output states that nothing was judged", () => {
    const { judged, notJudged } = result;
    const ignore = [...judged, ...notJudged.map(({ rule }) => rule)];
    expect(formatLint(lint(FAULTY, { ignore }))).toContain("no rule was judged");
    expect(formatLintAnnotations(lint(FAULTY, { ignore }))).toBe(
      "::error title=lint::no rule was judged\n",
    );
  });

  test("an annotation contains the line and the escaped file name", () => {
    expect(formatLintAnnotations(result, { file: "a,b:c%.txt" })).toMatch(
      /^::warning file=a%2Cb%3Ac%25\.txt,line=11,title=F10::0x1\.0:ebx\[15:8\] /,
    );
  });

  test("a lone surrogate in the name of the file is replaced", () => {
    const text = formatLintSarif(result, { file: "a\ud800.txt" });
    expect(JSON.parse(text)).toMatchObject({ version: "2.1.0" });
  });

  test("SARIF has the rule's index, the level and the region", () => {
    const log = JSON.parse(formatLintSarif(result, { file: "a b/c.txt" })) as {
      readonly version: string;
      readonly runs: readonly {
        readonly tool: { readonly driver: { readonly rules: readonly { readonly id: string }[] } };
        readonly results: readonly {
          readonly ruleId: string;
          readonly ruleIndex: number;
          readonly level: string;
          readonly locations: readonly unknown[];
        }[];
      }[];
    };
    const [run] = log.runs;
    const [one] = run?.results ?? [];
    expect(log.version).toBe("2.1.0");
    expect(run?.tool.driver.rules[one?.ruleIndex ?? -1]?.id).toBe("F10");
    expect(one?.level).toBe("warning");
    expect(one?.locations).toEqual([
      {
        physicalLocation: {
          artifactLocation: { uri: "a%20b/c.txt" },
          region: { startLine: 11 },
        },
        logicalLocations: [{ fullyQualifiedName: "0x1.0:ebx[15:8]", kind: "member" }],
      },
    ]);
  });

  test("AMD's base table has no finding with any profile", () => {
    const verdicts = (["cpu", "guest", "firecracker"] as const).map(
      (profile) => lint(AMD, { profile }).verdict,
    );
    expect(verdicts).toEqual(["clean", "clean", "clean"]);
  });
});
