/**
 * Tests of arguments that only a wrong program passes: each function of lib/cpuid rejects them with a clear message.
 */
import { describe, expect, test } from "vitest";
import {
  addressSizesOf,
  brandOf,
  CpuidTable,
  cachesOf,
  compare,
  cpuid,
  diff,
  formatLint,
  formatLintAnnotations,
  formatLintSarif,
  forVcpu,
  natureOf,
  portable,
  printDiff,
  printTable,
  query,
  signatureOf,
  topologyOf,
  vendorOf,
  walkCpuid,
  withCaches,
  withHypervisors,
  withTopology,
  withXsave,
  xsaveCompactedSize,
  xsaveOf,
  xsaveSize,
} from "../../../lib/cpuid/index.ts";

const table = CpuidTable.from([{ function: 0, eax: 7 }, { function: 1 }]);

describe("an element that is not an entry is rejected by", () => {
  test.each([
    ["addressSizesOf()", addressSizesOf],
    ["brandOf()", brandOf],
    ["cachesOf()", cachesOf],
    ["signatureOf()", signatureOf],
    ["topologyOf()", topologyOf],
    ["vendorOf()", vendorOf],
    ["printTable()", printTable],
    ["query()", (entries: never) => query(entries, 0)],
    ["compare()", (entries: never) => compare(table, entries)],
    ["diff()", (entries: never) => diff(table, entries)],
    ["portable()", (entries: never) => portable(table, entries)],
  ] as const)("%s", (_, call) => {
    expect(() => call([null] as never)).toThrow("cpuid entry: expected an object");
    expect(() => call([1] as never)).toThrow("cpuid entry: expected an object");
    expect(() => call([{ function: 1, eax: -1 }] as never)).toThrow("eax -1 does not fit 32 bits");
  });
});

describe("a list of entries instead of a table is rejected by", () => {
  test.each([
    ["forVcpu()", (given: CpuidTable) => forVcpu(given, 0)],
    ["withCaches()", (given: CpuidTable) => withCaches(given, [])],
    ["withHypervisors()", (given: CpuidTable) => withHypervisors(given, [])],
    ["withTopology()", (given: CpuidTable) => withTopology(given, {})],
    ["withXsave()", (given: CpuidTable) => withXsave(given)],
    ["xsaveOf()", (given: CpuidTable) => xsaveOf(given)],
  ] as const)("%s", (_, call) => {
    const entries: unknown = [{ function: 0 }];
    expect(() => call(entries as CpuidTable)).toThrow("expected a CpuidTable, got an array");
  });
});

describe("a value without the needed members is rejected by", () => {
  test.each([
    ["formatLint()", () => formatLint({} as never)],
    ["formatLintAnnotations()", () => formatLintAnnotations({} as never)],
    ["formatLintSarif()", () => formatLintSarif({} as never)],
    ["natureOf()", () => natureOf({} as never)],
    ["xsaveSize()", () => xsaveSize([{} as never], 0n)],
    ["xsaveCompactedSize()", () => xsaveCompactedSize([{} as never], 0n)],
    ["walkCpuid()", () => walkCpuid(() => ({}) as never)],
  ] as const)("%s", (name, call) => {
    expect(call).toThrow(`${name}`);
    expect(call).toThrow("missing members");
  });
});

test("printDiff() rejects a value that is not iterable", () => {
  expect(() => printDiff(undefined as never)).toThrow("printDiff(): expected an array");
});

test("replace() rejects a string as members", () => {
  expect(() => table.replace(0, "abc" as never)).toThrow("replace(): patch: expected an object");
});

test("an endless iterable is rejected", () => {
  const endless: Iterable<number> = {
    *[Symbol.iterator]() {
      for (;;) yield 1;
    },
  };
  expect(() => diff(table, endless as never)).toThrow("diff(): more than 16777216 elements");
});

test("the message about an APIC id is a single short line", () => {
  const apicId: unknown = "\u001b[31m\n".repeat(1000);
  expect(() => forVcpu(table, apicId as number)).toThrow(
    /^forVcpu\(\): apicId ".{0,200}" is not an unsigned/,
  );
  expect(() => forVcpu(table, Symbol("x") as never)).toThrow("apicId a symbol is not");
});

test("physicalBits() also sets the width of virtual addresses if it adds the leaf", () => {
  expect(cpuid.empty().physicalBits(46).table.get("virt_addr_bits")).toBe(48);
});
