/** Reads the caches that a CPUID table describes. caches.ts writes caches into a table. */
import { type CpuidEntry2, locate, toEntries } from "./entry.ts";
import { describeValue } from "./enumerations.ts";
import type { CpuidFieldName } from "./generated/fields.ts";
import { CPUID_DESCRIPTORS } from "./generated/values.ts";
import { isAmdLike, valueIn, walk } from "./values.ts";

/** One cache. */
export interface CpuidCache {
  /** The level; level 1 is next to the core. */
  readonly level: number;
  readonly type: "data" | "instruction" | "unified";
  /** The size, in bytes. */
  readonly size: number;
  /** The associativity: a number of ways, or "full"; undefined if the table does not report the associativity. */
  readonly ways: number | "full" | undefined;
  /** The size of a line, in bytes. */
  readonly lineSize: number;
  /** The line partitions; undefined if the leaf does not report them. */
  readonly partitions: number | undefined;
  /** The maximum number of APIC ids that share the cache; undefined if the leaf does not report it. */
  readonly sharedBy: number | undefined;
  /** Whether the cache includes the contents of all lower levels; undefined if the leaf does not report it. */
  readonly isInclusive: boolean | undefined;
  /** The leaf that describes the cache. */
  readonly source: "0x4" | "0x8000001d" | "0x80000005" | "0x80000006" | "0x2";
}

/**
 * The number of sub-leaves of leaf 4 and 0x8000001D that are read: the database has 32, and real CPUs have at most six.
 */
const MOST_CACHES = 32;

const TYPES: readonly (CpuidCache["type"] | undefined)[] = [
  undefined,
  "data",
  "instruction",
  "unified",
];

/** Type 0 ends the list, and the manuals reserve the types above 3. */
const isTerminator = (e: CpuidEntry2): boolean => TYPES[valueIn(e, "cache_type")] === undefined;

/** Reads the sub-leaves of leaf 4 or 0x8000001D, which have one layout. */
function described(
  entries: readonly CpuidEntry2[],
  fn: number,
  source: "0x4" | "0x8000001d",
): readonly CpuidCache[] {
  return walk(entries, fn, MOST_CACHES, isTerminator).map((e) => {
    const ways = valueIn(e, "cache_nways") + 1;
    const lineSize = valueIn(e, "cache_linesize") + 1;
    const partitions = valueIn(e, "cache_npartitions") + 1;
    return {
      level: valueIn(e, "cache_level"),
      type: TYPES[valueIn(e, "cache_type")] ?? "unified",
      size: ways * partitions * lineSize * (valueIn(e, "cache_nsets") + 1),
      ways: valueIn(e, "fully_associative") === 1 ? "full" : ways,
      lineSize,
      partitions,
      sharedBy: valueIn(e, "num_threads_sharing") + 1,
      isInclusive: valueIn(e, "ll_inclusive") === 1,
      source,
    };
  });
}

/** The members that only leaves 4 and 0x8000001D report. */
const UNREPORTED = { partitions: undefined, sharedBy: undefined, isInclusive: undefined } as const;

/** The caches of leaves 0x80000005 and 0x80000006, each with the fields of its size, associativity and line size. */
const AMD_CACHES = [
  {
    fn: 0x8000_0005,
    source: "0x80000005",
    level: 1,
    type: "data",
    unit: 1024,
    fields: ["l1_dcache_size_kb", "l1_dcache_assoc", "l1_dcache_line_size"],
  },
  {
    fn: 0x8000_0005,
    source: "0x80000005",
    level: 1,
    type: "instruction",
    unit: 1024,
    fields: ["l1_icache_size_kb", "l1_icache_assoc", "l1_icache_line_size"],
  },
  {
    fn: 0x8000_0006,
    source: "0x80000006",
    level: 2,
    type: "unified",
    unit: 1024,
    fields: ["l2_size_kb", "l2_assoc", "l2_line_size"],
  },
  {
    fn: 0x8000_0006,
    source: "0x80000006",
    level: 3,
    type: "unified",
    // The size is at least this many times 512 KiB (APM volume 3, Fn8000_0006_EDX).
    unit: 512 * 1024,
    fields: ["l3_size_range", "l3_assoc", "l3_line_size"],
  },
] as const;

/**
 * Parses the name of an associativity: `8-way`, `direct mapped` or `fully associative`; leaf 0x80000005 has a plain
 * number.
 */
function waysOf(name: CpuidFieldName, value: number, isPlain: boolean): CpuidCache["ways"] {
  const text = describeValue(name, value);
  if (text === "fully associative") return "full";
  if (text === "direct mapped") return 1;
  const ways = /^(\d+)-way$/.exec(text ?? "")?.[1];
  if (ways !== undefined) return Number(ways);
  return isPlain && text === undefined ? value : undefined;
}

/** Reads AMD's leaves 0x80000005 and 0x80000006. A cache of size 0 is absent. */
function amdLegacy(entries: readonly CpuidEntry2[]): readonly CpuidCache[] {
  return AMD_CACHES.flatMap(({ fn, source, level, type, unit, fields }) => {
    const found = entries[locate(entries, fn)];
    const size = found ? valueIn(found, fields[0]) * unit : 0;
    if (found === undefined || size === 0) return [];
    const ways = waysOf(fields[1], valueIn(found, fields[1]), fn === 0x8000_0005);
    const lineSize = valueIn(found, fields[2]);
    const rest = { ...UNREPORTED, source };
    return [{ level, type, size, ways, lineSize, ...rest }];
  });
}

const KINDS = {
  L1i: [1, "instruction"],
  L1d: [1, "data"],
  L2: [2, "unified"],
  L3: [3, "unified"],
} as const;

/** Returns the descriptors of leaf 2: all bytes of each register with bit 31 clear, except AL. */
function descriptorsOf(found: CpuidEntry2): readonly number[] {
  const registers = [found.eax & ~0xff, found.ebx, found.ecx, found.edx];
  return registers
    .filter((value) => value >>> 31 === 0)
    .flatMap((value) => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff));
}

/** Reads the caches of leaf 2. */
function byDescriptors(entries: readonly CpuidEntry2[]): readonly CpuidCache[] {
  const found = entries[locate(entries, 2)];
  if (found === undefined) return [];
  return descriptorsOf(found).flatMap((byte) => {
    const row = CPUID_DESCRIPTORS.find(([value]) => value === byte);
    if (row === undefined) return [];
    const [, kind, kib, ways, lineSize] = row;
    if (kind === "none" || kind === "tlb" || kind === "prefetch" || kind === "trace") return [];
    const [level, type] = KINDS[kind];
    const rest = { ...UNREPORTED, source: "0x2" } as const;
    return [{ level, type, size: kib * 1024, ways, lineSize, ...rest }];
  });
}

type Reader = (entries: readonly CpuidEntry2[]) => readonly CpuidCache[];

const leaf4: Reader = (entries) => described(entries, 4, "0x4");
const leaf8000001d: Reader = (entries) => described(entries, 0x8000_001d, "0x8000001d");

/** The functions that read caches, in the order in which they are tried; the first that finds a cache is used. */
const READERS: { readonly [vendor in "amd" | "other"]: readonly Reader[] } = {
  amd: [leaf8000001d, amdLegacy, leaf4],
  other: [leaf4, byDescriptors, leaf8000001d, amdLegacy],
};

/**
 * Returns the caches from the first leaf that describes caches. For AMD and Hygon, the leaves are tried in the order
 * 0x8000001D, 0x80000005/6, 4; for other vendors in the order 4, 2, 0x8000001D, 0x80000005/6. The caches are in the
 * order of the leaf. At most 32 sub-leaves are read. Leaf 0x80000006 gives the size of the L3 cache in steps of 512
 * KiB, rounded down.
 *
 * @returns an empty list if no leaf describes caches.
 * @throws TypeError for anything but an iterable of entries.
 */
export function cachesOf(table: Iterable<CpuidEntry2>): readonly CpuidCache[] {
  const entries = toEntries("cachesOf()", table);
  for (const read of READERS[isAmdLike(entries) ? "amd" : "other"]) {
    const caches = read(entries);
    if (caches.length > 0) return Object.freeze(caches.map((cache) => Object.freeze(cache)));
  }
  return Object.freeze([]);
}
