/**
 * Defines the arrays of an exported C file. Equal arrays are defined only once. A table that differs from an earlier
 * table in few places is a copy of the earlier table, followed by an assignment for each difference.
 */
import type { Layout, Scalar, Tail } from "../../abi/layout.ts";
import { sizeOfType } from "../../abi/layout.ts";
import { cName, type Leaf, leafValue, leavesOfElement } from "../leaf.ts";
import { bytesLines, initialiser, number, scalar } from "./literal.ts";

/** The maximum number of elements that are assigned one by one. */
const FEW = 3;

interface Table {
  readonly name: string;
  readonly element: Scalar | Layout;
  readonly bytes: Uint8Array;
}

/** Names and stores the arrays of one file. */
export class Tables {
  readonly #tables: Table[] = [];
  readonly #bytes = new Map<string, string>();
  readonly #definitions: string[] = [];

  /** Returns all definitions, in the order of their first use. */
  lines(): readonly string[] {
    return this.#definitions;
  }

  /** Returns the name of an array with these bytes; a new array is named `wanted` if this name is unused. */
  bytes(bytes: Uint8Array, wanted: string): string {
    const key = Buffer.from(bytes).toString("latin1");
    const known = this.#bytes.get(key);
    if (known !== undefined) return known;
    const isTaken = Array.from(this.#bytes.values()).includes(wanted);
    const name = isTaken ? `${wanted}_${this.#bytes.size + 1}` : wanted;
    this.#bytes.set(key, name);
    this.#define(`static const unsigned char ${name}[${bytes.length}]`, bytesLines(bytes));
    return name;
  }

  /**
   * Fills the tail of a struct; `place` is a C pointer to the tail, which contains zeros or `fill`.
   *
   * @returns `undefined` if no initialiser produces these bytes.
   */
  fill(place: string, tail: Tail, bytes: Uint8Array): readonly string[] | undefined {
    const size = sizeOfType(tail.element);
    const count = bytes.length / size;
    const name = `${place}->${cName(tail.name)}`;
    if (count === 0) return [];
    if (count <= FEW) return this.#elements(name, tail.element, bytes, 0, count);
    const base = this.#nearest(tail.element, bytes);
    if (base !== undefined) return this.#copy(name, base, bytes);
    const made = this.#table(tail.element, bytes);
    return made === undefined ? undefined : [`memcpy(${name}, ${made}, sizeof(${made}));`];
  }

  /** Each element of the tail is assigned as a whole. */
  #elements(
    name: string,
    element: Scalar | Layout,
    bytes: Uint8Array,
    from: number,
    to: number,
  ): readonly string[] | undefined {
    const lines: string[] = [];
    for (let i = from; i < to; i += 1) {
      const value = elementValue(element, bytes, i);
      if (value === undefined) return undefined;
      const cast = typeof element === "string" ? "" : `(struct ${element.name})`;
      lines.push(`${name}[${i}] = ${cast}${value};`);
    }
    return lines;
  }

  /** Returns the earlier table with the fewest differences, if there are only a few. */
  #nearest(element: Scalar | Layout, bytes: Uint8Array): Table | undefined {
    const size = sizeOfType(element);
    const count = bytes.length / size;
    let best: Table | undefined;
    let least = Math.max(FEW, Math.floor(count / 8)) + 1;
    for (const table of this.#tables) {
      if (table.element !== element) continue;
      const differing = differingElements(table.bytes, bytes, size).length;
      if (differing >= least) continue;
      best = table;
      least = differing;
    }
    return best;
  }

  #copy(name: string, base: Table, bytes: Uint8Array): readonly string[] | undefined {
    const size = sizeOfType(base.element);
    const count = bytes.length / size;
    const had = base.bytes.length / size;
    const copied = had <= count ? `sizeof(${base.name})` : `${count} * sizeof(${base.name}[0])`;
    const lines = [`memcpy(${name}, ${base.name}, ${copied});`];
    for (const i of differingElements(base.bytes, bytes, size)) {
      const changed = i < had ? changedFields(base, bytes, i) : undefined;
      if (changed !== undefined) {
        lines.push(...changed.map((text) => `${name}[${i}].${text}`));
        continue;
      }
      const whole = this.#elements(name, base.element, bytes, i, i + 1);
      if (whole === undefined) return undefined;
      lines.push(...whole);
    }
    return lines;
  }

  #table(element: Scalar | Layout, bytes: Uint8Array): string | undefined {
    const size = sizeOfType(element);
    const values: string[] = [];
    for (let i = 0; i < bytes.length / size; i += 1) {
      const value = elementValue(element, bytes, i);
      if (value === undefined) return undefined;
      values.push(value);
    }
    const kind = typeof element === "string" ? element : element.name.replace(/^kvm_/, "");
    const name = `${kind}_${this.#tables.length + 1}`;
    this.#tables.push({ name, element, bytes: bytes.slice() });
    const isInteger = typeof element === "string";
    const type = isInteger ? `__${element}` : `struct ${element.name}`;
    const lines = isInteger ? rows(values, 8) : values.map((value) => `${value},`);
    this.#define(`static const ${type} ${name}[${values.length}]`, lines);
    return name;
  }

  #define(head: string, lines: readonly string[]): void {
    const body = lines.length === 0 ? ["0"] : lines;
    this.#definitions.push(`${head} = {`, ...body.map((line) => `\t${line}`), "};", "");
  }
}

function rows(values: readonly string[], perRow: number): readonly string[] {
  const count = Math.ceil(values.length / perRow);
  return Array.from(
    { length: count },
    (_, i) => `${values.slice(i * perRow, (i + 1) * perRow).join(", ")},`,
  );
}

function elementValue(
  element: Scalar | Layout,
  bytes: Uint8Array,
  index: number,
): string | undefined {
  const at = index * sizeOfType(element);
  return typeof element === "string"
    ? number(scalar(element, bytes, at))
    : initialiser(element, bytes, at);
}

/** Lists the positions at which two arrays differ. */
function differingElements(before: Uint8Array, now: Uint8Array, size: number): readonly number[] {
  return Array.from({ length: now.length / size }, (_, i) => i).filter(
    (i) =>
      Buffer.compare(
        before.subarray(i * size, (i + 1) * size),
        now.subarray(i * size, (i + 1) * size),
      ) !== 0,
  );
}

/** Lists the changes of one element field by field, `ebx = 0x1; // was 0x0`; undefined if there are many. */
function changedFields(
  base: Table,
  bytes: Uint8Array,
  index: number,
): readonly string[] | undefined {
  if (typeof base.element === "string") return undefined;
  const at = index * sizeOfType(base.element);
  const [before, now] = [base.bytes, bytes].map((a) => new DataView(a.buffer, a.byteOffset + at));
  if (before === undefined || now === undefined) return undefined;
  const changed = leavesOfElement(base.element).flatMap((leaf: Leaf) =>
    Array.from({ length: leaf.count ?? 1 }, (_, i) => ({
      name: leaf.count === undefined ? leaf.path : `${leaf.path}[${i}]`,
      old: leafValue(leaf, before, 0, i),
      value: leafValue(leaf, now, 0, i),
    })).filter(({ old, value }) => old !== value),
  );
  if (changed.length > 2) return undefined;
  return changed.map(
    ({ name, old, value }) => `${name} = ${number(value)}; /* ${base.name} has ${number(old)} */`,
  );
}
