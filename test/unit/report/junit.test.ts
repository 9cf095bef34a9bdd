/** Tests of JUnit XML: it is well-formed for every report, and contains the whole report. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { toJunit } from "../../../lib/report/junit.ts";
import type { Report, Result, Verdict } from "../../../lib/report/result.ts";

const result = (more: Partial<Result> = {}): Result => ({
  id: "a",
  title: "B",
  number: 1,
  verdict: "pass",
  reason: undefined,
  duration: 0,
  ...more,
});

const report = (...results: readonly Result[]): Report => ({
  kernel: "6.12.95",
  vendor: "kvm_amd",
  results,
});

interface Element {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: Element[];
}

const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"' };
const NOT_XML = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u;

/**
 * Parses the subset of XML that toJunit() writes: a declaration, then elements with quoted attributes, without text.
 */
function parse(xml: string): Element {
  expect(xml).not.toMatch(NOT_XML);
  const root: Element = { name: "", attributes: {}, children: [] };
  const open = [root];
  const token = /<\?[^?]*\?>|<\/([a-z]+)>|<([a-z]+)((?: [a-z]+="[^"<]*")*)(\/?)>|\s+/gy;
  for (let last = 0; last < xml.length; last = token.lastIndex) {
    const [, closing, opening, attributes = "", empty] = token.exec(xml) ?? broken(xml, last);
    if (closing !== undefined && open.pop()?.name !== closing) broken(xml, last);
    if (opening === undefined) continue;
    const element: Element = { name: opening, attributes: unquote(attributes), children: [] };
    open.at(-1)?.children.push(element);
    if (empty === "") open.push(element);
  }
  expect(open).toEqual([root]);
  expect(root.children).toHaveLength(1);
  return root.children[0] ?? root;
}

function broken(xml: string, at: number): never {
  throw new Error(`not well-formed at ${at}: ${xml.slice(at, at + 60)}`);
}

function unquote(text: string): Readonly<Record<string, string>> {
  const pairs = text.matchAll(/ ([a-z]+)="([^"]*)"/g);
  return Object.fromEntries(Array.from(pairs, ([, name, value = ""]) => [name, unquoted(value)]));
}

function unquoted(value: string): string {
  expect(value.replaceAll(/&(?:amp|lt|gt|quot|#\d+);/g, "")).not.toContain("&");
  // An XML parser converts unescaped white space in an attribute into blanks.
  return value
    .replaceAll(/[\t\n\r]/g, " ")
    .replaceAll(/&(?:#(\d+)|([a-z]+));/g, (_, code?: string, name = "") =>
      code === undefined ? (ENTITIES[name] ?? "") : String.fromCodePoint(Number(code)),
    );
}

const cases = (...results: readonly Result[]): readonly Element[] =>
  parse(toJunit(report(...results))).children[0]?.children ?? [];

test("a JUnit report is one suite with the kernel and the numbers of claims", () => {
  const verdicts: readonly Verdict[] = ["pass", "pass", "fail", "skip", "deviation"];
  const results = verdicts.map((verdict) => result({ verdict, reason: "why", duration: 250 }));
  const suites = parse(toJunit(report(...results)));
  expect(suites).toMatchObject({ name: "testsuites", children: [{ name: "testsuite" }] });
  expect(suites.children[0]?.attributes).toEqual({
    name: "node-kvm on Linux 6.12.95, kvm_amd",
    tests: "5",
    failures: "1",
    skipped: "1",
    time: "1.250",
  });
});

test("in JUnit, a claim that passes is a case with its id, its sentence and its seconds", () => {
  expect(cases(result({ duration: 1234.5 }))).toEqual([
    {
      name: "testcase",
      attributes: { classname: "node-kvm", name: "a: B", time: "1.234" },
      children: [],
    },
  ]);
});

describe("in JUnit, the reason", () => {
  const only = (verdict: Verdict, reason?: string): Element | undefined =>
    cases(result({ verdict, reason }))[0]?.children[0];

  test("of a failure is the failure's message", () => {
    expect(only("fail", "why")).toMatchObject({ name: "failure", attributes: { message: "why" } });
  });

  test("of a skip is the skip's message", () => {
    expect(only("skip", "why")).toMatchObject({ name: "skipped", attributes: { message: "why" } });
  });

  test("of a deviation is a property, because the case has passed", () => {
    expect(only("deviation", "why")).toMatchObject({
      name: "properties",
      children: [{ name: "property", attributes: { name: "deviation", value: "why" } }],
    });
  });

  test("may be missing", () => {
    expect(only("fail")?.attributes).toEqual({ message: "" });
  });

  test("keeps lines, tabs, quotes and angle brackets", () => {
    const reason = `<a href="x">\n\tR&D</a>\r\n'&amp;'`;
    expect(only("fail", reason)?.attributes).toEqual({ message: reason });
  });

  test("has an escape for characters that XML 1.0 cannot contain", () => {
    const reason = "\u0000a\u0008\u001b[31mb\u001f\ufffe\uffff\ud800c";
    expect(only("fail", reason)?.attributes).toEqual({
      message: "\\x00a\\x08\\x1b[31mb\\x1f\\u{fffe}\\u{ffff}\\u{d800}c",
    });
  });
});

test("an empty JUnit report is well-formed", () => {
  expect(cases()).toEqual([]);
});

test("random JUnit reports are well-formed XML and contain every claim as a case", () => {
  const odd = fc.constantFrom(...'\u0000\u001b\t\n\r#&<>"\ufffe\uffff\ud800 ok1');
  const words = fc.string({ unit: fc.oneof(odd, fc.string({ unit: "binary", maxLength: 1 })) });
  const results = fc.array(
    fc.record({
      id: words,
      title: words,
      number: fc.constant(undefined),
      verdict: fc.constantFrom<Verdict>("pass", "fail", "skip", "deviation"),
      reason: fc.option(words, { nil: undefined }),
      duration: fc.nat(),
    }),
  );
  fc.assert(
    fc.property(results, words, (some, kernel) => {
      const suites = parse(toJunit({ kernel, vendor: "none", results: some }));
      expect(suites.children[0]?.children).toHaveLength(some.length);
    }),
  );
});
