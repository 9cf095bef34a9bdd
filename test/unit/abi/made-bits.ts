/**
 * A struct with kinds of bit fields that no KVM header has yet: signed, wide, and across bytes. The layout of this
 * struct follows gen/layout.py, which states the byte of the first bit as the offset of a bit field.
 */

import type { Layout } from "../../../lib/abi/struct.ts";
import { type CStruct, cStructs } from "./c-structs.ts";

/** The C declaration of the struct. */
export const MADE_BITS_IN_C = `
struct made_bits {
  __u32 low : 3, high : 29;
  __s32 sign : 5;
  __u64 wide : 40;
  __s64 deep : 24;
  __u16 half : 9;
  __u32 whole : 32;
  __u32 over : 7, across : 20;
  __s8 one : 1;
};
_Static_assert(sizeof(struct made_bits) == 32, "");
`;

/** Its layout. */
export const MadeBits: Layout = {
  name: "made_bits",
  size: 32,
  fields: [
    { name: "low", offset: 0, type: "u32", bits: [0, 3] },
    { name: "high", offset: 0, type: "u32", bits: [3, 29] },
    { name: "sign", offset: 4, type: "s32", bits: [0, 5] },
    { name: "wide", offset: 8, type: "u64", bits: [0, 40] },
    { name: "deep", offset: 13, type: "s64", bits: [0, 24] },
    { name: "half", offset: 16, type: "u16", bits: [0, 9] },
    { name: "whole", offset: 20, type: "u32", bits: [0, 32] },
    { name: "over", offset: 24, type: "u32", bits: [0, 7] },
    { name: "across", offset: 24, type: "u32", bits: [7, 20] },
    { name: "one", offset: 27, type: "s8", bits: [3, 1] },
  ],
};

/** The C names of the struct and its fields. */
export const madeBitsInC: ReadonlyMap<string, CStruct> = cStructs({
  made_bits: {
    fields: MadeBits.fields.map(({ name, type }) => ({ name, type: String(type) })),
  },
});
