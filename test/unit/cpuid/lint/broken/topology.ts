/** Tables that break the rules about topology, APIC ids and caches, T01 to T13. */
import type { CpuidTable } from "../../../../../lib/cpuid/index.ts";
import { AMD, INTEL } from "../bases.ts";
import { type Broken, broken, fixable } from "./row.ts";

/** Changes the entry of a function and index. */
function patch(
  table: CpuidTable,
  fn: number,
  index: number,
  registers: {
    readonly eax?: number;
    readonly ebx?: number;
    readonly ecx?: number;
    readonly edx?: number;
  },
): CpuidTable {
  return table.map((e) => (e.function === fn && e.index === index ? { ...e, ...registers } : e));
}

/** Leaf 0x1f is removed, so that leaf 0xb can change without contradicting it. */
const OLD = INTEL.without(0x1f).with({ max_std_leaf: 0x1e });
/** Intel's base table for the vCPU with APIC id 1. */
const SECOND = INTEL.with({ local_apic_id: 1 }).map((e) =>
  e.function === 0xb || e.function === 0x1f ? { ...e, edx: 1 } : e,
);

export const BROKEN_TOPOLOGY: readonly Broken[] = [
  fixable(
    "T01",
    "another sub-leaf number in ECX",
    "0xb.1:ecx[7:0]",
    patch(OLD, 0xb, 1, { ecx: 0x202 }),
  ),
  broken(
    "T01",
    "a first level that is no SMT level",
    "0xb.0:ecx[15:8]",
    patch(OLD, 0xb, 0, { ecx: 0x300 }),
  ),
  broken(
    "T01",
    "a type that does not ascend",
    "0xb.1:ecx[15:8]",
    patch(OLD, 0xb, 1, { ecx: 0x101 }),
  ),
  broken(
    "T01",
    "a level behind the terminator",
    "0xb.3:ecx[15:8]",
    OLD.append({ function: 0xb, index: 3, flags: 1, eax: 2, ebx: 2, ecx: 0x303 }),
  ),
  broken(
    "T01",
    "a shift below the level before",
    "0xb.1:eax[4:0]",
    patch(patch(OLD, 0xb, 0, { eax: 2 }), 0xb, 1, { eax: 1 }),
  ),
  broken(
    "T01",
    "a count below the level before",
    "0xb.1:ebx[15:0]",
    patch(OLD, 0xb, 1, { ebx: 1 }),
  ),
  fixable("T02", "another APIC id in leaf 1", "0x1.0:ebx[31:24]", INTEL.with({ local_apic_id: 1 })),
  fixable(
    "T02",
    "another APIC id in one level",
    "0xb.1:edx[31:0]",
    patch(INTEL, 0xb, 1, { edx: 1 }),
  ),
  fixable(
    "T02",
    "another APIC id in leaf 0x8000001e",
    "0x8000001e.0:eax[31:0]",
    AMD.with({ ext_apic_id: 1 }),
  ),
  broken(
    "T03",
    "more logical CPUs than the shift allows",
    "0xb.0:ebx[15:0]",
    patch(patch(OLD, 0xb, 0, { eax: 0 }), 0xb, 1, { eax: 1 }),
  ),
  broken("T03", "a level without logical CPUs", "0xb.0:ebx[15:0]", patch(OLD, 0xb, 0, { ebx: 0 })),
  fixable("T04", "two logical CPUs without HTT", "0x1.0:edx[28]", INTEL.with({ ht: 0 })),
  fixable(
    "T04",
    "fewer APIC ids than logical CPUs",
    "0x1.0:ebx[23:16]",
    INTEL.with({ n_logical_cpu: 1 }),
  ),
  fixable(
    "T05",
    "fewer APIC ids than cores of leaf 4",
    "0x1.0:ebx[23:16]",
    patch(INTEL, 4, 0, { eax: 0x4121 + (3 << 26) }),
  ),
  fixable(
    "T06",
    "an L2 cache that fewer CPUs share than the L1 cache",
    "0x4.2:eax[25:14]",
    patch(INTEL, 4, 2, { eax: 0x143 }),
  ),
  fixable(
    "T06",
    "an L3 cache that fewer CPUs share than the L2 cache",
    "0x8000001d.3:eax[25:14]",
    patch(AMD, 0x8000_001d, 3, { eax: 0x163 }),
  ),
  broken("T07", "a cache of the type 5", "0x4.3:eax[4:0]", patch(INTEL, 4, 3, { eax: 0x4165 })),
  broken("T07", "a cache of the level 5", "0x4.3:eax[7:5]", patch(INTEL, 4, 3, { eax: 0x41a3 })),
  broken("T07", "lines of 32 bytes", "0x4.0:ebx[11:0]", patch(INTEL, 4, 0, { ebx: 0x02c0_001f })),
  broken(
    "T07",
    "a fully associative cache with sets",
    "0x4.0:ecx[30:0]",
    patch(INTEL, 4, 0, { eax: 0x4321 }),
  ),
  broken("T07", "two L1 data caches", "0x4.1:eax[7:0]", patch(INTEL, 4, 1, { eax: 0x4121 })),
  fixable("T07", "no terminator of leaf 4", "0x4.4", INTEL.without(4, 4)),
  fixable(
    "T08",
    "an APIC id that is too small for the threads",
    "0x80000008.0:ecx[15:12]",
    AMD.with({ cpu_nthreads: 3 }),
  ),
  broken("T09", "another SMT level in leaf 0x1f", "0xb.0", patch(INTEL, 0x1f, 0, { ebx: 1 })),
  fixable(
    "T10",
    "other threads per core than the SMT level",
    "0x8000001e.0:ebx[15:8]",
    AMD.with({ core_nthreads: 3 }),
  ),
  broken(
    "T10",
    "an L3 cache that more CPUs share than a die has",
    "0x8000001d.3:eax[25:14]",
    patch(AMD, 0x8000_001d, 3, { eax: 0x1_c163 }),
  ),
  broken("T11", "the APIC id of another vCPU", "0xb.0:edx[31:0]", [INTEL, INTEL]),
  fixable("T11", "an APIC id that is not the vCPU's", "0x1.0:ebx[31:24]", SECOND, { apicIds: [2] }),
  fixable(
    "T12",
    "another L2 size in leaf 0x80000006",
    "0x80000006.0:ecx[31:16]",
    AMD.with({ l2_size_kb: 512 }),
  ),
  fixable(
    "T12",
    "a smaller L3 size in leaf 0x80000006",
    "0x80000006.0:edx[31:18]",
    AMD.with({ l3_size_range: 8 }),
  ),
  fixable("T13", "leaf 0x8000001d without topoext", "0x8000001d.0", AMD.with({ topoext: 0 })),
];
