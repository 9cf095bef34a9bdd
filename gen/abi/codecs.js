/**
 * Generates lib/abi/generated/codecs.ts from layouts: straight-line code for the structs that programs send
 * and read most. lib/abi/struct.ts reads and writes all others by their layouts.
 */

/**
 * @typedef {import("./layouts.js").Layout} Layout
 * @typedef {import("./layouts.js").Field} Field
 */

/** The structs that get code; the code includes the structs inside them. */
const HOT = [
  "kvm_regs",
  "kvm_segment",
  "kvm_dtable",
  "kvm_sregs",
  "kvm_sregs2",
  "kvm_cpuid_entry2",
  "kvm_cpuid2",
  "kvm_msr_entry",
  "kvm_msrs",
];

/** The longest array whose elements are read one by one. */
const MOST_ELEMENTS = 4;

/** @type {Record<string, [size: number, get: string]>} */
const scalars = {
  u8: [1, "getUint8"],
  u16: [2, "getUint16"],
  u32: [4, "getUint32"],
  u64: [8, "getBigUint64"],
};

/** @param {number} offset */
const place = (offset) => (offset === 0 ? "at" : `at + ${offset}`);

/** Reads an element. @param {Field} field @param {number} offset */
function get({ element, isLayout }, offset) {
  if (isLayout) return `read${element}(v, ${place(offset)})`;
  return `v.${scalars[element]?.[1]}(${place(offset)}${element === "u8" ? "" : ", true"})`;
}

/** @param {Field} field */
function getMember(field) {
  const { name, offset, element, dims } = field;
  if (dims.length === 0) return `    ${name}: ${get(field, offset)},\n`;
  const size = scalars[element]?.[0] ?? 0;
  const all = Array.from({ length: dims[0] ?? 0 }, (_, i) => get(field, offset + i * size));
  return `    ${name}: [\n${all.map((one) => `      ${one},\n`).join("")}    ],\n`;
}

/** @param {Field} field @param {Layout} layout */
function putMember({ name, offset, element, isLayout, dims }, { tail }) {
  const start = `(v, ${place(offset)}, x.${name}`;
  if (tail?.count === name) return `count32${start}, x.${tail.name})`;
  if (isLayout) return `put${element}${start})`;
  return dims.length === 0 ? `${element}${start})` : `${element}s${start}, ${dims[0]})`;
}

/**
 * Throws for a layout that the code below does not support.
 * @param {Layout} layout @param {(element: string) => number} sizeOf
 */
function check({ cName, fields, tail }, sizeOf) {
  let end = 0;
  for (const { name, offset, element, isLayout, dims, bits } of fields) {
    const known = isLayout ? dims.length === 0 : element in scalars;
    const [count = 1, ...deeper] = dims;
    const isBytes = element === "u8" && dims.length > 0;
    const short = count <= MOST_ELEMENTS && deeper.length === 0;
    // If members overlap, the last one that the caller names is written; generated code has a fixed order.
    if (!known || !short || isBytes || bits || offset < end) {
      throw new Error(`${cName}.${name}: codecs.js does not support this field`);
    }
    end = offset + count * sizeOf(element);
  }
  if (tail && !(tail.isLayout && tail.count)) {
    throw new Error(`${cName}.${tail.name}: codecs.js does not support this field`);
  }
}

/** @param {Layout} layout @param {(element: string) => number} sizeOf */
function printCodec(layout, sizeOf) {
  check(layout, sizeOf);
  const { name, cName, fields, tail } = layout;
  const members = fields.map((field) => putMember(field, layout));
  if (tail) {
    const start = `(v, ${place(tail.offset)}, x.${tail.name}`;
    members.push(`tail${start}, ${sizeOf(tail.element)}, put${tail.element})`);
  }
  const put =
    `/** Puts a ${cName}. */\n` +
    `function put${name}(v: DataView, at: number, x: Parts<${name}> | undefined): number {\n` +
    `  if (typeof x !== "object" || x === null) return x === undefined ? 0 : MISFIT;\n` +
    `  const n =\n    ${members.join(" +\n    ")};\n` +
    "  if (Object.getPrototypeOf(x) !== Object.prototype || Symbol.iterator in x) return MISFIT;\n" +
    "  return n === namesIn(x) ? 1 : MISFIT;\n}\n";
  if (tail) return put;
  const read =
    `/** Reads a ${cName}. */\n` +
    `function read${name}(v: DataView, at: number): ${name} {\n` +
    `  return {\n${fields.map(getMember).join("")}  };\n}\n`;
  return `${put}\n${read}`;
}

const HEAD = `import type { Layout } from "../layout.ts";
import {
  type Codec,
  count32,
  MISFIT,
  namesIn,
  type Parts,
  tail,
  u16,
  u16s,
  u32,
  u32s,
  u64,
  u64s,
  u8,
} from "../put.ts";
`;

/**
 * Returns the text of codecs.ts, without its stamp.
 * @param {Map<string, Layout>} layouts
 * @returns {string}
 */
export function printCodecs(layouts) {
  const hot = HOT.map((cName) => {
    const layout = [...layouts.values()].find((one) => one.cName === cName);
    if (!layout) throw new Error(`no struct ${cName}`);
    return layout;
  });
  /** @param {string} element */
  const sizeOf = (element) => layouts.get(element)?.size ?? scalars[element]?.[0] ?? 0;
  const printed = hot.map((layout) => printCodec(layout, sizeOf));
  const names = hot.map(({ name }) => `  ${name},\n`);
  const table = hot.map(
    ({ name, tail }) => `  [${name}, { put: put${name}${tail ? "" : `, read: read${name}`} }],\n`,
  );
  return (
    `${HEAD}import {\n${names.join("")}} from "./structs.ts";\n\n${printed.join("\n")}\n` +
    "/** The structs that are read and written by code. */\n" +
    "export const codecs: ReadonlyMap<Layout, Codec> = new Map<Layout, Codec>([\n" +
    `${table.join("")}]);\n`
  );
}
