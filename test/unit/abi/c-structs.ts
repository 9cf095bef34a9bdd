/**
 * Describes the structs with their C names, from the facts that were extracted from the headers. The file also converts
 * values of this package to C names. c-program.ts generates the program that uses these names.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Members, Path } from "./values.ts";

/** A field as C declares it: the element type and the array dimensions, with 0 for a flexible array. */
export interface CField {
  readonly name: string;
  readonly type: string;
  readonly dims: readonly number[];
  /** The struct of the field's elements, by its name in this file. */
  readonly inner: string | undefined;
  /** The C expression of the field in the struct at `p`. */
  readonly at: string;
}

/** A struct or union; an unnamed struct is named by its path. */
export interface CStruct {
  readonly name: string;
  /** The C type of the struct. */
  readonly type: string;
  readonly fields: readonly CField[];
}

interface FieldFact {
  readonly name: string;
  readonly type: string;
  readonly dims?: readonly number[];
  readonly size?: number;
  readonly fields?: readonly FieldFact[];
}
type StructFacts = Readonly<Record<string, { readonly fields: readonly FieldFact[] }>>;

const FACTS = join(import.meta.dirname, "../../../gen/facts/kvm-abi.json");

/** Converts a field's C name to the name in this package. */
const ours = (name: string): string =>
  name.replace(/_+([a-z0-9])/g, (_, next: string) => next.toUpperCase());

/** Creates the descriptions of all structs in the facts, including the inline structs. */
export function cStructs(facts: StructFacts): ReadonlyMap<string, CStruct> {
  const found = new Map<string, CStruct>();
  const add = (name: string, type: string, fields: readonly FieldFact[]): void => {
    found.set(name, { name, type, fields: fields.map((field) => fieldOf(name, type, field)) });
  };
  const fieldOf = (owner: string, type: string, field: FieldFact): CField => {
    const { name, dims = [], size, fields } = field;
    const at = `p->${name}`;
    // In this package's layouts, a union that has only flexible arrays is an array of bytes.
    if (size === 0) {
      const bytes = `((unsigned char *)&${at})`;
      return { name, type: "u8", dims: [0], inner: undefined, at: bytes };
    }
    if (!fields) {
      return {
        name,
        type: field.type,
        dims,
        inner: field.type in facts ? field.type : undefined,
        at,
      };
    }
    const inner = `${owner}.${name}`;
    add(inner, `__typeof__(((${type} *)0)->${name}${dims.map(() => "[0]").join("")})`, fields);
    return { name, type: field.type, dims, inner, at };
  };
  for (const [name, { fields }] of Object.entries(facts)) add(name, `struct ${name}`, fields);
  return found;
}

/** Reads the facts of the committed headers. */
export function structFacts(): StructFacts {
  const { structs } = JSON.parse(readFileSync(FACTS, "utf8")) as { structs: StructFacts };
  return structs;
}

/** Returns the struct that has the name of a layout. */
export function structOf(structs: ReadonlyMap<string, CStruct>, name: string): CStruct {
  const struct = structs.get(name);
  if (!struct) throw new Error(`the facts have no ${name}`);
  return struct;
}

/** Lists the paths of a struct's integers, under this package's names. */
export function pathsOf(structs: ReadonlyMap<string, CStruct>, name: string): readonly Path[] {
  return structOf(structs, name).fields.flatMap((field) => {
    const ways = field.inner === undefined ? [[]] : pathsOf(structs, field.inner);
    return ways.map((way) => [ours(field.name), ...way]);
  });
}

const deep = (value: unknown, one: (element: unknown) => unknown): unknown =>
  Array.isArray(value) || value instanceof Uint8Array
    ? Array.from(value, (element) => deep(element, one))
    : one(value);

/** Converts a value of this package to C names, with integers in decimal. */
export function inC(
  structs: ReadonlyMap<string, CStruct>,
  name: string,
  members: Members,
): Members {
  const named = structOf(structs, name).fields.map(({ name: c, inner }) => {
    const one = (value: unknown): unknown =>
      inner === undefined ? String(value) : inC(structs, inner, value as Members);
    const value = members[ours(c)];
    return [c, value === undefined ? undefined : deep(value, one)] as const;
  });
  return Object.fromEntries(named.filter(([, value]) => value !== undefined));
}
