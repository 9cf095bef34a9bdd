/** Tests of elfCode() with ELF files that the test builds, and with damaged files. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { elfCode } from "../../../lib/cpuid/index.ts";

/** A section or segment of an ELF file that the test builds. */
interface Part {
  readonly name: number;
  readonly type: number;
  readonly flags: number;
  readonly address: bigint;
  readonly offset: number;
  readonly size: number;
}

const NAMES = "\0.text\0.data\0.shstrtab\0";
const NAMES_AT = 64;
const CODE_AT = 96;
const HEADERS_AT = 128;

/** Builds an ELF file with section names, 16 bytes of code, and section headers. */
function build(sections: readonly Part[], segments: readonly Part[] = []): Uint8Array {
  const segmentsAt = HEADERS_AT + sections.length * 64;
  const bytes = new Uint8Array(segmentsAt + segments.length * 56);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(18, 62, true);
  view.setBigUint64(32, BigInt(segments.length > 0 ? segmentsAt : 0), true);
  view.setBigUint64(40, BigInt(sections.length > 0 ? HEADERS_AT : 0), true);
  view.setUint16(54, 56, true);
  view.setUint16(56, segments.length, true);
  view.setUint16(58, 64, true);
  view.setUint16(60, sections.length, true);
  view.setUint16(62, 1, true);
  bytes.set(new TextEncoder().encode(NAMES), NAMES_AT);
  bytes.fill(0x90, CODE_AT, CODE_AT + 16);
  for (const [i, part] of sections.entries()) {
    const at = HEADERS_AT + i * 64;
    view.setUint32(at, part.name, true);
    view.setUint32(at + 4, part.type, true);
    view.setBigUint64(at + 8, BigInt(part.flags), true);
    view.setBigUint64(at + 16, part.address, true);
    view.setBigUint64(at + 24, BigInt(part.offset), true);
    view.setBigUint64(at + 32, BigInt(part.size), true);
  }
  for (const [i, part] of segments.entries()) {
    const at = segmentsAt + i * 56;
    view.setUint32(at, part.type, true);
    view.setUint32(at + 4, part.flags, true);
    view.setBigUint64(at + 8, BigInt(part.offset), true);
    view.setBigUint64(at + 16, part.address, true);
    view.setBigUint64(at + 32, BigInt(part.size), true);
  }
  return bytes;
}

const nothing: Part = { name: 0, type: 0, flags: 0, address: 0n, offset: 0, size: 0 };
const names: Part = { ...nothing, name: 13, type: 3, offset: NAMES_AT, size: NAMES.length };
const text: Part = {
  ...{ name: 1, type: 1, flags: 6, address: 0x401000n },
  ...{ offset: CODE_AT, size: 16 },
};
const data: Part = { ...text, name: 7, flags: 3 };
const file = build([nothing, names, text, data]);

test("elfCode() lists the executable sections with name, address and bytes", () => {
  expect(elfCode(file)).toEqual([
    { name: ".text", address: 0x401000n, bytes: new Uint8Array(16).fill(0x90) },
  ]);
});

test("elfCode() leaves out an executable section without bytes in the file", () => {
  expect(elfCode(build([nothing, names, { ...text, type: 8, size: 2 ** 40 }]))).toEqual([]);
});

test("elfCode() lists the executable segments of a file without sections", () => {
  const segment: Part = { ...text, type: 1, flags: 5 };
  const stripped = build([], [{ ...segment, flags: 6 }, segment, { ...segment, type: 2 }]);
  expect(elfCode(stripped)).toMatchObject([
    { name: "segment 1", address: 0x401000n, bytes: { length: 16 } },
  ]);
});

/** Returns the file with other bytes at an offset. */
function patched(offset: number, ...bytes: readonly number[]): Uint8Array {
  const copy = file.slice();
  copy.set(bytes, offset);
  return copy;
}

const TEXT = HEADERS_AT + 2 * 64;

describe("elfCode() refuses", () => {
  test.each([
    ["no bytes", new Uint8Array(), "elfCode(): the file does not begin with an ELF header"],
    ["another format", patched(0, 0x4d), "the file does not begin with an ELF header"],
    ["a file of 32 bits", patched(4, 1), "the file has class 1, expected 2"],
    ["a big-endian file", patched(5, 2), "the file has byte order 2"],
    ["a file for AArch64", patched(18, 183), "the file is for machine 183, expected 62"],
    [
      "sections that share their bytes",
      build([nothing, names, ...Array<Part>(100).fill({ ...text, offset: 0, size: 6000 })]),
      'the executable parts ".text" and ".text" overlap',
    ],
    [
      "sections that share one byte in a larger file",
      build([
        nothing,
        names,
        { ...text, size: 9 },
        { ...text, name: 7, offset: CODE_AT + 8, size: 8 },
      ]),
      'the executable parts ".text" and ".data" overlap',
    ],
    [
      "a section inside of another one",
      build([nothing, names, { ...text, offset: CODE_AT + 4, size: 2 }, { ...text, name: 7 }]),
      'the executable parts ".data" and ".text" overlap',
    ],
    ["a section beyond the end", patched(TEXT + 32, 0, 4), 'section ".text" is at 0x60 with 0x400'],
    [
      "a section at the end of the address space",
      patched(TEXT + 24, ...Array(8).fill(255)),
      "is at",
    ],
    ["section headers beyond the end", patched(40, 0, 0xff), "the table of section headers is at"],
    ["too many section headers", patched(60, 0xff, 0xfe), "the table of section headers is at"],
    ["section headers that are too short", patched(58, 63), "a section header has 63 bytes"],
    ["names beyond the end", patched(HEADERS_AT + 64 + 25, 0xff), "the table of names is at"],
  ])("%s", (_, bytes, message) => {
    expect(() => elfCode(bytes)).toThrow(RangeError);
    expect(() => elfCode(bytes)).toThrow(`elfCode(): `);
    expect(() => elfCode(bytes)).toThrow(message);
  });

  test("a value that is not bytes", () => {
    expect(() => elfCode("file" as never)).toThrow(TypeError);
  });
});

test("sections that follow each other, and a section without bytes inside of another one, do not overlap", () => {
  const parts = [
    { ...text, size: 8 },
    { ...text, offset: CODE_AT + 8, size: 8 },
    { ...text, offset: CODE_AT + 4, size: 0 },
  ];
  expect(elfCode(build([nothing, names, ...parts])).map(({ bytes }) => bytes.length)).toEqual([
    8, 8, 0,
  ]);
});

test("a name beyond the string table is empty, and the section is still found", () => {
  expect(elfCode(patched(TEXT, 0xff, 0xff))).toMatchObject([{ name: "" }]);
});

test("a file with randomly changed bytes gives sections within the file or a RangeError", () => {
  const change = fc.tuple(fc.nat({ max: file.length - 1 }), fc.nat({ max: 255 }));
  fc.assert(
    fc.property(fc.array(change, { maxLength: 8 }), (changes) => {
      const copy = file.slice();
      for (const [at, byte] of changes) copy[at] = byte;
      let outcome: unknown;
      try {
        const parts = elfCode(copy);
        outcome = parts.every(({ bytes }) => bytes.buffer === copy.buffer);
      } catch (error) {
        outcome = error instanceof RangeError;
      }
      expect(outcome).toBe(true);
    }),
    { numRuns: 2000 },
  );
});
