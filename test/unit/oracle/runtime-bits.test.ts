/** Tests of the oracle's list of CPUID bits that KVM sets itself. */
import { expect, test } from "vitest";
import { type CpuidFieldValuesInput, CpuidTable, diff, fields } from "../../../lib/cpuid/index.ts";
import { isOwned, KVM_OWNED } from "../../../lib/oracle/index.ts";
import { supported } from "../cpuid/supported-table.ts";

test.each<CpuidFieldValuesInput>([
  { osxsave: 1 },
  { apic: 1 },
  { monitor: 1 },
  { ospke: 1 },
  { xsave_sz_xcr0: 0x240 },
  { xsave_sz_xcr0_xss: 0x240 },
  { kvm_pv_unhalt: 0 },
])("in the oracle's list, KVM sets the runtime bits %o itself", (values) => {
  expect(diff(supported, supported.with(values)).map((c) => isOwned(c))).toEqual([true]);
});

test.each<CpuidFieldValuesInput>([{ avx2: 1 }, { xsave_sz_max: 1 }, { kvm_steal_time: 1 }])(
  "in the oracle's list, KVM does not set the bits %o itself",
  (values) => {
    expect(diff(supported, supported.with(values)).map((c) => isOwned(c))).toEqual([false]);
  },
);

/** Returns whether every changed bit of one entry, in a table with KVM's signature, is a bit that KVM sets itself. */
const ownedIn = (fn: number, index: number, registers: object): readonly boolean[] => {
  const signature = { function: 0x40000000, ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d };
  const before = CpuidTable.from([signature, { function: fn, index, flags: 1 }]);
  return diff(before, before.replace(1, registers)).map((change) => isOwned(change));
};

test.each([
  ["ecx", { ecx: 1 }],
  ["edx", { edx: 1 }],
])("in the oracle's list, KVM sets the register %s of leaf 0x12.1 itself", (_, registers) => {
  expect(ownedIn(0x12, 1, registers)).toEqual([true]);
});

test.each([
  ["0x12.0:ecx, which is another sub-leaf", 0x12, 0, { ecx: 3 }],
  ["0xd.2:ebx, which is another sub-leaf", 0xd, 2, { ebx: 0x240 }],
  ["0x80000001.0:edx[9], whose low byte is leaf 1", 0x80000001, 0, { edx: 0x200 }],
  ["0x40000001.0:ecx[27], which is leaf 1 of KVM", 0x40000001, 0, { ecx: 0x800_0000 }],
])("in the oracle's list, KVM does not set the register %s itself", (_, fn, index, registers) => {
  expect(ownedIn(fn, index, registers)).toEqual([false]);
});

test("in the oracle's list, KVM itself neither adds, removes nor reorders entries", () => {
  const changes = diff(
    supported,
    CpuidTable.from([...supported].reverse())
      .without(1)
      .append({ function: 2 }),
  );
  expect(changes.filter((c) => isOwned(c))).toEqual([]);
});

test("the filtered list of KVM's runtime bits omits bits whose condition is false", () => {
  const [change] = diff(supported, supported.with({ monitor: 0, pni: 0, osxsave: 1 })).slice(1);
  const withoutOsxsave = KVM_OWNED.filter((item) => item.becomes !== "CR4.OSXSAVE");
  expect(change && isOwned(change, withoutOsxsave)).toBe(false);
});

test("in the oracle's list, KVM sets its runtime bits of leaf 1 even if the entry has another index", () => {
  const odd = CpuidTable.from([{ function: 1, index: 5, flags: 1 }]);
  expect(diff(odd, odd.with({ osxsave: 1 })).map((c) => isOwned(c))).toEqual([true]);
});

test("each runtime bit in the oracle's list has the members `becomes` and `condition`", () => {
  expect(KVM_OWNED.filter((item) => item.becomes === "" || item.condition === "")).toEqual([]);
});

test("the condition of the runtime bits for Xen names the kernels", () => {
  const [item] = KVM_OWNED.filter(({ space }) => space === "xen");
  expect(item?.condition).toBe(
    "a Xen signature whose limit reaches base + 3; written at entry to the guest on 6.12 and 6.14, " +
      "only into the guest's CPUID result from 6.17",
  );
});

test("each runtime bit of the oracle, except SGX's, is a field of the CPUID database", () => {
  const unknown = KVM_OWNED.filter((item) => item.function !== 0x12).filter(
    (item) =>
      !fields().some(
        (f) =>
          f.space === item.space &&
          f.function === item.function &&
          f.index === item.index &&
          f.register === item.register &&
          f.low === item.low &&
          f.high === item.high,
      ),
  );
  expect(unknown).toEqual([]);
});

test.each([
  ["leaf", ["osxsave", "apic", "ospke", "xsave_sz_xcr0"]],
  ["quirk", ["monitor"]],
  ["compacted", ["xsave_sz_xcr0_xss"]],
  ["hlt", ["kvm_pv_unhalt"]],
  ["sgx", [undefined, undefined]],
  ["xen", ["xen_vtsc_mul", "xen_vtsc_shift", "xen_host_tsc_khz"]],
])("the runtime bits with the condition %s are %j", (when, names) => {
  expect(KVM_OWNED.filter((row) => row.when === when).map(({ field }) => field)).toEqual(names);
});

test("each runtime bit that has a field name has the bits of this field in the CPUID database", () => {
  const rows = KVM_OWNED.filter(({ field }) => field !== undefined);
  const found = rows.map((row) => fields().find((one) => one.name === row.field));
  expect(
    found.map((one) => [one?.space, one?.function, one?.register, one?.low, one?.high]),
  ).toEqual(rows.map((row) => [row.space, row.function, row.register, row.low, row.high]));
});
