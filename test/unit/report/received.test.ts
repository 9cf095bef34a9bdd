/** Tests of a report that a guest sent: its shape is checked, and only known members are kept. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MalformedReport, readReport } from "../../../lib/report/received.ts";

const RESULT = { id: "a", title: "A", number: 1, verdict: "pass", duration: 1.5 };
const REPORT = { kernel: "6.12", vendor: "kvm_amd", results: [RESULT] };

const FIELD = { name: "0x7.0:ebx[5] avx2", before: "1", after: "0" };
const TABLES = { before: "expected", after: "got", fields: [FIELD], more: 0 };
const EVIDENCE = { calls: ["open()"], earlierCalls: 2, tables: TABLES, c: "int", withoutC: "why" };
const HOST = { cpu: "x", parameters: { "kvm.a": "N" }, capabilities: { KVM_CAP_A: 0 } };

const text = (more: object): string => JSON.stringify({ ...REPORT, ...more });
const one = (more: object): string => text({ results: [{ ...RESULT, ...more }] });
const evidence = (more: object): string => one({ evidence: { ...EVIDENCE, ...more } });
const tables = (more: object): string => evidence({ tables: { ...TABLES, ...more } });
const host = (more: object): string => text({ host: { ...HOST, ...more } });
const without = (member: string): string =>
  JSON.stringify(REPORT, (name, value: unknown) => (name === member ? undefined : value));

const TEXT = "not a string of at most";
const NUMBER = "not a number that is not negative";
const VERDICT = "not pass, fail, skip, deviation";

const MALFORMED: readonly (readonly [sent: string, why: string])[] = [
  ["", "it is not JSON"],
  ["not json", "it is not JSON"],
  [`${text({})}x`, "it is not JSON"],
  [text({}).slice(0, -1), "it is not JSON"],
  ["[".repeat(1_000_000), "it is not JSON"],
  ["null", "the report is null, not an object"],
  ["true", "the report is true, not an object"],
  ["7", "the report is 7, not an object"],
  ['"pass"', 'the report is "pass", not an object'],
  ["[]", "the report is an array, not an object"],
  [JSON.stringify([REPORT]), "the report is an array, not an object"],
  ["{}", "results is undefined, not an array"],
  ...["kernel", "vendor", "id", "title", "duration"].map(
    (member) => [without(member), `${member} is undefined, not`] as const,
  ),
  [without("results"), "results is undefined, not an array"],
  [without("verdict"), `results[0].verdict is undefined, ${VERDICT}`],
  ...[null, {}, "x", 5, true].map((results) => [text({ results }), "not an array"] as const),
  [text({ results: { length: 3 } }), "results is an object, not an array"],
  ...[null, "pass", 5, [], [RESULT]].map(
    (result) => [text({ results: [RESULT, result] }), "not an object"] as const,
  ),
  ...[null, 5, {}, [], true].map(
    (kernel) => [text({ kernel }), `kernel is ${shape(kernel)}, ${TEXT}`] as const,
  ),
  ...[null, 5, {}].map((vendor) => [text({ vendor }), TEXT] as const),
  [text({ kernel: "6".repeat(201) }), TEXT],
  [text({ vendor: "k".repeat(1e6) }), TEXT],
  ...[null, 5, {}, ["a"]].map((id) => [one({ id }), TEXT] as const),
  ...[null, 5, {}].map((title) => [one({ title }), TEXT] as const),
  ...[null, 5, {}, ["x"]].map((reason) => [one({ reason }), TEXT] as const),
  [one({ id: "a".repeat(201) }), TEXT],
  [one({ title: "a".repeat(2001) }), TEXT],
  [one({ reason: "a".repeat(2 ** 16 + 1) }), TEXT],
  [
    text({
      results: Array.from({ length: 33 }, (_, i) => ({
        ...{ ...RESULT, id: `c${i}` },
        reason: "a".repeat(2 ** 16),
      })),
    }),
    "its reasons have 2162688 characters; at most 2097152 are allowed",
  ],
  [one({ number: 1.5 }), "results[0].number is 1.5, not a whole number"],
  [evidence({ earlierCalls: 1.5 }), "earlierCalls is 1.5, not a whole number"],
  [tables({ more: 1e300 }), "more is 1e+300, not a whole number"],
  ...["1", null, {}, -1].map(
    (number) => [one({ number }), `number is ${shape(number)}, ${NUMBER}`] as const,
  ),
  ...["1", null, [], -1].map((duration) => [one({ duration }), NUMBER] as const),
  [text({}).replace("1.5", "1e999"), `results[0].duration is Infinity, ${NUMBER}`],
  ...[
    null,
    "bogus",
    "__proto__",
    "constructor",
    "toString",
    "PASS",
    "pass ",
    "",
    0,
    true,
    ["pass"],
    {},
  ].map(
    (verdict) => [one({ verdict }), `results[0].verdict is ${shape(verdict)}, ${VERDICT}`] as const,
  ),
  [text({ results: [RESULT, { ...RESULT, verdict: "fail" }] }), '"a" has two results'],
  [
    text({ results: Array.from({ length: 10_001 }, (_, i) => ({ ...RESULT, id: `${i}` })) }),
    "results has 10001 members; at most 10000 are allowed",
  ],
  ...[null, 5, "x", []].map((each) => [one({ evidence: each }), "not an object"] as const),
  ...[null, 5, "x", {}].map((calls) => [evidence({ calls }), "not an array"] as const),
  [evidence({ calls: [7] }), `results[0].evidence.calls[0] is 7, ${TEXT}`],
  [evidence({ calls: ["x".repeat(401)] }), TEXT],
  [evidence({ calls: Array(101).fill("x") }), "calls has 101 members; at most 100 are allowed"],
  ...[undefined, "1", -1].map((earlierCalls) => [evidence({ earlierCalls }), NUMBER] as const),
  ...[null, 5, ""].map((c) => [evidence({ tables: c }), "not an object"] as const),
  ...[null, 5, "x".repeat(2 ** 18 + 1)].map((c) => [evidence({ c }), TEXT] as const),
  [evidence({ withoutC: 5 }), TEXT],
  [tables({ before: 1 }), TEXT],
  [tables({ after: "x".repeat(201) }), TEXT],
  [tables({ more: null }), NUMBER],
  [tables({ fields: {} }), "not an array"],
  [tables({ fields: Array(201).fill(FIELD) }), "at most 200 are allowed"],
  [tables({ fields: [null] }), "not an object"],
  ...["name", "before", "after"].map(
    (name) => [tables({ fields: [{ ...FIELD, [name]: 1 }] }), `fields[0].${name} is 1`] as const,
  ),
  [
    text({
      results: Array.from({ length: 9 }, (_, i) => ({
        ...{ ...RESULT, id: `${i}` },
        evidence: { ...EVIDENCE, c: "x".repeat(2 ** 18) },
      })),
    }),
    "its C files have 2359296 characters; at most 2097152 are allowed",
  ],
  ...[null, 5, []].map((each) => [text({ host: each }), "host is"] as const),
  [host({ cpu: 5 }), `host.cpu is 5, ${TEXT}`],
  [host({ parameters: { "kvm.a": 5 } }), `host.parameters.kvm.a is 5, ${TEXT}`],
  [host({ parameters: { ["x".repeat(201)]: "N" } }), TEXT],
  [host({ capabilities: { a: "1" } }), `host.capabilities.a is "1", ${NUMBER}`],
  [
    host({ parameters: Object.fromEntries(Array.from({ length: 501 }, (_, i) => [i, "N"])) }),
    "host.parameters has 501 members; at most 500 are allowed",
  ],
  ['{"__proto__": {"kernel": "x", "vendor": "y", "results": []}}', "results is undefined"],
];

function shape(value: unknown): string {
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" && value !== null ? "an object" : JSON.stringify(value);
}

test("a received report keeps only its known members", () => {
  const reason = "line\n\u001b[2J";
  const sent = { ...REPORT, results: [{ ...RESULT, reason, more: 1 }], __proto__: null, extra: {} };
  expect(readReport(JSON.stringify(sent))).toEqual({
    ...REPORT,
    results: [{ ...RESULT, reason }],
  });
});

test("a received report keeps the evidence and the facts of the host, without unknown members", () => {
  const more = { more: 1 };
  const sent = {
    ...{ ...REPORT, host: { ...HOST, ...more } },
    results: [{ ...RESULT, evidence: { ...EVIDENCE, odd: 1, tables: { ...TABLES, odd: 1 } } }],
  };
  expect(readReport(JSON.stringify(sent))).toEqual({
    ...{ ...REPORT, host: HOST },
    results: [{ ...RESULT, evidence: EVIDENCE }],
  });
});

test("a received report may have a claim without a number, or no claims", () => {
  const { number, ...unnumbered } = RESULT;
  expect(number).toBe(1);
  expect(readReport(text({ results: [unnumbered] })).results[0]?.number).toBeUndefined();
  expect(readReport(text({ results: [] })).results).toEqual([]);
});

describe("a malformed report from a guest", () => {
  test("is tested with at least sixty rows", () => {
    expect(MALFORMED.length).toBeGreaterThanOrEqual(60);
  });

  const rows = MALFORMED.map(([sent, why]) => [sent.slice(0, 60), why, sent] as const);
  test.each(rows)("with %s is rejected: %s", (_, why, sent) => {
    expect(() => readReport(sent)).toThrow(why);
    expect(() => readReport(sent)).toThrow(MalformedReport);
  });
});

test("any JSON text from a guest is either read as a valid report or rejected as malformed", () => {
  const value = fc.oneof(fc.jsonValue(), fc.constantFrom("pass", "skip", "__proto__", null));
  const members = [
    "id",
    "title",
    "number",
    "verdict",
    "reason",
    "duration",
    "evidence",
    "__proto__",
  ];
  const result = fc
    .dictionary(fc.constantFrom(...members), value)
    .map((odd) => ({ ...RESULT, ...odd }));
  const sent = fc.oneof(
    fc.jsonValue(),
    fc.record({
      kernel: value,
      vendor: value,
      host: value,
      results: fc.array(fc.oneof(result, value)),
    }),
    fc.record({ kernel: fc.string(), vendor: fc.string(), results: fc.array(result) }),
  );
  fc.assert(
    fc.property(sent, (json) => {
      try {
        const { results } = readReport(JSON.stringify(json));
        return results.every(({ verdict }) =>
          ["pass", "fail", "skip", "deviation"].includes(verdict),
        );
      } catch (error) {
        return error instanceof MalformedReport;
      }
    }),
    { numRuns: 1000 },
  );
}, 60_000);
