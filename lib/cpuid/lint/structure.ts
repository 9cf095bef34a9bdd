/** Lint rules about the structure of a table: its entries, their flags, and the ranges of leaves. */
import { KVM_MAX_CPUID_ENTRIES } from "../../abi/limits.ts";
import { runs } from "../diff.ts";
import {
  CPUID_REGISTERS,
  type CpuidEntry2,
  type CpuidRegister,
  isIndexed,
  KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
} from "../entry.ts";
import { type CpuidFieldName, type CpuidSpace, fieldsOf, readField } from "../field.ts";
import { XSAVE_COMPONENTS } from "../xsave.ts";
import { isKnownBlock } from "./hypervisor.ts";
import { highestLeaf, LAST_DEFINED_LEAF, needyLeaves } from "./leaves.ts";
import type { CpuidLintEdit, LintFault, LintRule } from "./rule.ts";
import { isFlagged, isZero, type LintTable, setBits } from "./table.ts";

const FIRST_HYPERVISOR = 0x4000_0000;
const LAST_BASE = 0x4000_ff00;
const END_OF_HYPERVISOR = 0x5000_0000;
const FIRST_EXTENDED = 0x8000_0000;

/** The leaves whose EAX in sub-leaf 0 is the highest sub-leaf. Source: SDM volume 2A, CPUID. */
const MAX_SUBLEAF: readonly number[] = [0x14, 0x17, 0x18, 0x1d, 0x1e, 0x20, 0x24, 0x29];

/** The leaves that software walks from sub-leaf 0 to a terminator. Source: SDM and APM, CPUID. */
const WALKED: readonly number[] = [0x4, 0xb, 0x1f, 0x8000_001d, 0x8000_0026];

const hex = (value: number): string => `0x${value.toString(16)}`;

function setFlag(position: number, value: 0 | 1): CpuidLintEdit {
  return { kind: "flags", position, mask: KVM_CPUID_FLAG_SIGNIFCANT_INDEX, value };
}

function each(
  table: LintTable,
  judge: (e: CpuidEntry2, position: number) => LintFault | undefined,
): readonly LintFault[] {
  const faults: LintFault[] = [];
  for (const [position, e] of table.entries.entries()) {
    const fault = judge(e, position);
    if (fault) faults.push(fault);
  }
  return faults;
}

/** The leaves of the basic range. */
const isBasic = (fn: number): boolean => fn < FIRST_HYPERVISOR;
/** The leaves of the extended range; 0x80860000 belongs to Transmeta. */
const isExtended = (fn: number): boolean => fn >= FIRST_EXTENDED && fn <= 0x8000_ffff;

/** Finds nonzero entries above the maximum of their range, which other rules do not report. */
function above(
  table: LintTable,
  max: { readonly name: CpuidFieldName; readonly value: number; readonly last: number },
  isInRange: (fn: number) => boolean,
): readonly LintFault[] {
  const reported = needyLeaves(table);
  return each(table, (e, position) => {
    const { function: fn } = e;
    const isFault = isInRange(fn) && fn > max.value && !isZero(e);
    if (!isFault || reported.has(fn) || table.isRedirected(position)) return undefined;
    const highest = highestLeaf(table, (f) => isInRange(f) && f <= max.last);
    const fix: readonly CpuidLintEdit[] =
      fn <= max.last && highest !== undefined
        ? table.set(max.name, highest)
        : [{ kind: "remove", position }];
    const words = `is above the highest leaf ${hex(max.value)} of its range, so software never reads it`;
    return { place: table.entryPlace(position), words, fix };
  });
}

/** Returns the highest index of a function's nonzero entries; -1 if all are 0. */
function highestSubleaf(table: LintTable, fn: number): number {
  const indexes = table.positions(fn).flatMap((position) => {
    const e = table.entries[position];
    return e === undefined || isZero(e) ? [] : [e.index];
  });
  return indexes.reduce((a, b) => Math.max(a, b), -1);
}

function aboveMaxSubleaf(table: LintTable, fn: number): readonly LintFault[] {
  const first = table.leaf(fn);
  if (first === undefined || isZero(first)) return [];
  const highest = highestSubleaf(table, fn);
  return table.positions(fn).flatMap((position): readonly LintFault[] => {
    const e = table.entries[position];
    if (e === undefined || e.index <= first.eax || isZero(e)) return [];
    const words = `is above the highest sub-leaf ${first.eax} of the leaf, so software never reads it`;
    const fix = [setBits(table.find(fn), "eax", 0, 31, highest)];
    return [{ place: table.entryPlace(position), words, fix }];
  });
}

/** Leaf 0x23 has a bitmap of its sub-leaves instead of the number of the highest sub-leaf. */
function outsideBitmap(table: LintTable): readonly LintFault[] {
  const first = table.leaf(0x23);
  if (first === undefined || isZero(first)) return [];
  return table.positions(0x23).flatMap((position): readonly LintFault[] => {
    const e = table.entries[position];
    if (e === undefined || e.index === 0 || isZero(e)) return [];
    const isListed = e.index < 32 && readField(first.eax, e.index, e.index) === 1;
    if (isListed) return [];
    const words = `is not in the leaf's bitmap of sub-leaves ${hex(first.eax)}`;
    const fix =
      e.index < 32
        ? [setBits(table.find(0x23), "eax", e.index, e.index, 1)]
        : [{ kind: "remove" as const, position }];
    return [{ place: table.entryPlace(position), words, fix }];
  });
}

/**
 * The bits that the manuals define as zero although no field names them. Bits that other rules check are not listed.
 */
const RESERVED: readonly {
  readonly functions: readonly number[];
  readonly register: CpuidRegister;
  readonly mask: number;
}[] = [
  { functions: [0x1], register: "eax", mask: 0xf000_c000 },
  { functions: [0xb, 0x1f], register: "eax", mask: 0xffff_ffe0 },
  { functions: [0xb, 0x1f], register: "ebx", mask: 0xffff_0000 },
  { functions: [0xb, 0x1f], register: "ecx", mask: 0xffff_0000 },
];

/** Unnamed bits that other rules report: F09, K02, X22, X14 and S18. */
const REPORTED_ELSEWHERE: readonly {
  readonly space: CpuidSpace;
  readonly function: number;
  readonly register: CpuidRegister;
  readonly mask: number;
  readonly from: number;
}[] = [
  { space: "native", function: 0x8000_0008, register: "eax", mask: 0xff00_0000, from: 0 },
  { space: "native", function: 0xd, register: "edx", mask: 0xffff_ffff, from: 2 },
  ...CPUID_REGISTERS.map((register) => ({
    space: "kvm" as const,
    function: 1,
    register,
    mask: 0xffff_ffff,
    from: 0,
  })),
  ...RESERVED.flatMap(({ functions, register, mask }) =>
    functions.map((fn) => ({ space: "native" as const, function: fn, register, mask, from: 0 })),
  ),
];

/**
 * The bits of the known XSAVE components in leaf 0xd's masks of XCR0 and IA32_XSS; the database does not name all of
 * these bits.
 */
function componentMask(index: number, register: CpuidRegister): number {
  const isLow = (index === 0 && register === "eax") || (index === 1 && register === "ecx");
  const isHigh = index <= 1 && register === "edx";
  const first = isHigh ? 32 : 0;
  return XSAVE_COMPONENTS.filter(({ number }) => number >= first && number < first + 32).reduce(
    (mask, { number }) => (isLow || isHigh ? mask | (1 << (number - first)) : mask),
    0,
  );
}

const masks = new Map<string, number>();

/** Returns the bits of a register that a field or another rule covers. */
function known(space: CpuidSpace, fn: number, index: number, register: CpuidRegister): number {
  // Results for sub-leaves above 64 are not cached, because a table with many indexes could otherwise exhaust the
  // memory.
  const key = `${space}:${fn}:${index}:${register}`;
  const kept = masks.get(key);
  if (kept !== undefined) return kept;
  let mask = 0;
  // The database lists only some sub-leaves of a walked leaf; each sub-leaf has the fields of the first.
  const own = space === "native" && WALKED.includes(fn) ? 0 : index;
  for (const { low, high } of fieldsOf(space, fn, own, register)) {
    mask |= (2 ** (high - low + 1) - 1) << low;
  }
  for (const row of REPORTED_ELSEWHERE) {
    const isSame = row.space === space && row.function === fn && row.register === register;
    if (isSame && index >= row.from) mask |= row.mask;
  }
  mask |= space === "native" && fn === 0xd ? componentMask(index, register) : 0;
  if (index <= 64 && masks.size < 4096) masks.set(key, mask >>> 0);
  return mask >>> 0;
}

/**
 * Whether an entry is above the maximum of its range; rules S02, S04, S05 and the rules of leaves.ts report this fault.
 */
function isUnread(table: LintTable, { function: fn }: CpuidEntry2): boolean {
  if (isBasic(fn)) return fn > (table.maxBasic ?? fn);
  if (isExtended(fn)) return fn > (table.maxExtended ?? fn);
  return fn > LAST_BASE + 0xff && fn < END_OF_HYPERVISOR;
}

function unnamedBits(table: LintTable): readonly LintFault[] {
  const faults: LintFault[] = [];
  for (const [position, e] of table.entries.entries()) {
    if (isZero(e) || isUnread(table, e) || table.isRedirected(position)) continue;
    const space = table.space(e.function);
    const fn = e.function - (table.base(space) ?? 0);
    if (space === "native" && fn >= FIRST_HYPERVISOR && fn < END_OF_HYPERVISOR) {
      const words = "has data, and belongs to no interface of the database";
      const isKnown = isKnownBlock(table, (fn & 0xffff_ff00) >>> 0);
      if (!isKnown) faults.push({ place: table.entryPlace(position), words });
      continue;
    }
    for (const register of CPUID_REGISTERS) {
      if (e[register] === 0) continue;
      const left = (e[register] & ~known(space, fn, e.index, register)) >>> 0;
      for (const { low, high } of left === 0 ? [] : runs(left)) {
        const words = "is set, and no field of the database has it";
        faults.push({ place: table.bitsPlace(position, register, low, high), words });
      }
    }
  }
  return faults;
}

function reservedBits(table: LintTable): readonly LintFault[] {
  return RESERVED.flatMap(({ functions, register, mask }) =>
    functions.flatMap((fn) =>
      table.positions(fn).flatMap((position): readonly LintFault[] => {
        const value = ((table.entries[position]?.[register] ?? 0) & mask) >>> 0;
        return runs(value).map(({ low, high }) => ({
          place: table.bitsPlace(position, register, low, high),
          words: "is set, but the manual reserves it as 0",
          fix: [setBits(position, register, low, high, 0)],
        }));
      }),
    ),
  );
}

/** Returns the distinct indexes of a function. */
function indexesOf(table: LintTable, fn: number): readonly number[] {
  const all = table.positions(fn).map((position) => table.entries[position]?.index ?? 0);
  return Array.from(new Set(all)).sort((a, b) => a - b);
}

/**
 * Whether entries of a function are selected by index, according to KVM or, for a leaf that KVM does not list, to the
 * database.
 */
const isSelected = (table: LintTable, fn: number): boolean => isIndexed(fn) || table.isIndexed(fn);

/** The rules about the structure of a table. */
export const STRUCTURE_RULES: readonly LintRule[] = [
  {
    id: "S01",
    severity: "error",
    title: "The table has leaf 0",
    source:
      "SDM volume 2A and APM volume 3, CPUID leaf 0; KVM reads the vendor and the range from it",
    remedy: "Add leaf 0 with the highest basic leaf and the vendor's name",
    check: (table) =>
      table.maxBasic === undefined
        ? [
            {
              place: table.absentPlace(0),
              words: "is absent, so neither the highest basic leaf nor the vendor is known",
            },
          ]
        : [],
  },
  {
    id: "S02",
    severity: "warning",
    title: "No basic leaf with data is above the maximum in leaf 0",
    source:
      "SDM volume 2A, CPUID leaf 0; KVM returns such a leaf, because an exact match has no range check",
    remedy: "Raise leaf 0's EAX to the leaf, or remove the leaf",
    check: (table) =>
      table.maxBasic === undefined
        ? []
        : above(
            table,
            { name: "max_std_leaf", value: table.maxBasic, last: LAST_DEFINED_LEAF },
            isBasic,
          ),
  },
  {
    id: "S03",
    severity: "warning",
    title: "The highest basic leaf exists",
    source:
      "get_out_of_range_cpuid_entry in arch/x86/kvm/cpuid.c: reads out of range return this leaf",
    remedy: "Add the leaf, with zeros if it has no data, or lower leaf 0's EAX",
    check: (table) => {
      const max = table.maxBasic;
      if (max === undefined || max === 0 || table.isAmd || table.positions(max).length > 0)
        return [];
      const words = `names leaf ${hex(max)}, which the table lacks; KVM returns it for reads out of range`;
      const flags = isIndexed(max) ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
      const made = {
        function: max,
        index: 0,
        flags,
        eax: 0,
        ebx: 0,
        ecx: 0,
        edx: 0,
        padding: [0, 0, 0],
      };
      const isKnown = max <= LAST_DEFINED_LEAF;
      return [
        {
          place: table.place("max_std_leaf"),
          words,
          fix: isKnown ? [{ kind: "insert", entry: made }] : undefined,
        },
      ];
    },
  },
  {
    id: "S04",
    severity: "error",
    title:
      "The maximum in leaf 0x80000000 is in its range, and no extended leaf with data is above it",
    source: "SDM volume 2A and APM volume 3, CPUID leaf 0x80000000",
    remedy: "Set leaf 0x80000000's EAX to the highest extended leaf, or remove the leaf above it",
    check: (table) => {
      const max = table.maxExtended;
      const own = table.functions.filter((fn) => isExtended(fn) && table.hasData(fn));
      const highest = own.at(-1);
      if (max === undefined) {
        if (highest === undefined) return [];
        const words = `is absent, but the table has extended leaves up to ${hex(highest)}`;
        return [{ place: table.absentPlace(FIRST_EXTENDED), words }];
      }
      if (max < FIRST_EXTENDED || max > 0x8000_00ff) {
        const isPlausible = highest !== undefined && highest <= 0x8000_00ff;
        return [
          {
            place: table.place("max_ext_leaf"),
            words: `is ${hex(max)}, which is not a leaf from 0x80000000 to 0x800000ff`,
            fix: isPlausible
              ? table.set("max_ext_leaf", highestLeaf(table, isExtended) ?? highest)
              : undefined,
          },
        ];
      }
      const limit = { name: "max_ext_leaf", value: max, last: 0x8000_00ff } as const;
      return above(table, limit, isExtended).map((fault) => ({ ...fault, severity: "warning" }));
    },
  },
  {
    id: "S05",
    severity: "error",
    title: "A hypervisor's maximum is in its own block, and blocks are at 0x40000000 to 0x4000ff00",
    source: "for_each_possible_cpuid_base_hypervisor in arch/x86/include/asm/cpuid/api.h",
    remedy: "Set EAX of the block's first leaf to its highest leaf, or move the block",
    check: (table) =>
      each(table, (e, position) => {
        const fn = e.function;
        const isIn = fn >= FIRST_HYPERVISOR && fn < END_OF_HYPERVISOR;
        if (!isIn || isZero(e) || table.isRedirected(position)) return undefined;
        if (fn > LAST_BASE + 0xff) {
          const words = "is above 0x4000ffff, where no guest searches for a hypervisor";
          const fix = [{ kind: "remove" as const, position }];
          return { place: table.entryPlace(position), words, fix };
        }
        const isFirst = (fn & 0xff) === 0 && (e.ebx | e.ecx | e.edx) !== 0;
        if (!isFirst || e.eax === 0 || (e.eax >= fn && e.eax <= fn + 0xff)) return undefined;
        const highest = table.functions.findLast((f) => f >= fn && f <= fn + 0xff) ?? fn;
        return {
          place: table.bitsPlace(position, "eax"),
          words: `is ${hex(e.eax)}, which is not a leaf of the block ${hex(fn)} to ${hex(fn + 0xff)}`,
          fix: [setBits(position, "eax", 0, 31, highest)],
        };
      }),
  },
  {
    id: "S06",
    severity: "warning",
    title: "KVM and Linux know the vendor",
    source:
      "arch/x86/kvm/cpuid.h and arch/x86/kernel/cpu; an unknown vendor gets no quirks of its CPU",
    remedy: "Set the vendor to GenuineIntel, AuthenticAMD, HygonGenuine, CentaurHauls or Shanghai",
    check: (table) =>
      table.vendorText === undefined || table.vendor !== "unknown"
        ? []
        : [
            {
              place: table.entryPlace(table.find(0)),
              words: `the vendor is ${JSON.stringify(printable(table.vendorText))}, which KVM and Linux do not know`,
            },
          ],
  },
  {
    id: "S07",
    severity: "error",
    title: "Leaf 0x80000000 repeats the vendor on AMD and Hygon, and has zeros on Intel",
    source: "APM volume 3, CPUID leaf 0x80000000; SDM volume 2A, CPUID leaf 0x80000000",
    remedy: "Copy EBX, ECX and EDX of leaf 0 on AMD and Hygon, and set them to 0 on Intel",
    check: (table) => {
      const position = table.find(FIRST_EXTENDED);
      const [own, first] = [table.entries[position], table.leaf(0)];
      if (own === undefined || first === undefined) return [];
      if (!table.isAmd && table.vendor !== "intel") return [];
      // K5 and K6 report 0 in EBX, ECX and EDX of leaf 0x80000000.
      if (table.isAmd && table.read("base_family_id") < 0xf) return [];
      return (["ebx", "ecx", "edx"] as const).flatMap((register): readonly LintFault[] => {
        const wanted = table.isAmd ? first[register] : 0;
        if (own[register] === wanted) return [];
        const place = table.bitsPlace(position, register);
        const reason = table.isAmd ? "in leaf 0" : "on Intel";
        const words = `is ${hex(own[register])}, but ${hex(wanted)} ${reason}`;
        return [{ place, words, fix: [setBits(position, register, 0, 31, wanted)] }];
      });
    },
  },
  {
    id: "S08",
    severity: "error",
    title: "No function and index occur twice",
    source: "cpuid_entry2_find in arch/x86/kvm/cpuid.c returns the first match",
    remedy: "Remove the later entry, or give it another index",
    check: (table) => {
      const firsts = new Map<string, number>();
      return each(table, (e, position) => {
        const key = `${e.function}:${e.index}`;
        const first = firsts.get(key);
        if (first === undefined) {
          firsts.set(key, position);
          return undefined;
        }
        const words = `entry ${first} has the same function and index, so KVM never uses entry ${position}`;
        return { place: table.entryPlace(position), words, fix: [{ kind: "remove", position }] };
      });
    },
  },
  {
    id: "S09",
    severity: "error",
    title: "Entries of indexed functions, and no others, have KVM_CPUID_FLAG_SIGNIFCANT_INDEX",
    source: "cpuid_function_is_indexed and cpuid_entry2_find in arch/x86/kvm/cpuid.c",
    remedy: "Set the flag for a function with sub-leaves, and clear it for any other",
    check: (table) =>
      each(table, (e, position) => {
        const place = table.entryPlace(position);
        if (isIndexed(e.function)) {
          if (isFlagged(e)) return undefined;
          const words = "has no KVM_CPUID_FLAG_SIGNIFCANT_INDEX, so KVM uses it for every sub-leaf";
          return { place, words, fix: [setFlag(position, 1)] };
        }
        const isAlone = table.positions(e.function).length === 1;
        if (!isFlagged(e) || !isAlone || e.index !== 0 || table.isIndexed(e.function))
          return undefined;
        const words =
          "has KVM_CPUID_FLAG_SIGNIFCANT_INDEX, but no sub-leaves, so a guest with another ECX reads zeros";
        return { place, words, fix: [setFlag(position, 0)] };
      }),
  },
  {
    id: "S10",
    severity: "error",
    title: "An entry with a nonzero index has KVM_CPUID_FLAG_SIGNIFCANT_INDEX",
    source:
      "cpuid_entry2_find in arch/x86/kvm/cpuid.c ignores the index of an entry without the flag",
    remedy: "Set the flag, or the index to 0",
    check: (table) =>
      each(table, (e, position) => {
        if (e.index === 0 || isFlagged(e) || isIndexed(e.function)) return undefined;
        const words = `has the index ${e.index} without KVM_CPUID_FLAG_SIGNIFCANT_INDEX, so KVM ignores it`;
        const fix = table.isIndexed(e.function) ? [setFlag(position, 1)] : undefined;
        return { place: table.entryPlace(position), words, fix };
      }),
  },
  {
    id: "S11",
    severity: "warning",
    title: "Only the index flag is set, and the padding is 0",
    source: "api.rst, KVM_SET_CPUID2: the STATEFUL flags are not used, and the padding is reserved",
    remedy: "Clear the flags and the padding",
    check: (table) =>
      each(table, (e, position) => {
        const extra = (e.flags & ~KVM_CPUID_FLAG_SIGNIFCANT_INDEX) >>> 0;
        const isPadded = e.padding.some((word) => word !== 0);
        if (extra === 0 && !isPadded) return undefined;
        const words =
          extra === 0
            ? `the reserved padding is ${e.padding.map(hex).join(", ")}`
            : `has the flags ${hex(e.flags)}, and KVM uses only 0x1`;
        const mask = ~KVM_CPUID_FLAG_SIGNIFCANT_INDEX >>> 0;
        return {
          place: table.entryPlace(position),
          words,
          fix: [
            { kind: "flags", position, mask, value: 0 },
            { kind: "padding", position },
          ],
        };
      }),
  },
  {
    id: "S12",
    severity: "error",
    title: `The table has at most ${KVM_MAX_CPUID_ENTRIES} entries`,
    source: "KVM_MAX_CPUID_ENTRIES; KVM_SET_CPUID2 returns E2BIG",
    remedy: "Remove entries of zeros",
    check: (table) =>
      table.entries.length <= KVM_MAX_CPUID_ENTRIES
        ? []
        : [
            {
              place: table.entryPlace(KVM_MAX_CPUID_ENTRIES),
              words: `is entry ${KVM_MAX_CPUID_ENTRIES} of ${table.entries.length}, and KVM accepts ${KVM_MAX_CPUID_ENTRIES}`,
            },
          ],
  },
  {
    id: "S13",
    severity: "error",
    title: "No sub-leaf of leaf 7 with data is above the maximum, and the maximum is at most 2",
    source: "SDM volume 2A, CPUID leaf 7: EAX of sub-leaf 0",
    remedy: "Set EAX of leaf 7 to its highest sub-leaf",
    check: (table) => {
      const max = table.read("leaf7_n_subleaves");
      const place = table.place("leaf7_n_subleaves");
      const words = `is ${max}, but the manuals define sub-leaves up to 2`;
      const unusual: readonly LintFault[] = max > 2 ? [{ place, words, severity: "info" }] : [];
      const first = table.leaf(7);
      if (first !== undefined && isZero(first)) {
        const highest = highestSubleaf(table, 7);
        return highest <= 0
          ? []
          : [
              {
                place: table.entryPlace(table.find(7, highest)),
                words: "has data, but the highest sub-leaf of the leaf is 0",
                fix: table.set("leaf7_n_subleaves", highest),
              },
            ];
      }
      return [...unusual, ...aboveMaxSubleaf(table, 7)];
    },
  },
  {
    id: "S14",
    severity: "warning",
    title: "No sub-leaf with data is above the leaf's own maximum",
    source:
      "SDM volume 2A, CPUID leaves 0x14, 0x17, 0x18, 0x1d, 0x1e, 0x20, 0x23 (a bitmap), 0x24, 0x29",
    remedy: "Set EAX of sub-leaf 0 to the highest sub-leaf, or remove the sub-leaf",
    check: (table) => [
      ...MAX_SUBLEAF.flatMap((fn) => aboveMaxSubleaf(table, fn)),
      ...outsideBitmap(table),
    ],
  },
  {
    id: "S15",
    severity: "warning",
    title: "The sub-leaves of a leaf that software walks have no gap",
    source:
      "SDM and APM, CPUID leaves 4, 0xb, 0x1f, 0x8000001d, 0x80000026: the walk ends at the first invalid one",
    remedy: "Number the sub-leaves from 0 without a gap",
    check: (table) =>
      WALKED.flatMap((fn): readonly LintFault[] => {
        const indexes = indexesOf(table, fn);
        const gap = indexes.findIndex((index, i) => index !== i);
        const after = indexes[gap];
        if (after === undefined) return [];
        const words = `follows no sub-leaf ${gap}, so a walk ends before it`;
        return [{ place: table.entryPlace(table.find(fn, after)), words }];
      }),
  },
  {
    id: "S16",
    severity: "info",
    title: "A leaf without sub-leaves has one entry",
    source:
      "cpuid_function_is_indexed in arch/x86/kvm/cpuid.c; SDM volume 2A: ECX does not select data of this leaf",
    remedy: "Remove the entries with an index",
    check: (table) =>
      table.functions.flatMap((fn): readonly LintFault[] => {
        if (isSelected(table, fn) || table.positions(fn).length === 1) return [];
        const indexes = indexesOf(table, fn);
        const [, second] = indexes;
        if (second === undefined) return [];
        const place = table.entryPlace(table.find(fn, second));
        return [{ place, words: `the leaf has ${indexes.length} entries, but no sub-leaves` }];
      }),
  },
  {
    id: "S17",
    severity: "info",
    title: "Each bit that is set belongs to a field of the database",
    source: "gen/facts/cpuid.csv and gen/facts/cpuid-supplement.csv",
    remedy: "Check the bit in a newer manual, and clear it if the guest must not see it",
    check: unnamedBits,
  },
  {
    id: "S18",
    severity: "warning",
    title: "Bits that the manuals define as 0 are 0",
    source: "SDM volume 2A, CPUID leaves 1, 0xb and 0x1f",
    remedy: "Clear the bits",
    check: reservedBits,
  },
  {
    id: "S19",
    severity: "warning",
    title: "No entry repeats the highest basic leaf in place of a leaf that the CPU lacks",
    source:
      "SDM volume 2A, CPUID: an Intel CPU returns the highest basic leaf for a leaf out of range",
    remedy: "Remove the entry; the dump's program read a leaf that the CPU does not have",
    check: (table) =>
      each(table, (_, position) => {
        if (!table.isRedirected(position)) return undefined;
        const place = table.entryPlace(position);
        const words = `repeats leaf ${hex(table.maxBasic ?? 0)}, so the CPU does not have it`;
        return { place, words, fix: [{ kind: "remove", position }] };
      }),
  },
];

/** Replaces characters that could change the state of a terminal. */
function printable(text: string): string {
  return text.replaceAll(/[^ -~]/g, "?");
}
