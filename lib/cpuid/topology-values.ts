/** Reads the topology that a CPUID table describes. topology.ts writes a topology into a table. */
import { type CpuidEntry2, locate, toEntries } from "./entry.ts";
import { isAmdLike, valueIn, walk } from "./values.ts";

/**
 * A group of logical processors: a package, or a group inside a package. A complex is a group of cores of an AMD CPU
 * with a common L3 cache.
 */
export type CpuidDomain =
  | "core"
  | "module"
  | "tile"
  | "complex"
  | "die"
  | "die-group"
  | "package"
  | "unknown";

/** One level of the topology. It divides the next higher level into groups of equal size. */
export interface CpuidTopologyLevel {
  /** The kind of the groups. */
  readonly domain: CpuidDomain;
  /**
   * The shift of the level: `apicId >>> shift` is equal for all logical processors of one group, and differs between
   * groups.
   */
  readonly shift: number;
  /** The number of logical processors of one group; it may be 0, because some hypervisors do not set it. */
  readonly processors: number;
}

/** A topology. */
export interface CpuidTopology {
  /** The leaf that describes the topology; "legacy" for the leaves 1, 4 and 0x80000008 of CPUs without newer leaves. */
  readonly source: "0xb" | "0x1f" | "0x80000026" | "legacy";
  /** The APIC ID of the logical processor that the table belongs to. */
  readonly apicId: number;
  /** The levels from the core to the package. */
  readonly levels: readonly CpuidTopologyLevel[];
  /** The number of logical processors of one core. */
  readonly threadsPerCore: number;
  /**
   * The number of cores of one package: its logical processors divided by the logical processors of a core, rounded up.
   */
  readonly coresPerPackage: number;
  /** The number of logical processors of one package. */
  readonly processorsPerPackage: number;
}

/** The maximum number of levels that are read: the manuals define six types, and a type does not occur twice. */
const MOST_LEVELS = 8;

/**
 * The group that a level's shift identifies, by the type of the level. Intel's types name the members of the group (SDM
 * volume 2, CPUID leaf 0x1F): the shift of "core" gives the number of the next larger group, and the next level has the
 * type of this group. The shift of type 1 (logical processor) gives the number of the core.
 */
const INTEL_TYPES: readonly CpuidDomain[] = [
  "unknown",
  "core",
  "core",
  "module",
  "tile",
  "die",
  "die-group",
];

/** AMD's types name the group that the shift identifies (APM volume 3, Fn8000_0026_ECX). */
const AMD_TYPES: readonly CpuidDomain[] = ["unknown", "core", "complex", "die", "package"];

interface Walked {
  readonly type: number;
  readonly shift: number;
  readonly processors: number;
}

/** Reads the levels of leaf 0xB, 0x1F or 0x80000026, which have one layout. */
function read(found: readonly CpuidEntry2[]): readonly Walked[] {
  return found.map((e) => ({
    type: valueIn(e, "domain_type"),
    shift: valueIn(e, "x2apic_id_shift"),
    processors: valueIn(e, "domain_lcpus_count"),
  }));
}

const isTerminator = (e: CpuidEntry2): boolean => valueIn(e, "domain_type") === 0;

function intelLevels(walked: readonly Walked[]): readonly CpuidTopologyLevel[] {
  const levels = walked.map(({ type, shift, processors }, i) => {
    const next = walked[i + 1];
    const domain = next === undefined ? "package" : (INTEL_TYPES[next.type] ?? "unknown");
    return { domain: type === 1 ? "core" : domain, shift, processors } as const;
  });
  const last = levels.at(-1);
  // A single level of type thread means that the package has one core.
  return last?.domain === "core" ? [...levels, { ...last, domain: "package" }] : levels;
}

function amdLevels(walked: readonly Walked[]): readonly CpuidTopologyLevel[] {
  const levels = walked.map(({ type, shift, processors }) => {
    return { domain: AMD_TYPES[type] ?? "unknown", shift, processors } as const;
  });
  const last = levels.at(-1);
  return last !== undefined && last.domain !== "package"
    ? [...levels, { ...last, domain: "package" }]
    : levels;
}

/** Returns the number of bits that numbers below `count` need. */
function widthOf(count: number): number {
  return count <= 1 ? 0 : 32 - Math.clz32(count - 1);
}

/**
 * Computes the topology of CPUs without the extended leaves, as Linux's parse_legacy and, for AMD, parse_8000_0008 do.
 */
function legacyLevels(entries: readonly CpuidEntry2[]): readonly CpuidTopologyLevel[] {
  const find = (fn: number, index?: number): CpuidEntry2 | undefined =>
    entries[locate(entries, fn, index)];
  const first = find(1);
  const siblings = first && valueIn(first, "ht") === 1 ? valueIn(first, "n_logical_cpu") : 1;
  if (isAmdLike(entries)) {
    const sizes = find(0x8000_0008);
    const units = find(0x8000_001e);
    const processors = sizes ? valueIn(sizes, "cpu_nthreads") + 1 : Math.max(1, siblings);
    const bits = sizes ? valueIn(sizes, "apicid_coreid_len") : 0;
    const shift = bits === 0 ? widthOf(processors) : bits;
    const perCore = units ? valueIn(units, "core_nthreads") + 1 : 1;
    return [
      { domain: "core", shift: widthOf(perCore), processors: perCore },
      { domain: "package", shift, processors },
    ];
  }
  const caches = find(4, 0);
  const cores = caches ? valueIn(caches, "num_cores_on_die") + 1 : 1;
  const shift = Math.max(widthOf(siblings), widthOf(cores));
  const perCore = Math.max(1, Math.floor(siblings / cores));
  return [
    { domain: "core", shift: shift - widthOf(cores), processors: perCore },
    { domain: "package", shift, processors: Math.max(1, siblings) },
  ];
}

/**
 * The leaves with levels, in the order in which Linux tries them: one list for AMD and Hygon, and one for all other
 * vendors.
 */
const LEAVES = {
  amd: [
    [0x8000_0026, "0x80000026", amdLevels],
    [0xb, "0xb", intelLevels],
  ],
  other: [
    [0x1f, "0x1f", intelLevels],
    [0xb, "0xb", intelLevels],
  ],
} as const;

function topology(
  source: CpuidTopology["source"],
  apicId: number,
  levels: readonly CpuidTopologyLevel[],
): CpuidTopology {
  const threadsPerCore = Math.max(1, levels[0]?.processors ?? 1);
  const processorsPerPackage = Math.max(1, levels.at(-1)?.processors ?? 1);
  return Object.freeze({
    source,
    apicId,
    levels: Object.freeze(levels.map((level) => Object.freeze(level))),
    threadsPerCore,
    coresPerPackage: Math.ceil(processorsPerPackage / threadsPerCore),
    processorsPerPackage,
  });
}

/**
 * Returns the topology of leaf 0x1F, 0xB or, for AMD and Hygon, 0x80000026; if none of these leaves has levels, the
 * topology comes from leaves 1, 4, 0x80000008 and 0x8000001E. At most eight levels are read.
 *
 * @returns undefined if leaf 1 is also absent.
 * @throws TypeError for anything but an iterable of entries.
 *
 * @example
 * ```ts run
 * import { CpuidTable, topologyOf } from "node-kvm/cpuid";
 *
 * const table = CpuidTable.from([
 *   { function: 0xb, index: 0, flags: 1, eax: 1, ebx: 2, ecx: 0x100, edx: 5 },
 *   { function: 0xb, index: 1, flags: 1, eax: 4, ebx: 12, ecx: 0x201, edx: 5 },
 * ]);
 * console.log(topologyOf(table)?.coresPerPackage, topologyOf(table)?.threadsPerCore);
 * ```
 *
 * ```text output
 * 6 2
 * ```
 */
export function topologyOf(table: Iterable<CpuidEntry2>): CpuidTopology | undefined {
  const entries = toEntries("topologyOf()", table);
  for (const [fn, source, levelsOf] of LEAVES[isAmdLike(entries) ? "amd" : "other"]) {
    const found = walk(entries, fn, MOST_LEVELS, isTerminator);
    const [first] = found;
    if (first !== undefined && valueIn(first, "domain_lcpus_count") !== 0) {
      return topology(source, first.edx, levelsOf(read(found)));
    }
  }
  const first = entries[locate(entries, 1)];
  if (first === undefined) return undefined;
  return topology("legacy", valueIn(first, "local_apic_id"), legacyLevels(entries));
}
