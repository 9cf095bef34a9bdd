/** Lint rules about AMX, AVX10 and the performance monitoring unit. */
import type { CpuidFieldName } from "../field.ts";
import { clearLeaf, describedFault, pairFaults } from "./dependencies.ts";
import type { LintFault, LintRule } from "./rule.ts";
import { isZero } from "./table.ts";

/** The bits of leaf 0x1e.1 that repeat a bit of leaf 7. Source: SDM volume 2A, CPUID leaf 0x1e. */
const ALIASES: readonly (readonly [alias: CpuidFieldName, own: CpuidFieldName])[] = [
  ["amx_int8_alias", "amx_int8"],
  ["amx_bf16_alias", "amx_bf16"],
  ["amx_complex_alias", "amx_complex"],
  ["amx_fp16_alias", "amx_fp16"],
];

/** The rules about AMX, AVX10 and the PMU. */
export const AMX_PMU_RULES: readonly LintRule[] = [
  {
    id: "A01",
    severity: "error",
    title: "The AMX data types need amx_tile",
    source: "cpuid_deps[] in arch/x86/kernel/cpu/cpuid-deps.c; SDM volume 1, 18.2",
    remedy: "Set amx_tile, or clear the data types",
    check: (table) => pairFaults(table, "A01"),
  },
  {
    id: "A02",
    severity: "error",
    title: "A palette has as many bytes as its tiles, and a tile has as many bytes as its rows",
    source: "SDM volume 2A, CPUID leaf 0x1d.1",
    remedy: "Set 0x1d.1 to the host's values",
    check: (table) => {
      const [total, tile] = [table.read("amx_palette_size"), table.read("amx_tile_size")];
      const [row, tiles] = [table.read("amx_tile_row_size"), table.read("amx_palette_nr_tiles")];
      const rows = table.read("amx_tile_nr_rows");
      const faults: LintFault[] = [];
      if (total !== tile * tiles) {
        const words = `is ${total}, but ${tiles} tiles of ${tile} bytes have ${tile * tiles}`;
        faults.push({ place: table.place("amx_palette_size"), words });
      }
      if (tile !== row * rows) {
        const words = `is ${tile}, but ${rows} rows of ${row} bytes have ${row * rows}`;
        faults.push({ place: table.place("amx_tile_size"), words });
      }
      return faults;
    },
  },
  {
    id: "A03",
    severity: "warning",
    title: "The matrix multiplier's limits are at most a tile's rows and bytes per row",
    source: "SDM volume 2A, CPUID leaves 0x1d.1 and 0x1e.0",
    remedy: "Set 0x1e.0 to the host's values",
    check: (table) =>
      (
        [
          ["tmul_maxk", "amx_tile_nr_rows", "rows"],
          ["tmul_maxn", "amx_tile_row_size", "bytes per row"],
        ] as const
      ).flatMap(([name, limit, unit]): readonly LintFault[] => {
        const [has, most] = [table.read(name), table.read(limit)];
        if (has <= most || table.leaf(0x1d, 1) === undefined) return [];
        const words = `is ${has}, but a tile has ${most} ${unit}`;
        return [{ place: table.place(name), words, fix: table.set(name, most) }];
      }),
  },
  {
    id: "A04",
    severity: "error",
    title: "Leaves 0x1d and 0x1e have zeros without amx_tile",
    source: "SDM volume 2A, CPUID leaves 0x1d and 0x1e",
    remedy: "Set amx_tile, or clear both leaves",
    check: (table) =>
      table.has("amx_tile")
        ? []
        : [0x1d, 0x1e].flatMap((fn) => describedFault(table, fn, "amx_tile")),
  },
  {
    id: "A05",
    severity: "warning",
    title: "AVX10 has a version and a vector length, and leaf 0x24 has zeros without it",
    source: "SDM volume 2A, CPUID leaf 0x24; KVM clears the leaf without avx10",
    remedy: "Set the version and the lengths of 0x24.0:ebx, or clear avx10 and the leaf",
    check: (table) => {
      if (!table.has("avx10")) return describedFault(table, 0x24, "avx10");
      if (table.leaf(0x24) === undefined) return [];
      const faults: LintFault[] = [];
      if (!table.has("avx10_version")) {
        faults.push({ place: table.place("avx10_version"), words: "is 0, but avx10 is set" });
      }
      const lengths = ["avx10_128", "avx10_256", "avx10_512"] as const;
      if (!lengths.some((name) => table.has(name))) {
        const words = "is 0, like all other vector lengths, but avx10 is set";
        faults.push({ place: table.place("avx10_512"), words });
      }
      return faults;
    },
  },
  {
    id: "A06",
    severity: "warning",
    title: "The copies of AMX bits in leaf 0x1e.1 equal those in leaf 7",
    source: "SDM volume 2A, CPUID leaf 0x1e.1; arch/x86/kvm/cpuid.c",
    remedy: "Copy the bits of leaf 7",
    check: (table) => {
      const copies = table.leaf(0x1e, 1);
      if (copies === undefined || isZero(copies)) return [];
      return ALIASES.flatMap(([alias, own]): readonly LintFault[] => {
        const [copy, wanted] = [table.read(alias), table.read(own)];
        if (copy === wanted || !table.has("amx_tile")) return [];
        const words = `is ${copy}, but ${own} is ${wanted}`;
        return [{ place: table.place(alias), words, fix: table.set(alias, wanted) }];
      });
    },
  },
  {
    id: "P01",
    severity: "error",
    title: "Leaf 0xa has zeros if the PMU's version is 0",
    source: "SDM volume 2A, CPUID leaf 0xa",
    remedy: "Clear leaf 0xa, or set the version",
    check: (table) => {
      const e = table.leaf(0xa);
      if (e === undefined || isZero(e) || table.has("pmu_version")) return [];
      const place = table.place("pmu_version");
      return [{ place, words: "is 0, but the leaf has counters", fix: clearLeaf(table, 0xa) }];
    },
  },
  {
    id: "P02",
    severity: "warning",
    title:
      "The PMU has at most 64 counters with a width above 0, and fixed counters need version 2",
    source: "SDM volume 2A, CPUID leaf 0xa; SDM volume 3B, 21.2",
    remedy: "Set leaf 0xa as KVM_GET_SUPPORTED_CPUID reports it",
    check: (table) => {
      const version = table.read("pmu_version");
      if (version === 0) return [];
      const [count, width] = [table.read("num_counters_gp"), table.read("bit_width_gp")];
      const [fixed, fixedWidth] = [table.read("num_counters_fixed"), table.read("bitwidth_fixed")];
      const faults: LintFault[] = [];
      const add = (name: CpuidFieldName, words: string): void => {
        faults.push({ place: table.place(name), words });
      };
      if (count > 64) add("num_counters_gp", `is ${count}, and a CPU has at most 64`);
      if (count > 0 && width === 0) add("bit_width_gp", `is 0, but there are ${count} counters`);
      if (fixed > 0 && version < 2)
        add("num_counters_fixed", `is ${fixed}, but version ${version} has none`);
      else if (fixed > 0 && fixedWidth === 0)
        add("bitwidth_fixed", `is 0, but there are ${fixed} fixed counters`);
      return faults;
    },
  },
  {
    id: "P03",
    severity: "warning",
    title: "PDCM has a PMU, and AMD's version 2 has counters",
    source: "arch/x86/kvm/cpuid.c and vmx/pmu_intel.c; APM volume 3, CPUID leaf 0x80000022",
    remedy:
      "Set leaf 0xa or 0x80000022 as KVM_GET_SUPPORTED_CPUID reports it, or clear pdcm or perfmon_v2",
    check: (table) => {
      const faults: LintFault[] = [];
      if (table.has("pdcm") && !table.isAmd && !table.has("pmu_version")) {
        const words = "needs a PMU, but leaf 0xa has version 0";
        faults.push({ place: table.place("pdcm"), words, fix: table.set("pdcm", 0) });
      }
      if (table.has("perfmon_v2") && !table.has("n_pmc_core")) {
        const words = "needs counters, but n_pmc_core is 0";
        faults.push({ place: table.place("perfmon_v2"), words });
      }
      return faults;
    },
  },
];
