/** Writes the caches of a table: leaves 2 and 4 for Intel; 0x8000001d, 0x80000005 and 0x80000006 for AMD. */
import { describe, refuseMissing, refuseUnknown, toList } from "../options.ts";
import type { CpuidCache } from "./cache-values.ts";
import { CPUID_REGISTERS, type CpuidRegister } from "./entry.ts";
import { readField, writeField } from "./field.ts";
import { layoutOf, packed, reaches, withLeaf, withMaximum } from "./leaf.ts";
import { type CpuidTable, refuseNonTable } from "./table.ts";
import { domainsOf } from "./topology.ts";

/** One cache. A cache that cachesOf() returns is such an input, except if its `ways` is undefined. */
export interface CpuidCacheInput {
  /** 1 to 4. */
  readonly level: number;
  readonly type: "data" | "instruction" | "unified";
  /** The size of one cache in bytes: ways × line size × partitions × a number of sets. */
  readonly size: number;
  /**
   * The associativity, 1 to 1,024; "full" for a fully associative cache. For `undefined`, which cachesOf() returns if a
   * table does not report the associativity, the call throws: the leaves of caches need it.
   */
  readonly ways: number | "full" | undefined;
  /** The line size in bytes, 1 to 4,096; 64 by default, as on every CPU with cache leaves. */
  readonly lineSize?: number | undefined;
  /** The line partitions, 1 to 1,024; 1 by default. */
  readonly partitions?: number | undefined;
  /**
   * The logical CPUs that share one cache: all of a core, a die or a package of the table's topology, or a number of
   * logical CPUs. The default is "core" for levels 1 and 2, and "die" for levels 3 and 4. A cache of
   * cachesOf() has the number of its table; leave the member out to follow another topology.
   */
  readonly sharedBy?: "core" | "die" | "package" | number | undefined;
  /** Whether the cache includes the lower levels; false by default. */
  readonly isInclusive?: boolean | undefined;
  /** The leaf from which cachesOf() read the cache; it has no effect. */
  readonly source?: CpuidCache["source"] | undefined;
}

/** A checked cache, with the numbers that leaf 4 encodes. */
interface Cache {
  readonly level: number;
  readonly type: number;
  readonly size: number;
  readonly ways: number;
  readonly isFull: boolean;
  readonly lineSize: number;
  readonly partitions: number;
  readonly sets: number;
  /** The number of logical CPUs that share the cache. */
  readonly sharing: number;
  readonly isInclusive: boolean;
}

/** The cache types of leaf 4 (SDM volume 2) and 0x8000001d (APM volume 3); type 0 means that no cache is left. */
const TYPES = { data: 1, instruction: 2, unified: 3 } as const;
const SHARERS: readonly unknown[] = ["core", "die", "package"];
const REQUIRED = ["level", "type", "size"] as const;
const OPTIONAL = ["lineSize", "partitions", "sharedBy", "isInclusive", "source"] as const;
/** The database's leaf 4 has sub-leaves 0 to 31; the last one is the terminator. */
const MOST_CACHES = 31;
/** 0x4:eax[25:14] has 12 bits. */
const MOST_SHARING = 4096;

function refuseOutside(where: string, value: unknown, most: number): void {
  const isRight =
    typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= most;
  if (isRight) return;
  throw new RangeError(`${where}: expected an integer from 1 to ${most}, got ${describe(value)}`);
}

/** Returns the number of logical CPUs that share a cache, as the vendor counts them. */
function sharingOf(
  where: string,
  table: CpuidTable,
  { level, sharedBy = level <= 2 ? "core" : "die" }: CpuidCacheInput,
): number {
  if (typeof sharedBy === "number") {
    refuseOutside(`${where}: sharedBy`, sharedBy, MOST_SHARING);
    return sharedBy;
  }
  if (!SHARERS.includes(sharedBy)) {
    throw new TypeError(
      `${where}: sharedBy: expected "core", "die", "package" or a number, got ${describe(sharedBy)}`,
    );
  }
  const { shift, count } = domainsOf(table)[sharedBy];
  // Intel counts addressable ids, AMD logical CPUs.
  return Math.min(MOST_SHARING, layoutOf(table) === "intel" ? 2 ** shift : count);
}

function toCache(where: string, table: CpuidTable, input: CpuidCacheInput): Cache {
  refuseUnknown(where, input, [...REQUIRED, "ways", ...OPTIONAL], "member");
  const isUnreported = Object.hasOwn(input, "ways") && input.ways === undefined;
  refuseMissing(where, input, isUnreported ? REQUIRED : [...REQUIRED, "ways"]);
  const { level, type, size, ways, lineSize = 64, partitions = 1, isInclusive = false } = input;
  if (ways === undefined) {
    throw new TypeError(
      `${where}: ways is undefined, because the table does not report it: give a number or "full"`,
    );
  }
  refuseOutside(`${where}: level`, level, 4);
  if (!Object.hasOwn(TYPES, type)) {
    const known = Object.keys(TYPES).join(", ");
    throw new TypeError(`${where}: type: expected one of ${known}, got ${describe(type)}`);
  }
  refuseOutside(`${where}: size`, size, 2 ** 42);
  refuseOutside(`${where}: lineSize`, lineSize, 4096);
  refuseOutside(`${where}: partitions`, partitions, 1024);
  const isFull = ways === "full";
  // A fully associative cache has one set, which contains all lines.
  const count = isFull ? size / (lineSize * partitions) : ways;
  refuseOutside(`${where}: ways`, count, 1024);
  const sets = size / (count * lineSize * partitions);
  if (!Number.isInteger(sets) || sets > 2 ** 31) {
    throw new RangeError(
      `${where}: ${size} bytes are not ${count} ways of ${lineSize}-byte lines times a number of sets`,
    );
  }
  const sharing = sharingOf(where, table, input);
  const shape = { level, type: TYPES[type], size, ways: count, isFull, lineSize, partitions, sets };
  return { ...shape, sharing, isInclusive };
}

function refuseConflicts(where: string, caches: readonly Cache[]): void {
  for (const [i, cache] of caches.entries()) {
    const before = caches[i - 1];
    if (before === undefined) continue;
    if (before.level === cache.level && before.type === cache.type) {
      throw new RangeError(`${where}: two caches have level ${cache.level} and the same type`);
    }
    if (before.level < cache.level && before.sharing > cache.sharing) {
      throw new RangeError(
        `${where}: ${cache.sharing} logical CPUs share level ${cache.level}, but ${before.sharing} share level ${before.level}`,
      );
    }
  }
}

/** Returns the entries of leaf 4 or 0x8000001d, with the terminator. */
function cacheEntries(
  caches: readonly Cache[],
  coreIds: number | undefined,
): Parameters<typeof withLeaf>[2] {
  const entries = caches.map((cache, index) => ({
    index,
    eax: packed([
      [4, 0, cache.type],
      [7, 5, cache.level],
      [8, 8, 1], // self initialising
      [9, 9, cache.isFull ? 1 : 0],
      [25, 14, cache.sharing - 1],
      [31, 26, (coreIds ?? 1) - 1],
    ]),
    ebx: packed([
      [11, 0, cache.lineSize - 1],
      [21, 12, cache.partitions - 1],
      [31, 22, cache.ways - 1],
    ]),
    ecx: cache.sets - 1,
    edx: cache.isInclusive ? 2 : 0,
  }));
  return [...entries, { index: entries.length, eax: 0, ebx: 0, ecx: 0, edx: 0 }];
}

/** The numbers of ways that 0x80000006 can encode (APM volume 3, appendix E; SDM volume 2 has the same codes). */
const WAY_CODES: ReadonlyMap<number, number> = new Map([
  ...([
    [1, 1],
    [2, 2],
    [3, 3],
    [4, 4],
    [6, 5],
    [8, 6],
    [16, 8],
    [32, 0xa],
  ] as const),
  ...([
    [48, 0xb],
    [64, 0xc],
    [96, 0xd],
    [128, 0xe],
  ] as const),
]);
const FULL_CODE = 0xf;
/** The code for all other numbers of ways, which refers to the leaf of caches. */
const OTHER_CODE = { intel: 7, amd: 9 } as const;

function wayCode({ isFull, ways }: Cache, vendor: "intel" | "amd"): number {
  return isFull ? FULL_CODE : (WAY_CODES.get(ways) ?? OTHER_CODE[vendor]);
}

/** A cache in one register of 0x80000005 or 0x80000006. */
interface OldPlace {
  readonly level: number;
  readonly types: readonly Cache["type"][];
  readonly fn: number;
  readonly register: "ecx" | "edx";
  /** The unit of the size field, in bytes. */
  readonly unit: number;
  /** The lowest bit of the size field, which ends at bit 31. */
  readonly low: number;
  readonly vendors: readonly ("intel" | "amd")[];
}

/** Source: APM volume 3, appendix E; SDM volume 2, CPUID leaf 0x80000006. */
const OLD_PLACES: readonly OldPlace[] = [
  {
    ...{ level: 1, types: [TYPES.data, TYPES.unified], fn: 0x80000005, register: "ecx" },
    ...{ unit: 1024, low: 24, vendors: ["amd"] },
  },
  {
    ...{ level: 1, types: [TYPES.instruction], fn: 0x80000005, register: "edx" },
    ...{ unit: 1024, low: 24, vendors: ["amd"] },
  },
  {
    ...{ level: 2, types: [TYPES.unified, TYPES.data], fn: 0x80000006, register: "ecx" },
    ...{ unit: 1024, low: 16, vendors: ["intel", "amd"] },
  },
  {
    ...{ level: 3, types: [TYPES.unified, TYPES.data], fn: 0x80000006, register: "edx" },
    ...{ unit: 512 * 1024, low: 18, vendors: ["amd"] },
  },
];

function oldRegister(
  where: string,
  { fn, low, unit }: OldPlace,
  cache: Cache | undefined,
  instances: number,
  vendor: "intel" | "amd",
): number {
  if (cache === undefined) return 0;
  // The size of level 3 is the sum for the whole package, rounded down.
  const units = cache.level === 3 ? Math.floor((cache.size * instances) / unit) : cache.size / unit;
  const most = 2 ** (32 - low) - 1;
  if (!Number.isInteger(units) || units < 1 || units > most) {
    throw new RangeError(
      `${where}: ${cache.size} bytes of level ${cache.level} are not 1 to ${most} times ${unit} bytes, which leaf 0x${fn.toString(16)} needs`,
    );
  }
  if (cache.level === 1) {
    const ways = cache.isFull ? 0xff : cache.ways;
    if (cache.ways > 0xfe && !cache.isFull) {
      throw new RangeError(`${where}: ${cache.ways} ways of level 1, but leaf 0x80000005 has 254`);
    }
    return packed([
      [31, low, units],
      [23, 16, ways],
      [15, 8, 1],
      [7, 0, cache.lineSize],
    ]);
  }
  return packed([
    [31, low, units],
    [15, 12, wayCode(cache, vendor)],
    [11, 8, 1],
    [7, 0, cache.lineSize],
  ]);
}

function withOldLeaves(
  where: string,
  table: CpuidTable,
  caches: readonly Cache[],
  vendor: "intel" | "amd",
): CpuidTable {
  const inPackage = domainsOf(table).package.count;
  return OLD_PLACES.filter((place) => place.vendors.includes(vendor)).reduce((made, place) => {
    if (!reaches(made, place.fn)) return made;
    const [cache] = place.types.flatMap((type) =>
      caches.filter((one) => one.level === place.level && one.type === type),
    );
    const instances = cache === undefined ? 0 : Math.ceil(inPackage / cache.sharing);
    const value = oldRegister(where, place, cache, instances, vendor);
    return withLeaf(made, place.fn, [{ [place.register]: value }]);
  }, table);
}

/** Whether a descriptor of leaf 2 is 0xff, which refers to leaf 4. */
function refersToLeaf4(table: CpuidTable): boolean {
  const leaf = table.find(2, 0);
  return [8, 16, 24].some((low) => readField(leaf?.eax ?? 0, low, low + 7) === 0xff);
}

/** Replaces each descriptor 0xff of leaf 2 with the null descriptor, because leaf 4 has no cache. */
function withoutReference(table: CpuidTable): CpuidTable {
  return table.map((e) => {
    if (e.function !== 2) return e;
    const without = (register: CpuidRegister): number =>
      // AL contains the number 1, and bit 31 of a register without descriptors is 1.
      (register === "eax" ? [8, 16, 24] : e[register] >>> 31 === 1 ? [] : [0, 8, 16, 24])
        .filter((low) => readField(e[register], low, low + 7) === 0xff)
        .reduce((word, low) => writeField(word, low, low + 7, 0), e[register]);
    const registers = CPUID_REGISTERS.map((register) => [register, without(register)] as const);
    return { ...e, ...Object.fromEntries(registers) };
  });
}

/**
 * Replaces the caches of a table with `caches`, ordered by level and type.
 *
 * For Intel, the function writes leaf 4, raises the maximum to include leaf 4, and writes the second level to leaf
 * 0x80000006. If leaf 2 does not contain the descriptor 0xff ("see leaf 4"), leaf 2 becomes this descriptor. If
 * `caches` is empty, this descriptor is removed from leaf 2. For AMD
 * and Hygon, the function writes leaves 0x80000005, 0x80000006 and, if topoext is 1, 0x8000001d; leaves above the
 * extended maximum are not written. TLB fields in these leaves keep their values. `sharedBy` depends on the table's
 * topology, so write the topology first.
 *
 * @throws RangeError for a number that does not fit its field, and for a size that is not ways × line size ×
 *   partitions × sets. RangeError for two caches of the same level and type, and for a cache that fewer CPUs share than a cache of a
 *   lower level. TypeError for an unknown member, and for `ways: undefined`.
 */
export function withCaches(table: CpuidTable, caches: Iterable<CpuidCacheInput>): CpuidTable {
  return writeCaches("withCaches()", table, caches);
}

/** Does what {@link withCaches} does; the messages begin with `where`, the name of the function that was called. */
export function writeCaches(
  where: string,
  table: CpuidTable,
  caches: Iterable<CpuidCacheInput>,
): CpuidTable {
  refuseNonTable(`${where}: table`, table);
  const vendor = layoutOf(table);
  const all = toList(where, caches)
    .map((input, i) => toCache(`${where}: [${i}]`, table, input))
    .sort((a, b) => a.level - b.level || a.type - b.type);
  if (all.length > MOST_CACHES) {
    throw new RangeError(`${where}: ${all.length} caches, but there are at most ${MOST_CACHES}`);
  }
  refuseConflicts(where, all);
  if (vendor === "amd") {
    const hasLeaf = reaches(table, 0x8000001d) && table.has("topoext");
    const made = hasLeaf ? withLeaf(table, 0x8000001d, cacheEntries(all, undefined)) : table;
    return withOldLeaves(where, made, all, vendor);
  }
  const { core, package: whole } = domainsOf(table);
  const coreIds = Math.min(64, 2 ** Math.max(0, whole.shift - core.shift));
  let made = withLeaf(withMaximum(table, 4), 4, cacheEntries(all, coreIds));
  if (all.length === 0) made = withoutReference(made);
  else if (!refersToLeaf4(made)) {
    made = withLeaf(made, 2, [{ eax: 0xff01, ebx: 0, ecx: 0, edx: 0 }]);
  }
  return withOldLeaves(where, made, all, vendor);
}
