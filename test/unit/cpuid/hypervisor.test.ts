/** Tests of hypervisor interfaces in a table: their bases, their contents, and the hypervisor bit of leaf 1. */
import { describe, expect, test } from "vitest";
import { type CpuidHypervisor, CpuidTable, withHypervisors } from "../../../lib/cpuid/index.ts";

const bare = CpuidTable.from([
  { function: 0, eax: 1 },
  { function: 1, ecx: 1 },
]);

describe("withHypervisors()", () => {
  test("adds KVM with the features that KVM 7.2 offers, and sets the hypervisor bit", () => {
    const made = withHypervisors(bare, ["kvm"]);
    expect([made.base("kvm"), made.get("kvm_max_leaf")]).toEqual([0x40000000, 0x40000001]);
    expect(made.find(0x40000001)?.eax).toBe(0x01007efb);
    expect(made.has("guest_status")).toBe(true);
  });

  test("puts the leaves of KVM and Xen after Hyper-V's leaves, at bases where KVM searches", () => {
    const made = withHypervisors(bare, ["hyperv", "kvm", "xen"]);
    const bases = (["hyperv", "kvm", "xen"] as const).map((space) => made.base(space));
    expect(bases).toEqual([0x40000000, 0x40000100, 0x40000200]);
    expect(made.get("kvm_max_leaf")).toBe(0x40000101);
    expect(made.get("xen_max_leaf")).toBe(0x40000202);
    expect(made.get("hv_max_leaf")).toBe(0x40000005);
  });

  test("gives Xen another hypercall MSR if the table also contains Hyper-V", () => {
    expect(withHypervisors(bare, ["xen"]).get("xen_hypercall_msr")).toBe(0x40000000);
    expect(withHypervisors(bare, ["hyperv", "xen"]).get("xen_hypercall_msr")).toBe(0x40000200);
  });

  test("moves an interface that the table already has, with its values", () => {
    const made = withHypervisors(bare, ["kvm"]).with({ kvm_steal_time: 0, kvm_hint_realtime: 1 });
    const moved = withHypervisors(made, ["hyperv", "kvm"]);
    expect(moved.base("kvm")).toBe(0x40000100);
    expect(moved.find(0x40000101)).toMatchObject({ eax: 0x01007edb, edx: 1 });
    expect(withHypervisors(moved, ["kvm"]).toString()).toBe(made.toString());
  });

  test("keeps a maximum of 0, which means base + 1", () => {
    const old = withHypervisors(bare, ["kvm"]).with({ kvm_max_leaf: 0 });
    expect(withHypervisors(old, ["hyperv", "kvm"]).get("kvm_max_leaf")).toBe(0);
  });

  test("without an interface removes all leaves of hypervisors and clears the bit", () => {
    const made = withHypervisors(bare, ["hyperv", "kvm"]).append({ function: 0x80000000 });
    const none = withHypervisors(made, []);
    expect([...none].map((e) => e.function)).toEqual([0, 1, 0x80000000]);
    expect(none.has("guest_status")).toBe(false);
  });

  test("keeps the position of the hypervisor leaves and the order of all other leaves", () => {
    const mixed = CpuidTable.from([
      ...withHypervisors(bare, ["xen"]),
      { function: 0x80000001 },
      { function: 7, flags: 1 },
    ]);
    expect([...withHypervisors(mixed, ["kvm"])].map((e) => e.function)).toEqual([
      0, 1, 0x40000000, 0x40000001, 0x80000001, 7,
    ]);
  });

  test.each([
    [
      ["kvm", "hyperv"],
      "withHypervisors(): hyperv is first, because its guests read only 0x40000000 (TLFS)",
    ],
    [["kvm", "kvm"], "withHypervisors(): kvm is there twice"],
    [["hyper-v"], 'withHypervisors(): unknown hypervisor "hyper-v"; did you mean "hyperv"?'],
    [[5], "withHypervisors(): unknown hypervisor 5"],
  ])("refuses %j", (kinds, message) => {
    expect(() => withHypervisors(bare, kinds as CpuidHypervisor[])).toThrow(message);
  });

  test("refuses a table without leaf 1, and does not modify the given table", () => {
    expect(() => withHypervisors(bare.without(1), ["kvm"])).toThrow("the table has no leaf 0x1");
    expect(bare.length).toBe(2);
  });
});
