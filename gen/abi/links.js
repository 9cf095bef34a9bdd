/**
 * Finds the fields of ioctls' structs that contain an address or a descriptor, by the paths in ioctl-shapes.json:
 * `ranges[].bitmap` is sixteen fields. Native code fills in the fields that contain addresses and descriptors.
 * ioctls.js prints these fields.
 */

import { camelCase } from "./layouts.js";

/**
 * @typedef {import("./extract.js").Facts} Facts
 * @typedef {import("./extract.js").Field} Field
 * @typedef {{ field: string, kind: string, direction: string, when?: string[] }} ToldLink
 * @typedef {{ offset: number, width: number, value: number }} Condition
 * @typedef {{ field: string, kind: string, direction: string, offset: number, width: number,
 *   when: Condition[], stated: string[] }} Link
 * @typedef {{ id: number, size: number, links: Link[] }} Command
 */

/** @type {Record<string, number>} */
const widths = { u8: 1, u16: 2, u32: 4, s32: 4, u64: 8, pointer: 8 };

/** The names of fields that contain addresses in the structs of SEV's and TDX's commands. */
const isAddress = /uaddr$|^source_addr$/;

/**
 * Finds the integers that a C path names, with their offsets and TypeScript names.
 * @param {Facts} facts @param {Field[]} fields @param {string} path
 * @returns {{ offset: number, width: number, name: string }[]}
 */
function resolve(facts, fields, path) {
  const [, name = "", index, rest] = /^(\w+)(?:\[(\d*)\])?(?:\.(.*))?$/.exec(path) ?? [];
  const field = fields.find((candidate) => candidate.name === name);
  if (!field) throw new Error(`no field ${path}`);
  const size = field.size ?? facts.structs[field.type]?.size ?? widths[field.type] ?? 0;
  const count = field.dims?.[0] ?? 1;
  const indices = index === "" ? Array.from({ length: count }, (_, i) => i) : [Number(index ?? 0)];
  return indices.flatMap((i) => {
    const offset = field.offset + i * size;
    const ours = camelCase(name) + (index === undefined ? "" : `[${i}]`);
    if (rest === undefined) return [{ offset, width: size, name: ours }];
    const inner = field.fields ?? facts.structs[field.type]?.fields ?? [];
    return resolve(facts, inner, rest).map((found) => ({
      offset: offset + found.offset,
      width: found.width,
      name: `${ours}.${found.name}`,
    }));
  });
}

/**
 * Parses a condition such as `type == KVM_XEN_ATTR_TYPE_EVTCHN`.
 * @param {Facts} facts @param {Field[]} fields @param {string} text @returns {Condition}
 */
function condition(facts, fields, text) {
  const [path = "", value = ""] = text.split(" == ");
  const [place] = resolve(facts, fields, path);
  const number = Number(facts.constants[value] ?? value);
  if (!place || Number.isNaN(number)) throw new Error(`what is ${text}?`);
  return { offset: place.offset, width: place.width, value: number };
}

/**
 * Makes the links of one ioctl, in the order in which callers pass the values for them.
 * @param {Facts} facts @param {string | undefined} cName @param {ToldLink[]} stated
 * @returns {Link[]}
 */
export function makeLinks(facts, cName, stated) {
  const fields = facts.structs[cName ?? ""]?.fields ?? [];
  return stated.flatMap(({ field, kind, direction, when = [] }) =>
    resolve(facts, fields, field).map(({ offset, width, name }) => {
      // A descriptor in a field of eight bytes is written into the lower four bytes, because KVM reads only these four
      // bytes.
      if (kind !== "fd" && width !== 8) throw new Error(`${cName}.${field}: ${width} bytes`);
      const conditions = when.map((text) => condition(facts, fields, text));
      return { field: name, kind, direction, offset, width, when: conditions, stated: when };
    }),
  );
}

/**
 * Makes the commands of KVM_MEMORY_ENCRYPT_OP whose own structs contain addresses.
 * @param {Facts} facts @param {Record<string, string>} named
 * @returns {Command[]}
 */
export function makeCommands(facts, named) {
  return Object.entries(named).map(([command, cName]) => {
    const struct = facts.structs[cName];
    const id = facts.constants[command];
    if (!struct || id === undefined) throw new Error(`${command}: no struct ${cName}`);
    const stated = struct.fields
      .filter(({ name }) => isAddress.test(name))
      .map(({ name }) => ({ field: name, kind: "bytes", direction: "inout" }));
    if (stated.length === 0) throw new Error(`${cName} holds no address`);
    return { id: Number(id), size: struct.size, links: makeLinks(facts, cName, stated) };
  });
}
