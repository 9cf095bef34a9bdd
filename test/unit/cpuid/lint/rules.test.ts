/** Tests of the lint rules: a table breaks each rule and no other rule, and the rule's fix repairs the table. */
import { describe, expect, test } from "vitest";
import {
  CPUID_LINT_RULES,
  type CpuidLintFinding,
  fixTable,
  lint,
} from "../../../../lib/cpuid/index.ts";
import { AMD, INTEL } from "./bases.ts";
import { BROKEN_DEPENDENCIES } from "./broken/amx-pmu.ts";
import { BROKEN_FAMILY } from "./broken/family.ts";
import { BROKEN_KVM } from "./broken/kvm.ts";
import { BROKEN_LEAVES } from "./broken/leaves.ts";
import type { Broken } from "./broken/row.ts";
import { BROKEN_STRUCTURE } from "./broken/structure.ts";
import { BROKEN_TOPOLOGY } from "./broken/topology.ts";
import { BROKEN_XSAVE } from "./broken/xsave.ts";

const BROKEN: readonly Broken[] = [
  ...BROKEN_STRUCTURE,
  ...BROKEN_LEAVES,
  ...BROKEN_FAMILY,
  ...BROKEN_TOPOLOGY,
  ...BROKEN_DEPENDENCIES,
  ...BROKEN_XSAVE,
  ...BROKEN_KVM,
];

const lines = (findings: readonly CpuidLintFinding[]): readonly string[] =>
  findings.map(({ rule, message }) => `${rule} ${message}`);

describe("lint", () => {
  test.each(BROKEN)("finds $rule and no other fault in a table with $fault", (row) => {
    const { findings, omitted } = lint(row.tables, row.options);
    expect(new Set(findings.map(({ rule }) => rule)), lines(findings).join("\n")).toEqual(
      new Set([row.rule]),
    );
    expect(findings[0]?.where).toBe(row.where);
    expect(omitted).toBe(0);
  });

  test.each([
    ["Intel", INTEL],
    ["AMD", AMD],
  ])("finds nothing in the base table of %s", (_, table) => {
    expect(lines(lint(table).findings)).toEqual([]);
    expect(lines(lint(table, { profile: "firecracker" }).findings)).toEqual([]);
  });

  test("has a broken table in this test for each rule", () => {
    const covered = new Set(BROKEN.map(({ rule }) => rule));
    expect(CPUID_LINT_RULES.map(({ id }) => id).filter((id) => !covered.has(id))).toEqual([]);
  });
});

describe("fixTable()", () => {
  test.each(BROKEN.filter(({ isFixable }) => isFixable))(
    "repairs the fault of $rule in a table with $fault",
    ({ tables, options }) => {
      const [table = INTEL] = tables;
      const { findings } = lint(table, options);
      expect(findings.filter(({ fix }) => fix === undefined)).toEqual([]);
      expect(lines(lint(fixTable(table, findings), options).findings)).toEqual([]);
    },
  );

  test.each(BROKEN.filter(({ isFixable }) => !isFixable))(
    "does not repair the fault of $rule in a table with $fault",
    ({ tables, options }) => {
      expect(lint(tables, options).findings.filter(({ fix }) => fix !== undefined)).toEqual([]);
    },
  );
});
