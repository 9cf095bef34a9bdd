/** Segments, and the encoding of descriptors, gates and the TSS. modes.ts selects the segments of each mode. */

import type { Segment } from "../abi/generated/structs.ts";

const CODE = 0xb; // the type of a segment with execute, read and accessed
const DATA = 0x3; // the type of a segment with read, write and accessed
const TSS_BUSY = 0xb; // a busy TSS of 32 or 64 bits: the type that LTR sets

const flat: Segment = {
  base: 0n,
  limit: 0xffff_ffff,
  selector: 0,
  type: DATA,
  present: 1,
  dpl: 0,
  db: 1,
  s: 1,
  l: 0,
  g: 1,
  avl: 0,
  unusable: 0,
  padding: 0,
};

/** Makes a flat 4 GiB data segment. */
export function dataSegment(selector: number, dpl = 0): Segment {
  return { ...flat, selector, dpl };
}

/** Makes a flat code segment of 32 or 64 bits. */
export function codeSegment(selector: number, bits: 32 | 64, dpl = 0): Segment {
  return { ...flat, selector, dpl, type: CODE, db: Number(bits === 32), l: Number(bits === 64) };
}

/** Makes a segment with the values that real mode loads: base = selector * 16, 64 KiB (Intel SDM Vol. 3B 22.1.1). */
export function realSegment(selector: number, kind: "code" | "data" = "data"): Segment {
  const type = kind === "code" ? CODE : DATA;
  return { ...flat, base: BigInt(selector) << 4n, limit: 0xffff, selector, type, db: 0, g: 0 };
}

/** Makes the segment of a busy TSS, for TR. */
export function tssSegment(selector: number, gpa: number, size: number): Segment {
  const base = BigInt(gpa);
  return { ...flat, base, limit: size - 1, selector, type: TSS_BUSY, db: 0, s: 0, g: 0 };
}

/** Makes an unusable segment, for an LDTR without an LDT. */
export function nullSegment(): Segment {
  return { ...flat, limit: 0, type: 0, present: 0, db: 0, s: 0, g: 0, unusable: 1 };
}

/**
 * Encodes a segment as the low 8 bytes of its descriptor (Intel SDM Vol. 3A 3.4.5). The high 8 bytes of a 64-bit TSS or
 * LDT contain only base[63:32].
 */
export function encodeDescriptor(segment: Segment): bigint {
  const limit = BigInt(segment.g === 1 ? segment.limit >>> 12 : segment.limit);
  const access = segment.type | (segment.s << 4) | (segment.dpl << 5) | (segment.present << 7);
  const flags = segment.avl | (segment.l << 1) | (segment.db << 2) | (segment.g << 3);
  return (
    (limit & 0xffffn) |
    ((segment.base & 0xff_ffffn) << 16n) |
    (BigInt(access) << 40n) |
    (((limit >> 16n) & 0xfn) << 48n) |
    (BigInt(flags) << 52n) |
    (((segment.base >> 24n) & 0xffn) << 56n)
  );
}

/**
 * Encodes a GDT: each segment at the index of its selector, and null descriptors elsewhere. With `long`, a system
 * segment has 16 bytes.
 */
export function encodeGdt(segments: readonly Segment[], long: boolean): Uint8Array {
  const slots = segments.map(
    (segment) => (segment.selector >>> 3) + (long && segment.s === 0 ? 2 : 1),
  );
  const table = new DataView(new ArrayBuffer(8 * Math.max(1, ...slots)));
  for (const segment of segments) {
    const offset = segment.selector & ~7;
    table.setBigUint64(offset, encodeDescriptor(segment), true);
    if (long && segment.s === 0) table.setBigUint64(offset + 8, segment.base >> 32n, true);
  }
  return new Uint8Array(table.buffer);
}

/**
 * Encodes an IDT of interrupt gates (Intel SDM Vol. 3A 7.11 and 7.14.1): 8 bytes per gate, or 16 in 64-bit mode.
 *
 * @param handlers the linear address of the handler of each vector, below 4 GiB
 * @param selector the selector of the handlers' code segment
 */
export function encodeIdt(
  handlers: readonly number[],
  selector: number,
  bits: 32 | 64,
): Uint8Array {
  const size = bits / 4;
  const table = new DataView(new ArrayBuffer(size * handlers.length));
  for (const [vector, address] of handlers.entries()) {
    table.setUint16(vector * size, address & 0xffff, true);
    table.setUint16(vector * size + 2, selector, true);
    table.setUint16(vector * size + 4, 0x8e00, true); // a present interrupt gate with DPL 0
    table.setUint16(vector * size + 6, address >>> 16, true);
  }
  return new Uint8Array(table.buffer);
}

/** Encodes a real mode interrupt vector table: the offset and the segment of each vector's handler. */
export function encodeIvt(offsets: readonly number[], segment: number): Uint8Array {
  return new Uint8Array(Uint16Array.from(offsets.flatMap((offset) => [offset, segment])).buffer);
}

// A TSS of either width has 0x68 bytes (Intel SDM Vol. 3A 8.2.1 and 8.7), then one bit for each port, then a byte 0xff.
const TSS_IO_MAP = 0x68;

/** The size in bytes of a TSS of either width, with its I/O map (Intel SDM Vol. 1 19.5.2). */
export const TSS_SIZE: number = TSS_IO_MAP + 0x1_0000 / 8 + 1;

function emptyTss(): DataView {
  const tss = new DataView(new ArrayBuffer(TSS_SIZE));
  tss.setUint16(0x66, TSS_IO_MAP, true);
  tss.setUint8(TSS_SIZE - 1, 0xff);
  return tss;
}

/** Encodes a 64-bit TSS with the stack pointer of ring 0, and an I/O map that allows every port at any CPL. */
export function encodeTss64(rsp0: bigint): Uint8Array {
  const tss = emptyTss();
  tss.setBigUint64(4, rsp0, true);
  return new Uint8Array(tss.buffer);
}

/** Encodes a 32-bit TSS with the stack pointer of ring 0, and an I/O map that allows every port at any CPL. */
export function encodeTss32(esp0: number, ss0: number): Uint8Array {
  const tss = emptyTss();
  tss.setUint32(4, esp0, true);
  tss.setUint16(8, ss0, true);
  return new Uint8Array(tss.buffer);
}
