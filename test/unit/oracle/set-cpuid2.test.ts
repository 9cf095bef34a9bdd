/** Tests of the oracle's rules for KVM_SET_CPUID2, before and after the first entry to the guest. */
import { describe, expect, test } from "vitest";
import type { CpuidEntry2Input } from "../../../lib/cpuid/index.ts";
import {
  GET_CPUID_RULES,
  SET_CPUID_RULES,
  type SetCpuidAsked,
  VIRTUAL_ADDRESS_WIDTHS,
} from "../../../lib/oracle/index.ts";
import { broken } from "./asked.ts";

const ask = (more: Partial<SetCpuidAsked>): SetCpuidAsked => ({
  nent: undefined,
  entries: undefined,
  hasEntered: undefined,
  hasRun: undefined,
  given: undefined,
  ...more,
});

const width = (bits: number): CpuidEntry2Input => ({
  function: 0x8000_0008,
  eax: (bits << 8) | 39,
});
const judge = (errno: keyof typeof SET_CPUID_RULES, more: Partial<SetCpuidAsked>) =>
  broken(SET_CPUID_RULES[errno], ask(more));

test("in the oracle, KVM returns E2BIG for KVM_SET_CPUID2 in one place only, so the count is the proven cause", () => {
  const finding = { kind: "too-many-entries", nent: 300, most: 256 };
  expect(judge("E2BIG", { nent: 300 })).toEqual([["too many entries", { is: "refused", finding }]]);
  expect(judge("E2BIG", {})).toEqual([]);
  expect(SET_CPUID_RULES.E2BIG["too many entries"]?.isOnlySource).toBe(true);
});

test("in the oracle, KVM_SET_CPUID2 returns EFAULT if the count is larger than the number of entries", () => {
  const entries = [{ function: 0 }];
  const finding = { kind: "missing-entries", nent: 2, sent: 1 };
  expect(judge("EFAULT", { nent: 2, entries })).toEqual([
    ["count past the entries", { is: "refused", finding }],
  ]);
  expect(judge("EFAULT", { nent: 1, entries })).toEqual([]);
  expect(judge("EFAULT", { entries })).toEqual([]);
  expect(judge("EFAULT", { nent: 2 })).toEqual([]);
});

test("in the oracle, KVM_SET_CPUID2 returns EPERM for AMX tile data in leaf 0xd.0", () => {
  const leaf = (index: number, eax: number) => [{ function: 0xd, index, flags: 1, eax }];
  const finding = { kind: "no-amx-permission", bit: 18 };
  expect(judge("EPERM", { entries: leaf(0, 0x4_0000) })).toEqual([
    ["AMX without permission", { is: "refused", finding }],
  ]);
  expect(judge("EPERM", { entries: leaf(0, 0x2_0007) })).toEqual([]);
  expect(judge("EPERM", { entries: leaf(1, 0x4_0000) })).toEqual([]);
  expect(judge("EPERM", { entries: [] })).toEqual([]);
  expect(judge("EPERM", {})).toEqual([]);
  expect(SET_CPUID_RULES.EPERM["AMX without permission"]?.isOnlySource).toBe(true);
});

describe("in the oracle, EINVAL of KVM_SET_CPUID2 before the guest was entered", () => {
  test("means that the width of virtual addresses is not 0, 48 or 57", () => {
    const widths = Array.from({ length: 256 }, (_, bits) => bits);
    const accepted = widths.filter(
      (bits) => judge("EINVAL", { entries: [width(bits)] }).length === 0,
    );
    expect(accepted).toEqual([0, 48, 57]);
    expect(VIRTUAL_ADDRESS_WIDTHS).toEqual([0, 48, 57]);
  });

  test.each([
    ["the first of two leaves", [width(49), width(48)]],
    ["a leaf with an index", [{ ...width(49), index: 7, flags: 1 }]],
  ])("is caused by %s", (_, entries) => {
    const finding = { kind: "virtual-address-width", width: 49, allowed: [0, 48, 57] };
    expect(judge("EINVAL", { entries })).toEqual([["address width", { is: "refused", finding }]]);
  });

  test("is not caused by a table without leaf 0x80000008, nor by a second leaf 0x80000008", () => {
    expect(judge("EINVAL", { entries: [] })).toEqual([]);
    expect(judge("EINVAL", { entries: [width(48), width(49)] })).toEqual([]);
    expect(judge("EINVAL", {})).toEqual([]);
  });

  test("is not judged after the first entry, when KVM compares the tables", () => {
    expect(judge("EINVAL", { entries: [width(49)], hasEntered: true })).toEqual([]);
    expect(judge("EINVAL", { entries: [width(49)], hasEntered: false })).toHaveLength(1);
  });
});

describe("in the oracle, EINVAL of KVM_SET_CPUID2 after a run", () => {
  const leaf1 = { function: 1, ecx: 1 << 27 };
  const leaf7 = { function: 7, flags: 1, ebx: 1 };
  const ran = { hasRun: true, hasEntered: true, given: [leaf1, leaf7] };

  test("means that the table changed, and the findings are the changes that KVM did not make itself", () => {
    const entries = [
      { ...leaf1, ecx: 0 },
      { ...leaf7, ebx: 0 },
    ];
    const [found] = judge("EINVAL", { ...ran, entries });
    expect(found?.[0]).toBe("table of a vCPU that has run");
    const finding = found?.[1].finding;
    expect(found?.[1].is).toBe("refused");
    expect(finding?.kind).toBe("changed-table");
    if (finding?.kind !== "changed-table") throw new Error("another finding");
    expect(finding.changes.map(({ where }) => where)).toEqual(["0x1.0:ecx[27]", "0x7.0:ebx[0]"]);
    expect(finding.culprits.map(({ where }) => where)).toEqual(["0x7.0:ebx[0]"]);
  });

  test.each([
    ["the vCPU has not run", { ...ran, hasRun: false }],
    ["it is not known whether it has", { ...ran, hasRun: undefined }],
    ["its table is not known", { ...ran, given: undefined }],
  ])("is not judged if %s", (_, asked) => {
    expect(judge("EINVAL", { ...asked, entries: [leaf1] })).toEqual([]);
  });

  test("is not judged if the passed entries are unknown", () => {
    expect(judge("EINVAL", ran)).toEqual([]);
  });
});

test("in the oracle, KVM_GET_CPUID2 needs room for all entries of the table", () => {
  const finding = { kind: "too-few-entries", nent: 3 };
  expect(broken(GET_CPUID_RULES, { nent: 3 })).toEqual([
    ["too little room", { is: "refused", finding }],
  ]);
  expect(broken(GET_CPUID_RULES, { nent: undefined })).toEqual([]);
  expect(Object.values(GET_CPUID_RULES).map((rule) => rule.isOnlySource)).toEqual([true]);
});
