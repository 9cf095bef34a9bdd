/** Lint rules about the family, features of one vendor, the brand, address sizes, descriptors and frequencies. */
import { CPUID_REGISTERS } from "../entry.ts";
import { type CpuidFieldName, readField } from "../field.ts";
import { LEAST_EXTENDED_FAMILY } from "../values.ts";
import type { LintFault, LintRule } from "./rule.ts";
import { isZero, type LintTable, type LintVendor, setBits } from "./table.ts";

const hex = (value: number): string => `0x${value.toString(16)}`;

/** The display family (SDM volume 2A, CPUID leaf 1; APM volume 3, CPUID leaf 1). */
function familyOf(table: LintTable): number {
  const base = table.read("base_family_id");
  return base === 0xf ? base + table.read("ext_family") : base;
}

/** The families of each vendor. Source: arch/x86/include/asm/intel-family.h, arch/x86/kernel/cpu/amd.c and hygon.c. */
const FAMILIES: Readonly<Partial<Record<LintVendor, (family: number) => boolean>>> = {
  intel: (family) => [5, 6, 15, 18, 19].includes(family),
  // The families 4 to 6 belong to Am486, K5, K6, Geode and K7.
  amd: (family) => (family >= 4 && family <= 6) || (family >= 15 && family !== 24),
  hygon: (family) => family === 24,
};

/** Features of leaf 0x80000001 that no Intel CPU has. Source: SDM volume 2A, CPUID leaf 0x80000001. */
const AMD_FEATURES: readonly CpuidFieldName[] = [
  ...([
    "cmp_legacy",
    "svm",
    "extapic",
    "cr8_legacy",
    "sse4a",
    "misalignsse",
    "osvw",
    "ibs",
  ] as const),
  ...(["xop", "skinit", "wdt", "lwp", "fma4", "tce", "nodeid_msr", "tbm", "topoext"] as const),
  ...(["perfctr_core", "perfctr_nb", "bpext", "ptsc", "perfctr_llc", "mwaitx"] as const),
  ...(["addr_mask_ext", "mmxext", "fxsr_opt", "3dnowext", "3dnow"] as const),
];

/** The bits of 0x80000001.EDX that repeat 1.EDX on AMD. Source: APM volume 3, CPUID leaf 0x80000001. */
const MIRRORED = 0x0183_f3ff;

const BRAND: readonly number[] = [0x8000_0002, 0x8000_0003, 0x8000_0004];

/** Returns the 48 bytes of the brand string, or undefined if one of its leaves is absent. */
function brandOf(table: LintTable): readonly number[] | undefined {
  const leaves = BRAND.map((fn) => table.leaf(fn));
  if (leaves.includes(undefined)) return undefined;
  return leaves.flatMap((e) =>
    CPUID_REGISTERS.flatMap((register) => {
      const word = e?.[register] ?? 0;
      return [word & 0xff, (word >>> 8) & 0xff, (word >>> 16) & 0xff, word >>> 24];
    }),
  );
}

function brandFaults(table: LintTable): readonly LintFault[] {
  const present = BRAND.filter((fn) => table.positions(fn).length > 0);
  if (present.length === 0) return [];
  const absent = BRAND.find((fn) => !present.includes(fn));
  if (absent !== undefined) {
    const words = `is absent, but ${present.map(hex).join(" and ")} ${present.length === 1 ? "has" : "have"} a part of the brand`;
    return [{ place: table.absentPlace(absent), words }];
  }
  const bytes = brandOf(table) ?? [];
  const place = table.entryPlace(table.find(0x8000_0002));
  const end = bytes.indexOf(0);
  const text = end < 0 ? bytes : bytes.slice(0, end);
  if (text.length === 0) return [{ place, words: "the brand is empty" }];
  const bad = text.find((byte) => byte < 0x20 || byte > 0x7e);
  if (bad !== undefined)
    return [{ place, words: `the brand has the byte ${hex(bad)}, which is not ASCII` }];
  if (end < 0) return [{ place, words: "the brand has 48 characters and no NUL at its end" }];
  if (bytes.slice(end).every((byte) => byte === 0)) return [];
  const fix = BRAND.flatMap((fn, leaf) =>
    CPUID_REGISTERS.flatMap((register, i) => {
      const offset = leaf * 16 + i * 4;
      const kept = Math.min(4, Math.max(0, end - offset));
      const position = table.find(fn);
      return kept === 4 ? [] : [setBits(position, register, kept * 8, 31, 0)];
    }),
  );
  return [{ place, words: `the brand has characters after its NUL at ${end}`, fix }];
}

/** Compares two frequencies; a difference of up to 1 % is accepted, because firmware and VMMs round them. */
const isNear = (a: number, b: number): boolean => Math.abs(a - b) <= Math.max(a, b) / 100;

/** Returns the TSC frequency of leaf 0x15 in kHz; undefined if the leaf does not report it. */
function crystalTsc(table: LintTable): number | undefined {
  const [below, above, hz] = [
    table.read("tsc_denominator"),
    table.read("tsc_numerator"),
    table.read("cpu_crystal_hz"),
  ];
  return below === 0 || above === 0 || hz === 0 ? undefined : (hz / 1000) * (above / below);
}

/** Returns the TSC frequency of the hypervisor's leaf 0x40000010 in kHz; KVM and VMware use the same leaf. */
function hypervisorTsc(
  table: LintTable,
): { readonly field: CpuidFieldName; readonly khz: number } | undefined {
  for (const field of ["kvm_tsc_khz", "vmw_tsc_khz"] as const) {
    const khz = table.read(field);
    if (khz !== 0) return { field, khz };
  }
  return undefined;
}

function frequencyFaults(table: LintTable, tscKhz: number | undefined): readonly LintFault[] {
  const faults: LintFault[] = [];
  const [below, above] = [table.read("tsc_denominator"), table.read("tsc_numerator")];
  if ((below === 0) !== (above === 0)) {
    const words = `is ${below} and the numerator is ${above}; both must be 0, or neither`;
    faults.push({ place: table.place("tsc_denominator"), words });
  }
  const crystal = crystalTsc(table);
  const hypervisor = hypervisorTsc(table);
  const khz = (value: number): string => `${Math.round(value)} kHz`;
  if (crystal !== undefined && tscKhz !== undefined && !isNear(crystal, tscKhz)) {
    const words = `gives a TSC of ${khz(crystal)}, but the VM's is ${khz(tscKhz)}`;
    faults.push({ place: table.place("cpu_crystal_hz"), words });
  }
  const other = tscKhz ?? crystal;
  if (hypervisor !== undefined && other !== undefined && !isNear(hypervisor.khz, other)) {
    const words = `is ${khz(hypervisor.khz)}, but ${tscKhz === undefined ? "leaf 0x15 gives" : "the VM's TSC has"} ${khz(other)}`;
    const fix = table.set(hypervisor.field, Math.round(other));
    faults.push({ place: table.place(hypervisor.field), words, fix });
  }
  const [base, most] = [table.read("cpu_base_mhz"), table.read("cpu_max_mhz")];
  if (base > most) {
    const words = `is ${base} MHz, which is above the maximum of ${most} MHz`;
    faults.push({ place: table.place("cpu_base_mhz"), words });
  } else if (most > 10_000) {
    const words = `is ${most} MHz, which no CPU reaches`;
    faults.push({ place: table.place("cpu_max_mhz"), words });
  }
  return faults;
}

const isIntelOrAmd = (table: LintTable): boolean => table.isAmd || table.vendor === "intel";

/** The rules about the CPU's identity and its sizes. */
export const FAMILY_RULES: readonly LintRule[] = [
  {
    id: "F01",
    severity: "error",
    title:
      "The extended family needs base family 15, and the extended model a base family from 6 on",
    source: "SDM volume 2A and APM volume 3, CPUID leaf 1 EAX; x86_model in arch/x86/lib/cpu.c",
    remedy: "Set the extended family or model to 0, or correct the base family",
    check: (table) => {
      const base = table.read("base_family_id");
      const isFamilyBad = table.has("ext_family") && base !== 0xf;
      const isModelBad = table.has("ext_model") && base < LEAST_EXTENDED_FAMILY;
      const fault = (name: CpuidFieldName): LintFault => ({
        place: table.place(name),
        words: `is ${table.read(name)}, but software ignores it for the base family ${base}`,
      });
      return [
        ...(isFamilyBad ? [fault("ext_family")] : []),
        ...(isModelBad ? [fault("ext_model")] : []),
      ];
    },
  },
  {
    id: "F02",
    severity: "error",
    title: "EAX of leaf 0x80000001 equals EAX of leaf 1 on AMD and Hygon, and is 0 on Intel",
    source: "APM volume 3 and SDM volume 2A, CPUID leaf 0x80000001",
    remedy: "Copy leaf 1's EAX on AMD and Hygon, and set it to 0 on Intel",
    check: (table) => {
      const position = table.find(0x8000_0001);
      const [own, first] = [table.entries[position], table.leaf(1)];
      if (own === undefined || first === undefined || !isIntelOrAmd(table)) return [];
      // K6 and K7 report another family in 0x80000001.
      if (table.isAmd && familyOf(table) < 0xf) return [];
      const wanted = table.isAmd ? first.eax : 0;
      if (own.eax === wanted) return [];
      const words = `is ${hex(own.eax)}, but ${table.isAmd ? "leaf 1 has" : "an Intel CPU has"} ${hex(wanted)}`;
      const fix = [setBits(position, "eax", 0, 31, wanted)];
      return [{ place: table.bitsPlace(position, "eax"), words, fix }];
    },
  },
  {
    id: "F03",
    severity: "warning",
    title: "The family and the features are those of the vendor",
    source:
      "arch/x86/include/asm/intel-family.h; APM volume 3 and SDM volume 2A, CPUID leaf 0x80000001",
    remedy: "Correct the vendor or the family, or clear the other vendor's feature",
    check: (table) => {
      const family = familyOf(table);
      const isPossible = FAMILIES[table.vendor]?.(family) ?? true;
      const isAbsent = table.leaf(1) === undefined;
      const words = `gives the family ${family}, which ${table.vendorText} does not have`;
      const wrong: readonly LintFault[] =
        isPossible || isAbsent ? [] : [{ place: table.place("base_family_id"), words }];
      const foreign =
        table.vendor === "intel" ? AMD_FEATURES.filter((name) => table.has(name)) : [];
      return [
        ...wrong,
        ...foreign.map((name) => ({
          place: table.place(name),
          words: "is a feature of AMD, but the vendor is GenuineIntel",
        })),
      ];
    },
  },
  {
    id: "F04",
    severity: "warning",
    title: "The brand is printable ASCII, ends in NUL, and has all three leaves or none",
    source: "SDM volume 2A and APM volume 3, CPUID leaves 0x80000002 to 0x80000004",
    remedy: "Set the brand again; the builder's brand() pads it with NUL",
    check: brandFaults,
  },
  {
    id: "F05",
    severity: "error",
    title:
      "A physical address has 32 to 52 bits; a virtual address has 57 bits if LA57 is set, else 48",
    source: "SDM volume 2A and APM volume 3, CPUID leaf 0x80000008; SDM volume 3A, 4.1.4",
    remedy: "Set phys_addr_bits to the host's, and virt_addr_bits to 57 with la57 or 48 without",
    check: (table) => {
      if (table.leaf(0x8000_0008) === undefined) return [];
      const [physical, virtual] = [table.read("phys_addr_bits"), table.read("virt_addr_bits")];
      const faults: LintFault[] = [];
      if (physical < 32 || physical > 52) {
        const words = `is ${physical}, and a CPU has 32 to 52 bits`;
        faults.push({ place: table.place("phys_addr_bits"), words });
      }
      const wanted = table.has("la57") ? 57 : 48;
      const isKnown = virtual === 0 || virtual === 48 || virtual === 57;
      if (isKnown && virtual !== wanted) {
        const words = `is ${virtual}, but ${wanted} ${wanted === 57 ? "with" : "without"} la57`;
        faults.push({
          place: table.place("virt_addr_bits"),
          words,
          fix: table.set("virt_addr_bits", wanted),
        });
      }
      return faults;
    },
  },
  {
    id: "F06",
    severity: "error",
    title: "The guest's physical address bits are 0, or at most the physical address bits",
    source: "APM volume 3, CPUID leaf 0x80000008 EAX",
    remedy: "Set guest_phys_addr_bits to 0 or to at most phys_addr_bits",
    check: (table) => {
      const [guest, physical] = [table.read("guest_phys_addr_bits"), table.read("phys_addr_bits")];
      if (guest <= physical) return [];
      const words = `is ${guest}, which is above the ${physical} physical address bits`;
      return [
        {
          place: table.place("guest_phys_addr_bits"),
          words,
          fix: table.set("guest_phys_addr_bits", 0),
        },
      ];
    },
  },
  {
    id: "F07",
    severity: "warning",
    title: "The physical address bits are at most the host's",
    source: "kvm_mmu_reset_context and EPT or NPT: the host's tables cannot map a higher address",
    remedy: "Set phys_addr_bits to the host's",
    needs: ["host"],
    check: (table, { host }) => {
      const [own, most] = [table.read("phys_addr_bits"), host?.read("phys_addr_bits") ?? 0];
      if (most === 0 || own <= most) return [];
      const words = `is ${own}, but the host has ${most}`;
      return [
        { place: table.place("phys_addr_bits"), words, fix: table.set("phys_addr_bits", most) },
      ];
    },
  },
  {
    id: "F08",
    severity: "info",
    title: "Memory encryption does not reduce the physical address bits",
    source: "APM volume 3, CPUID leaf 0x8000001f EBX 11:6",
    remedy: "Place memory below the reduced limit",
    check: (table) => {
      const fewer = table.read("phys_addr_reduction_nbits");
      if (fewer === 0 || !(table.has("sme") || table.has("sev"))) return [];
      const left = Math.max(0, table.read("phys_addr_bits") - fewer);
      const words = `is ${fewer}, so a guest with encryption has ${left} physical address bits`;
      return [{ place: table.place("phys_addr_reduction_nbits"), words }];
    },
  },
  {
    id: "F09",
    severity: "warning",
    title: "The reserved bits of leaf 0x80000008's EAX are 0",
    source: "SDM volume 2A and APM volume 3, CPUID leaf 0x80000008 EAX",
    remedy: "Clear bits 31 to 24",
    check: (table) => {
      const position = table.find(0x8000_0008);
      const value = readField(table.entries[position]?.eax ?? 0, 24, 31);
      if (value === 0) return [];
      const place = table.bitsPlace(position, "eax", 24, 31);
      const fix = [setBits(position, "eax", 24, 31, 0)];
      return [{ place, words: `is ${hex(value)}, but the bits are reserved as 0`, fix }];
    },
  },
  {
    id: "F10",
    severity: "warning",
    title: "CLFLUSH has a line of 8 quadwords",
    source: "SDM volume 2A and APM volume 3, CPUID leaf 1 EBX 15:8: 8 quadwords are 64 bytes",
    remedy: "Set clflush_size to 8",
    check: (table) => {
      const size = table.read("clflush_size");
      if (!table.has("clflush") || size === 8) return [];
      const words = `is ${size}, but every CPU with CLFLUSH has lines of 8 quadwords`;
      return [{ place: table.place("clflush_size"), words, fix: table.set("clflush_size", 8) }];
    },
  },
  {
    id: "F11",
    severity: "warning",
    title: "Leaf 2 has 1 in AL on Intel and zeros on AMD, and its descriptor 0xff needs leaf 4",
    source: "SDM volume 2A, CPUID leaf 2; APM volume 3: leaf 2 is reserved",
    remedy: "Set AL of leaf 2 to 1 on Intel, and leaf 2 to 0 on AMD; add leaf 4",
    check: (table) => {
      const position = table.find(2);
      const e = table.entries[position];
      if (e === undefined) return [];
      if (table.isAmd) {
        if (isZero(e)) return [];
        const fix = CPUID_REGISTERS.map((register) => setBits(position, register, 0, 31, 0));
        return [
          { place: table.entryPlace(position), words: "has data, but AMD reserves it as 0", fix },
        ];
      }
      if (table.vendor !== "intel") return [];
      const faults: LintFault[] = [];
      if ((e.eax & 0xff) !== 1) {
        const words = `is ${e.eax & 0xff}, but every Intel CPU has 1`;
        faults.push({
          place: table.place("iteration_count"),
          words,
          fix: table.set("iteration_count", 1),
        });
      }
      const bytes = CPUID_REGISTERS.flatMap((register) => {
        const word = e[register];
        const first = register === "eax" ? [] : [word & 0xff];
        return word >>> 31 === 1
          ? []
          : [...first, (word >>> 8) & 0xff, (word >>> 16) & 0xff, word >>> 24];
      });
      if (bytes.includes(0xff) && !table.hasData(4)) {
        const words = "has the descriptor 0xff, but the table has no leaf 4 with the caches";
        faults.push({ place: table.entryPlace(position), words });
      }
      return faults;
    },
  },
  {
    id: "F12",
    severity: "info",
    title: "Leaf 3 has zeros unless the CPU has a serial number",
    source: "SDM volume 2A, CPUID leaf 3",
    remedy: "Clear leaf 3",
    check: (table) => {
      const position = table.find(3);
      const e = table.entries[position];
      if (e === undefined || isZero(e) || table.has("pn") || table.isRedirected(position))
        return [];
      const fix = CPUID_REGISTERS.map((register) => setBits(position, register, 0, 31, 0));
      return [{ place: table.entryPlace(position), words: "has a serial number without pn", fix }];
    },
  },
  {
    id: "F13",
    severity: "warning",
    title:
      "Leaf 0x80000001's EDX repeats leaf 1's features on AMD and Hygon, and has none of them on Intel",
    source: "APM volume 3 and SDM volume 2A, CPUID leaf 0x80000001 EDX",
    remedy: "Copy the bits 0x183f3ff of leaf 1's EDX on AMD and Hygon, and clear them on Intel",
    check: (table) => {
      const position = table.find(0x8000_0001);
      const [own, first] = [table.entries[position], table.leaf(1)];
      if (own === undefined || first === undefined || !isIntelOrAmd(table)) return [];
      const wanted = table.isAmd ? (first.edx & MIRRORED) >>> 0 : 0;
      const has = (own.edx & MIRRORED) >>> 0;
      if (has === wanted) return [];
      const reason = table.isAmd ? "leaf 1's EDX has" : "an Intel CPU has";
      const words = `has ${hex(has)} in the bits ${hex(MIRRORED)}, but ${reason} ${hex(wanted)}`;
      const fix = [
        {
          kind: "bits" as const,
          position,
          register: "edx" as const,
          mask: MIRRORED,
          value: wanted,
        },
      ];
      return [{ place: table.bitsPlace(position, "edx"), words, fix }];
    },
  },
  {
    id: "F14",
    severity: "warning",
    title: "The CPU type is 0",
    source:
      "SDM volume 2A, CPUID leaf 1 EAX 13:12: the types other than 0 are OverDrive and dual processors; AMD reserves these bits",
    remedy: "Set cpu_type to 0",
    check: (table) =>
      table.has("cpu_type")
        ? [
            {
              place: table.place("cpu_type"),
              words: `is ${table.read("cpu_type")}, but no CPU with KVM has a type`,
              fix: table.set("cpu_type", 0),
            },
          ]
        : [],
  },
  {
    id: "F15",
    severity: "warning",
    title:
      "The frequencies of leaves 0x15, 0x16 and 0x40000010 agree with each other and with the VM's TSC",
    source: "SDM volume 2A, CPUID leaves 0x15 and 0x16; the VMware convention of leaf 0x40000010",
    remedy: "Set the leaves from the TSC's frequency, or to 0",
    check: (table, { vm }) => frequencyFaults(table, vm.tscKhz),
  },
];
