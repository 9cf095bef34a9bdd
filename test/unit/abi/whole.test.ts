/** Tests of the check for complete structs, which protects methods that replace a state. */
import { describe, expect, test } from "vitest";
import * as structs from "../../../lib/abi/generated/structs.ts";
import { type Layout, read, sizeOf } from "../../../lib/abi/struct.ts";
import { refusePartial, refuseShortArrays } from "../../../lib/abi/whole.ts";

const zero = <T>(layout: Layout<T>): T => read(layout, new Uint8Array(sizeOf(layout)));
const check = (layout: Layout, value: object) => () => refusePartial("f()", layout, value);

const whole: readonly Layout[] = [
  structs.Regs,
  structs.Sregs,
  structs.Sregs2,
  structs.Fpu,
  structs.Debugregs,
  structs.VcpuEvents,
  structs.Xcrs,
  structs.LapicState,
  structs.PitState,
  structs.PitState2,
  structs.Irqchip,
];

test.each(whole.map((layout) => [layout.name, layout] as const))(
  "the check for complete structs accepts a value of %s that has all members",
  (_, layout) => {
    expect(check(layout, zero(layout) as object)()).toBeUndefined();
  },
);

describe("a missing field is named by the error", () => {
  test.each<[layout: Layout, value: object, missing: string]>([
    [structs.Regs, { ...zero(structs.Regs), rip: undefined }, "member rip"],
    [
      structs.Sregs,
      { ...zero(structs.Sregs), cs: { base: 0n }, gdt: { base: 0n } },
      "members cs.limit, cs.selector, cs.type, cs.present, cs.dpl, cs.db, cs.s, cs.l, 4 more",
    ],
    [
      structs.Sregs,
      { ...zero(structs.Sregs), interruptBitmap: [1n] },
      "member interruptBitmap[1] to [3]",
    ],
    [structs.Debugregs, { ...zero(structs.Debugregs), db: [0n, 0n] }, "member db[2] to [3]"],
    [structs.Xcrs, { nrXcrs: 2, flags: 0, xcrs: [{ xcr: 0, value: 1n }] }, "member xcrs[1] to [1]"],
    [structs.Xcrs, { nrXcrs: 1, flags: 0, xcrs: [{ xcr: 0 }] }, "member xcrs[0].value"],
    [
      structs.Irqchip,
      { chipId: 0, chip: { dummy: new Uint8Array(3) } },
      "member chip.dummy[3] to [511]",
    ],
  ])("in a nested value (case %#)", (layout, value, missing) => {
    expect(check(layout, value)).toThrow(new TypeError(`f(): ${layout.name}: missing ${missing}`));
  });

  test("and all fields are named for an empty value", () => {
    expect(check(structs.Regs, {})).toThrow(
      "f(): kvm_regs: missing members rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, 10 more",
    );
  });
});

describe("a value may omit", () => {
  test("padding fields", () => {
    const { padding, ...xcrs } = zero(structs.Xcrs);
    const { pad, ...irqchip } = zero(structs.Irqchip);
    expect([padding.length, pad]).toEqual([16, 0]);
    expect(check(structs.Xcrs, xcrs)()).toBeUndefined();
    expect(check(structs.Irqchip, irqchip)()).toBeUndefined();
  });

  test("the array elements beyond the count", () => {
    const value = { nrXcrs: 1, flags: 0, xcrs: [{ xcr: 0, value: 1n }] };
    expect(check(structs.Xcrs, value)()).toBeUndefined();
  });

  test("a member of a union, if the value has another member of the union", () => {
    const pic = zero(structs.PicState);
    expect(check(structs.Irqchip, { chipId: 0, chip: { pic } })()).toBeUndefined();
  });
});

describe("a value with two members of a union is rejected, because one of them would be lost", () => {
  test("a PIC and an IOAPIC in kvm_irqchip", () => {
    const chip = zero(structs.IrqchipChip);
    const value = { chipId: 0, chip: { ...chip, pic: { ...chip.pic, imr: 5 } } };
    expect(check(structs.Irqchip, value)).toThrow(
      /chip\.pic and chip\.\w+ have the same bytes and differ/,
    );
  });

  test("both forms of a redirection entry of an IOAPIC", () => {
    const ioapic = zero(structs.IoapicState);
    const redirtbl = ioapic.redirtbl.map((entry) => ({ ...entry, bits: 7n }));
    const value = { chipId: 2, chip: { ioapic: { ...ioapic, redirtbl } } };
    expect(check(structs.Irqchip, value)).toThrow(
      /chip\.ioapic\.redirtbl\[0\]\.bits and chip\.ioapic\.redirtbl\[0\]\.fields have the same bytes/,
    );
  });
});

test("the value of an update method may omit fields, but not fields of an array element", () => {
  const patch = { cs: { base: 1n } };
  expect(refuseShortArrays("f()", structs.Sregs, patch)).toBeUndefined();
  expect(() => refuseShortArrays("f()", structs.Debugregs, { db: [1n] })).toThrow(
    new TypeError("f(): kvm_debugregs: missing member db[1] to [3]"),
  );
});
