/** Tables that break the rules about a table's structure, S01 to S19. */
import { AMD, INTEL } from "../bases.ts";
import { type Broken, broken, fixable } from "./row.ts";

const ZEROS = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
const at = (fn: number, index = 0): number =>
  Array.from(INTEL).findIndex((e) => e.function === fn && e.index === index);

/** Intel's base table, with a highest basic leaf that contains no data. */
const SHORT = INTEL.with({ max_std_leaf: 0x1e });
const { eax, ebx, ecx, edx } = INTEL.find(0x1f, 0) ?? ZEROS;

export const BROKEN_STRUCTURE: readonly Broken[] = [
  broken("S01", "no leaf 0", "0x0.0", INTEL.without(0)),
  fixable("S02", "a basic leaf above the maximum", "0x1f.0", SHORT),
  fixable(
    "S02",
    "a basic leaf that no manual defines",
    "0x20000000.0",
    INTEL.append({ function: 0x2000_0000, eax: 1 }).with({ max_std_leaf: 0x1f }),
  ),
  fixable("S03", "no entry of the highest basic leaf", "0x0.0:eax[31:0]", INTEL.without(0x1f)),
  broken(
    "S04",
    "extended leaves without leaf 0x80000000",
    "0x80000000.0",
    INTEL.without(0x8000_0000).with({
      lm: 0,
      la57: 0,
      pdpe1gb: 0,
      lahf_lm: 0,
      virt_addr_bits: 48,
    }),
  ),
  fixable(
    "S04",
    "a maximum outside of its range",
    "0x80000000.0:eax[31:0]",
    INTEL.with({ max_ext_leaf: 0x8001_0000 }),
  ),
  fixable(
    "S04",
    "an extended leaf above the maximum",
    "0x80000021.0",
    INTEL.append({ function: 0x8000_0021, eax: 4 }),
  ),
  fixable(
    "S05",
    "a hypervisor's maximum in another block",
    "0x40000000.0:eax[31:0]",
    INTEL.with({ kvm_max_leaf: 0x4000_0101 }),
  ),
  fixable(
    "S05",
    "a hypervisor's leaf above the last block",
    "0x40010000.0",
    INTEL.append({ function: 0x4001_0000, eax: 0x4001_0001, ebx: 1 }),
  ),
  broken("S06", "an unknown vendor", "0x0.0", INTEL.with({ cpu_vendorid_1: 0x4965_6e68 })),
  fixable(
    "S07",
    "a vendor in leaf 0x80000000 of an Intel CPU",
    "0x80000000.0:ebx[31:0]",
    INTEL.with({ cpu_vendorid_0_80000000: 1 }),
  ),
  fixable(
    "S07",
    "no vendor in leaf 0x80000000 of an AMD CPU",
    "0x80000000.0:edx[31:0]",
    AMD.with({ cpu_vendorid_1_80000000: 0 }),
  ),
  fixable("S08", "an entry twice", "0x6.0", INTEL.append({ function: 6, eax: 4 })),
  fixable("S09", "an indexed leaf without the flag", "0x7.0", INTEL.replace(at(7), { flags: 0 })),
  fixable(
    "S09",
    "a leaf without sub-leaves that has the flag",
    "0x1.0",
    INTEL.replace(at(1), { flags: 1 }),
  ),
  fixable(
    "S10",
    "a sub-leaf that KVM does not list without the flag",
    "0x80000026.1",
    AMD.map((e) => (e.function === 0x8000_0026 && e.index === 1 ? { ...e, flags: 0 } : e)),
  ),
  fixable("S11", "a deprecated flag", "0x2.0", INTEL.replace(at(2), { flags: 2 })),
  fixable("S11", "padding", "0x2.0", INTEL.replace(at(2), { padding: [0, 7, 0] })),
  broken(
    "S12",
    "257 entries",
    "0x300000d4.0",
    INTEL.append(
      ...Array.from({ length: 257 - INTEL.length }, (_, i) => ({ function: 0x3000_0000 + i })),
    ),
  ),
  fixable(
    "S13",
    "a sub-leaf of leaf 7 above its maximum",
    "0x7.2",
    INTEL.with({ leaf7_n_subleaves: 1 }),
  ),
  broken(
    "S13",
    "a maximum of leaf 7 above 2",
    "0x7.0:eax[31:0]",
    INTEL.with({ leaf7_n_subleaves: 3 }),
  ),
  fixable(
    "S14",
    "a sub-leaf of leaf 0x1e above its maximum",
    "0x1e.1",
    INTEL.with({ tmul_max_subleaf: 0 }),
  ),
  fixable(
    "S14",
    "a sub-leaf of leaf 0x23 that its bitmap lacks",
    "0x23.1",
    INTEL.with({ max_std_leaf: 0x23 }).append(
      { function: 0x23, flags: 1, eax: 1 },
      { function: 0x23, index: 1, flags: 1, eax: 0xff, ebx: 7 },
    ),
  ),
  broken("S15", "a gap between the sub-leaves of leaf 4", "0x4.4", INTEL.without(4, 3)),
  broken(
    "S16",
    "two sub-leaves of a leaf that has none",
    "0x6.1",
    INTEL.replace(at(6), { flags: 1 }).append({ function: 6, index: 1, flags: 1, eax: 4 }),
  ),
  broken(
    "S17",
    "a bit that no field has",
    "0x1.0:ecx[16]",
    INTEL.replace(at(1), { ecx: (INTEL.at(at(1))?.ecx ?? 0) + 0x1_0000 }),
  ),
  broken(
    "S17",
    "a leaf that no field has",
    "0x80000025.0:eax[1:0]",
    AMD.append({ function: 0x8000_0025, eax: 3 }),
  ),
  fixable(
    "S18",
    "reserved bits of leaf 1",
    "0x1.0:eax[15:14]",
    INTEL.replace(at(1), { eax: 0x0008_c6f4 }),
  ),
  fixable(
    "S18",
    "reserved bits of leaf 0xb",
    "0xb.1:eax[5]",
    INTEL.replace(at(0xb, 1), { eax: 0x21 }),
  ),
  fixable(
    "S19",
    "the highest basic leaf in place of a leaf out of range",
    "0x20000000.0",
    INTEL.append({ function: 0x2000_0000, eax, ebx, ecx, edx }),
  ),
  fixable(
    "S19",
    "the highest basic leaf in place of leaf 0xc0000000",
    "0xc0000000.0",
    INTEL.append({ function: 0xc000_0000, eax, ebx, ecx, edx }),
  ),
];
