/** Tables that break the rules about dependencies, AMX, AVX10 and the PMU: D01 to D05, A01 to A06, P01 to P03. */
import type { CpuidTable } from "../../../../../lib/cpuid/index.ts";
import { AMD, INTEL } from "../bases.ts";
import { type Broken, broken, fixable } from "./row.ts";

const patch = (
  table: CpuidTable,
  fn: number,
  registers: { readonly eax?: number; readonly ebx?: number },
): CpuidTable => table.map((e) => (e.function === fn ? { ...e, ...registers } : e));

/** A table with leaf 0x24 of AVX10. */
const AVX10 = INTEL.with({ max_std_leaf: 0x24 }).append({
  function: 0x24,
  flags: 1,
  ebx: 0x7_0001,
});

export const BROKEN_DEPENDENCIES: readonly Broken[] = [
  fixable("D01", "LASS without SMAP", "0x7.1:eax[6]", INTEL.with({ lass: 1, smap: 0 })),
  fixable("D02", "CX16 without CX8", "0x1.0:ecx[13]", INTEL.with({ cx8: 0 })),
  fixable("D03", "INVPCID without PCID", "0x7.0:ebx[10]", INTEL.with({ pcid: 0 })),
  fixable(
    "D04",
    "SEV-ES without SEV",
    "0x8000001f.0:eax[3]",
    AMD.append({ function: 0x8000_001f, eax: 9, ebx: 0x33 }),
  ),
  fixable(
    "D04",
    "leaf 0x8000001f without SME and SEV",
    "0x8000001f.0",
    AMD.append({ function: 0x8000_001f, ebx: 0x33 }),
  ),
  fixable(
    "D05",
    "leaf 0x14 without Intel PT",
    "0x14.0",
    INTEL.append({ function: 0x14, flags: 1, ebx: 1 }),
  ),
  broken("A01", "AMX data types without tiles", "0x7.0:edx[22]", AMD.with({ amx_bf16: 1 })),
  broken(
    "A02",
    "a palette of other bytes than its tiles",
    "0x1d.1:eax[15:0]",
    INTEL.with({ amx_palette_size: 8191 }),
  ),
  broken(
    "A02",
    "a tile of other bytes than its rows",
    "0x1d.1:eax[31:16]",
    INTEL.with({ amx_tile_nr_rows: 17 }),
  ),
  fixable(
    "A03",
    "more rows of the multiplier than of a tile",
    "0x1e.0:ebx[7:0]",
    INTEL.with({ tmul_maxk: 17 }),
  ),
  fixable(
    "A04",
    "leaf 0x1d without AMX",
    "0x1d.0",
    AMD.with({ max_std_leaf: 0x1d }).append({ function: 0x1d, flags: 1, eax: 1 }),
  ),
  broken(
    "A05",
    "AVX10 without a version",
    "0x24.0:ebx[7:0]",
    AVX10.with({ avx10: 1, avx10_version: 0 }),
  ),
  fixable("A05", "leaf 0x24 without AVX10", "0x24.0", AVX10),
  fixable(
    "A06",
    "a copy of an AMX bit that differs",
    "0x1e.1:eax[3]",
    INTEL.with({ amx_fp16_alias: 0 }),
  ),
  fixable(
    "P01",
    "counters of a PMU of version 0",
    "0xa.0:eax[7:0]",
    INTEL.with({ pmu_version: 0 }),
  ),
  broken("P02", "65 counters", "0xa.0:eax[15:8]", INTEL.with({ num_counters_gp: 65 })),
  broken("P02", "counters without bits", "0xa.0:eax[23:16]", INTEL.with({ bit_width_gp: 0 })),
  broken("P02", "fixed counters of version 1", "0xa.0:edx[4:0]", INTEL.with({ pmu_version: 1 })),
  fixable(
    "P03",
    "PDCM without a PMU",
    "0x1.0:ecx[15]",
    patch(INTEL, 0xa, { eax: 0, ebx: 0 })
      .map((e) => (e.function === 0xa ? { ...e, edx: 0 } : e))
      .with({ pdcm: 1 }),
  ),
  broken(
    "P03",
    "AMD's PMU version 2 without counters",
    "0x80000022.0:eax[0]",
    AMD.with({ n_pmc_core: 0 }),
  ),
];
