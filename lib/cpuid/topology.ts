/**
 * Writes the topology of a table. An APIC id has bits that number the thread, the core, the die and the package; leaves
 * of Intel and AMD describe these bits. forVcpu() writes the fields that differ between vCPUs.
 */
import { describe, refuseUnknown } from "../options.ts";
import { checkApicId } from "./apic-id.ts";
import { fromSupported } from "./builder.ts";
import { readField } from "./field.ts";
import {
  layoutOf,
  leafEntries,
  packed,
  reaches,
  withAddressSizes,
  withLeaf,
  withMaximum,
} from "./leaf.ts";
import { type CpuidTable, refuseNonTable } from "./table.ts";

/**
 * The numbers of packages, dies, cores and threads; each is 1 by default. The product of all four numbers is at most
 * 4,096.
 */
export interface CpuidTopologyInput {
  /** The number of packages (sockets). */
  readonly packages?: number;
  /** The number of dies in each package. */
  readonly dies?: number;
  /** The number of cores in each die. */
  readonly cores?: number;
  /** The number of threads in each core, at most 256. */
  readonly threads?: number;
}

type Topology = Required<CpuidTopologyInput>;

const MEMBERS = ["packages", "dies", "cores", "threads"] as const;
/** KVM's CONFIG_KVM_MAX_NR_VCPUS is at most 4,096 (arch/x86/kvm/Kconfig). */
const MOST_VCPUS = 4096;
/** 0x8000001e:ebx[15:8] has 8 bits. */
const MOST_THREADS = 256;

function toTopology(where: string, input: CpuidTopologyInput): Topology {
  refuseUnknown(where, input, MEMBERS, "member");
  const { packages = 1, dies = 1, cores = 1, threads = 1 } = input;
  const topology: Topology = { packages, dies, cores, threads };
  for (const name of MEMBERS) {
    const value = topology[name];
    const most = name === "threads" ? MOST_THREADS : MOST_VCPUS;
    if (Number.isInteger(value) && value >= 1 && value <= most) continue;
    throw new RangeError(
      `${where}: ${name}: expected an integer from 1 to ${most}, got ${describe(value)}`,
    );
  }
  const vcpus = packages * dies * cores * threads;
  if (vcpus <= MOST_VCPUS) return topology;
  throw new RangeError(`${where}: ${vcpus} logical CPUs, but KVM has at most ${MOST_VCPUS}`);
}

/** Returns the number of bits that are needed to number `count` items. */
const bitsFor = (count: number): number => Math.ceil(Math.log2(count));

/**
 * Returns the positions of the core number, the die number and the package number in an APIC id, as the lowest bit of
 * each.
 */
function shiftsOf({ dies, cores, threads }: Topology): {
  readonly core: number;
  readonly die: number;
  readonly package: number;
} {
  const core = bitsFor(threads);
  const die = core + bitsFor(cores);
  return { core, die, package: die + bitsFor(dies) };
}

/**
 * Lists the APIC id of each vCPU: first the threads of the first core, then of the next core, die and package. Each of
 * the four numbers has as many bits as its count needs, so the ids have gaps if a count is not a power of two.
 *
 * @throws RangeError for a count that is not a positive integer, and for more than 4,096 vCPUs; TypeError for an
 *   unknown member.
 *
 * @example
 * ```ts run
 * import { apicIds } from "node-kvm/cpuid";
 *
 * console.log(apicIds({ packages: 2, cores: 3, threads: 2 }).join(" "));
 * ```
 *
 * ```text output
 * 0 1 2 3 4 5 8 9 10 11 12 13
 * ```
 */
export function apicIds(topology: CpuidTopologyInput): readonly number[] {
  const full = toTopology("apicIds()", topology);
  const shifts = shiftsOf(full);
  const ids: number[] = [];
  for (let p = 0; p < full.packages; p += 1)
    for (let d = 0; d < full.dies; d += 1)
      for (let c = 0; c < full.cores; c += 1)
        for (let t = 0; t < full.threads; t += 1)
          ids.push(p * 2 ** shifts.package + d * 2 ** shifts.die + c * 2 ** shifts.core + t);
  return ids;
}

/** A level of leaf 0xB, 0x1F or 0x80000026. */
interface Level {
  /** The kind of the level: ecx bits 15 to 8. */
  readonly type: number;
  /** How many low bits of the APIC id identify a logical CPU in one instance of the level: eax bits 4 to 0. */
  readonly shift: number;
  /** The number of logical CPUs in one instance of the level: ebx bits 15 to 0. */
  readonly count: number;
}

/** The level types of Intel (SDM volume 2, leaf 0x1F) and of AMD (APM volume 3, leaf 0x80000026). */
const INTEL = { thread: 1, core: 2, die: 5 } as const;
const AMD = { core: 1, complex: 2, die: 3, socket: 4 } as const;

function levelEntries(levels: readonly Level[]): Parameters<typeof withLeaf>[2] {
  const rows = levels.map(({ type, shift, count }, index) => ({
    index,
    eax: shift,
    ebx: count,
    ecx: packed([
      [7, 0, index],
      [15, 8, type],
    ]),
    edx: 0,
  }));
  // The terminator of a leaf, with type 0; its ECX contains the sub-leaf number as in other levels.
  return [...rows, { index: rows.length, eax: 0, ebx: 0, ecx: rows.length, edx: 0 }];
}

/** For each vendor, the leaves with topology levels. */
function levelLeaves(
  topology: Topology,
  vendor: "intel" | "amd",
): readonly (readonly [fn: number, levels: readonly Level[]])[] {
  const { core, die, package: whole } = shiftsOf(topology);
  const { dies, cores, threads } = topology;
  const inDie = cores * threads;
  const inPackage = dies * inDie;
  const thread: Level = { type: INTEL.thread, shift: core, count: threads };
  // Leaf 0xB has no dies, so its core level includes the whole package.
  const flat: readonly Level[] = [thread, { type: INTEL.core, shift: whole, count: inPackage }];
  if (vendor === "amd") {
    const levels: readonly Level[] = [
      { type: AMD.core, shift: core, count: threads },
      { type: AMD.complex, shift: die, count: inDie },
      { type: AMD.die, shift: die, count: inDie },
      { type: AMD.socket, shift: whole, count: inPackage },
    ];
    return [
      [0xb, flat],
      [0x80000026, levels],
    ];
  }
  const deep: readonly Level[] = [
    thread,
    { type: INTEL.core, shift: die, count: inDie },
    { type: INTEL.die, shift: whole, count: inPackage },
  ];
  return [
    [0xb, flat],
    [0x1f, dies > 1 ? deep : flat],
  ];
}

/** Writes leaf 1: HTT and the number of APIC ids in a package. */
function withLeaf1(
  where: string,
  table: CpuidTable,
  topology: Topology,
  vendor: "intel" | "amd",
): CpuidTable {
  const first = table.find(1, 0);
  if (first === undefined) throw new RangeError(`${where}: the table has no leaf 0x1`);
  const inPackage = topology.dies * topology.cores * topology.threads;
  // Intel counts the addressable ids of a package, and AMD counts its logical CPUs. The field has 8 bits.
  const ids = Math.min(255, vendor === "intel" ? 2 ** shiftsOf(topology).package : inPackage);
  return withLeaf(table, 1, [
    {
      ebx: packed([[23, 16, ids]], first.ebx),
      edx: packed([[28, 28, inPackage > 1 ? 1 : 0]], first.edx),
    },
  ]);
}

/**
 * Sets the number of CPUs that share each cache of leaf 4 (Intel) or 0x8000001d (AMD). The CPUs of a core share levels
 * 1 and 2, and the CPUs of a die share higher levels.
 */
function withShares(table: CpuidTable, topology: Topology, vendor: "intel" | "amd"): CpuidTable {
  const fn = vendor === "intel" ? 4 : 0x8000001d;
  const shifts = shiftsOf(topology);
  const { cores, threads } = topology;
  const shares =
    vendor === "intel"
      ? { core: 2 ** shifts.core, die: 2 ** shifts.die }
      : { core: threads, die: cores * threads };
  const coreIds = Math.min(64, 2 ** (shifts.package - shifts.core));
  return table.map((e) => {
    if (e.function !== fn || readField(e.eax, 0, 4) === 0) return e;
    const sharing = readField(e.eax, 5, 7) <= 2 ? shares.core : shares.die;
    const eax = packed([[25, 14, sharing - 1]], e.eax);
    return { ...e, eax: vendor === "intel" ? packed([[31, 26, coreIds - 1]], eax) : eax };
  });
}

/** The numbers of nodes that 0x8000001e:ecx[10:8] can have (APM volume 3, appendix E). */
const NODE_COUNTS: readonly number[] = [1, 2, 4];

/** Writes the topology to AMD's leaves: CmpLegacy, 0x80000008:ecx and 0x8000001e. */
function withAmdLeaves(table: CpuidTable, topology: Topology): CpuidTable {
  const { dies, cores, threads } = topology;
  const inPackage = dies * cores * threads;
  let made = table;
  const ext = made.find(0x80000001, 0);
  if (ext !== undefined) {
    const ecx = packed([[1, 1, inPackage > 1 ? 1 : 0]], ext.ecx);
    made = withLeaf(made, 0x80000001, [{ ecx }]);
  }
  if (reaches(made, 0x80000008)) {
    const fields = [
      [7, 0, Math.min(255, inPackage - 1)],
      [15, 12, shiftsOf(topology).package],
    ] as const;
    const old = made.find(0x80000008, 0)?.ecx;
    made = withLeaf(made, 0x80000008, [{ ecx: packed(fields, old) }]);
    if (old === undefined) made = withAddressSizes(made);
  }
  if (reaches(made, 0x8000001e) && made.has("topoext")) {
    const nodes = NODE_COUNTS.includes(dies) ? dies : 1;
    made = withLeaf(made, 0x8000001e, [
      { eax: 0, ebx: packed([[15, 8, threads - 1]]), ecx: packed([[10, 8, nodes - 1]]), edx: 0 },
    ]);
  }
  return made;
}

/** Returns the highest APIC id of a topology. */
function highestId(topology: Topology): number {
  const { packages, dies, cores, threads } = topology;
  const { core, die, package: whole } = shiftsOf(topology);
  return (
    (packages - 1) * 2 ** whole + (dies - 1) * 2 ** die + (cores - 1) * 2 ** core + threads - 1
  );
}

/** Whether leaf 4 describes a cache; otherwise Linux ignores the number of cores in leaf 4 (parse_num_cores_legacy). */
function hasCaches4(table: CpuidTable): boolean {
  return reaches(table, 4) && readField(table.find(4, 0)?.eax ?? 0, 0, 4) !== 0;
}

/** The lowest APIC id that the 8 bits of an xAPIC cannot address; id 255 is the broadcast address. */
const FIRST_X2APIC_ID = 255;

/**
 * Writes a topology into the leaves from which a guest reads the topology, for the vCPU with APIC id 0; {@link forVcpu}
 * makes the table of another vCPU.
 *
 * For all vendors, the function writes HTT and ebx[23:16] of leaf 1; it writes leaf 0xB if the maximum includes this
 * leaf. For Intel, the function writes which CPUs share each cache of leaf 4 (a core for levels 1 and 2, a die for
 * higher levels). For Intel, the function also writes leaf 0x1F if the maximum includes this leaf, and raises the
 * maximum to 0x1F if there are several dies. For Intel, the maximum is raised to 0xB if there are several cores and
 * leaf 4 has no cache; otherwise software treats all logical CPUs of a package as threads of one core. For AMD and
 * Hygon, the function writes CmpLegacy and 0x80000008:ecx. If the extended maximum includes them, it also writes leaves
 * 0x8000001d and 0x8000001e (with topoext) and leaf 0x80000026. On AMD, only 0x80000026 shows dies, and 0x8000001e
 * shows 2 or 4 dies as nodes. All other fields stay unchanged.
 *
 * @throws RangeError for a count that is not a positive integer, for more than 4,096 vCPUs, for APIC ids from 255 on
 *   without x2apic, and for a table without leaf 1. TypeError for an unknown member.
 */
export function withTopology(table: CpuidTable, topology: CpuidTopologyInput): CpuidTable {
  return writeTopology("withTopology()", table, topology);
}

/** Does what {@link withTopology} does; the messages begin with `where`, the name of the function that was called. */
export function writeTopology(
  where: string,
  table: CpuidTable,
  topology: CpuidTopologyInput,
): CpuidTable {
  refuseNonTable(`${where}: table`, table);
  const full = toTopology(where, topology);
  const vendor = layoutOf(table);
  const highest = highestId(full);
  if (highest >= FIRST_X2APIC_ID && !table.has("x2apic")) {
    throw new RangeError(
      `${where}: the highest APIC id is ${highest}, and ids from ${FIRST_X2APIC_ID} on need x2apic, which the table lacks`,
    );
  }
  let made = withShares(withLeaf1(where, table, full, vendor), full, vendor);
  if (highest >= FIRST_X2APIC_ID) made = withMaximum(made, 0xb);
  if (vendor === "intel" && full.cores > 1 && !hasCaches4(made)) made = withMaximum(made, 0xb);
  if (vendor === "intel" && full.dies > 1) made = withMaximum(made, 0x1f);
  if (vendor === "amd") made = withAmdLeaves(made, full);
  for (const [fn, levels] of levelLeaves(full, vendor)) {
    if (reaches(made, fn)) made = withLeaf(made, fn, levelEntries(levels));
  }
  return forVcpu(made, 0);
}

/**
 * A group of logical CPUs, such as a core or a die.
 */
export interface CpuidDomain {
  /** The APIC id, shifted right by this number of bits, is the id of this domain. */
  readonly shift: number;
  /** The number of logical CPUs in the domain. */
  readonly count: number;
}

/** The domains of a table: the core, the die and the package. */
interface Domains {
  readonly core: CpuidDomain;
  readonly die: CpuidDomain;
  readonly package: CpuidDomain;
}

/** At most 8 levels of a leaf are read. */
const MOST_LEVELS = 8;

function levelsIn(table: CpuidTable, fn: number): readonly Level[] {
  if (!reaches(table, fn)) return [];
  const levels: Level[] = [];
  for (let index = 0; index < MOST_LEVELS; index += 1) {
    const e = leafEntries(table, fn).find((one) => (one.index ?? 0) === index);
    const type = readField(e?.ecx ?? 0, 8, 15);
    const count = readField(e?.ebx ?? 0, 0, 15);
    if (type === 0 || count === 0) break;
    levels.push({ type, shift: readField(e?.eax ?? 0, 0, 4), count });
  }
  return levels;
}

/** Reads the domains from a leaf of levels; undefined if the table has none. */
function domainsFromLevels(table: CpuidTable, vendor: "intel" | "amd"): Domains | undefined {
  const leaves = vendor === "amd" ? [0x80000026, 0xb] : [0x1f, 0xb];
  for (const fn of leaves) {
    const levels = levelsIn(table, fn);
    const [core, whole] = [levels[0], levels.at(-1)];
    if (core === undefined || whole === undefined) continue;
    // Intel's die level contains the number of CPUs in a package; the level below the die level contains the number of
    // CPUs in a die.
    const above = levels.findIndex(({ type }) => fn === 0x1f && type === INTEL.die);
    const amd = levels.find(({ type }) => fn === 0x80000026 && type === AMD.die);
    return { core, die: amd ?? levels[above - 1] ?? whole, package: whole };
  }
  return undefined;
}

/** Reads the domains from the older leaves. */
function domainsFromCounts(table: CpuidTable, vendor: "intel" | "amd"): Domains {
  const get = (name: Parameters<CpuidTable["get"]>[0]): number => table.get(name) ?? 0;
  if (vendor === "amd") {
    const threads = get("core_nthreads") + 1;
    const count = get("cpu_nthreads") + 1;
    const shift = get("apicid_coreid_len") || bitsFor(count);
    const nodes = get("nnodes_per_socket") + 1;
    const die = { shift: shift - bitsFor(nodes), count: Math.ceil(count / nodes) };
    return { core: { shift: bitsFor(threads), count: threads }, die, package: { shift, count } };
  }
  const count = table.has("ht") ? Math.max(1, get("n_logical_cpu")) : 1;
  const cores = get("num_cores_on_die") + 1;
  const threads = Math.max(1, Math.floor(count / cores));
  const whole = { shift: bitsFor(count), count };
  return { core: { shift: bitsFor(threads), count: threads }, die: whole, package: whole };
}

/** Reads the number of logical CPUs in a core, a die and a package of a table. */
export function domainsOf(table: CpuidTable): Domains {
  const vendor = layoutOf(table);
  return domainsFromLevels(table, vendor) ?? domainsFromCounts(table, vendor);
}

/**
 * Sets the fields that differ between vCPUs. {@link fromSupported} sets the same places of the APIC id; for AMD and
 * Hygon, this function also sets the core and the node in 0x8000001e, computed from the id and the table's topology.
 * All other fields stay unchanged.
 *
 * @param apicId - the vCPU's APIC id, which is the argument of KVM_CREATE_VCPU.
 * @throws RangeError for an `apicId` that is not a u32.
 */
export function forVcpu(table: CpuidTable, apicId: number): CpuidTable {
  refuseNonTable("forVcpu(): table", table);
  checkApicId("forVcpu(): apicId", apicId);
  const made = fromSupported(table, { apicId });
  const leaf = made.find(0x8000001e, 0);
  if (leaf === undefined || layoutOf(made) !== "amd" || !made.has("topoext")) return made;
  const { core, package: whole } = domainsOf(made);
  const nodes = readField(leaf.ecx, 8, 10) + 1;
  const inPackage = apicId % 2 ** whole.shift;
  const node =
    Math.floor(apicId / 2 ** whole.shift) * nodes +
    Math.floor(inPackage / 2 ** Math.max(0, whole.shift - bitsFor(nodes)));
  return made.map((e) =>
    e.function === 0x8000001e
      ? {
          ...e,
          ebx: packed([[7, 0, Math.floor(inPackage / 2 ** core.shift)]], e.ebx),
          ecx: packed([[7, 0, node]], e.ecx),
        }
      : e,
  );
}
