/** Tests of the MSRs of a saved state: MSRs that KVM's list does not have, and MSRs that are written late. */
import { describe, expect, test } from "vitest";
import type { CpuidEntry2 } from "../../../lib/abi/generated/structs.ts";
import { COUNTING_MSRS, inOrder, unlistedMsrs } from "../../../lib/state/msrs.ts";

const HYPERV = { function: 0x4000_0001, eax: 0x3123_7648 } as CpuidEntry2;

describe("the MSRs that a saved state has in addition to KVM's list", () => {
  test("include the MTRRs: 8 pairs, 11 fixed MTRRs and the default type", () => {
    const msrs = unlistedMsrs(0n, []);
    expect(msrs).toHaveLength(16 + 11 + 1);
    expect(msrs).toEqual(
      expect.arrayContaining([0x200, 0x20f, 0x250, 0x258, 0x259, 0x268, 0x26f, 0x2ff]),
    );
  });

  test("include four MSRs for each machine-check bank, and a fifth if corrected errors cause interrupts", () => {
    expect(unlistedMsrs(2n, []).slice(28)).toEqual([
      0x400, 0x401, 0x402, 0x403, 0x404, 0x405, 0x406, 0x407,
    ]);
    expect(unlistedMsrs(0x402n, []).slice(36)).toEqual([0x280, 0x281]);
  });

  test("include Hyper-V's MSRs if the guest has Hyper-V's leaves, with each timer's count before its config", () => {
    const msrs = unlistedMsrs(0n, [HYPERV]).slice(28);
    expect(msrs.slice(0, 3)).toEqual([0x4000_0082, 0x4000_0083, 0x4000_0090]);
    expect(msrs.slice(-4)).toEqual([0x4000_00b5, 0x4000_00b4, 0x4000_00b7, 0x4000_00b6]);
    expect(msrs).toHaveLength(2 + 16 + 8);
  });
});

test("the TSC and the TSC deadline are restored after the other MSRs, which keep their order", () => {
  const entry = (index: number) => ({ index, reserved: 0, data: 1n });
  const order = inOrder([0x174, 0x6e0, 0x10, 0x3b].map(entry));
  expect(order).toEqual({
    early: [entry(0x174), entry(0x3b)],
    tsc: entry(0x10),
    late: [entry(0x6e0)],
  });
});

test("every MSR that may read back differently (COUNTING_MSRS) has a reason", () => {
  expect(COUNTING_MSRS.length).toBeGreaterThan(30);
  expect(COUNTING_MSRS.filter(({ why }) => why === "")).toEqual([]);
});
