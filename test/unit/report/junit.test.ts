/** Tests of JUnit XML: it is well-formed for every report, and contains the whole report. */
import fc from "fast-check";
import { XMLParser } from "fast-xml-parser";
import { describe, expect, test } from "vitest";
import { matrixToJunit, toJunit } from "../../../lib/report/junit.ts";
import { toMatrix } from "../../../lib/report/matrix.ts";
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
  readonly text: string;
}

const NOT_XML = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u;

/** A node of fast-xml-parser: one member with the children, the attributes in `:@`, or a text in `#text`. */
type Node = Readonly<Record<string, unknown>>;

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: false,
  attributeNamePrefix: "",
  parseTagValue: false,
  parseAttributeValue: false,
  trimValues: false,
  htmlEntities: true,
  processEntities: { maxTotalExpansions: 1e6, maxExpandedLength: 1e7 },
});

/** Checks that a document is well-formed, and returns its only element. */
function parse(xml: string): Element {
  expect(xml).not.toMatch(NOT_XML);
  // An XML parser converts unescaped white space in an attribute into blanks.
  const normalised = xml.replaceAll(/"[^"]*"/g, (value) => value.replaceAll(/[\t\n\r]/g, " "));
  const elements = elementsOf(parser.parse(normalised, true) as readonly Node[]);
  expect(elements).toHaveLength(1);
  return elements[0] as Element;
}

function elementsOf(nodes: readonly Node[]): Element[] {
  return nodes.flatMap((node) => {
    const [name = ""] = Object.keys(node).filter((key) => key !== ":@");
    if (name === "#text" || name.startsWith("?")) return [];
    const children = node[name] as readonly Node[];
    const text = children.map((child) => String(child["#text"] ?? "")).join("");
    const attributes = (node[":@"] ?? {}) as Element["attributes"];
    return [{ name, attributes, children: elementsOf(children), text }];
  });
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
    errors: "0",
    skipped: "1",
    time: "1.250",
  });
});

test("in JUnit, a claim that passes is a case with its class, its file and its seconds", () => {
  const [only] = cases(result({ duration: 1234.5, file: "frozen.test.ts" }));
  expect(only).toMatchObject({ name: "testcase", children: [] });
  expect(only?.attributes).toEqual({
    classname: "node-kvm.6.12.95.kvm_amd",
    name: "a: B",
    file: "frozen.test.ts",
    time: "1.234",
  });
});

test("in the JUnit report of a matrix, a machine without a report is an error and not a failure", () => {
  const columns = [{ name: "6.12 max", report: undefined, problem: "it hung", warnings: ["BUG"] }];
  const [only] = parse(matrixToJunit(toMatrix(columns))).children;
  expect(only?.attributes).toMatchObject({ tests: "2", failures: "0", errors: "2" });
  expect(only?.children.map(({ attributes }) => attributes["classname"])).toEqual([
    "node-kvm.6.12.max",
    "node-kvm.6.12.max",
  ]);
  expect(only?.children.flatMap(({ children }) => children)).toMatchObject([
    { name: "error", attributes: { message: "it hung" }, text: "it hung" },
    { name: "error", attributes: { message: "kernel log: BUG" }, text: "kernel log: BUG" },
  ]);
});

test("in the JUnit report of a matrix, a machine that judged no claim or lacks claims is an error", () => {
  const columns = [
    { name: "6.1", report: report(result({ verdict: "skip", reason: "why" })), warnings: [] },
    { name: "6.12", report: report(result(), result({ id: "b" })), warnings: [] },
  ];
  const messages = parse(matrixToJunit(toMatrix(columns))).children.map((each) =>
    each.children
      .flatMap(({ children }) => children)
      .filter(({ name }) => name === "error")
      .map(({ attributes }) => attributes["message"]),
  );
  expect(messages).toEqual([["no claim was judged", "1 claim was not judged"], []]);
});

describe("in JUnit, the reason", () => {
  const only = (verdict: Verdict, reason?: string): Element | undefined =>
    cases(result({ verdict, reason }))[0]?.children[0];

  test("of a failure is the failure's message and text", () => {
    const failure = { name: "failure", attributes: { message: "why" }, text: "why" };
    expect(only("fail", "why")).toMatchObject(failure);
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
