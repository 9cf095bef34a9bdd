/** Lists the integers of a struct in order, each with its C name. The folder abi/ defines the layouts. */
import type { Field, FieldType, Layout, Scalar } from "../abi/layout.ts";
import { scalars } from "../abi/layout.ts";

/** An integer of a struct, or an array of integers, with its C name. */
export interface Leaf {
  /** The C name of the integer, relative to the struct: `cs.base`, `entries[2].eax`. */
  readonly path: string;
  readonly offset: number;
  readonly type: Scalar;
  /** The number of elements; `undefined` if the leaf is not an array. */
  readonly count: number | undefined;
  /** The lowest bit of a bit field within `type`, and the width of the bit field. */
  readonly bits: readonly [shift: number, width: number] | undefined;
}

/** C names of fields that no rule derives from this package's names. */
const IRREGULAR: Readonly<Record<string, string>> = {
  blobAddr32: "blob_addr_32",
  blobAddr64: "blob_addr_64",
  blobSize32: "blob_size_32",
  blobSize64: "blob_size_64",
  kernelTdvmcallinfo1R11: "kernel_tdvmcallinfo_1_r11",
  kernelTdvmcallinfo1R12: "kernel_tdvmcallinfo_1_r12",
  userTdvmcallinfo1R11: "user_tdvmcallinfo_1_r11",
  userTdvmcallinfo1R12: "user_tdvmcallinfo_1_r12",
};

/** Returns the C name of a field: `guestPhysAddr` is `guest_phys_addr`. */
export function cName(name: string): string {
  return IRREGULAR[name] ?? name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Returns the element type of an array type, and the number of elements. */
export function elementOf(type: FieldType): {
  element: Scalar | Layout;
  count: number | undefined;
} {
  if (typeof type === "string" || !("of" in type)) return { element: type, count: undefined };
  const { element, count } = elementOf(type.of);
  return { element, count: type.count * (count ?? 1) };
}

const known = new WeakMap<Layout, readonly Leaf[]>();

/** Lists the integers of a struct in the order of its fields; members of a union overlap. */
export function leavesOf(layout: Layout): readonly Leaf[] {
  let leaves = known.get(layout);
  if (leaves === undefined) {
    leaves = layout.fields.flatMap((field) => leavesOfField(field, "", 0));
    known.set(layout, leaves);
  }
  return leaves;
}

/** Lists the integers of one element in the tail of a struct. */
export function leavesOfElement(element: Scalar | Layout): readonly Leaf[] {
  return typeof element === "string"
    ? [{ path: "", offset: 0, type: element, count: undefined, bits: undefined }]
    : leavesOf(element);
}

function leavesOfField(field: Field, prefix: string, base: number): readonly Leaf[] {
  const { element, count } = elementOf(field.type);
  const path = prefix + cName(field.name);
  const offset = base + field.offset;
  if (typeof element === "string") {
    return [{ path, offset, type: element, count, bits: field.bits }];
  }
  return Array.from({ length: count ?? 1 }, (_, i) => {
    const inner = count === undefined ? `${path}.` : `${path}[${i}].`;
    return element.fields.flatMap((each) => leavesOfField(each, inner, offset + i * element.size));
  }).flat();
}

/** Reads one integer from bytes; `index` selects an element of an array. */
export function leafValue(leaf: Leaf, view: DataView, base = 0, index = 0): bigint {
  const { size, get } = scalars[leaf.type];
  const value = BigInt(get(view, base + leaf.offset + index * size));
  if (leaf.bits === undefined) return value;
  const [shift, width] = leaf.bits;
  return (value >> BigInt(shift)) & ((1n << BigInt(width)) - 1n);
}

/** Returns the size in bytes of an integer, or of all elements of an array. */
export function leafBytes(leaf: Leaf): number {
  return scalars[leaf.type].size * (leaf.count ?? 1);
}
