/**
 * The result of a guest's CPUID instruction for a table, by KVM's rules: lookup, out-of-range leaves, and the bits that
 * KVM computes (arch/x86/kvm/cpuid.c:kvm_cpuid, Linux 7.2).
 */
import {
  describe,
  refuseMisfit,
  refuseUnknown,
  toU32,
  toU64,
  type WideInteger,
} from "../options.ts";
import {
  CPUID_REGISTERS,
  type CpuidEntry2,
  type CpuidRegister,
  formatLeaf,
  isIndexed,
  locate,
  toEntries,
} from "./entry.ts";
import { baseOf, formatBits, formatValue, readField, writeField } from "./field.ts";
import { RUNTIME_OWNED, type RuntimeOwnedBits } from "./runtime-owned.ts";

/** The values of KVM's Xen TSC leaf, which KVM computes from the guest's clock. */
export interface XenTscInput {
  /** The multiplier from TSC to nanoseconds, a u32. */
  readonly multiplier: number;
  /** The shift before the multiplication, as the u32 that the guest reads. */
  readonly shift: number;
  /** The frequency of the TSC, kHz. */
  readonly khz: number;
}

/**
 * The state of a vCPU that affects the results of its guest's CPUID instruction. If a member is omitted, the bits that
 * depend on it have the table's values, which are right for a table of KVM_GET_CPUID2.
 */
export interface CpuidQueryOptions {
  /**
   * The vendor's 12 characters, such as `GenuineIntel`; by default the characters in leaf 0. The vendor determines the
   * result for an absent leaf.
   */
  readonly vendor?: string;
  /** CR4: OSXSAVE (bit 18) sets `osxsave`, PKE (bit 22) sets `ospke`. */
  readonly cr4?: WideInteger;
  /** XCR0, which sets `xsave_sz_xcr0` and, if the table has XSAVEC or XSAVES, `xsave_sz_xcr0_xss`. */
  readonly xcr0?: WideInteger;
  /** IA32_XSS, which affects `xsave_sz_xcr0_xss`; 0 by default. Linux 6.1 and 6.12 always use 0. */
  readonly xss?: WideInteger;
  /** IA32_APIC_BASE, whose bit 11 sets `apic`. */
  readonly apicBase?: WideInteger;
  /**
   * IA32_MISC_ENABLE, whose bit 18 sets `monitor`. Set this member only if KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT is
   * disabled.
   */
  readonly miscEnable?: WideInteger;
  /** IA32_TSX_CTRL; with bit 1 (RTM_CPUID_CLEAR) the guest reads 0 for `rtm` and `hle`. */
  readonly tsxCtrl?: WideInteger;
  /**
   * HV_X64_MSR_TSC_INVARIANT_CONTROL; if bit 0 is clear and the table has `hv_tsc_invariant`, the guest reads 0 for
   * `constant_tsc`. Omit this member for kernels before 6.2.
   */
  readonly hvTscInvariantControl?: WideInteger;
  /** The values of the Xen TSC leaf. Set this member only if the VM uses KVM_XEN_HVM_CONFIG on Linux 6.17 or later. */
  readonly xenTsc?: XenTscInput;
  /**
   * The entries of KVM_GET_SUPPORTED_CPUID, whose leaf 0xD contains the sizes of XSAVE components that KVM uses; by
   * default the table itself.
   */
  readonly host?: Iterable<CpuidEntry2>;
}

/**
 * The origin of a result. `entry`: the first entry that matches. `max-basic-leaf`: the leaf is out of range, and the
 * vendor is not AMD or Hygon, so KVM uses the highest basic leaf. `topology`: an undefined sub-leaf of 0xB or 0x1F.
 * `zeros`: no entry.
 */
export type CpuidQuerySource =
  | {
      readonly kind: "entry" | "max-basic-leaf" | "topology";
      /** The position of the entry that contains the result. */
      readonly position: number;
      /** The reason as text, such as `entry 4 (0x7.0)`. */
      readonly why: string;
    }
  | { readonly kind: "zeros"; readonly position: undefined; readonly why: string };

/** Reports bits that KVM computes instead of reading them from the table. */
export interface CpuidQueryWrite {
  /** The place, such as `0x1.0:ecx[27]`. */
  readonly where: string;
  readonly register: CpuidRegister;
  readonly low: number;
  readonly high: number;
  /** The value that the guest reads. */
  readonly value: number;
  /** The reason, such as `CR4.OSXSAVE`. */
  readonly why: string;
}

/** The result of a guest's CPUID instruction. */
export interface CpuidQueryResult {
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
  /** The origin of the registers. */
  readonly from: CpuidQuerySource;
  /** The bits that KVM computes from the vCPU's state, including bits that have the same value in the table. */
  readonly written: readonly CpuidQueryWrite[];
  /** Missing facts, one sentence each: the size of an XSAVE component that no entry contains. */
  readonly notes: readonly string[];
}

/**
 * The vendors for which absent leaves read as zeros (is_guest_vendor_amd, is_guest_vendor_hygon). For all other
 * vendors, KVM returns the highest basic leaf.
 */
const ZEROS_VENDORS: readonly string[] = ["AuthenticAMD", "AMDisbetter!", "HygonGenuine"];

/**
 * The classes of leaves by number; a leaf belongs to the first class with a range that contains it
 * (get_out_of_range_cpuid_entry).
 */
const CLASSES: readonly {
  readonly first: number;
  readonly last: number;
  /** Returns the leaf whose EAX is the highest leaf of the class. */
  readonly base: (fn: number) => number;
}[] = [
  { first: 0x4000_0000, last: 0x4fff_ffff, base: (fn) => (fn & 0xffff_ff00) >>> 0 },
  { first: 0xc000_0000, last: 0xffff_ffff, base: () => 0xc000_0000 },
  { first: 0, last: 0xbfff_ffff, base: (fn) => (fn & 0x8000_0000) >>> 0 },
];

/** The leaves whose undefined sub-leaves contain their number and the x2APIC id (kvm_cpuid). */
const TOPOLOGY_LEAVES: readonly number[] = [0xb, 0x1f];

function vendorOf(leaf0: CpuidEntry2): string {
  return [leaf0.ebx, leaf0.edx, leaf0.ecx]
    .map((word) => String.fromCharCode(...[0, 8, 16, 24].map((shift) => (word >>> shift) & 0xff)))
    .join("");
}

interface Found {
  readonly entry: CpuidEntry2;
  readonly position: number;
}

function at(entries: readonly CpuidEntry2[], position: number): Found | undefined {
  const found = entries[position];
  return found && { entry: found, position };
}

const named = ({ entry: { function: fn, index }, position }: Found): string =>
  `entry ${position} (${formatLeaf(fn, index)})`;

/** The result of a lookup: the entry, and the leaf that KVM finally used. */
interface Lookup {
  readonly found: Found | undefined;
  readonly function: number;
  readonly from: CpuidQuerySource;
}

const zeros = (why: string): CpuidQuerySource => ({ kind: "zeros", position: undefined, why });

/** Applies the rules for an absent leaf (get_out_of_range_cpuid_entry). */
function outOfRange(
  entries: readonly CpuidEntry2[],
  fn: number,
  index: number,
  given: string | undefined,
): Lookup {
  const leaf = formatLeaf(fn, index);
  const nothing = (why: string, to = fn): Lookup => ({
    found: undefined,
    function: to,
    from: zeros(why),
  });
  const basic = entries[locate(entries, 0)];
  if (basic === undefined) return nothing(`the table has neither ${leaf} nor leaf 0`);
  const vendor = given ?? vendorOf(basic);
  if (ZEROS_VENDORS.includes(vendor)) {
    return nothing(`the table has no entry ${leaf}, and the vendor is ${vendor}`);
  }
  const [base = 0] = CLASSES.filter(({ first, last }) => fn >= first && fn <= last).map((row) =>
    row.base(fn),
  );
  const limit = entries[locate(entries, base)];
  if (limit !== undefined && fn <= limit.eax) {
    const range = `0x${base.toString(16)}.eax is 0x${limit.eax.toString(16)}`;
    return nothing(`the table has no entry ${leaf}, and it is in range: ${range}`);
  }
  const highest = `the highest basic leaf ${formatLeaf(basic.eax, index)}`;
  const found = at(entries, locate(entries, basic.eax, index));
  const why = `${leaf} is absent and out of range, and the vendor is not AMD or Hygon`;
  if (found === undefined) return nothing(`${why}; ${highest} is absent too`, basic.eax);
  const from: CpuidQuerySource = {
    kind: "max-basic-leaf",
    position: found.position,
    why: `${why}: ${highest} is ${named(found)}`,
  };
  return { found, function: basic.eax, from };
}

function lookup(
  entries: readonly CpuidEntry2[],
  fn: number,
  index: number,
  vendor: string | undefined,
): Lookup {
  const found = at(entries, locate(entries, fn, index));
  if (found === undefined) return outOfRange(entries, fn, index, vendor);
  const from: CpuidQuerySource = { kind: "entry", position: found.position, why: named(found) };
  return { found, function: fn, from };
}

/** The size of the legacy region and the header of an XSAVE area (SDM volume 1, 13.4). */
const XSAVE_HEADER_END = 576;

/** The size of an XSAVE area, or the components without a known size. */
type AreaSize =
  | { readonly bytes: number }
  | { readonly unknown: readonly number[]; readonly bytes: undefined };

/** Returns the size of an XSAVE area (arch/x86/kvm/cpuid.c:xstate_required_size). */
function areaSize(
  host: readonly CpuidEntry2[],
  components: bigint,
  layout: "standard" | "compacted",
): AreaSize {
  let bytes = XSAVE_HEADER_END;
  const unknown: number[] = [];
  for (let i = 2; i < 63; i += 1) {
    if (((components >> BigInt(i)) & 1n) === 0n) continue;
    // Unlike KVM's lookup, the search compares the index even if the entries have no flags.
    // Without flags, leaf 0xD.0 would match every index.
    const leaf = host.find((e) => e.function === 0xd && e.index === i && e.eax !== 0);
    if (leaf === undefined) {
      unknown.push(i);
      continue;
    }
    const isAligned = readField(leaf.ecx, 1, 1) === 1;
    const next = isAligned ? Math.ceil(bytes / 64) * 64 : bytes;
    bytes = Math.max(bytes, (layout === "compacted" ? next : leaf.ebx) + leaf.eax);
  }
  return unknown.length > 0 ? { unknown, bytes: undefined } : { bytes };
}

/** The state of a vCPU, with each value checked. */
interface State {
  readonly cr4: bigint | undefined;
  readonly xcr0: bigint | undefined;
  readonly xss: bigint;
  readonly apicBase: bigint | undefined;
  readonly miscEnable: bigint | undefined;
  readonly tsxCtrl: bigint | undefined;
  readonly hvTscInvariantControl: bigint | undefined;
  readonly xenTsc: XenTscInput | undefined;
  readonly host: readonly CpuidEntry2[];
}

/** The arguments of a rule: the table, the entry that was found, and the leaf and sub-leaf that KVM finally used. */
interface Asked {
  readonly entries: readonly CpuidEntry2[];
  readonly found: Found;
  readonly function: number;
  readonly index: number;
  readonly state: State;
}

const bitOf = (value: bigint | undefined, bit: number): number | undefined =>
  value === undefined ? undefined : Number((value >> BigInt(bit)) & 1n);

const sizeOf = (
  { state: { host } }: Asked,
  components: bigint,
  layout: "standard" | "compacted",
): number | readonly number[] => {
  const size = areaSize(host, components, layout);
  return size.bytes ?? size.unknown;
};

const XSAVEC_OR_XSAVES = 0b1010;

/**
 * Returns the value that a rule writes; undefined if KVM leaves the stored bits unchanged; a list of components if
 * their sizes are missing.
 */
type Value = (asked: Asked) => number | undefined | readonly number[];

/** For each field in RUNTIME_OWNED that depends on the vCPU's state, the rule that computes its value. */
const VALUES: ReadonlyMap<string | undefined, Value> = new Map<string, Value>([
  ["osxsave", ({ state }) => bitOf(state.cr4, 18)],
  ["apic", ({ state }) => bitOf(state.apicBase, 11)],
  ["monitor", ({ state }) => bitOf(state.miscEnable, 18)],
  ["ospke", ({ state }) => bitOf(state.cr4, 22)],
  [
    "xsave_sz_xcr0",
    (asked) =>
      asked.state.xcr0 === undefined ? undefined : sizeOf(asked, asked.state.xcr0, "standard"),
  ],
  [
    "xsave_sz_xcr0_xss",
    (asked) => {
      const { xcr0, xss } = asked.state;
      const isCompacted = (asked.found.entry.eax & XSAVEC_OR_XSAVES) !== 0;
      return xcr0 === undefined || !isCompacted
        ? undefined
        : sizeOf(asked, xcr0 | xss, "compacted");
    },
  ],
  ["xen_vtsc_mul", ({ state }) => state.xenTsc?.multiplier],
  ["xen_vtsc_shift", ({ state }) => state.xenTsc?.shift],
  ["xen_host_tsc_khz", ({ state }) => state.xenTsc?.khz],
]);

/** Whether the guest reads sub-leaf `wanted` of the leaf of Xen's TSC (kvm_xen_is_tsc_leaf). */
function isXenTsc({ entries, function: fn, index }: Asked, leaf: number, wanted: number): boolean {
  const base = baseOf(entries, "xen");
  if (base === undefined || fn !== base + leaf || index !== wanted) return false;
  return (entries[locate(entries, base)]?.eax ?? 0) >= fn;
}

/**
 * Whether KVM writes bits into the entry that the guest's lookup found. KVM writes into the entry that its internal
 * lookup finds. For a leaf without sub-leaves, KVM's internal lookup ignores the index, but the lookup for the guest
 * does not.
 */
function concerns(owned: RuntimeOwnedBits, asked: Asked): boolean {
  const { function: fn, index } = owned;
  if (owned.space === "xen") return isXenTsc(asked, fn, index);
  const position = locate(asked.entries, fn, isIndexed(fn) ? index : undefined);
  return position === asked.found.position;
}

/** The bit of HV_ACCESS_TSC_INVARIANT in 0x40000003:eax (TLFS). */
const HV_ACCESS_TSC_INVARIANT = 15;

/** Whether Hyper-V's control hides the invariant TSC (kvm_hv_invtsc_suppressed). */
function hidesInvariantTsc({ entries, state }: Asked): boolean {
  if (bitOf(state.hvTscInvariantControl, 0) !== 0) return false;
  if (baseOf(entries, "hyperv") === undefined) return false;
  const features = entries[locate(entries, 0x4000_0003)]?.eax ?? 0;
  return readField(features, HV_ACCESS_TSC_INVARIANT, HV_ACCESS_TSC_INVARIANT) === 1;
}

/** Bits that KVM clears in the result but not in the table (kvm_cpuid). */
const CLEARED: readonly {
  readonly register: CpuidRegister;
  readonly bit: number;
  readonly why: string;
  readonly isCleared: (asked: Asked) => boolean;
}[] = [
  ...[4, 11].map((bit) => ({
    register: "ebx" as const,
    bit,
    why: "IA32_TSX_CTRL.RTM_CPUID_CLEAR",
    isCleared: ({ function: fn, index, state }: Asked): boolean =>
      fn === 7 && index === 0 && bitOf(state.tsxCtrl, 1) === 1,
  })),
  {
    register: "edx",
    bit: 8,
    why: "HV_X64_MSR_TSC_INVARIANT_CONTROL",
    isCleared: (asked) => asked.function === 0x8000_0007 && hidesInvariantTsc(asked),
  },
];

/** A value for bits of the result, before its place is added. */
interface Written {
  readonly register: CpuidRegister;
  readonly low: number;
  readonly high: number;
  readonly why: string;
  readonly value: number | readonly number[];
}

/**
 * Lists the values that KVM writes, in KVM's order: first the values in the table (kvm_update_cpuid_runtime), then the
 * values in the result.
 */
function writes(asked: Asked): readonly Written[] {
  const computed = RUNTIME_OWNED.flatMap((owned) => {
    const value = concerns(owned, asked) ? VALUES.get(owned.field)?.(asked) : undefined;
    const { register, low, high, becomes } = owned;
    return value === undefined ? [] : [{ register, low, high, why: becomes, value }];
  });
  const cleared = CLEARED.filter(({ isCleared }) => isCleared(asked)).map(
    ({ register, bit, why }) => ({ register, low: bit, high: bit, why, value: 0 }),
  );
  return [...computed, ...cleared];
}

const WIDE = [
  "cr4",
  "xcr0",
  "xss",
  "apicBase",
  "miscEnable",
  "tsxCtrl",
  "hvTscInvariantControl",
] as const;
const OPTIONS: readonly string[] = ["vendor", ...WIDE, "xenTsc", "host"];

function checkXenTsc(given: XenTscInput | undefined): XenTscInput | undefined {
  if (given === undefined) return undefined;
  refuseMisfit("query(): xenTsc", given, ["multiplier", "shift", "khz"]);
  const word = (name: keyof XenTscInput): number => toU32(`query(): xenTsc.${name}`, given[name]);
  return { multiplier: word("multiplier"), shift: word("shift"), khz: word("khz") };
}

function checkVendor(vendor: unknown): string | undefined {
  if (vendor === undefined) return undefined;
  if (typeof vendor === "string" && /^[\0-\xff]{12}$/.test(vendor)) return vendor;
  const example = 'as "GenuineIntel"';
  throw new TypeError(
    `query(): vendor: expected 12 characters ${example}, got ${describe(vendor)}`,
  );
}

function toState(entries: readonly CpuidEntry2[], options: CpuidQueryOptions): State {
  const wide = (name: (typeof WIDE)[number]): bigint | undefined =>
    options[name] === undefined ? undefined : toU64(`query(): ${name}`, options[name]);
  return {
    cr4: wide("cr4"),
    xcr0: wide("xcr0"),
    xss: wide("xss") ?? 0n,
    apicBase: wide("apicBase"),
    miscEnable: wide("miscEnable"),
    tsxCtrl: wide("tsxCtrl"),
    hvTscInvariantControl: wide("hvTscInvariantControl"),
    xenTsc: checkXenTsc(options.xenTsc),
    host: options.host === undefined ? entries : toEntries("query(): host", options.host),
  };
}

/** Returns the result for an undefined sub-leaf of 0xB or 0x1F; undefined if the sub-leaf reads as zeros. */
function topology(
  entries: readonly CpuidEntry2[],
  fn: number,
  index: number,
): CpuidQueryResult | undefined {
  const first = TOPOLOGY_LEAVES.includes(fn) ? at(entries, locate(entries, fn, 1)) : undefined;
  if (first === undefined) return undefined;
  const why = `${formatLeaf(fn, index)} is undefined: ecx is the sub-leaf's low 8 bits, edx is that of ${named(first)}`;
  const from: CpuidQuerySource = { kind: "topology", position: first.position, why };
  const registers = { eax: 0, ebx: 0, ecx: index & 0xff, edx: first.entry.edx };
  return { ...registers, from, written: [], notes: [] };
}

/**
 * Returns the result of a guest's CPUID instruction with `fn` in EAX and `index` in ECX, on a vCPU with this table. The
 * result depends on the table:
 *
 * - the first entry that matches; an entry without KVM_CPUID_FLAG_SIGNIFCANT_INDEX matches every index;
 * - for an absent leaf, the highest basic leaf with the same index; but zeros if the vendor is AMD or Hygon, if leaf 0
 *   is absent, or if the leaf is in the range of its class;
 * - for an undefined sub-leaf of 0xB or 0x1F, the sub-leaf's number and the x2APIC id instead of zeros;
 * - in each case, the bits that KVM computes are added if the caller gives the state from which KVM computes them.
 *
 * @param table - the table of KVM_SET_CPUID2 or KVM_GET_CPUID2.
 * @param fn - EAX, a u32.
 * @param index - ECX, a u32; 0 by default.
 * @throws RangeError for a number that does not fit; TypeError for an unknown option.
 */
export function query(
  table: Iterable<CpuidEntry2>,
  fn: number,
  index: number = 0,
  options: CpuidQueryOptions = {},
): CpuidQueryResult {
  refuseUnknown("query()", options, OPTIONS);
  const entries = toEntries("query()", table);
  const asked = { function: toU32("query(): function", fn), index: toU32("query(): index", index) };
  const vendor = checkVendor(options.vendor);
  const state = toState(entries, options);
  const { found, function: to, from } = lookup(entries, asked.function, asked.index, vendor);
  if (found === undefined) {
    const nothing = { eax: 0, ebx: 0, ecx: 0, edx: 0, from, written: [], notes: [] };
    return topology(entries, to, asked.index) ?? nothing;
  }
  const { function: own, index: ownIndex, eax, ebx, ecx, edx } = found.entry;
  const registers = { eax, ebx, ecx, edx };
  const written: CpuidQueryWrite[] = [];
  const notes: string[] = [];
  const question = { entries, found, function: to, index: asked.index, state };
  for (const { register, low, high, why, value } of writes(question)) {
    const where = formatBits({ function: own, index: ownIndex, register, low, high });
    if (typeof value !== "number") {
      const components = `XSAVE component${value.length === 1 ? "" : "s"} ${value.join(", ")}`;
      notes.push(`${where} is as stored: no entry has the size of ${components}`);
      continue;
    }
    registers[register] = writeField(registers[register], low, high, value);
    written.push({ where, register, low, high, value, why });
  }
  return { ...registers, from, written, notes };
}

/**
 * Formats a result as lines: the registers, the origin, and each bit that KVM computes as `0x1.0:ecx[27]: 1
 * (CR4.OSXSAVE)`. If there is no entry, the origin is `the guest reads zeros: ` with the reason.
 */
export function formatQuery(result: CpuidQueryResult): string {
  refuseMisfit("formatQuery()", result, [...CPUID_REGISTERS, "from", "written", "notes"]);
  const word = (register: CpuidRegister): string =>
    `${register}=0x${result[register].toString(16).padStart(8, "0")}`;
  const lines = result.written.map(
    ({ where, low, high, value, why }) => `${where}: ${formatValue(value, low, high)} (${why})`,
  );
  const isZeros = CPUID_REGISTERS.every((register) => result[register] === 0);
  const { kind, why } = result.from;
  const origin = kind === "zeros" && isZeros ? `the guest reads zeros: ${why}` : why;
  return [CPUID_REGISTERS.map(word).join(" "), origin, ...lines, ...result.notes].join("\n");
}
