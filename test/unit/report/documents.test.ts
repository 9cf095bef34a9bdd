/** Tests of the reports for KCIDB, LAVA and GitHub Actions, and of the JSON Schema of reports. */
import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { toGithubAnnotations, toGithubSummary } from "../../../lib/report/github.ts";
import { toKcidb } from "../../../lib/report/kcidb.ts";
import { matrixToLava, toLava } from "../../../lib/report/lava.ts";
import { type Column, type Matrix, toMatrix } from "../../../lib/report/matrix.ts";
import { printableJson } from "../../../lib/report/printable.ts";
import type { Result, Verdict } from "../../../lib/report/result.ts";

const result = (id: string, verdict: Verdict = "pass", more: Partial<Result> = {}): Result => ({
  id,
  title: `the claim ${id}`,
  number: 49,
  file: "frozen.test.ts",
  verdict,
  reason: verdict === "pass" ? undefined : `why ${id}`,
  duration: 1500,
  ...more,
});

const column = (name: string, ...results: readonly Result[]): Column => ({
  name,
  report: { kernel: "6.12.95", vendor: "kvm_amd", results },
  warnings: [],
});

const VERDICTS = [
  result("holds"),
  result("fails", "fail"),
  result("skips", "skip"),
  result("deviates", "deviation"),
];
const HUNG: Column = {
  name: "7.2 max",
  report: undefined,
  problem: "it hung twice",
  end: "hung",
  warnings: [],
};
const MATRIX = toMatrix([column("6.12 max", ...VERDICTS), HUNG]);
const RUN = { origin: "node_kvm", start: "2026-11-30T12:00:00.000Z" };

const odd = fc.constantFrom(...'\u0000\u001b\t\n\r#&<>"|%:,=\ufffe\ud800 ok1');
const words = fc.string({ unit: fc.oneof(odd, fc.string({ unit: "binary", maxLength: 1 })) });
const anyMatrix: fc.Arbitrary<Matrix> = fc
  .array(
    fc.record({
      name: words,
      problem: fc.option(words, { nil: undefined }),
      warnings: fc.array(words, { maxLength: 2 }),
      results: fc.option(
        fc.uniqueArray(
          fc.record({
            id: words,
            title: words,
            number: fc.constant(undefined),
            file: fc.option(words, { nil: undefined }),
            verdict: fc.constantFrom<Verdict>("pass", "fail", "skip", "deviation"),
            reason: fc.option(words, { nil: undefined }),
            duration: fc.nat(),
          }),
          { selector: ({ id }) => id, maxLength: 4 },
        ),
        { nil: undefined },
      ),
    }),
    { maxLength: 3 },
  )
  .map((columns) =>
    toMatrix(
      columns.map(({ results, problem, ...more }) => ({
        ...more,
        ...(problem === undefined ? {} : { problem }),
        report: results === undefined ? undefined : { kernel: "6.12", vendor: "kvm_amd", results },
      })),
    ),
  );

describe("the report for KCIDB", () => {
  const text = { type: "string", pattern: "^[^\\u0000]*$" };
  const id = { type: "string", pattern: "^[a-z0-9_]+:[^\\u0000]*$" };
  const time = { type: "string", pattern: "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d" };
  const objects = (required: readonly string[], properties: object): object => ({
    type: "array",
    items: {
      type: "object",
      required: ["id", "origin", ...required],
      properties: { id, origin: { type: "string", pattern: "^[a-z0-9_]+$" }, ...properties },
      additionalProperties: false,
    },
  });
  // The part of KCIDB's I/O schema 5.3 that the reporter uses.
  const validate = new Ajv2020({ strict: true, allowUnionTypes: true }).compile({
    type: "object",
    required: ["version"],
    additionalProperties: false,
    properties: {
      version: {
        type: "object",
        properties: { major: { const: 5 }, minor: { type: "integer", maximum: 3 } },
      },
      checkouts: objects([], { valid: { type: "boolean" }, start_time: time, comment: text }),
      builds: objects(["checkout_id"], { checkout_id: id, architecture: text, comment: text }),
      tests: objects(["build_id"], {
        build_id: id,
        path: { type: "string", pattern: "^([a-zA-Z0-9_-]+(\\.[a-zA-Z0-9_-]+)*)?$" },
        status: { enum: ["FAIL", "ERROR", "MISS", "PASS", "DONE", "SKIP"] },
        start_time: time,
        duration: { type: "number", minimum: 0 },
        log_excerpt: { ...text, maxLength: 16_384 },
        comment: text,
        environment: { type: "object", properties: { comment: text, misc: { type: "object" } } },
      }),
      issues: objects(["version"], {
        version: { type: "integer", minimum: 0 },
        report_subject: text,
        comment: text,
        culprit: {
          type: "object",
          properties: {
            code: { type: "boolean" },
            tool: { type: "boolean" },
            harness: { type: "boolean" },
          },
        },
      }),
      incidents: objects(["issue_id", "issue_version"], {
        issue_id: id,
        issue_version: { type: "integer", minimum: 0 },
        test_id: id,
        present: { type: "boolean" },
      }),
    },
  });
  const written = JSON.parse(toKcidb(MATRIX, RUN)) as Readonly<
    Record<string, readonly Readonly<Record<string, unknown>>[]>
  >;

  test("matches the schema", () => {
    expect(validate(written), JSON.stringify(validate.errors)).toBe(true);
    expect(validate({ version: { major: 4 } })).toBe(false);
    expect(validate({ version: { major: 5, minor: 3 }, tests: [{ id: "a:b" }] })).toBe(false);
  });

  test("has a status for each claim of each kernel; a claim that was not judged is MISS", () => {
    expect(written["tests"]?.map(({ path, status }) => [path, status])).toEqual([
      ["node-kvm.frozen.holds", "PASS"],
      ["node-kvm.frozen.fails", "FAIL"],
      ["node-kvm.frozen.skips", "SKIP"],
      ["node-kvm.frozen.deviates", "FAIL"],
      ["node-kvm.frozen.holds", "MISS"],
      ["node-kvm.frozen.fails", "MISS"],
      ["node-kvm.frozen.skips", "MISS"],
      ["node-kvm.frozen.deviates", "MISS"],
      ["node-kvm.machine", "ERROR"],
    ]);
  });

  test("has an issue and an incident for a known deviation", () => {
    expect(written["issues"]).toHaveLength(1);
    const [incident] = written["incidents"] ?? [];
    const failed = written["tests"]?.find(({ path }) => path === "node-kvm.frozen.deviates");
    expect(incident).toMatchObject({ issue_id: written["issues"]?.[0]?.["id"], present: true });
    expect(incident?.["test_id"]).toBe(failed?.["id"]);
  });

  test("is the same for the same run, and has other ids for another run", () => {
    expect(toKcidb(MATRIX, RUN)).toBe(toKcidb(MATRIX, RUN));
    expect(toKcidb(MATRIX, { ...RUN, start: "2026-12-01T00:00:00Z" })).not.toContain(
      String(written["builds"]?.[0]?.["id"]),
    );
  });

  test("cannot have an origin of another form", () => {
    expect(() => toKcidb(MATRIX, { ...RUN, origin: "Node-KVM" })).toThrow(TypeError);
  });

  test("of a random matrix matches the schema, and all its ids are distinct", () => {
    fc.assert(
      fc.property(anyMatrix, (matrix) => {
        const document = JSON.parse(toKcidb(matrix, RUN)) as Record<"tests", { id: string }[]>;
        expect(validate(document), JSON.stringify(validate.errors)).toBe(true);
        const ids = document.tests.map((each) => each.id);
        expect(new Set(ids).size).toBe(ids.length);
      }),
    );
  });
});

describe("the report for LAVA", () => {
  /** The expression of LAVA's dispatcher for a signal. */
  const SIGNAL = /^<LAVA_SIGNAL_(\S+) ([^>]+)>$/;

  test("has a signal for each claim in a test set", () => {
    expect(matrixToLava(MATRIX).split("\n")).toEqual([
      "<LAVA_SIGNAL_TESTSET START node-kvm-6.12-max>",
      "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=holds RESULT=pass>",
      "fails: why fails",
      "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=fails RESULT=fail>",
      "skips: why skips",
      "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=skips RESULT=skip>",
      "deviates: known deviation: why deviates",
      "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=deviates RESULT=pass>",
      "<LAVA_SIGNAL_TESTSET STOP>",
      "<LAVA_SIGNAL_TESTSET START node-kvm-7.2-max>",
      "it hung twice",
      "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=machine RESULT=fail>",
      "<LAVA_SIGNAL_TESTSET STOP>",
      "",
    ]);
  });

  test("of one kernel names the kernel and the vendor module", () => {
    const [first] = toLava({ kernel: "6.12.95", vendor: "kvm_amd", results: [] }).split("\n");
    expect(first).toBe("<LAVA_SIGNAL_TESTSET START node-kvm-6.12.95-kvm_amd>");
  });

  test("of a random matrix has well-formed signals, one for each claim", () => {
    fc.assert(
      fc.property(anyMatrix, (matrix) => {
        const lines = matrixToLava(matrix).split("\n");
        const signals = lines.filter((line) => line.startsWith("<"));
        for (const line of signals) expect(line).toMatch(SIGNAL);
        const cases = signals.filter((line) => line.includes("TESTCASE"));
        for (const line of cases) {
          expect(line).toMatch(/ TEST_CASE_ID=[\w.-]+ RESULT=(pass|fail|skip)>$/);
        }
        const claims = matrix.columns.flatMap(({ report }) => report?.results ?? []);
        const machines = cases.filter((line) => line.includes("TEST_CASE_ID=machine "));
        expect(cases.length - machines.length).toBe(
          claims.filter(({ id }) => id !== "machine").length,
        );
      }),
    );
  });
});

describe("the report for GitHub Actions", () => {
  test("has an error for each failure", () => {
    expect(toGithubAnnotations(MATRIX).split("\n")).toEqual([
      "::error title=node-kvm%3A fails on 6.12 max::the claim fails: why fails",
      "::error title=node-kvm%3A 7.2 max::it hung twice",
      "",
    ]);
  });

  test("has the first 10 errors, and the number of the others", () => {
    const failed = Array.from({ length: 13 }, (_, i) => result(`c${i}`, "fail"));
    const lines = toGithubAnnotations(toMatrix([column("a", ...failed)])).split("\n");
    expect(lines).toHaveLength(12);
    expect(lines[10]).toBe("::warning title=node-kvm::3 more failures are in the log");
  });

  test("has a notice with the numbers if nothing failed", () => {
    const text = toGithubAnnotations(toMatrix([column("a", result("b"))]));
    expect(text).toBe(
      "::notice title=node-kvm::1 kernels: 1 claims hold, 0 known deviations, 0 skipped\n",
    );
  });

  test("of a random matrix has one command in each line", () => {
    fc.assert(
      fc.property(anyMatrix, (matrix) => {
        const lines = toGithubAnnotations(matrix).split("\n");
        expect(lines.pop()).toBe("");
        for (const line of lines) {
          expect(line).toMatch(/^::(error|warning|notice) title=[^:,\r\n]*::[^\r\n]*$/);
        }
      }),
    );
  });

  test("has a summary with a table, whose first rows are the claims that do not hold everywhere", () => {
    expect(toGithubSummary(MATRIX).split("\n").slice(2, 8)).toEqual([
      "| claim | 6.12 max | 7.2 max |",
      "| --- | --- | --- |",
      "| holds | ok | ? |",
      "| fails | **FAIL** | ? |",
      "| skips | - | ? |",
      "| deviates | dev | ? |",
    ]);
    const [first] = toGithubSummary(toMatrix([column("a", ...VERDICTS)]))
      .split("\n")
      .slice(4);
    expect(first).toBe("| fails | **FAIL** |");
  });

  test("has a summary within GitHub's limit, with the number of the claims that are not in it", () => {
    const many = Array.from({ length: 5000 }, (_, i) => result(`claim-${i}-${"x".repeat(250)}`));
    const text = toGithubSummary(toMatrix([column("a", ...many)]));
    expect(Buffer.byteLength(text)).toBeLessThan(2 ** 20);
    expect(text).toMatch(/\n\d+ more claims are in the log\.\n/);
  });
});

describe("docs/report.schema.json", () => {
  const path = new URL("../../../docs/report.schema.json", import.meta.url);
  const validate = new Ajv2020({ strict: true, allowUnionTypes: true }).compile(
    JSON.parse(readFileSync(path, "utf8")) as object,
  );
  const isValid = (value: unknown): boolean => validate(JSON.parse(printableJson(value)));

  test("accepts the report of one kernel and of a matrix", () => {
    expect(isValid(MATRIX.columns[0]?.report), JSON.stringify(validate.errors)).toBe(true);
    expect(isValid(MATRIX), JSON.stringify(validate.errors)).toBe(true);
  });

  const evidence = {
    ...{ calls: ["open()"], earlierCalls: 0, c: "int main(void)", withoutC: "why" },
    tables: {
      ...{ before: "expected", after: "got", more: 0 },
      fields: [{ name: "0x7.0:ebx[5] avx2", before: "1", after: "0" }],
    },
  };
  const host = { cpu: "a", parameters: { "kvm.x": "N" }, capabilities: { KVM_CAP_XCRS: 1 } };

  test("accepts evidence and the facts of a host, and rejects unknown members in them", () => {
    const report = { kernel: "a", vendor: "b", host, results: [result("a", "fail", { evidence })] };
    expect(isValid(report), JSON.stringify(validate.errors)).toBe(true);
    expect(isValid({ ...report, host: { ...host, more: 1 } })).toBe(false);
    const odd = result("a", "fail", { evidence: { ...evidence, more: 1 } as never });
    expect(isValid({ ...report, results: [odd] })).toBe(false);
  });

  test.each([
    ["no results", { kernel: "a", vendor: "b" }],
    [
      "an unknown verdict",
      { kernel: "a", vendor: "b", results: [{ ...result("a"), verdict: "ok" }] },
    ],
    ["a column without a name", { columns: [{ warnings: [] }], rows: [] }],
  ])("rejects %s", (_, value) => {
    expect(isValid(value)).toBe(false);
  });

  test("accepts every random matrix", () => {
    fc.assert(
      fc.property(anyMatrix, (matrix) => {
        expect(isValid(matrix), JSON.stringify(validate.errors)).toBe(true);
      }),
    );
  });
});
