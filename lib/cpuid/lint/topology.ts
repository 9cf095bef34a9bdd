/** Lint rules about the topology of CPUs, APIC ids and caches. lib/cpuid/topology.ts builds a topology. */
import { apicIdBits, apicIdPlace } from "../apic-id.ts";
import { type CpuidEntry2, formatLeaf } from "../entry.ts";
import { fieldsOf, formatValue, readField } from "../field.ts";
import type { CpuidLintEdit, LintFault, LintPlace, LintRule } from "./rule.ts";
import { isZero, type LintTable, setBits } from "./table.ts";

/** The leaves with topology levels. Source: SDM volume 2A, leaves 0xb and 0x1f; APM volume 3, leaf 0x80000026. */
const LEVEL_LEAVES: readonly number[] = [0xb, 0x1f, 0x8000_0026];

/** One sub-leaf of a topology leaf. */
interface Level {
  readonly position: number;
  readonly index: number;
  readonly shift: number;
  readonly count: number;
  readonly number: number;
  readonly type: number;
  readonly id: number;
}

function levelOf(position: number, e: CpuidEntry2): Level {
  return {
    position,
    index: e.index,
    shift: e.eax & 0x1f,
    count: e.ebx & 0xffff,
    number: e.ecx & 0xff,
    type: (e.ecx >>> 8) & 0xff,
    id: e.edx,
  };
}

/** Returns all sub-leaves of a topology leaf by index; empty if the leaf has no first level. */
function subleavesOf(table: LintTable, fn: number): readonly Level[] {
  return table.keep(`levels ${fn}`, () => {
    const all = table.positions(fn).flatMap((position) => {
      const e = table.entries[position];
      return e === undefined ? [] : [levelOf(position, e)];
    });
    const sorted = all.sort((a, b) => a.index - b.index || a.position - b.position);
    const [first] = sorted;
    const isPresent = first !== undefined && first.index === 0 && first.count !== 0;
    return isPresent || (first?.type ?? 0) !== 0 ? sorted : [];
  });
}

/** Returns the levels of a topology leaf up to its terminator. */
function levelsOf(table: LintTable, fn: number): readonly Level[] {
  const all = subleavesOf(table, fn);
  const end = all.findIndex(({ type }) => type === 0);
  return end < 0 ? all : all.slice(0, end);
}

/** Returns the largest number of logical CPUs of any topology level; 0 if the table has no level. */
function topCount(table: LintTable): number {
  return LEVEL_LEAVES.flatMap((fn) => levelsOf(table, fn)).reduce(
    (most, { count }) => Math.max(most, count),
    0,
  );
}

function levelFaults(table: LintTable, fn: number): readonly LintFault[] {
  const all = subleavesOf(table, fn);
  const faults: LintFault[] = [];
  let before: Level | undefined;
  let hasEnded = false;
  for (const level of all) {
    const { position, index, number, type, shift, count } = level;
    if (number !== (index & 0xff)) {
      const place = table.bitsPlace(position, "ecx", 0, 7);
      const fix = [setBits(position, "ecx", 0, 7, index & 0xff)];
      faults.push({ place, words: `is ${number}, but the sub-leaf is ${index}`, fix });
    }
    const add = (
      register: "eax" | "ebx" | "ecx",
      low: number,
      high: number,
      words: string,
    ): void => {
      faults.push({ place: table.bitsPlace(position, register, low, high), words });
    };
    if (type === 0) hasEnded = true;
    else if (hasEnded)
      add("ecx", 8, 15, `is ${type} after the terminator, so software never reads it`);
    else if (before === undefined && type !== 1)
      add("ecx", 8, 15, `is ${type}, but the first level has type 1`);
    else if (before !== undefined && type <= before.type)
      add(
        "ecx",
        8,
        15,
        `is ${type}, but the level below has type ${before.type}, and types ascend`,
      );
    else if (before !== undefined && shift < before.shift)
      add("eax", 0, 4, `is ${shift}, but the level below has the shift ${before.shift}`);
    else if (before !== undefined && count < before.count)
      add("ebx", 0, 15, `is ${count}, but the level below has ${before.count} logical CPUs`);
    if (type !== 0) before = level;
  }
  return faults;
}

/** A place of the vCPU's APIC id in a table. */
interface IdPlace {
  readonly place: LintPlace;
  readonly value: number;
  readonly width: number;
  readonly low: number;
  readonly register: "eax" | "ebx" | "ecx" | "edx";
}

/** Returns every place of the APIC id; leaf 1 comes last, because it has only 8 bits of the id. */
function idPlaces(table: LintTable): readonly IdPlace[] {
  return table.keep("ids", () => {
    const found: IdPlace[] = [];
    for (const fn of [0xb, 0x1f, 0x8000_0026, 0x8000_001e, 1]) {
      const row = apicIdPlace({ function: fn });
      if (row === undefined) continue;
      for (const position of table.positions(fn)) {
        const e = table.entries[position];
        const isAbsent = e === undefined || (fn !== 1 && isZero(e));
        const hasLevels = !LEVEL_LEAVES.includes(fn) || subleavesOf(table, fn).length > 0;
        if (isAbsent || !hasLevels || (fn === 0x8000_001e && !table.isAmd)) continue;
        const { register, low, high } = row;
        const [named] = fieldsOf("native", fn, e.index, register).filter((f) => f.low === low);
        const place = table.bitsPlace(position, register, low, high, named?.name);
        found.push({
          place,
          value: readField(e[register], low, high),
          width: high - low + 1,
          low,
          register,
        });
      }
    }
    return found;
  });
}

function idFault(one: IdPlace, wanted: number, words: string): LintFault {
  const { place, register, low, width } = one;
  const fix = [setBits(place.position, register, low, low + width - 1, wanted)];
  return { place, words, fix };
}

const show = (value: number, width: number): string => formatValue(value, 0, width - 1);

/** One cache of leaf 4 or 0x8000001d. */
interface Cache {
  readonly position: number;
  readonly type: number;
  readonly level: number;
  readonly isFullyAssociative: boolean;
  readonly sharing: number;
  readonly line: number;
  readonly sets: number;
  readonly size: number;
}

const CACHE_LEAVES: readonly number[] = [4, 0x8000_001d];

function cacheOf(position: number, e: CpuidEntry2): Cache {
  const [line, partitions, ways, sets] = [
    (e.ebx & 0xfff) + 1,
    ((e.ebx >>> 12) & 0x3ff) + 1,
    (e.ebx >>> 22) + 1,
    e.ecx + 1,
  ];
  return {
    position,
    type: e.eax & 0x1f,
    level: (e.eax >>> 5) & 7,
    isFullyAssociative: (e.eax & 0x200) !== 0,
    sharing: ((e.eax >>> 14) & 0xfff) + 1,
    line,
    sets,
    size: line * partitions * ways * sets,
  };
}

/** Returns the caches of a leaf up to its terminator, by index, and whether the table has the terminator. */
function cachesOf(
  table: LintTable,
  fn: number,
): { readonly caches: readonly Cache[]; readonly isEnded: boolean; readonly next: number } {
  return table.keep(`caches ${fn}`, () => {
    const sorted = table
      .positions(fn)
      .flatMap((position) => {
        const e = table.entries[position];
        return e === undefined ? [] : [{ position, e }];
      })
      .sort((a, b) => a.e.index - b.e.index || a.position - b.position);
    const end = sorted.findIndex(({ e }) => (e.eax & 0x1f) === 0);
    const valid = end < 0 ? sorted : sorted.slice(0, end);
    const caches = valid.map(({ position, e }) => cacheOf(position, e));
    return { caches, isEnded: end >= 0, next: (valid.at(-1)?.e.index ?? -1) + 1 };
  });
}

function cacheFaults(table: LintTable, fn: number, isComplete: boolean): readonly LintFault[] {
  const { caches, isEnded, next } = cachesOf(table, fn);
  const faults: LintFault[] = [];
  const seen = new Set<string>();
  for (const { position, type, level, line, isFullyAssociative, sets } of caches) {
    const add = (
      register: "eax" | "ebx" | "ecx",
      low: number,
      high: number,
      words: string,
    ): void => {
      faults.push({ place: table.bitsPlace(position, register, low, high), words });
    };
    if (type > 3) add("eax", 0, 4, `is the type ${type}, and caches have types 1 to 3`);
    if (level < 1 || level > 4)
      add("eax", 5, 7, `is the level ${level}, and caches have levels 1 to 4`);
    if (line !== 64) add("ebx", 0, 11, `gives lines of ${line} bytes, and every CPU has 64`);
    if (isFullyAssociative && sets !== 1)
      add("ecx", 0, 30, `gives ${sets} sets, but a fully associative cache has one`);
    const key = `${type}:${level}`;
    if (seen.has(key))
      add("eax", 0, 7, `repeats the level ${level} and type ${type} of an earlier sub-leaf`);
    seen.add(key);
  }
  const isMissing = isComplete && caches.length > 0 && !isEnded && next < 32;
  if (isMissing) {
    const entry = {
      function: fn,
      index: next,
      flags: 1,
      eax: 0,
      ebx: 0,
      ecx: 0,
      edx: 0,
      padding: [0, 0, 0],
    };
    faults.push({
      place: table.absentPlace(fn, next),
      words: "is absent, so the list of caches has no terminator",
      severity: "info",
      fix: [{ kind: "insert", entry }],
    });
  }
  return faults;
}

/** Returns the smallest n with `2 ** n >= count`. */
const log2 = (count: number): number => Math.ceil(Math.log2(Math.max(1, count)));

/**
 * The size fields of leaves 0x80000005 and 0x80000006, each with the type and level of the same cache in leaf
 * 0x8000001d.
 */
const OLD_SIZES = [
  { name: "l1_dcache_size_kb", type: 1, level: 1, unit: 1, isTotal: false },
  { name: "l1_icache_size_kb", type: 2, level: 1, unit: 1, isTotal: false },
  { name: "l2_size_kb", type: 3, level: 2, unit: 1, isTotal: false },
  { name: "l3_size_range", type: 3, level: 3, unit: 512, isTotal: true },
] as const;

function oldSizeFaults(table: LintTable): readonly LintFault[] {
  if (!table.isAmd) return [];
  const { caches } = cachesOf(table, 0x8000_001d);
  return OLD_SIZES.flatMap(({ name, type, level, unit, isTotal }): readonly LintFault[] => {
    const cache = caches.find((one) => one.type === type && one.level === level);
    const place = table.place(name);
    if (cache === undefined || place.position < 0) return [];
    const [own, size] = [table.read(name) * unit, cache.size / 1024];
    // Leaf 0x80000006 reports the size of all L3 caches of the processor, in units of 512 KiB.
    const isRight = isTotal ? own + unit > size : own === size;
    if (isRight) return [];
    const words = `gives ${own} KiB, but leaf 0x8000001d ${size} KiB`;
    const wanted = Math.ceil(size / unit);
    const fits = wanted < 2 ** (place.bits.high - place.bits.low + 1);
    return [{ place, words, fix: fits ? table.set(name, wanted) : undefined }];
  });
}

/** The rules about topology, APIC ids and caches. */
export const TOPOLOGY_RULES: readonly LintRule[] = [
  {
    id: "T01",
    severity: "error",
    title:
      "Topology levels begin with type 1, ascend, and end with type 0, and ECX 7:0 is the sub-leaf",
    source:
      "SDM volume 2A, CPUID leaves 0xb and 0x1f; APM volume 3, leaf 0x80000026; topology_ext.c of Linux",
    remedy: "Write the levels again with the builder's topology()",
    check: (table) => LEVEL_LEAVES.flatMap((fn) => levelFaults(table, fn)),
  },
  {
    id: "T02",
    severity: "error",
    title: "Every place of the APIC id has the same id",
    source:
      "SDM volume 2A, CPUID leaves 1, 0xb and 0x1f; APM volume 3, leaves 0x8000001e and 0x80000026; Linux reports a firmware bug",
    remedy: "Set every place to the vCPU's APIC id, as fromSupported() does",
    check: (table) => {
      const places = idPlaces(table);
      const [first] = places;
      if (first === undefined) return [];
      return places.slice(1).flatMap((one): readonly LintFault[] => {
        const wanted = readField(first.value, 0, one.width - 1);
        if (one.value === wanted || (one.width === 8 && first.value >= 255)) return [];
        const { function: fn, index } = first.place;
        const words = `is ${show(one.value, one.width)}, but ${formatLeaf(fn, index)} has the APIC id ${show(first.value, first.width)}`;
        return [idFault(one, wanted, words)];
      });
    },
  },
  {
    id: "T03",
    severity: "error",
    title: "A topology level has at least one logical CPU, and at most as many as its shift allows",
    source: "SDM volume 2A, CPUID leaves 0xb and 0x1f: EAX 4:0 and EBX 15:0",
    remedy: "Raise the shift, or correct the count",
    check: (table) =>
      LEVEL_LEAVES.flatMap((fn) =>
        levelsOf(table, fn).flatMap(({ position, count, shift }): readonly LintFault[] => {
          if (count > 0 && count <= 2 ** shift) return [];
          const words = `is ${count}, but a level with the shift ${shift} has 1 to ${2 ** shift} logical CPUs`;
          return [{ place: table.bitsPlace(position, "ebx", 0, 15), words }];
        }),
      ),
  },
  {
    id: "T04",
    severity: "warning",
    title: "The HTT bit and leaf 1's count of APIC ids agree with the topology levels",
    source: "SDM volume 2A, CPUID leaf 1 EBX 23:16; detect_ht_early of Linux",
    remedy: "Set ht and n_logical_cpu from the topology, or reduce the topology to one logical CPU",
    check: (table) => {
      if (table.leaf(1) === undefined) return [];
      const [count, top] = [table.read("n_logical_cpu"), topCount(table)];
      const wanted = Math.min(255, Math.max(count, top));
      const fix = [...table.set("ht", 1), ...table.set("n_logical_cpu", wanted)];
      if (!table.has("ht")) {
        const most = Math.max(count, top);
        if (most <= 1) return [];
        const words = `is 0, but the table has ${most} logical CPUs`;
        return [{ place: table.place("ht"), words, fix }];
      }
      if (count >= Math.min(255, top)) return [];
      const words = `is ${count}, but a topology level has ${top} logical CPUs`;
      return [{ place: table.place("n_logical_cpu"), words, fix }];
    },
  },
  {
    id: "T05",
    severity: "warning",
    title: "Leaf 1's count of APIC ids includes the cores of leaf 4",
    source:
      "parse_legacy in arch/x86/kernel/cpu/topology_common.c; SDM volume 2A, CPUID leaf 4 EAX 31:26",
    remedy: "Raise n_logical_cpu, or reduce num_cores_on_die",
    check: (table) => {
      const first = table.leaf(4);
      const isJudged =
        table.vendor === "intel" && table.has("ht") && first !== undefined && !isZero(first);
      if (!isJudged) return [];
      const [count, cores] = [table.read("n_logical_cpu"), table.read("num_cores_on_die") + 1];
      if (log2(count) >= log2(cores)) return [];
      const words = `is ${count}, but leaf 4 has ${cores} cores`;
      return [
        { place: table.place("n_logical_cpu"), words, fix: table.set("n_logical_cpu", cores) },
      ];
    },
  },
  {
    id: "T06",
    severity: "error",
    title: "A cache is shared by at least as many logical CPUs as the level below it",
    source: "SDM volume 2A, CPUID leaf 4 EAX 25:14; APM volume 3, leaf 0x8000001d",
    remedy: "Raise num_threads_sharing of the higher level",
    check: (table) =>
      CACHE_LEAVES.flatMap((fn) => {
        const { caches } = cachesOf(table, fn);
        return caches.flatMap(({ position, level, sharing }): readonly LintFault[] => {
          const lower = caches.find((one) => one.level < level && one.sharing > sharing);
          if (lower === undefined) return [];
          const words = `gives ${sharing} logical CPUs, but level ${lower.level} is shared by ${lower.sharing}`;
          const fix = [setBits(position, "eax", 14, 25, lower.sharing - 1)];
          return [{ place: table.bitsPlace(position, "eax", 14, 25), words, fix }];
        });
      }),
  },
  {
    id: "T07",
    severity: "warning",
    title:
      "Each cache has a valid type, level, line and associativity, and the list has a terminator",
    source: "SDM volume 2A, CPUID leaf 4; APM volume 3, leaf 0x8000001d",
    remedy: "Write the caches again with the builder's caches()",
    check: (table, { isComplete }) =>
      CACHE_LEAVES.flatMap((fn) => cacheFaults(table, fn, isComplete)),
  },
  {
    id: "T08",
    severity: "error",
    title: "The APIC id has enough bits to number the threads",
    source: "APM volume 3, CPUID leaf 0x80000008 ECX: NC and ApicIdSize",
    remedy: "Raise apicid_coreid_len, or reduce cpu_nthreads",
    check: (table) => {
      const [size, threads] = [table.read("apicid_coreid_len"), table.read("cpu_nthreads") + 1];
      if (!table.isAmd || size === 0 || threads <= 2 ** size) return [];
      const words = `is ${size}, which is too small for ${threads} threads`;
      const fix = table.set("apicid_coreid_len", log2(threads));
      return [{ place: table.place("apicid_coreid_len"), words, fix }];
    },
  },
  {
    id: "T09",
    severity: "warning",
    title: "Leaf 0x1f agrees with leaf 0xb in the levels that both have",
    source: "SDM volume 2A, CPUID leaf 0x1f: software prefers it to leaf 0xb",
    remedy: "Write both leaves again with the builder's topology()",
    check: (table) => {
      const [old, wide] = [levelsOf(table, 0xb), levelsOf(table, 0x1f)];
      if (wide.length === 0) return [];
      return old.flatMap(({ position, index, type, shift, count }): readonly LintFault[] => {
        // The core level of leaf 0xb includes the whole package, if leaf 0x1f has levels above the cores.
        const others = [
          wide.find((one) => one.type === type),
          type === 2 ? wide.at(-1) : undefined,
        ];
        const isRight = others.some((one) => one?.shift === shift && one.count === count);
        if (isRight) return [];
        const words = `has the shift ${shift} and ${count} logical CPUs in level ${index}, but leaf 0x1f has other values`;
        return [{ place: table.entryPlace(position), words }];
      });
    },
  },
  {
    id: "T10",
    severity: "warning",
    title: "The threads per core and the L3 cache's sharing agree with the topology levels on AMD",
    source: "APM volume 3, CPUID leaves 0x8000001d, 0x8000001e and 0x80000026",
    remedy: "Write the topology again with the builder's topology()",
    check: (table) => {
      const nodes = table.leaf(0x8000_001e);
      if (!table.isAmd || !table.has("topoext") || nodes === undefined || isZero(nodes)) return [];
      const faults: LintFault[] = [];
      const threads = table.read("core_nthreads") + 1;
      const smt = [levelsOf(table, 0x8000_0026)[0], levelsOf(table, 0xb)[0]].find(
        (one) => one !== undefined,
      );
      if (smt !== undefined && smt.type === 1 && smt.count !== threads) {
        const words = `gives ${threads} threads per core, but the topology level ${smt.count}`;
        const fix = table.set("core_nthreads", smt.count - 1);
        faults.push({
          place: table.place("core_nthreads"),
          words,
          fix: smt.count > 0 ? fix : undefined,
        });
      }
      const l3 = cachesOf(table, 0x8000_001d).caches.find(({ level }) => level === 3);
      const die = levelsOf(table, 0x8000_0026).find(({ type }) => type === 3);
      if (l3 !== undefined && die !== undefined && l3.sharing > 2 ** die.shift) {
        const words = `gives ${l3.sharing} logical CPUs, but a die has ${die.count}`;
        faults.push({ place: table.bitsPlace(l3.position, "eax", 14, 25), words });
      }
      return faults;
    },
  },
  {
    id: "T11",
    severity: "warning",
    title: "Each vCPU has an APIC id of its own, which is the id of its local APIC in KVM",
    source: "kvm_apic_set_xapic_id and kvm_apic_set_x2apic_id; the id is KVM_CREATE_VCPU's number",
    remedy: "Make each vCPU's table with its own APIC id",
    needsOneOf: ["several", "apicIds"],
    check: (table, { tables, apicIds, cpus }) => {
      const cpu = tables.indexOf(table);
      const wanted = apicIds?.[cpu];
      if (wanted !== undefined) {
        return idPlaces(table).flatMap((one): readonly LintFault[] => {
          const row = apicIdPlace(one.place);
          const bits = row === undefined ? wanted : apicIdBits(row, wanted);
          if (one.value === bits) return [];
          const words = `is ${show(one.value, one.width)}, but the vCPU's APIC id is ${show(bits, one.width)}`;
          return [idFault(one, bits, words)];
        });
      }
      const [own] = idPlaces(table);
      const owner = own === undefined ? undefined : firstOwners(tables).get(own.value);
      if (own === undefined || owner === undefined || owner === table) return [];
      const words = `is ${show(own.value, own.width)}, which is also the APIC id of CPU ${cpus[tables.indexOf(owner)]}`;
      return [{ place: own.place, words }];
    },
  },
  {
    id: "T12",
    severity: "warning",
    title: "Leaves 0x80000005 and 0x80000006 give the cache sizes of leaf 0x8000001d",
    source: "APM volume 3, CPUID leaves 0x80000005, 0x80000006 and 0x8000001d",
    remedy: "Write the caches again with the builder's caches()",
    check: oldSizeFaults,
  },
  {
    id: "T13",
    severity: "info",
    title: "Leaves 0x8000001d and 0x8000001e have zeros if topoext is clear",
    source: "APM volume 3, CPUID leaf 0x80000001 ECX 22: without topoext, both leaves are reserved",
    remedy: "Set topoext, or clear both leaves",
    check: (table) => {
      if (!table.isAmd || table.has("topoext")) return [];
      return [0x8000_001d, 0x8000_001e].flatMap((fn): readonly LintFault[] => {
        if (!table.hasData(fn)) return [];
        const fix: readonly CpuidLintEdit[] = table
          .positions(fn)
          .map((position) => ({ kind: "remove", position }));
        return [
          { place: table.entryPlace(table.find(fn)), words: "has data, but topoext is clear", fix },
        ];
      });
    },
  },
];

const owners = new WeakMap<readonly LintTable[], ReadonlyMap<number, LintTable>>();

/** Returns the first table that has each APIC id. */
function firstOwners(tables: readonly LintTable[]): ReadonlyMap<number, LintTable> {
  const kept = owners.get(tables);
  if (kept !== undefined) return kept;
  const found = new Map<number, LintTable>();
  for (const table of tables) {
    const [own] = idPlaces(table);
    if (own !== undefined && !found.has(own.value)) found.set(own.value, table);
  }
  owners.set(tables, found);
  return found;
}
