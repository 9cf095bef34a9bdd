/** Tests of descriptors, GDT, IDT and TSS, bit by bit. */
import { describe, expect, test } from "vitest";
import type { Segment } from "../../../lib/abi/index.ts";
import {
  codeSegment,
  dataSegment,
  encodeDescriptor,
  encodeGdt,
  encodeIdt,
  encodeIvt,
  encodeTss32,
  encodeTss64,
  realSegment,
  TSS_SIZE,
  tssSegment,
} from "../../../lib/guest/index.ts";

describe("encodeDescriptor()", () => {
  // Source: Linux, arch/x86/include/asm/desc_defs.h: DESC_CODE32 0xc09b, DESC_DATA32 0xc093, DESC_CODE64 0xa09b.
  test.each<[string, Segment, bigint]>([
    ["32-bit code", codeSegment(8, 32), 0x00cf_9b00_0000_ffffn],
    ["64-bit code", codeSegment(8, 64), 0x00af_9b00_0000_ffffn],
    ["data", dataSegment(16), 0x00cf_9300_0000_ffffn],
    ["data of CPL 3", dataSegment(0x1b, 3), 0x00cf_f300_0000_ffffn],
    ["busy TSS at 0x12345678", tssSegment(0x28, 0x1234_5678, 0x68), 0x1200_8b34_5678_0067n],
  ])("encodes %s as Linux does", (_, segment, descriptor) => {
    expect(encodeDescriptor(segment)).toBe(descriptor);
  });
});

describe("the tables of a guest's segments:", () => {
  test("a GDT has each descriptor at the index of its selector", () => {
    const gdt = new BigUint64Array(
      encodeGdt([dataSegment(0x1b, 3), codeSegment(8, 64)], true).buffer,
    );
    expect([...gdt]).toEqual([0n, 0x00af_9b00_0000_ffffn, 0n, 0x00cf_f300_0000_ffffn]);
  });

  test("a TSS descriptor of long mode takes two GDT entries", () => {
    expect(encodeGdt([tssSegment(0x28, 0x3000, 0x68)], true).length).toBe(0x38);
    expect(encodeGdt([tssSegment(0x28, 0x3000, 0x68)], false).length).toBe(0x30);
  });

  test("a 64-bit gate takes 16 bytes", () => {
    const gate = [0x78, 0x56, 8, 0, 0, 0x8e, 0x34, 0x12, 0, 0, 0, 0, 0, 0, 0, 0];
    expect([...encodeIdt([0x1234_5678], 8, 64)]).toEqual(gate);
    expect([...encodeIdt([0x1234_5678], 8, 32)]).toEqual(gate.slice(0, 8));
  });

  test("an IVT entry has an offset and a segment", () => {
    expect([...encodeIvt([0x5008], 0x1000)]).toEqual([0x08, 0x50, 0x00, 0x10]);
  });

  test("a TSS has the stack of ring 0 and an I/O map that allows every port", () => {
    const view = new DataView(encodeTss64(0x7_0000n).buffer);
    expect(view.getBigUint64(4, true)).toBe(0x7_0000n);
    expect(view.getUint16(0x66, true)).toBe(0x68);
    expect(view.byteLength).toBe(TSS_SIZE);
    expect(new Uint8Array(view.buffer, 0x68).findIndex((byte) => byte !== 0)).toBe(0x2000);
    expect([...encodeTss32(0x7_0000, 0x10).slice(4, 10)]).toEqual([0, 0, 7, 0, 0x10, 0]);
  });
});

test("a real-mode segment is 64 KiB long and begins at 16 times its selector", () => {
  expect(realSegment(0x1000, "code")).toMatchObject({
    base: 0x1_0000n,
    limit: 0xffff,
    type: 0xb,
    g: 0,
  });
});
