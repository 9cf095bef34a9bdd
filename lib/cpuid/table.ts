/**
 * The CPUID table of a vCPU: an ordered, immutable list with access by entry and by field name. builder.ts makes the
 * table of a vCPU from the entries that KVM supports.
 */
import { registerUnchanging } from "../abi/unchanging.ts";
import { inspectAs } from "../inspect.ts";
import { describe, refuseMissing, refuseUnknown, toList } from "../options.ts";
import {
  type CpuidEntry2,
  type CpuidEntry2Input,
  entry,
  formatLeaf,
  locate,
  sameEntry,
} from "./entry.ts";
import {
  baseOf,
  type CpuidBitName,
  type CpuidField,
  type CpuidFieldName,
  type CpuidSpace,
  type CpuidWideName,
  field,
  formatBits,
  hasSubleaves,
  readField,
  writeField,
} from "./field.ts";
import { printTable } from "./print.ts";
import { type CpuidQueryOptions, type CpuidQueryResult, query } from "./query.ts";
import { brandOf, vendorOf } from "./values.ts";

/**
 * Maps field names to the values that are written. The compiler rejects unknown names, and any value except 0 and 1 for
 * a one-bit field.
 */
export type CpuidFieldValuesInput = { readonly [name in CpuidBitName]?: 0 | 1 } & {
  readonly [name in CpuidWideName]?: number;
};

/**
 * One entry as JSON: the leaf and the registers are hexadecimal text, index and flags are numbers, and padding is
 * present only if it is not 0.
 */
export interface CpuidEntryJson {
  /** The leaf, such as `0x7`. */
  readonly function: string;
  /** The sub-leaf. */
  readonly index: number;
  readonly flags: number;
  /** As `0x2`. */
  readonly eax: string;
  readonly ebx: string;
  readonly ecx: string;
  readonly edx: string;
  /** The three padding words; omitted if all are 0. */
  readonly padding?: readonly number[];
}

/** A table as JSON. */
export interface CpuidTableJson {
  /** The entries in their order. */
  readonly entries: readonly CpuidEntryJson[];
}

/** The place of a field in one table: the index, the absolute function, and the position of the entry, or -1. */
interface Place {
  readonly function: number | undefined;
  readonly index: number;
  readonly position: number;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

/** Returns a position in a table. @throws TypeError for anything but a number. */
function toPosition(where: string, position: unknown): number {
  if (typeof position === "number") return position;
  throw new TypeError(`${where}: position: expected a number, got ${describe(position)}`);
}

function refuseNonFunction(where: string, given: unknown): void {
  if (typeof given === "function") return;
  throw new TypeError(`${where}: expected a function, got ${describe(given)}`);
}

/**
 * Selects the index at which a field is read: the caller's index, or by default the first index of the field's range.
 */
function indexOf(wanted: CpuidField, index: number | undefined): number {
  const own = wanted.index;
  const { first, last } = typeof own === "number" ? { first: own, last: own } : own;
  const chosen = index ?? first;
  if (Number.isInteger(chosen) && first <= chosen && chosen <= last) return chosen;
  const range = first === last ? `index ${first}` : `indexes ${first} to ${last}`;
  throw new RangeError(
    `cpuid field ${wanted.name}: index ${describe(chosen)}, but it is in ${range} only`,
  );
}

/** Rejects anything but a {@link CpuidTable}. @throws TypeError */
export function refuseNonTable(where: string, given: unknown): void {
  if (given instanceof CpuidTable) return;
  throw new TypeError(`${where}: expected a CpuidTable, got ${describe(given)}`);
}

/** Parses a number, or decimal or hexadecimal text, of the JSON; anything else becomes NaN, which entry() rejects. */
function numberFrom(value: unknown): number {
  if (typeof value === "string" && /^(0x[0-9a-f]+|\d+)$/i.test(value)) return Number(value);
  return typeof value === "number" ? value : Number.NaN;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const ENTRY_MEMBERS = ["function", "index", "flags", "eax", "ebx", "ecx", "edx", "padding"];

/** The members of a JSON document of one table (docs/cpuid-table.schema.json). */
const TABLE_MEMBERS = ["entries", "cpu", "complete", "source", "$schema"];

function entryFrom(value: unknown, i: number): CpuidEntry2 {
  if (!isRecord(value)) throw new TypeError(`cpuid table: entry ${i} is not an object`);
  refuseUnknown(`cpuid table: entry ${i}`, value, ENTRY_MEMBERS, "member");
  const { function: fn, index = 0, flags = 0, eax = 0, ebx = 0, ecx = 0, edx = 0, padding } = value;
  const numbers = { function: fn, index, flags, eax, ebx, ecx, edx };
  const read = Object.entries(numbers).map(([name, v]) => [name, numberFrom(v)] as const);
  const bad = read.find(([, v]) => Number.isNaN(v));
  if (bad) throw new TypeError(`cpuid table: entry ${i} has no number as ${bad[0]}`);
  if (padding !== undefined && !Array.isArray(padding)) {
    throw new TypeError(`cpuid table: entry ${i} has no array as padding`);
  }
  const input = { function: 0, ...Object.fromEntries(read) };
  return entry(padding ? { ...input, padding: padding.map(numberFrom) } : input);
}

/**
 * An immutable list of CPUID entries with their order, duplicates and flags: a method that changes something returns a
 * new table. A table iterates over `CpuidEntry2`, so any function that accepts entries also accepts a table.
 *
 * @example
 * ```ts run
 * import { CpuidTable } from "node-kvm/cpuid";
 *
 * const table = CpuidTable.from([{ function: 0x7, ebx: 0x20 }]);
 * console.log(table.has("avx2"), table.with({ avx2: 0 }).has("avx2"));
 * ```
 *
 * ```text output
 * true false
 * ```
 */
export class CpuidTable implements Iterable<CpuidEntry2> {
  readonly #entries: readonly CpuidEntry2[];
  readonly #bases = new Map<CpuidSpace, number | undefined>();

  private constructor(entries: readonly CpuidEntry2[]) {
    if (!Array.isArray(entries)) {
      throw new TypeError("new CpuidTable(): use CpuidTable.from() or CpuidTable.fromJSON()");
    }
    this.#entries = Object.freeze(entries);
    Object.freeze(this);
    // A subclass may override the iterator.
    if (new.target === CpuidTable) registerUnchanging(this);
  }

  /**
   * Makes a table from entries, in their order. A number that is not a u32 causes a RangeError that names the register.
   */
  static from(entries: Iterable<CpuidEntry2Input>): CpuidTable {
    return new CpuidTable(toList("CpuidTable.from()", entries).map(entry));
  }

  /**
   * Makes a table from the result of {@link toJSON}, or from a JSON document of one table, whose other members (cpu,
   * complete, source) are ignored. Numbers may be JSON numbers or hexadecimal text. Anything else is a TypeError.
   */
  static fromJSON(value: unknown): CpuidTable {
    const { entries } = isRecord(value) ? value : { entries: undefined };
    if (!Array.isArray(entries)) throw new TypeError("cpuid table: no array of entries");
    refuseUnknown("cpuid table", value, TABLE_MEMBERS, "member");
    return new CpuidTable(entries.map(entryFrom));
  }

  /** The number of entries. */
  get length(): number {
    return this.#entries.length;
  }

  /** Iterates over the entries in order. */
  [Symbol.iterator](): IterableIterator<CpuidEntry2> {
    return this.#entries[Symbol.iterator]();
  }

  /**
   * Returns the entry at a position; a negative position counts from the end. Returns undefined if the position is
   * outside of the table.
   */
  at(position: number): CpuidEntry2 | undefined {
    return this.#entries.at(toPosition("at()", position));
  }

  /**
   * Finds an entry as KVM's cpuid_entry2_find does: the first match. With an index, the method works like the guest's
   * CPUID instruction: an entry without SIGNIFICANT_INDEX matches any index, and an entry with this flag matches only
   * its own index. Without an index, the method works like KVM's internal lookup: it finds index 0 of a function that
   * KVM treats as indexed, and ignores the index for any other function.
   */
  find(fn: number, index?: number): CpuidEntry2 | undefined {
    return this.#entries[locate(this.#entries, fn, index)];
  }

  /**
   * Returns the result of a guest's CPUID instruction on a vCPU with this table; see {@link query}.
   *
   * @throws RangeError for a number that does not fit; TypeError for an unknown option.
   */
  query(fn: number, index: number = 0, options: CpuidQueryOptions = {}): CpuidQueryResult {
    return query(this.#entries, fn, index, options);
  }

  /**
   * Returns the base of a space: 0 for "native", otherwise the leaf with the hypervisor's signature; undefined if the
   * signature is absent.
   */
  base(space: CpuidSpace): number | undefined {
    if (!this.#bases.has(space)) this.#bases.set(space, baseOf(this.#entries, space));
    return this.#bases.get(space);
  }

  #place(wanted: CpuidField, asked: number | undefined): Place {
    const index = indexOf(wanted, asked);
    const base = this.base(wanted.space);
    if (base === undefined) return { function: undefined, index, position: -1 };
    const fn = base + wanted.function;
    const chosen = hasSubleaves(wanted.space, wanted.function) ? index : undefined;
    return { function: fn, index, position: locate(this.#entries, fn, chosen) };
  }

  /**
   * Reads a field as an unsigned number; undefined if its leaf, or its hypervisor, is absent. If several sub-leaves
   * have the field, the index selects the sub-leaf, by default the first. An index outside of the range of these
   * sub-leaves is a RangeError.
   */
  get(name: CpuidFieldName, index?: number): number | undefined {
    const wanted = field(name);
    const found = this.#entries[this.#place(wanted, index).position];
    return found && readField(found[wanted.register], wanted.low, wanted.high);
  }

  /** Whether a field is present and not 0. */
  has(name: CpuidFieldName, index?: number): boolean {
    return (this.get(name, index) ?? 0) !== 0;
  }

  /**
   * Sets fields by name, each in the entry that {@link get} reads, and returns the new table. A value that is not an
   * integer or does not fit its field causes a RangeError, which names the field and the place. A field whose leaf is
   * absent also causes a RangeError. The index selects the sub-leaf for fields that several sub-leaves have.
   */
  with(values: CpuidFieldValuesInput, index?: number): CpuidTable {
    refuseMissing("with(): values", values, []);
    const entries = [...this.#entries];
    for (const name of Object.keys(values) as CpuidFieldName[]) {
      const wanted = field(name);
      const value = values[name] ?? Number.NaN;
      const { function: fn, index: at, position } = this.#place(wanted, index);
      const wrong = (what: string): RangeError => new RangeError(`cpuid field ${name}: ${what}`);
      if (fn === undefined) throw wrong(`the table has no ${wanted.space} signature`);
      const { register, low, high } = wanted;
      const bits = formatBits({ function: fn, index: at, register, low, high });
      const old = entries[position];
      if (!old) throw wrong(`the table has no entry ${formatLeaf(fn, at)} (${bits})`);
      if (!Number.isInteger(value)) throw wrong(`${describe(value)} is not an integer (${bits})`);
      const width = high - low + 1;
      if (value < 0 || value >= 2 ** width) {
        throw wrong(`${value} does not fit ${width} ${width === 1 ? "bit" : "bits"} (${bits})`);
      }
      entries[position] = entry({
        ...old,
        [register]: writeField(old[register], low, high, value),
      });
    }
    return new CpuidTable(entries);
  }

  /** Replaces the first entry with the same function and index, or appends the entry if there is none. */
  withEntry(input: CpuidEntry2Input): CpuidTable {
    const made = entry(input);
    const i = this.#entries.findIndex(
      (e) => e.function === made.function && e.index === made.index,
    );
    return i < 0 ? this.append(made) : new CpuidTable(this.#entries.with(i, made));
  }

  /** Changes members of the entry at a position; a position outside of the table is a RangeError. */
  replace(position: number, patch: Partial<CpuidEntry2Input>): CpuidTable {
    toPosition("replace()", position);
    refuseUnknown("replace(): patch", patch, ENTRY_MEMBERS, "member");
    const old = position < 0 ? undefined : this.#entries[position];
    if (!old) {
      throw new RangeError(`cpuid table: no entry at ${position}, there are ${this.length}`);
    }
    return new CpuidTable(this.#entries.with(position, entry({ ...old, ...patch })));
  }

  /** Removes every entry of a function, or only the entries with this index; it is not an error if there are none. */
  without(fn: number, index?: number): CpuidTable {
    return this.filter((e) => e.function !== fn || (index !== undefined && e.index !== index));
  }

  /** Adds entries at the end. */
  append(...entries: readonly CpuidEntry2Input[]): CpuidTable {
    return new CpuidTable([...this.#entries, ...entries.map(entry)]);
  }

  /** Keeps the entries for which the function returns true. */
  filter(keep: (e: CpuidEntry2, position: number) => boolean): CpuidTable {
    refuseNonFunction("filter()", keep);
    return new CpuidTable(this.#entries.filter(keep));
  }

  /** Changes each entry; the order stays. */
  map(change: (e: CpuidEntry2, position: number) => CpuidEntry2Input): CpuidTable {
    refuseNonFunction("map()", change);
    return CpuidTable.from(this.#entries.map(change));
  }

  /**
   * Compares two tables as KVM does after KVM_RUN: the number of entries, and all members of each entry except the
   * padding, position by position.
   */
  equals(other: Iterable<CpuidEntry2>): boolean {
    const others = toList("equals()", other);
    for (const [i, e] of others.entries()) refuseMissing(`equals(): [${i}]`, e, ["function"]);
    return (
      others.length === this.length &&
      others.every((e, i) => {
        const own = this.#entries[i];
        return own !== undefined && sameEntry(own, e);
      })
    );
  }

  /** Returns the table as plain JSON; {@link fromJSON} reads it back. */
  toJSON(): CpuidTableJson {
    const entries = this.#entries.map(
      ({ function: fn, index, flags, eax, ebx, ecx, edx, padding }) => {
        const registers = { eax: hex(eax), ebx: hex(ebx), ecx: hex(ecx), edx: hex(edx) };
        const made = { function: hex(fn), index, flags, ...registers };
        return padding.some((word) => word !== 0) ? { ...made, padding } : made;
      },
    );
    return { entries };
  }

  /** Returns the table as text, with one line per entry. */
  toString(): string {
    return printTable(this);
  }

  static {
    inspectAs(CpuidTable, (it) => ({
      vendor: vendorOf(it.#entries),
      brand: brandOf(it.#entries),
      entries: it.#entries,
    }));
  }
}
