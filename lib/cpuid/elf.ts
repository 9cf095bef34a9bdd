/**
 * Finds the code of an ELF file: executable sections, or segments if the file has no sections. needs.ts decodes the
 * code.
 */
import { toBytes } from "../options.ts";

/** Executable bytes of a file. */
export interface ElfCode {
  /** The section's name, as `.text`; `segment 1` for a segment, counted from 0. */
  readonly name: string;
  /** The address in the process, without the load bias of a position-independent file. */
  readonly address: bigint;
  /** The bytes, as a view of the file. */
  readonly bytes: Uint8Array;
}

const MAGIC = [0x7f, 0x45, 0x4c, 0x46];
const HEADER_SIZE = 64;
const SECTION_SIZE = 64;
const SEGMENT_SIZE = 56;
const [CLASS_64, LITTLE_ENDIAN, X86_64] = [2, 1, 62];
const [NOBITS, EXECINSTR] = [8, 4n];
const [PT_LOAD, PF_X] = [1, 1];

/** The maximum length of a section's name; a longer name is cut. */
const MOST_NAME = 256;

/** An ELF file: its bytes, and a view that reads its numbers. */
interface File {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

const fault = (why: string): RangeError => new RangeError(`elfCode(): ${why}`);

/** Returns a part of the file, or throws if the part ends outside of the file. */
function slice({ bytes }: File, what: string, offset: bigint, size: bigint): Uint8Array {
  if (offset + size > BigInt(bytes.length)) {
    throw fault(
      `${what} is at 0x${offset.toString(16)} with 0x${size.toString(16)} bytes, but the file has 0x${bytes.length.toString(16)}`,
    );
  }
  return bytes.subarray(Number(offset), Number(offset + size));
}

/** Returns the headers in a table of section headers or program headers. */
function rows(
  file: File,
  what: string,
  table: {
    readonly offset: bigint;
    readonly count: number;
    readonly size: number;
    readonly least: number;
  },
): readonly DataView[] {
  const { offset, count, size, least } = table;
  if (count === 0) return [];
  if (size < least) throw fault(`a ${what} header has ${size} bytes, expected ${least}`);
  const bytes = slice(file, `the table of ${what} headers`, offset, BigInt(count) * BigInt(size));
  return Array.from({ length: count }, (_, i) => {
    const row = bytes.subarray(i * size, i * size + least);
    return new DataView(row.buffer, row.byteOffset, row.byteLength);
  });
}

/** Reads a NUL-terminated text. */
function textAt(strings: Uint8Array, at: number): string {
  const end = strings.indexOf(0, at);
  const whole = strings.subarray(at, end < 0 ? strings.length : end);
  return String.fromCharCode(...whole.subarray(0, MOST_NAME));
}

function sectionsOf(file: File): readonly ElfCode[] {
  const { view } = file;
  const offset = view.getBigUint64(40, true);
  const size = view.getUint16(58, true);
  const head = { offset, size, least: SECTION_SIZE };
  if (offset === 0n) return [];
  // With 0xff00 or more sections, the header of section 0 contains their count and the index of the section names.
  const [zeroth] = rows(file, "section", { ...head, count: 1 });
  const count = view.getUint16(60, true) || Number(zeroth?.getBigUint64(32, true) ?? 0n);
  const headers = rows(file, "section", { ...head, count });
  const index = view.getUint16(62, true);
  const names = headers[index === 0xffff ? (zeroth?.getUint32(40, true) ?? 0) : index];
  const strings =
    names === undefined
      ? new Uint8Array()
      : slice(
          file,
          "the table of names",
          names.getBigUint64(24, true),
          names.getBigUint64(32, true),
        );
  return headers.flatMap((header) => {
    const isCode = (header.getBigUint64(8, true) & EXECINSTR) !== 0n;
    if (!isCode || header.getUint32(4, true) === NOBITS) return [];
    const name = textAt(strings, header.getUint32(0, true));
    const [at, length] = [header.getBigUint64(24, true), header.getBigUint64(32, true)];
    const bytes = slice(file, `section ${JSON.stringify(name)}`, at, length);
    return [{ name, address: header.getBigUint64(16, true), bytes }];
  });
}

function segmentsOf(file: File): readonly ElfCode[] {
  const { view } = file;
  const headers = rows(file, "program", {
    offset: view.getBigUint64(32, true),
    count: view.getUint16(56, true),
    size: view.getUint16(54, true),
    least: SEGMENT_SIZE,
  });
  return headers.flatMap((header, i) => {
    const isCode =
      header.getUint32(0, true) === PT_LOAD && (header.getUint32(4, true) & PF_X) !== 0;
    if (!isCode) return [];
    const [at, length] = [header.getBigUint64(8, true), header.getBigUint64(32, true)];
    const bytes = slice(file, `segment ${i}`, at, length);
    return [{ name: `segment ${i}`, address: header.getBigUint64(16, true), bytes }];
  });
}

/**
 * Rejects parts that share bytes of the file: their instructions would be counted twice, and a small file could have an
 * unlimited amount of code.
 */
function refuseOverlap(code: readonly ElfCode[]): void {
  const parts = code
    .filter(({ bytes }) => bytes.length > 0)
    .sort((a, b) => a.bytes.byteOffset - b.bytes.byteOffset);
  for (const [i, { name, bytes }] of parts.entries()) {
    const next = parts[i + 1];
    if (next === undefined || bytes.byteOffset + bytes.length <= next.bytes.byteOffset) continue;
    throw fault(
      `the executable parts ${JSON.stringify(name)} and ${JSON.stringify(next.name)} overlap`,
    );
  }
}

/**
 * Lists the executable sections of an ELF file for x86-64 (64 bits, little endian); for a file without section headers,
 * lists the executable segments. The bytes are views of the file.
 *
 * @throws TypeError for anything but bytes; RangeError for another kind of file, for a header, a section or a name
 *   table that ends outside of the file, and for executable parts that overlap.
 */
export function elfCode(file: Uint8Array): readonly ElfCode[] {
  const bytes = toBytes("elfCode()", file);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER_SIZE || MAGIC.some((byte, i) => bytes[i] !== byte)) {
    throw fault("the file does not begin with an ELF header");
  }
  const [kind, order, machine] = [bytes[4], bytes[5], view.getUint16(18, true)];
  if (kind !== CLASS_64) throw fault(`the file has class ${kind}, expected 2 (64 bits)`);
  if (order !== LITTLE_ENDIAN) throw fault(`the file has byte order ${order}, expected 1`);
  if (machine !== X86_64) throw fault(`the file is for machine ${machine}, expected 62 (x86-64)`);
  const parts = { bytes, view };
  const sections = sectionsOf(parts);
  const code = sections.length > 0 ? sections : segmentsOf(parts);
  refuseOverlap(code);
  return code;
}
