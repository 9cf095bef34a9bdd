/**
 * Makes the shapes of all x86 ioctls, which describe arguments and results. The sources are the facts of the headers,
 * kvm-ioctls.tsv, and the hand-written exceptions in ioctl-shapes.json. ioctls.js prints the shapes.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { makeLinks } from "./links.js";

/**
 * @typedef {import("./extract.js").Facts} Facts
 * @typedef {import("./layouts.js").Layout} Layout
 * @typedef {{ kind?: string, struct?: string, direction?: string, nullable?: boolean,
 *   result?: string, fdField?: string, sizeField?: string,
 *   links?: import("./links.js").ToldLink[], reason: string }} Exception
 * @typedef {{ name: string, request: number, fds: string[], kind: string, result: string,
 *   direction: string, links: import("./links.js").Link[], nullable: boolean, struct?: Layout,
 *   size: number, section: string | null,
 *   capability: Record<string, string | null>, since: Record<string, string>,
 *   countOffset: number, countWidth: number, entrySize: number, fdOffset?: number }} Shape
 * @typedef {{ vm: Record<string, string>, vcpu: Record<string, string>,
 *   values: { vcpu: string[] }, known: { vm: string, vcpu: string } }} Commands
 */

const factsDirectory = join(import.meta.dirname, "..", "facts");
const widths = new Map(Object.entries({ u8: 1, u16: 2, u32: 4, u64: 8 }));

/**
 * The hand-written exceptions.
 * @type {{ ioctls: Record<string, Exception>, commands: Commands,
 *   capabilities: Record<string, Record<string, string>> }}
 */
export const exceptions = JSON.parse(
  readFileSync(join(factsDirectory, "ioctl-shapes.json"), "utf8"),
);

/** Reads kvm-ioctls.tsv, which has a row for each ioctl and each kind of descriptor. */
function readRows() {
  const [, ...lines] = readFileSync(join(factsDirectory, "kvm-ioctls.tsv"), "utf8")
    .trimEnd()
    .split("\n");
  return lines.map((line) => {
    const [name = "", fd = "", request = "", , section = "", needs = "", since = ""] =
      line.split("\t");
    return { name, fd, request: Number(request), section, needs, since };
  });
}

/**
 * Finds the capability that a row needs: the first capability that the row names, if the first word is not "basic".
 * @param {Facts} facts @param {{ name: string, fd: string, needs: string }} row
 */
function capabilityOf(facts, { name, fd, needs }) {
  const stated = exceptions.capabilities[name]?.[fd];
  if (stated) return stated;
  if (needs.startsWith("basic")) return null;
  const capability = `KVM_CAP_${/^[A-Z0-9_]+/.exec(needs)?.[0]}`;
  if (!(capability in facts.constants)) throw new Error(`${name} needs ${capability}?`);
  return capability;
}

/** Returns whether a struct has a field with a pointer type in C. @param {Facts} facts @param {string} cName */
function holdsPointer(facts, cName) {
  /** @param {import("./extract.js").Field[]} fields @returns {boolean} */
  const search = (fields) =>
    fields.some(
      ({ type, fields: inner }) =>
        type === "pointer" || search(inner ?? facts.structs[type]?.fields ?? []),
    );
  return search(facts.structs[cName]?.fields ?? []);
}

/**
 * @param {Facts} facts @param {Exception | undefined} stated @param {Layout | undefined} struct
 * @param {number} request @param {string} name
 */
function kindOf(facts, stated, struct, request, name) {
  if (stated?.kind) return stated.kind;
  if (request >>> 16 === 0)
    throw new Error(`${name}: _IO has no argument type; add the kind to ioctl-shapes.json`);
  if (struct?.tail?.count) return "tailed";
  return struct && holdsPointer(facts, struct.cName) ? "pointing" : "plain";
}

/** Finds a field's offset and width. @param {Layout | undefined} struct @param {string} name */
function place(struct, name) {
  const field = struct?.fields.find(({ cName }) => cName === name);
  const width = widths.get(field?.element ?? "");
  if (!field || !width) throw new Error(`${struct?.cName}.${name}: no such integer`);
  return { offset: field.offset, width };
}

/** @param {Map<string, Layout>} layouts @param {Layout["tail"]} tail */
function entrySize(layouts, tail) {
  const size = layouts.get(tail?.element ?? "")?.size ?? widths.get(tail?.element ?? "");
  if (!size) throw new Error(`${tail?.element}: no size`);
  return size;
}

/**
 * @param {Facts} facts @param {Map<string, Layout>} layouts @param {string} name
 * @param {ReturnType<typeof readRows>} rows
 * @returns {Shape}
 */
function makeShape(facts, layouts, name, rows) {
  const known = facts.requests[name];
  const stated = exceptions.ioctls[name];
  const request = known?.request ?? 0;
  if (rows.some((row) => row.request !== request)) throw new Error(`${name}: not ${request}`);
  const cName = stated?.struct ?? known?.argument?.replace(/^struct /, "");
  const struct = [...layouts.values()].find((layout) => layout.cName === cName);
  const kind = kindOf(facts, stated, struct, request, name);
  const counted = kind === "tailed" ? struct?.tail?.count : stated?.sizeField;
  const count = counted ? place(struct, counted) : { offset: 0, width: 0 };
  const bits = ["none", "in", "out", "inout"][request >>> 30] ?? "none";
  const sections = new Set(rows.map(({ section }) => section));
  if (sections.size !== 1) throw new Error(`${name} is in several sections`);
  const [section = "-"] = sections;
  return {
    name,
    request,
    fds: rows.map(({ fd }) => fd),
    kind,
    result: stated?.result ?? "int",
    direction: stated?.direction ?? bits,
    links: makeLinks(facts, cName, stated?.links ?? []),
    nullable: stated?.nullable ?? false,
    ...(struct && { struct }),
    size: struct?.size ?? (request >>> 16) & 0x3fff,
    section: section === "-" ? null : section,
    capability: Object.fromEntries(rows.map((row) => [row.fd, capabilityOf(facts, row)])),
    since: Object.fromEntries(rows.map((row) => [row.fd, row.since])),
    countOffset: count.offset,
    countWidth: count.width,
    entrySize: kind === "tailed" ? entrySize(layouts, struct?.tail) : 0,
    ...(stated?.fdField && { fdOffset: place(struct, stated.fdField).offset }),
  };
}

/**
 * Makes the shape of every x86 ioctl, sorted by request. Two ioctls with the same request are an error.
 * @param {Facts} facts @param {Map<string, Layout>} layouts
 * @returns {Shape[]}
 */
export function makeShapes(facts, layouts) {
  const rows = readRows();
  const names = [...new Set(rows.map(({ name }) => name))];
  for (const name of Object.keys(exceptions.ioctls)) {
    if (!names.includes(name)) throw new Error(`ioctl-shapes.json: ${name} is not an x86 ioctl`);
  }
  const shapes = names
    .map((name) =>
      makeShape(
        facts,
        layouts,
        name,
        rows.filter((row) => row.name === name),
      ),
    )
    .toSorted((a, b) => a.request - b.request);
  for (const [i, shape] of shapes.entries()) {
    if (shapes[i + 1]?.request === shape.request) throw new Error(`${shape.name} is not unique`);
  }
  return shapes;
}
