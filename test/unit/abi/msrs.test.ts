/** Tests of the table of MSRs: each number has one name, and the names are unique. */
import { expect, test } from "vitest";
import * as constants from "../../../lib/abi/generated/constants.ts";
import { MSRS, msrName } from "../../../lib/abi/msrs.ts";

test("no two MSRs in the table have the same number", () => {
  const numbers = Object.values(MSRS);
  expect(new Set(numbers).size).toBe(numbers.length);
});

test("every MSR number in the table is a u32", () => {
  expect(Object.values(MSRS).filter((index) => index !== index >>> 0)).toEqual([]);
});

test("the table of MSRs contains every MSR of KVM's headers", () => {
  const generated = Object.entries(constants).filter(([name]) => name.startsWith("MSR_KVM_"));
  expect(generated.length).toBeGreaterThan(10);
  expect(generated.map(([, index]) => msrName(Number(index)))).toEqual(
    generated.map(([name]) => name),
  );
});

test.each([
  [0x10, "MSR_IA32_TSC"],
  [0xc000_0080, "MSR_EFER"],
  [0x4b56_4d02, "MSR_KVM_ASYNC_PF_EN"],
  [0x4000_0010, "HV_X64_MSR_VP_RUNTIME"],
  [0xdead_beef, undefined],
])("the table of MSRs names MSR %i %s", (index, name) => {
  expect(msrName(index)).toBe(name);
});
