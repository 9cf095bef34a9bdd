/** Tests of fields: their names, bits and spaces. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { entry } from "../../../lib/cpuid/entry.ts";
import {
  baseOf,
  type CpuidFieldName,
  field,
  fields,
  fieldsOf,
  formatBits,
  formatValue,
  readField,
  spaceOf,
  writeField,
} from "../../../lib/cpuid/field.ts";

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const bits = fc
  .tuple(fc.integer({ min: 0, max: 31 }), fc.integer({ min: 0, max: 31 }))
  .map(([a, b]) => ({ low: Math.min(a, b), high: Math.max(a, b) }));
const words = (text: string): { ebx: number; ecx: number; edx: number } => {
  const [ebx = 0, ecx = 0, edx = 0] = new Uint32Array(new TextEncoder().encode(text).buffer);
  return { ebx, ecx, edx };
};
const kvm = words("KVMKVMKVM\0\0\0");

test("a written value is read back, truncated to the field's width", () => {
  fc.assert(
    fc.property(u32, u32, bits, (word, value, { low, high }) => {
      const kept = Number(BigInt.asUintN(high - low + 1, BigInt(value)));
      expect(readField(writeField(word, low, high, value), low, high)).toBe(kept);
    }),
  );
});

test("writing a field does not change the other bits", () => {
  fc.assert(
    fc.property(u32, u32, bits, (word, value, { low, high }) => {
      const written = writeField(word, low, high, value);
      expect(writeField(written, low, high, 0)).toBe(writeField(word, low, high, 0));
    }),
  );
});

test("a written register is an unsigned 32-bit number", () => {
  expect(writeField(0, 31, 31, 1)).toBe(0x80000000);
});

test("a field of 32 bits is read whole", () => {
  expect(readField(0xffffffff, 0, 31)).toBe(0xffffffff);
});

test("avx2 is at 0x7.0:ebx[5]", () => {
  const { register, low, high } = field("avx2");
  expect(formatBits({ function: 7, index: 0, register, low, high })).toBe("0x7.0:ebx[5]");
});

test("a wide field is printed with its first and last bit", () => {
  const wide = { function: 1, index: 0, register: "ebx", low: 24, high: 31 } as const;
  expect(formatBits(wide)).toBe("0x1.0:ebx[31:24]");
});

test("a field of a family of sub-leaves has a range of indexes", () => {
  expect(field("cache_level").index).toEqual({ first: 0, last: 31 });
});

test("values of fields of 16 bits and more are printed in hexadecimal", () => {
  expect([formatValue(255, 0, 15), formatValue(255, 0, 14)]).toEqual(["0xff", "255"]);
});

test("of two native fields with the same name, the field in the lower leaf keeps the plain name", () => {
  expect([field("fsrs").function, field("apic").function]).toEqual([7, 1]);
});

test("of two native fields with the same name, the field in the higher leaf has the leaf in its name", () => {
  expect(field("fsrs_80000021").function).toBe(0x80000021);
});

test("an unknown name is refused with the nearest names as suggestions", () => {
  const wrong = new TypeError('unknown CPUID field "avx3"; did you mean avx, avx2?');
  expect(() => field("avx3" as CpuidFieldName)).toThrow(wrong);
});

test("an unknown name that is part of other names is refused with these names as suggestions", () => {
  const wrong = new TypeError(
    'unknown CPUID field "addr_bits"; did you mean phys_addr_bits, virt_addr_bits, guest_phys_addr_bits?',
  );
  expect(() => field("addr_bits" as CpuidFieldName)).toThrow(wrong);
});

test("a name that is unlike all other names is refused without a suggestion", () => {
  const wrong = new TypeError('unknown CPUID field "constructor"');
  expect(() => field("constructor" as CpuidFieldName)).toThrow(wrong);
});

test.each([
  ["q", "; did you mean eq?"],
  ["max_std_lzzz", ""],
  [
    "_leaf",
    "; did you mean max_std_leaf, max_hyp_leaf, max_ext_leaf, max_tra_leaf, max_cntr_leaf?",
  ],
])(
  "for %s, at most five names that contain it or differ in at most two letters are suggested",
  (name, hint) => {
    const wrong = new TypeError(`unknown CPUID field "${name}"${hint}`);
    expect(() => field(name as CpuidFieldName)).toThrow(wrong);
  },
);

test("every field is found under its own name", () => {
  expect(fields().filter((f) => field(f.name) !== f)).toEqual([]);
});

test("fieldsOf() lists a field of a family of sub-leaves only for the family's sub-leaves", () => {
  const names = (index: number): readonly string[] =>
    fieldsOf("native", 0x12, index, "edx").map((f) => f.name);
  expect([names(2), names(1)]).toEqual([["epc_sec_size_1"], []]);
});

test("fieldsOf() lists no field of a family after the family's last sub-leaf", () => {
  const last = fieldsOf("native", 4, 31, "eax");
  expect(last).not.toEqual([]);
  expect([fieldsOf("native", 4, 32, "eax"), fieldsOf("native", 3, 0, "eax")]).toEqual([[], []]);
});

test("the index is ignored for leaves without sub-leaves in the database", () => {
  expect(fieldsOf("native", 1, 5, "ecx")).toHaveLength(fieldsOf("native", 1, 0, "ecx").length);
});

test("the lower of two KVM bases is used", () => {
  const table = [entry({ function: 0x40000200, ...kvm }), entry({ function: 0x40000100, ...kvm })];
  expect(baseOf(table, "kvm")).toBe(0x40000100);
});

test("the last possible base is 0x4000ff00", () => {
  expect(baseOf([entry({ function: 0x4000ff00, ...kvm })], "kvm")).toBe(0x4000ff00);
});

test.each([0x40010000, 0x40000080, 0x3fffff00])("%i is not a base of KVM's leaves", (fn) => {
  expect(baseOf([entry({ function: fn, ...kvm })], "kvm")).toBeUndefined();
});

test("Xen and VMware are found by their signatures", () => {
  const table = [
    entry({ function: 0x40000000, ...words("VMwareVMware") }),
    entry({ function: 0x40000100, ...words("XenVMMXenVMM") }),
  ];
  expect([baseOf(table, "xen"), baseOf(table, "vmware")]).toEqual([0x40000100, 0x40000000]);
});

test("Hyper-V is found by its interface leaf", () => {
  expect(baseOf([entry({ function: 0x40000001, eax: 0x31237648 })], "hyperv")).toBe(0x40000000);
});

test("Hyper-V is found at 0x40000000 only", () => {
  expect(baseOf([entry({ function: 0x40000101, eax: 0x31237648 })], "hyperv")).toBeUndefined();
});

test("a hypervisor leaf without a signature is in the native space", () => {
  expect(spaceOf([entry({ function: 0x40000000 })], 0x40000000)).toBe("native");
});

test("a leaf above a signature is in the space of the signature", () => {
  expect(spaceOf([entry({ function: 0x40000100, ...kvm })], 0x40000110)).toBe("kvm");
});
