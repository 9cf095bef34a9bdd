/** Tests of the oracle's rules and verdicts, and of properties of every table of rules. */
import { expect, test } from "vitest";
import { bitsOf, forbiddenBits, hasBit, reservedBits } from "../../../lib/oracle/bits.ts";
import {
  apply,
  GET_CPUID_RULES,
  GET_XSAVE_RULES,
  KVM_OWNED,
  MSR_RULES,
  type Rule,
  SET_CPUID_RULES,
  SET_XCRS_RULES,
  SET_XSAVE_RULES,
  SREGS_RULES,
  SREGS2_RULES,
  TRAITS,
  XSAVE_SIZE_RULES,
} from "../../../lib/oracle/index.ts";
import { refused, undecided, verdictIf } from "../../../lib/oracle/verdict.ts";

test("a verdict of the oracle without a finding is undefined", () => {
  expect([refused(1), undecided(1)]).toEqual([
    { is: "refused", finding: 1 },
    { is: "undecided", finding: 1 },
  ]);
  expect([refused(undefined), undecided(undefined)]).toEqual([undefined, undefined]);
});

test.each([
  [true, { is: "refused", finding: 1 }],
  [undefined, { is: "undecided", finding: 1 }],
  [false, undefined],
])("for a condition that is %s, the oracle's verdict is %o", (condition, verdict) => {
  expect(verdictIf(condition, 1)).toEqual(verdict);
});

test("a rule that only some kernels have is undecided for an unknown kernel", () => {
  const rule: Rule<number, number> = { source: "a.c:f", judge: (n) => refused(n || undefined) };
  expect(apply(rule, 1)?.is).toBe("refused");
  expect(apply({ ...rule, kernels: "7.2" }, 1)).toEqual({ is: "undecided", finding: 1 });
  expect(apply({ ...rule, kernels: "7.2" }, 0)).toBeUndefined();
});

test("every rule of the oracle names files and functions of the kernel", () => {
  const tables = [
    ...Object.values(SET_CPUID_RULES),
    ...[GET_CPUID_RULES, SREGS_RULES, SREGS2_RULES, MSR_RULES, SET_XCRS_RULES],
    ...[SET_XSAVE_RULES, XSAVE_SIZE_RULES, GET_XSAVE_RULES],
  ];
  const rules = tables.flatMap((table) => Object.values(table) as Rule<never, unknown>[]);
  expect(rules.length).toBeGreaterThan(40);
  expect(
    rules.filter(({ source }) => !/^(arch\/x86\/[\w/]+\.c:\w+(, \w+)*(; |$))+$/.test(source)),
  ).toEqual([]);
  const kernels = rules.flatMap((rule) => rule.kernels ?? []);
  expect(kernels.length).toBeGreaterThan(3);
  expect(kernels.filter((words) => !/\d|KVM_CAP/.test(words))).toEqual([]);
});

test("every kernel trait of the oracle has a behaviour, a place and a source", () => {
  const empty = Object.values(TRAITS).filter(
    ({ behaviour, where, source }) => behaviour === "" || where === "" || source === "",
  );
  expect(empty).toEqual([]);
  expect(Object.keys(TRAITS).length).toBeGreaterThanOrEqual(22);
  expect(Object.values(TRAITS).filter(({ behaviour }) => behaviour.length < 80)).toEqual([]);
});

test("the oracle's list of bits that KVM may leave unchanged names the kernel trait", () => {
  const rows = KVM_OWNED.flatMap(({ field, unless }) => (unless ? [[field, unless]] : []));
  expect(rows).toEqual([
    ["osxsave", "leaves-osxsave"],
    ["ospke", "leaves-ospke"],
  ]);
});

test("the oracle lists bits in ascending order", () => {
  expect(bitsOf(0x8000_0000_0000_0101n)).toEqual([0, 8, 63]);
  expect(bitsOf(6)).toEqual([1, 2]);
  expect([hasBit(4n, 2), hasBit(4n, 1)]).toEqual([true, false]);
});

test("the oracle's findings about reserved and forbidden bits name a register only if the caller passes a name", () => {
  expect(reservedBits(3n, 2n)).toEqual({ kind: "reserved-bits", value: 3n, bits: [1] });
  expect(reservedBits(3n, 2n, "CR0")).toHaveProperty("register", "CR0");
  expect(reservedBits(3n, 4n)).toBeUndefined();
  const finding = { kind: "forbidden-bits", value: 3n, bits: [1], allowed: 1n, allowedBy: "x86" };
  expect(forbiddenBits(3, 1, "x86")).toStrictEqual(finding);
  expect(forbiddenBits(3, 1, "x86", "flags")).toHaveProperty("name", "flags");
  expect(forbiddenBits(3, 3, "x86")).toBeUndefined();
});
