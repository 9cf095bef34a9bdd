/**
 * A CPUID table with an index for lint rules: it reads each entry once, and lookups then take constant time. rules.ts
 * lists the rules.
 */
import {
  CPUID_REGISTERS,
  type CpuidEntry2,
  type CpuidRegister,
  KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
} from "../entry.ts";
import {
  baseOf,
  CPUID_SPACES,
  type CpuidField,
  type CpuidFieldName,
  type CpuidSpace,
  field,
  hasSubleaves,
  readField,
} from "../field.ts";
import type { CpuidLintEdit, LintBits, LintPlace } from "./rule.ts";

/** The vendors that rules distinguish. KVM treats AMD and Hygon alike, and all other vendors like Intel. */
export type LintVendor = "intel" | "amd" | "hygon" | "centaur" | "zhaoxin" | "unknown";

const VENDORS: Readonly<Record<string, LintVendor>> = {
  GenuineIntel: "intel",
  AuthenticAMD: "amd",
  HygonGenuine: "hygon",
  CentaurHauls: "centaur",
  "  Shanghai  ": "zhaoxin",
};

const FIRST_EXTENDED = 0x8000_0000;
const FIRST_HYPERVISOR = 0x4000_0000;
const NONE: readonly number[] = [];

function charactersOf(words: readonly number[]): string {
  return String.fromCharCode(
    ...words.flatMap((w) => [w & 0xff, (w >>> 8) & 0xff, (w >>> 16) & 0xff, w >>> 24]),
  );
}

/** Whether all four registers are 0. */
export function isZero(e: CpuidEntry2): boolean {
  return (e.eax | e.ebx | e.ecx | e.edx) === 0;
}

/** Whether an entry has KVM_CPUID_FLAG_SIGNIFCANT_INDEX. */
export function isFlagged(e: CpuidEntry2): boolean {
  return (e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) !== 0;
}

/** Returns an edit that sets the bits of a place, or of a whole register. */
export function setBits(
  position: number,
  register: CpuidRegister,
  low: number,
  high: number,
  value: number,
): CpuidLintEdit {
  const mask = ((2 ** (high - low + 1) - 1) * 2 ** low) >>> 0;
  return { kind: "bits", position, register, mask, value: (value << low) >>> 0 };
}

/** An indexed table. Registers of absent entries read as 0, as in a guest. */
export class LintTable {
  readonly entries: readonly CpuidEntry2[];
  /** The highest basic leaf; undefined if leaf 0 is absent. */
  readonly maxBasic: number | undefined;
  /** The highest extended leaf; undefined if leaf 0x80000000 is absent. */
  readonly maxExtended: number | undefined;
  /** The vendor's 12 characters; undefined if leaf 0 is absent. */
  readonly vendorText: string | undefined;
  readonly vendor: LintVendor;
  /** The functions of the table in ascending order. */
  readonly functions: readonly number[];
  readonly #positions = new Map<number, number[]>();
  readonly #bases = new Map<CpuidSpace, number>();
  readonly #spaces = new Map<number, CpuidSpace>();
  readonly #kept = new Map<string, unknown>();

  constructor(entries: readonly CpuidEntry2[]) {
    this.entries = entries;
    for (const [position, { function: fn }] of entries.entries()) {
      const known = this.#positions.get(fn);
      if (known) known.push(position);
      else this.#positions.set(fn, [position]);
    }
    this.functions = Array.from(this.#positions.keys()).sort((a, b) => a - b);
    const first = this.leaf(0);
    this.maxBasic = first?.eax;
    this.maxExtended = this.leaf(FIRST_EXTENDED)?.eax;
    this.vendorText = first && charactersOf([first.ebx, first.edx, first.ecx]);
    const text = this.vendorText ?? "";
    this.vendor = (Object.hasOwn(VENDORS, text) ? VENDORS[text] : undefined) ?? "unknown";
    this.#findBases();
  }

  /** Finds the interfaces in the leaves that the table has, instead of all 256 possible bases. */
  #findBases(): void {
    const firsts = this.functions.filter(
      (fn) =>
        fn >= FIRST_HYPERVISOR && fn <= 0x4000_ffff && ((fn & 0xff) === 0 || fn === 0x4000_0001),
    );
    const entries = firsts.flatMap((fn) => {
      const position = this.find(fn, 0);
      const found = this.entries[position];
      return found ? [found] : [];
    });
    if (entries.length === 0) return;
    for (const space of CPUID_SPACES) {
      if (space === "native") continue;
      const base = baseOf(entries, space);
      if (base === undefined) continue;
      this.#bases.set(space, base);
      if (!this.#spaces.has(base)) this.#spaces.set(base, space);
    }
  }

  /** Whether the vendor is AMD or Hygon, for which KVM returns zeros for absent leaves. */
  get isAmd(): boolean {
    return this.vendor === "amd" || this.vendor === "hygon";
  }

  /** Returns the positions of a function's entries, in order. */
  positions(fn: number): readonly number[] {
    return this.#positions.get(fn) ?? NONE;
  }

  /** Returns the space of a leaf. */
  space(fn: number): CpuidSpace {
    return this.#spaces.get((fn & 0xffff_ff00) >>> 0) ?? "native";
  }

  /** Returns the base of an interface; undefined if the table lacks the interface. */
  base(space: CpuidSpace): number | undefined {
    return space === "native" ? 0 : this.#bases.get(space);
  }

  /** Whether a leaf has sub-leaves, according to KVM or the database. */
  isIndexed(fn: number): boolean {
    const space = this.space(fn);
    return hasSubleaves(space, fn - (this.base(space) ?? 0));
  }

  /**
   * Returns the position of the first entry of a function with this index, or -1. If the leaf has no sub-leaves,
   * returns the position of the first entry of the function.
   */
  find(fn: number, index = 0): number {
    const positions = this.positions(fn);
    const exact = positions.find((position) => this.entries[position]?.index === index);
    if (exact !== undefined) return exact;
    const [first = -1] = positions;
    return first >= 0 && index === 0 && !this.isIndexed(fn) ? first : -1;
  }

  /** Returns the entry of a function and index. */
  leaf(fn: number, index = 0): CpuidEntry2 | undefined {
    return this.entries[this.find(fn, index)];
  }

  /** Reads a register; 0 if the entry is absent. */
  register(fn: number, index: number, register: CpuidRegister): number {
    return this.leaf(fn, index)?.[register] ?? 0;
  }

  /** Whether any entry of a function has a register that is not 0. */
  hasData(fn: number): boolean {
    return this.positions(fn).some((position) => {
      const e = this.entries[position];
      return e !== undefined && !isZero(e);
    });
  }

  #locate(
    name: CpuidFieldName,
    index: number | undefined,
  ): LintPlace & { readonly bits: LintBits } {
    const { space, function: fn, index: own, register, low, high }: CpuidField = field(name);
    const at = index ?? (typeof own === "number" ? own : own.first);
    const base = this.base(space);
    const absolute = (base ?? 0) + fn;
    const position = base === undefined ? -1 : this.find(absolute, at);
    return { function: absolute, index: at, position, bits: { register, low, high, name } };
  }

  /** Returns the place of a field; for a field that several sub-leaves have, the index selects the sub-leaf. */
  place(name: CpuidFieldName, index?: number): LintPlace & { readonly bits: LintBits } {
    return this.#locate(name, index);
  }

  /** Reads a field as an unsigned number; 0 if its leaf is absent. */
  read(name: CpuidFieldName, index?: number): number {
    const { position, bits } = this.#locate(name, index);
    const found = this.entries[position];
    return found === undefined ? 0 : readField(found[bits.register], bits.low, bits.high);
  }

  /** Whether a field is present and not 0. */
  has(name: CpuidFieldName, index?: number): boolean {
    return this.read(name, index) !== 0;
  }

  /** Returns an edit that sets a field, or no edit if its leaf is absent. */
  set(name: CpuidFieldName, value: number, index?: number): readonly CpuidLintEdit[] {
    const { position, bits } = this.#locate(name, index);
    return position < 0 ? [] : [setBits(position, bits.register, bits.low, bits.high, value)];
  }

  /** Returns the place of an entry. */
  entryPlace(position: number): LintPlace {
    const { function: fn = 0, index = 0 } = this.entries[position] ?? {};
    return { function: fn, index, position };
  }

  /** Returns the place of a register's bits in an entry. */
  bitsPlace(
    position: number,
    register: CpuidRegister,
    low = 0,
    high = 31,
    name?: CpuidFieldName,
  ): LintPlace {
    return { ...this.entryPlace(position), bits: { register, low, high, name } };
  }

  /** Returns the place of an entry that the table lacks. */
  absentPlace(fn: number, index = 0): LintPlace {
    return { function: fn, index, position: -1 };
  }

  /**
   * Whether an entry outside of every range repeats the data of the highest basic leaf. A dump of an Intel CPU contains
   * such entries for leaves that the CPU lacks.
   */
  isRedirected(position: number): boolean {
    const e = this.entries[position];
    if (e === undefined || this.maxBasic === undefined || this.isAmd || isZero(e)) return false;
    const fn = e.function;
    const isOutside =
      fn < FIRST_EXTENDED ? fn > this.maxBasic : (fn & 0xffff_0000) >>> 0 !== FIRST_EXTENDED;
    if (!isOutside) return false;
    const last = this.leaf(this.maxBasic, e.index) ?? this.leaf(this.maxBasic);
    return (
      last !== undefined && CPUID_REGISTERS.every((register) => last[register] === e[register])
    );
  }

  /** Returns a value that several rules use, computed at its first use. */
  keep<T>(key: string, compute: () => T): T {
    if (!this.#kept.has(key)) this.#kept.set(key, compute());
    return this.#kept.get(key) as T;
  }
}
