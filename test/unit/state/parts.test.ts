/** Tests of the table of parts: the orders that KVM requires, and the properties that the codecs require. */
import { describe, expect, test } from "vitest";
import type { FieldType, Layout } from "../../../lib/abi/struct.ts";
import {
  SAVE_ORDER,
  VCPU_PARTS,
  VCPU_PARTS_TO_READ,
  VM_PARTS,
  VM_PARTS_TO_READ,
} from "../../../lib/state/parts.ts";

const names = (parts: readonly { readonly name: string }[]): readonly string[] =>
  parts.map(({ name }) => name);
const all = [...VCPU_PARTS, ...VM_PARTS];

describe("restoring a saved state writes", () => {
  test.each([
    ["cpuid", "sregs2", "7.0 checks EFER against the table"],
    ["cpuid", "msrs", "XSS needs its CPUID bit"],
    ["cpuid", "xcrs", "XCR0 is checked against leaf 0xD"],
    ["cpuid", "xsave", "the table makes room for AMX"],
    ["tscKhz", "msrs", "the TSC is scaled"],
    ["tscKhz", "lapic", "the deadline is scaled"],
    ["sregs2", "msrs", "reference, trap 10"],
    ["sregs", "msrs", "reference, trap 10"],
    ["sregs2", "lapic", "KVM_SET_SREGS sets the APIC base"],
    ["sregs2", "mpState", "KVM_SET_SREGS wakes the boot CPU"],
    ["sregs2", "nestedState", "it needs EFER.SVME"],
    ["regs", "vcpuEvents", "KVM_SET_REGS drops exceptions"],
    ["msrs", "lapic", "the timer counts by the TSC"],
    ["msrs", "nestedState", "VMX MSRs are fixed after VMXON"],
    ["lapic", "vcpuEvents", "a latched INIT goes to the local APIC"],
    ["vcpuEvents", "nestedState", "entering SMM leaves nested mode"],
    ["regs", "nestedState", "the registers are L2's"],
    ["ioapic", "pit2", "a tick needs its controller"],
    ["picMaster", "pit2", "a tick needs its controller"],
  ])("%s before %s: %s", (first, second) => {
    const order = names(all);
    expect(order).toContain(first);
    expect(order.indexOf(first)).toBeLessThan(order.indexOf(second));
  });
});

describe("saving a state reads", () => {
  test("mpState first, vcpuEvents last, and each of the other parts once", () => {
    const order = names(VCPU_PARTS_TO_READ);
    expect([order[0], order.at(-1)]).toEqual(["mpState", "vcpuEvents"]);
    expect(new Set(order)).toEqual(new Set(names(VCPU_PARTS)));
    expect(order).toHaveLength(VCPU_PARTS.length);
    expect(names(VCPU_PARTS)).toEqual(expect.arrayContaining(Object.keys(SAVE_ORDER)));
  });

  test("the PIT before the interrupt controllers", () => {
    expect(names(VM_PARTS_TO_READ)).toEqual([...names(VM_PARTS)].reverse());
    expect(VM_PARTS_TO_READ[0]?.name).toBe("pit2");
  });
});

describe("every part of a saved state", () => {
  test("occurs once in the table, and has reasons for its place and its requirements", () => {
    expect(new Set(names(all)).size).toBe(all.length);
    expect(all.filter(({ why, needs }) => why.length < 20 || needs.length < 10)).toEqual([]);
  });

  test.each(all.map((part) => [part.name, part] as const))(
    "is read and written with ioctls of its descriptor: %s",
    (_, part) => {
      expect([part.get.fds, part.set.fds]).toEqual([
        expect.arrayContaining([part.fd]),
        expect.arrayContaining([part.fd]),
      ]);
    },
  );

  test.each(all.map((part) => [part.name, part] as const))(
    "has the size of the argument of its ioctls: %s",
    (_, { shape, chipId, get, set }) => {
      const size = shape.kind === "struct" && chipId === undefined ? shape.layout.size : get.size;
      expect([get.size, set.size || size]).toEqual([size, size]);
    },
  );

  test("whose value is the result of an ioctl has no value that equals a negative errno", () => {
    const results = all.filter(({ get }) => get.kind === "none");
    expect(names(results)).toEqual(["tscKhz"]);
    expect(results.map(({ shape }) => shape)).toEqual([{ kind: "u32", most: 0xffff_f000 }]);
  });

  test("consists of integers, arrays and structs, without unions, bit fields and tails", () => {
    const layouts = all.flatMap(({ shape }) => {
      if (shape.kind === "struct") return [shape.layout];
      return shape.kind === "list" ? [shape.element] : [];
    });
    expect(layouts.length).toBeGreaterThan(10);
    expect(layouts.flatMap(oddities)).toEqual([]);
  });
});

/** Lists the fields that the codecs cannot encode. */
function oddities(layout: Layout): readonly string[] {
  const { name, fields, tail } = layout;
  const overlapping = fields.filter(({ offset, type }, i) => {
    const next = fields[i + 1];
    return next !== undefined && next.offset < offset + bytesOf(type);
  });
  return [
    ...(tail === undefined ? [] : [`${name}: tail`]),
    ...overlapping.map((field) => `${name}.${field.name}: union`),
    ...fields.filter(({ bits }) => bits).map((field) => `${name}.${field.name}: bits`),
    ...fields.flatMap(({ type }) => odd(type)),
  ];
}

function odd(type: FieldType): readonly string[] {
  if (typeof type === "string") return [];
  return "of" in type ? odd(type.of) : oddities(type);
}

function bytesOf(type: FieldType): number {
  if (typeof type === "string") return Number(type.slice(1)) / 8;
  return "of" in type ? type.count * bytesOf(type.of) : type.size;
}
