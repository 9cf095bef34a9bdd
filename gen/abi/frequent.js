/**
 * Generates lib/abi/generated/frequent.ts from layouts: a plain reader, and for some structs a plain writer, of the
 * structs whose speed matters. V8 is fast only in code that names the members: it then makes objects of one shape, and
 * finds their members quickly. lib/abi/codec.ts reads and writes all other structs, and the values that a plain writer
 * does not accept.
 */

/**
 * @typedef {import("./layouts.js").Layout} Layout
 * @typedef {import("./layouts.js").Field} Field
 */

/** The structs that a program reads at each exit, at a migration, or in large numbers, and the structs inside them. */
const READ = [
  "kvm_regs",
  "kvm_segment",
  "kvm_dtable",
  "kvm_sregs",
  "kvm_sregs2",
  "kvm_fpu",
  "kvm_debugregs",
  "kvm_mp_state",
  "kvm_vcpu_events.exception",
  "kvm_vcpu_events.interrupt",
  "kvm_vcpu_events.nmi",
  "kvm_vcpu_events.smi",
  "kvm_vcpu_events.triple_fault",
  "kvm_vcpu_events",
  "kvm_cpuid_entry2",
  "kvm_msr_entry",
];

/** The structs that a program also writes at each exit or in large numbers. */
const WRITTEN = new Set([
  "kvm_regs",
  "kvm_segment",
  "kvm_dtable",
  "kvm_sregs",
  "kvm_sregs2",
  "kvm_cpuid_entry2",
  "kvm_msr_entry",
]);

/** @type {Record<string, [size: number, get: string]>} */
const scalars = {
  u8: [1, "getUint8"],
  s8: [1, "getInt8"],
  u16: [2, "getUint16"],
  u32: [4, "getUint32"],
  u64: [8, "getBigUint64"],
};

/** @param {number} offset */
const place = (offset) => (offset === 0 ? "at" : `at + ${offset}`);

/** @param {string} element */
function scalarOf(element) {
  const scalar = scalars[element];
  if (!scalar) throw new Error(`frequent.js does not know the type ${element}`);
  return scalar;
}

/**
 * Prints an expression that reads a field, or an array of a field with these dimensions.
 * @param {Field} field @param {number} offset @param {number[]} dims @returns {string}
 */
function get({ element, isLayout }, offset, dims) {
  if (isLayout && dims.length === 0) return `read${element}(v, ${place(offset)})`;
  const [size, getter] = scalarOf(element);
  if (dims.length === 0) return `v.${getter}(${place(offset)}${size === 1 ? "" : ", true"})`;
  const [count = 0, ...deeper] = dims;
  if (element === "u8" && deeper.length === 0) return `bytes(v, ${place(offset)}, ${count})`;
  const step = deeper.reduce((product, dim) => product * dim, size);
  const field = { element, isLayout };
  const all = Array.from({ length: count }, (_, i) =>
    get(/** @type {Field} */ (field), offset + i * step, deeper),
  );
  return `[\n${all.map((one) => `    ${one},\n`).join("")}  ]`;
}

/**
 * Prints an expression that writes a field; its value is false if the value does not fit the field.
 * @param {Field} field
 */
function put({ name, offset, element, isLayout, dims }) {
  const start = `(v, ${place(offset)}, x.${name}`;
  if (isLayout) return `write${element}${start})`;
  return dims.length === 0 ? `${element}${start})` : `${element}s${start}, ${dims[0]})`;
}

/** @param {Layout} layout */
function printFunctions({ name, cName, fields, tail }) {
  const odd = fields.find(({ bits, isLayout, dims }) => bits || (isLayout && dims.length > 0));
  if (odd || tail) throw new Error(`${cName}: frequent.js cannot do this`);
  const members = fields.map(
    (field) => `  ${field.name}: ${get(field, field.offset, field.dims)},\n`,
  );
  const read = `const read${name} = (v: DataView, at: number): ${name} => ({\n${members.join("")}});\n`;
  if (!WRITTEN.has(cName)) return read;
  return (
    `${read}let names${name}: readonly (keyof ${name} & string)[] | undefined;\n` +
    `const write${name}: Write = (v, at, x) =>\n` +
    `  isWhole(x, (names${name} ??= namesOf(${name}))) &&\n  x[Symbol.iterator] === undefined &&\n  ${fields.map(put).join(" &&\n  ")};\n`
  );
}

const HEAD = `import {
  bytes,
  type Frequent,
  isWhole,
  namesOf,
  u16,
  u16s,
  u32,
  u32s,
  u64,
  u64s,
  u8,
  type Write,
} from "../frequent.ts";
import type { Layout } from "../layout.ts";
`;

/**
 * Returns the text of frequent.ts, without its stamp.
 * @param {Map<string, Layout>} layouts
 * @returns {string}
 */
export function printFrequent(layouts) {
  const all = [...layouts.values()].filter(({ cName }) => READ.includes(cName));
  const missing = READ.filter((cName) => !all.some((one) => one.cName === cName));
  if (missing.length > 0) throw new Error(`no struct ${missing}`);
  const table = all.map(({ name, cName }) => {
    const write = WRITTEN.has(cName) ? `, write: write${name}` : "";
    return `  [${name}, { read: read${name}${write} }],\n`;
  });
  return (
    `${HEAD}import {\n${all.map(({ name }) => `  ${name},\n`).join("")}} from "./structs.ts";\n\n` +
    `${all.map(printFunctions).join("\n")}\n` +
    "/** The structs that are read, and some of them written, by plain code. */\n" +
    "export const frequent: ReadonlyMap<Layout, Frequent> = new Map<Layout, Frequent>([\n" +
    `${table.join("")}]);\n`
  );
}
