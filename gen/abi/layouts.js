/**
 * Makes the layouts of structs from the facts. structs.js prints the layouts, and ioctls.js refers to them. Only this
 * file contains rules that turn C names into TypeScript names.
 */

import { choices } from "./macros.js";

/**
 * @typedef {import("./extract.js").Facts} Facts
 * @typedef {import("./extract.js").Field} CField
 * @typedef {import("./extract.js").Struct} CStruct
 * @typedef {{ name: string, cName: string, offset: number, c: string, element: string,
 *   isLayout: boolean, dims: number[], bits?: [number, number] }} Field
 * @typedef {{ name: string, cName: string, kind: string, size: number, fields: Field[],
 *   tail?: { name: string, offset: number, count: string | null, c: string, element: string,
 *     isLayout: boolean, cName: string } }} Layout
 */

/** Returns the TypeScript name of a C field: `guest_phys_addr` into `guestPhysAddr`. @param {string} name */
export const camelCase = (name) => name.replace(/_+([a-z0-9])/g, (_, next) => next.toUpperCase());

/** Returns the TypeScript name of a C struct: `kvm_cpuid_entry2` into `CpuidEntry2`. @param {string} name */
export function pascalCase(name) {
  const camel = camelCase(name.replace(/^kvm_/, ""));
  return camel.charAt(0).toUpperCase() + camel.slice(1);
}

/**
 * The C types whose names differ from the types of a layout; a char becomes a byte, and a pointer becomes eight bytes.
 */
const scalars = new Map([
  ["char", "u8"],
  ["pointer", "u64"],
]);

/** @param {CField} field */
const isInline = (field) => field.type === "struct" || field.type === "union";

/**
 * Lists the structs that x86 needs: all structs that are not foreign, and the structs inside them.
 * @param {Facts} facts
 */
function keptStructs(facts) {
  const kept = new Set(Object.keys(facts.structs).filter((n) => !(n in choices.foreignStructs)));
  /** @param {CField[]} fields */
  const follow = (fields) => {
    for (const field of fields) {
      const inner = facts.structs[field.type];
      if (inner) kept.add(field.type);
      follow(field.fields ?? inner?.fields ?? []);
    }
  };
  for (const name of kept) follow(facts.structs[name]?.fields ?? []);
  return kept;
}

/**
 * Makes every layout; the structs inside a struct come before this struct; otherwise the layouts are ordered by name.
 * @param {Facts} facts
 * @returns {Map<string, Layout>} by TypeScript name
 */
export function makeLayouts(facts) {
  /** @type {Map<string, Layout>} */
  const layouts = new Map();
  const owners = new Map();

  /** @param {CField} field @param {string} owner @param {string} path @returns {Field} */
  const makeField = (field, owner, path) => {
    const isLayout = isInline(field) || field.type in facts.structs;
    let element = scalars.get(field.type) ?? field.type;
    if (isInline(field)) {
      element = owner + pascalCase(field.name);
      const { type: kind, size = 0, fields = [] } = field;
      add(element, `${path}.${field.name}`, { kind, size, fields });
    } else if (isLayout) {
      element = addNamed(field.type);
    }
    return {
      name: camelCase(field.name),
      cName: field.name,
      offset: field.offset,
      c: field.c,
      element,
      isLayout,
      dims: field.dims ?? [],
      ...(field.bits && { bits: field.bits }),
    };
  };

  /** @param {string} name @param {string} cName @param {CStruct} struct */
  const add = (name, cName, struct) => {
    if (owners.has(name)) throw new Error(`${cName} and ${owners.get(name)} are both ${name}`);
    owners.set(name, cName);
    /** @type {Layout} */
    const layout = { name, cName, kind: struct.kind, size: struct.size, fields: [] };
    for (const field of struct.fields) {
      const isFlexible = field.dims?.[0] === 0 || field.size === 0;
      if (isFlexible) addTail(layout, field);
      else layout.fields.push(makeField(field, name, cName));
    }
    const names = layout.fields.map((field) => field.name);
    if (new Set(names).size !== names.length)
      throw new Error(`${cName}: two fields have the same name`);
    layouts.set(name, layout);
  };

  /** @param {Layout} layout @param {CField} field */
  const addTail = (layout, field) => {
    const stated = choices.tailCounts[layout.cName];
    if (!stated || layout.tail)
      throw new Error(
        `${layout.cName}.${field.name}: a struct has one tail at most, and tailCounts has its count`,
      );
    // A union of flexible arrays has several element types, so its tail is bytes.
    const made = isInline(field)
      ? { element: "u8", isLayout: false }
      : makeField(field, layout.name, layout.cName);
    layout.tail = {
      name: camelCase(field.name),
      cName: field.name,
      offset: field.offset,
      count: stated.count,
      c: field.c,
      element: made.element,
      isLayout: made.isLayout,
    };
  };

  /** @param {string} cName */
  const addNamed = (cName) => {
    const name = pascalCase(cName);
    const struct = facts.structs[cName];
    if (!struct) throw new Error(`no struct ${cName}`);
    if (!layouts.has(name)) add(name, cName, struct);
    return name;
  };

  const kept = keptStructs(facts);
  for (const cName of Object.keys(facts.structs).filter((name) => kept.has(name))) addNamed(cName);
  return layouts;
}
