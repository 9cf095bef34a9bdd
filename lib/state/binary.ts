/**
 * Writes and reads a saved state as bytes: named sections that contain the kernel's structs, and a checksum. parts.ts
 * defines the content of the sections; json.ts has the text form.
 *
 * | bytes | what |
 * | ----- | ---- |
 * | 8     | `KVMSTATE` |
 * | 4     | version, 1 |
 * | 4     | length of all bytes |
 * | …     | sections: length of the name (2), length of the content (4), name, content |
 * | 4     | CRC-32 of all earlier bytes |
 *
 * Numbers are little endian. The name of a section is the path in the state: `source.kernel`, `vcpus[0].sregs2`.
 */
import { toBytes as toView } from "../options.ts";
import { crc32, fromLatin1, fromUtf8, latin1, utf8 } from "./encoding.ts";
import { Complaints, StateDocumentError, shownName } from "./error.ts";
import { type Part, VCPU_PARTS, VM_PARTS } from "./parts.ts";
import { fromBytes, joined, mostOf, type NumberShape, sizeInWords, toBytes } from "./shape.ts";
import { refuseUnwritable } from "./shapeless.ts";
import {
  contradictions,
  STATE_FORMAT,
  STATE_VERSION,
  type StateSource,
  type VcpuState,
  type VmState,
} from "./state.ts";

const MAGIC = "KVMSTATE";
const HEADER_BYTES = 16;
const CHECKSUM_BYTES = 4;
const SECTION_HEADER_BYTES = 6;
const ID: NumberShape = { kind: "u32" };

/**
 * Writes a state as bytes.
 *
 * @throws TypeError for a value of a wrong type
 * @throws RangeError for a number or an array that does not fit its field
 */
export function stateToBytes(state: VmState): Uint8Array {
  refuseUnwritable("stateToBytes()", state);
  const { kernel, vendor } = state.source;
  const sections = [
    section("source.kernel", utf8(kernel)),
    ...(vendor === undefined ? [] : [section("source.vendor", utf8(vendor))]),
    ...sectionsOf(VM_PARTS, state, ""),
    ...state.vcpus.flatMap((vcpu, i) => [
      section(`vcpus[${i}].id`, toBytes(ID, vcpu.id)),
      ...sectionsOf(VCPU_PARTS, vcpu, `vcpus[${i}].`),
    ]),
  ];
  const body = joined([new Uint8Array(HEADER_BYTES), ...sections, new Uint8Array(CHECKSUM_BYTES)]);
  const view = new DataView(body.buffer);
  body.set(fromLatin1(MAGIC));
  view.setUint32(8, state.version, true);
  view.setUint32(12, body.length, true);
  view.setUint32(body.length - CHECKSUM_BYTES, checksumOf(body), true);
  return body;
}

function sectionsOf(parts: readonly Part[], owner: object, path: string): readonly Uint8Array[] {
  const values = owner as Readonly<Record<string, unknown>>;
  return parts
    .filter(({ name }) => values[name] !== undefined)
    .map(({ name, shape }) => section(`${path}${name}`, toBytes(shape, values[name])));
}

function section(name: string, content: Uint8Array): Uint8Array {
  const named = fromLatin1(name);
  const header = new Uint8Array(SECTION_HEADER_BYTES);
  const view = new DataView(header.buffer);
  view.setUint16(0, named.length, true);
  view.setUint32(2, content.length, true);
  return joined([header, named, content]);
}

const checksumOf = (whole: Uint8Array): number =>
  crc32(whole.subarray(0, whole.length - CHECKSUM_BYTES));

/**
 * Reads a state from the bytes that `stateToBytes` returned.
 *
 * The required time is linear in the number of bytes.
 *
 * @throws {@link StateDocumentError} if they are damaged, truncated, of another version, or contain a section that this
 *   version does not know: the first 100 complaints and the number of all.
 */
export function stateFromBytes(bytes: Uint8Array): VmState {
  const sections = sectionsIn(checked(toView("stateFromBytes()", bytes)));
  const source = sourceFrom(sections);
  const parts = partsFrom(VM_PARTS, sections, "");
  const vcpus: VcpuState[] = [];
  for (let path = "vcpus[0]."; sections.has(`${path}id`); path = `vcpus[${vcpus.length}].`) {
    const id = take(sections, `${path}id`, (content) => fromBytes(ID, content), "4");
    vcpus.push({ id: id as number, ...partsFrom(VCPU_PARTS, sections, path) });
  }
  const state = { format: STATE_FORMAT, version: STATE_VERSION, source, ...parts, vcpus } as const;
  const complaints = new Complaints();
  for (const name of sections.keys()) complaints.add(`${shownName(name)}: unknown section`);
  contradictions(state, complaints);
  if (complaints.count === 0) return state;
  throw new StateDocumentError(complaints.kept, complaints.count);
}

/** Checks the header and the checksum, and returns the bytes between them. */
function checked(bytes: Uint8Array): Uint8Array {
  if (latin1(bytes.subarray(0, MAGIC.length)) !== MAGIC) {
    throw new StateDocumentError(["not a saved state: it does not begin with KVMSTATE"]);
  }
  if (bytes.length < HEADER_BYTES + CHECKSUM_BYTES) {
    throw new StateDocumentError([`cut short: ${bytes.length} bytes`]);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const version = view.getUint32(8, true);
  if (version !== STATE_VERSION) {
    throw new StateDocumentError([`version: expected ${STATE_VERSION}, got ${version}`]);
  }
  const length = view.getUint32(12, true);
  if (length !== bytes.length) {
    const what = length > bytes.length ? "cut short" : "too long";
    throw new StateDocumentError([`${what}: ${bytes.length} bytes of ${length}`]);
  }
  if (view.getUint32(length - CHECKSUM_BYTES, true) !== checksumOf(bytes)) {
    throw new StateDocumentError(["damaged: the checksum is wrong"]);
  }
  return bytes.subarray(HEADER_BYTES, length - CHECKSUM_BYTES);
}

function sectionsIn(body: Uint8Array): Map<string, Uint8Array> {
  const sections = new Map<string, Uint8Array>();
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  for (let at = 0; at < body.length; ) {
    const isWhole = body.length - at >= SECTION_HEADER_BYTES;
    const nameEnd = isWhole ? at + SECTION_HEADER_BYTES + view.getUint16(at, true) : body.length;
    const end = isWhole ? nameEnd + view.getUint32(at + 2, true) : body.length + 1;
    if (end > body.length) {
      throw new StateDocumentError([`damaged: the section at ${HEADER_BYTES + at} is too long`]);
    }
    const name = latin1(body.subarray(at + SECTION_HEADER_BYTES, nameEnd));
    if (sections.has(name)) throw new StateDocumentError([`${shownName(name)}: twice`]);
    sections.set(name, body.subarray(nameEnd, end));
    at = end;
  }
  return sections;
}

/** Reads one section and removes it from the map; sections that remain after all reads are unknown sections. */
function take<T>(
  sections: Map<string, Uint8Array>,
  name: string,
  from: (content: Uint8Array) => T | undefined,
  wanted: string,
): T | undefined {
  const content = sections.get(name);
  if (content === undefined) return undefined;
  sections.delete(name);
  const value = from(content);
  if (value !== undefined) return value;
  throw new StateDocumentError([`${name}: expected ${wanted} bytes, got ${content.length}`]);
}

function sourceFrom(sections: Map<string, Uint8Array>): StateSource {
  const kernel = take(sections, "source.kernel", fromUtf8, "any");
  const vendor = take(sections, "source.vendor", fromUtf8, "any");
  if (kernel === undefined) throw new StateDocumentError(["source.kernel: it is missing"]);
  return { kernel, ...(vendor === undefined ? {} : { vendor }) };
}

function partsFrom(
  parts: readonly Part[],
  sections: Map<string, Uint8Array>,
  path: string,
): Readonly<Record<string, unknown>> {
  const read = ({ name, shape }: Part): unknown => {
    const from = (content: Uint8Array): unknown => fromBytes(shape, content);
    const value = take(sections, `${path}${name}`, from, sizeInWords(shape));
    if (shape.kind !== "u32" || value === undefined || Number(value) <= mostOf(shape)) return value;
    const complaint = `${path}${name}: expected at most ${mostOf(shape)}, got ${value}`;
    throw new StateDocumentError([complaint]);
  };
  return Object.fromEntries(
    parts.map((part) => [part.name, read(part)]).filter(([, value]) => value !== undefined),
  );
}
