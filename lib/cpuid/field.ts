/**
 * The fields of CPUID by name: their places, and functions that read and write their bits in a register. table.ts finds
 * a field's entry.
 */
import { describe, quoted, suggestion } from "../options.ts";
import { type CpuidEntry2, type CpuidRegister, formatLeaf, isIndexed, locate } from "./entry.ts";
import type { CpuidBitName } from "./generated/bits.ts";
import { CPUID_FIELDS, type CpuidFieldName } from "./generated/fields.ts";
import { suggest } from "./names.ts";

export type { CpuidBitName, CpuidFieldName };

/** Names every field that is wider than one bit. */
export type CpuidWideName = Exclude<CpuidFieldName, CpuidBitName>;

/** A space of leaf numbers: the CPU's own, or a hypervisor interface whose leaves are relative to its base. */
export type CpuidSpace = keyof typeof CPUID_FIELDS;

/** One field of the database. */
export interface CpuidField {
  /** The database's name, with the leaf appended if an earlier leaf has the same name. */
  readonly name: CpuidFieldName;
  /** The leaf; relative to the interface's base unless `space` is "native". */
  readonly function: number;
  /** The sub-leaf, or the first and last sub-leaf of a range in which each sub-leaf has the field. */
  readonly index: number | { readonly first: number; readonly last: number };
  readonly register: CpuidRegister;
  /** The lowest bit, 0 to 31. */
  readonly low: number;
  /** The highest bit, `low` to 31. */
  readonly high: number;
  /** The database's description. */
  readonly description: string;
  /** The space of `function`. */
  readonly space: CpuidSpace;
}

/** The place of a bit range: the entry, the register, and the inclusive bits. */
export interface CpuidBits {
  /** The leaf, absolute. */
  readonly function: number;
  /** The sub-leaf. */
  readonly index: number;
  readonly register: CpuidRegister;
  /** The lowest bit, 0 to 31. */
  readonly low: number;
  /** The highest bit, `low` to 31. */
  readonly high: number;
}

/** Formats a place as `0x7.0:ebx[5]`, or as `0x1.0:ebx[31:24]` if it has several bits. */
export function formatBits(bits: CpuidBits): string {
  const range = bits.low === bits.high ? `${bits.low}` : `${bits.high}:${bits.low}`;
  return `${formatLeaf(bits.function, bits.index)}:${bits.register}[${range}]`;
}

/** Formats a value: hexadecimal if its field has 16 bits or more (masks, sizes, ids), else decimal. */
export function formatValue(value: number, low: number, high: number): string {
  return high - low + 1 >= 16 ? `0x${value.toString(16)}` : `${value}`;
}

/** Reads bits `high`..`low` of a register as an unsigned number. */
export function readField(value: number, low: number, high: number): number {
  return ((value >>> low) & (2 ** (high - low + 1) - 1)) >>> 0;
}

/** Writes bits `high`..`low` of a register without changing other bits; returns an unsigned 32-bit number. */
export function writeField(value: number, low: number, high: number, bits: number): number {
  const mask = 2 ** (high - low + 1) - 1;
  return ((value & ~(mask << low)) | ((bits & mask) << low)) >>> 0;
}

interface Registry {
  readonly all: readonly CpuidField[];
  readonly byName: ReadonlyMap<string, CpuidField>;
  readonly byRegister: ReadonlyMap<string, readonly CpuidField[]>;
  /** Functions for which the database has an index other than 0, as `space:function`. */
  readonly families: ReadonlySet<string>;
}

let registry: Registry | undefined;

/** Parses a line of the generated text, which gen/cpuid.js has checked. */
function fromLine(space: CpuidSpace, line: string): CpuidField {
  const [name, fn, first, last, register, low, high, ...words] = line.split(" ");
  const range = { first: Number(first), last: Number(last) };
  return Object.freeze({
    name: name as CpuidFieldName,
    function: Number(fn),
    index: range.first === range.last ? range.first : Object.freeze(range),
    register: register as CpuidRegister,
    low: Number(low),
    high: Number(high),
    description: words.join(" "),
    space,
  });
}

/** Builds the maps at first use, to keep importing fast. */
function open(): Registry {
  if (registry) return registry;
  const all: CpuidField[] = [];
  const byName = new Map<string, CpuidField>();
  const byRegister = new Map<string, CpuidField[]>();
  const families = new Set<string>();
  for (const space of CPUID_SPACES) {
    for (const line of CPUID_FIELDS[space].trim().split("\n")) {
      const made = fromLine(space, line);
      const key = `${space}:${made.function}:${made.register}`;
      const peers = byRegister.get(key);
      if (peers) peers.push(made);
      else byRegister.set(key, [made]);
      if (made.index !== 0) families.add(`${space}:${made.function}`);
      byName.set(made.name, made);
      all.push(made);
    }
  }
  registry = { all: Object.freeze(all), byName, byRegister, families };
  return registry;
}

/** Lists every field of the database: native fields first, ordered by function, sub-leaf, register and bit. */
export function fields(): readonly CpuidField[] {
  return open().all;
}

/** Throws a TypeError with suggestions for an unknown field name. */
export function unknownField(name: string): never {
  const near = suggest(name);
  const hint = near.length > 0 ? `; did you mean ${near.join(", ")}?` : "";
  throw new TypeError(`unknown CPUID field ${quoted(name)}${hint}`);
}

/**
 * Finds a field by name. An unknown name, which the compiler also rejects, is `TypeError: unknown CPUID field "avx3";
 * did you mean avx, avx2?`.
 */
export function field(name: CpuidFieldName): CpuidField {
  const found = open().byName.get(name);
  if (found) return found;
  if (typeof name !== "string") {
    throw new TypeError(`unknown CPUID field: expected a name, got ${describe(name)}`);
  }
  return unknownField(name);
}

/** Whether a text is the name of a field. */
export function isFieldName(name: string): name is CpuidFieldName {
  return open().byName.has(name);
}

/**
 * Leaves with several sub-leaves of which the database contains only the first (SDM volume 2A, CPUID): hardware
 * history, asymmetric resource monitoring and allocation, and APX.
 */
const MORE_WITH_SUBLEAVES: ReadonlySet<number> = new Set([0x20, 0x27, 0x28, 0x29]);

/**
 * Whether the index selects between entries of this function, according to KVM, the database's sub-leaves, or the
 * manual. KVM's own list (`isIndexed`) is shorter: it contains only leaves that KVM supports for guests.
 */
export function hasSubleaves(space: CpuidSpace, fn: number): boolean {
  const isNative = space === "native" && (isIndexed(fn) || MORE_WITH_SUBLEAVES.has(fn));
  return isNative || open().families.has(`${space}:${fn}`);
}

/**
 * Leaves of which every sub-leaf has the level's number and type in ECX and the x2APIC id in EDX, also after the last
 * level (SDM volume 2A, CPUID). The database names them only in the sub-leaves of known levels.
 */
const LEVEL_LEAVES: ReadonlySet<number> = new Set([0xb, 0x1f]);

/** Lists the fields of one register, lowest bit first. `fn` is relative to the base of `space`. */
export function fieldsOf(
  space: CpuidSpace,
  fn: number,
  index: number,
  register: CpuidRegister,
): readonly CpuidField[] {
  const wanted = hasSubleaves(space, fn) ? index : 0;
  const peers = open().byRegister.get(`${space}:${fn}:${register}`) ?? [];
  const found = peers.filter(({ index: own }) =>
    typeof own === "number" ? own === wanted : own.first <= wanted && wanted <= own.last,
  );
  const isLevel = space === "native" && LEVEL_LEAVES.has(fn) && /^e[cd]x$/.test(register);
  return isLevel && found.length === 0 ? peers : found;
}

/** Lists the name spaces; if two have the same base, the earlier one is used. */
export const CPUID_SPACES: readonly CpuidSpace[] = ["native", "kvm", "xen", "vmware", "hyperv"];

const SIGNATURES = {
  kvm: "KVMKVMKVM\0\0\0",
  xen: "XenVMMXenVMM",
  vmware: "VMwareVMware",
} as const;

const HYPERVISOR_FIRST = 0x40000000;
const HYPERVISOR_LAST = 0x4000ff00;
const HV_INTERFACE = 0x31237648; // "Hv#1" in EAX of base + 1 (TLFS)

function signature(e: CpuidEntry2): string {
  const words = [e.ebx, e.ecx, e.edx];
  return words
    .map((w) => String.fromCharCode(...[0, 8, 16, 24].map((s) => (w >>> s) & 255)))
    .join("");
}

/**
 * Finds the base of a space in a table. For "native", the base is 0. For kvm, xen and vmware, the base is the lowest of
 * 0x40000000, 0x40000100, ... 0x4000ff00 with the interface's signature (KVM's
 * for_each_possible_cpuid_base_hypervisor). For hyperv, the base is 0x40000000 if leaf 0x40000001 has "Hv#1". Returns
 * undefined if the interface is absent.
 */
export function baseOf(entries: readonly CpuidEntry2[], space: CpuidSpace): number | undefined {
  if (space === "native") return 0;
  if (!CPUID_SPACES.includes(space)) {
    throw new TypeError(
      `unknown CPUID space ${describe(space)}${typeof space === "string" ? suggestion(space, CPUID_SPACES) : ""}`,
    );
  }
  if (space === "hyperv") {
    const interfaceLeaf = entries[locate(entries, HYPERVISOR_FIRST + 1)];
    return interfaceLeaf?.eax === HV_INTERFACE ? HYPERVISOR_FIRST : undefined;
  }
  // One pass over the entries: a search for each of the 256 possible bases took a tenth of the time of a lint.
  const first = new Map<number, CpuidEntry2>();
  for (const e of entries)
    if (isBase(e.function) && !first.has(e.function)) first.set(e.function, e);
  const bases = [...first].flatMap(([base, e]) => (signature(e) === SIGNATURES[space] ? base : []));
  return bases.length === 0 ? undefined : Math.min(...bases);
}

/** Whether a hypervisor's leaves may begin at a leaf. */
function isBase(fn: number): boolean {
  return fn >= HYPERVISOR_FIRST && fn <= HYPERVISOR_LAST && (fn & 0xff) === 0;
}

/** Returns the space of a leaf of a table. The space of a hypervisor leaf whose base has no signature is "native". */
export function spaceOf(entries: readonly CpuidEntry2[], fn: number): CpuidSpace {
  const base = (fn & 0xffffff00) >>> 0;
  if (base < HYPERVISOR_FIRST || base > HYPERVISOR_LAST) return "native";
  const owner = CPUID_SPACES.find((s) => s !== "native" && baseOf(entries, s) === base);
  return owner ?? "native";
}
