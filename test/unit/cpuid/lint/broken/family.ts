/** Tables that break the rules about family, brand, addresses and frequencies, F01 to F15. */
import { AMD, INTEL } from "../bases.ts";
import { type Broken, broken, fixable } from "./row.ts";

const at = (fn: number): number => Array.from(INTEL).findIndex((e) => e.function === fn);

export const BROKEN_FAMILY: readonly Broken[] = [
  broken(
    "F01",
    "an extended family of base family 6",
    "0x1.0:eax[27:20]",
    INTEL.with({ ext_family: 1 }),
  ),
  broken(
    "F01",
    "an extended model of base family 5",
    "0x1.0:eax[19:16]",
    INTEL.with({ base_family_id: 5 }),
  ),
  fixable(
    "F02",
    "a signature in leaf 0x80000001 of an Intel CPU",
    "0x80000001.0:eax[31:0]",
    INTEL.with({ e_base_model: 1 }),
  ),
  fixable(
    "F02",
    "another signature in leaf 0x80000001 of an AMD CPU",
    "0x80000001.0:eax[31:0]",
    AMD.with({ e_stepping_id: 1 }),
  ),
  broken(
    "F03",
    "a family that the vendor does not have",
    "0x1.0:eax[11:8]",
    INTEL.with({ base_family_id: 15, ext_family: 1 }),
  ),
  broken(
    "F03",
    "a feature of AMD on an Intel CPU",
    "0x80000001.0:ecx[6]",
    INTEL.with({ sse4a: 1 }),
  ),
  broken("F04", "two of three leaves of the brand", "0x80000003.0", INTEL.without(0x8000_0003)),
  broken("F04", "an empty brand", "0x80000002.0", INTEL.with({ cpu_brandid_0: 0 })),
  broken(
    "F04",
    "a brand of other characters",
    "0x80000002.0",
    INTEL.with({ cpu_brandid_0: 0x4142_43ff }),
  ),
  broken(
    "F04",
    "a brand of 48 characters",
    "0x80000002.0",
    INTEL.map((e) => {
      const isBrand = e.function >= 0x8000_0002 && e.function <= 0x8000_0004;
      const word = 0x4142_4344;
      return isBrand ? { ...e, eax: word, ebx: word, ecx: word, edx: word } : e;
    }),
  ),
  fixable(
    "F04",
    "characters after the brand's NUL",
    "0x80000002.0",
    INTEL.with({ cpu_brandid_11: 0x41 }),
  ),
  broken(
    "F05",
    "31 physical address bits",
    "0x80000008.0:eax[7:0]",
    INTEL.with({ phys_addr_bits: 31 }),
  ),
  broken(
    "F05",
    "53 physical address bits",
    "0x80000008.0:eax[7:0]",
    INTEL.with({ phys_addr_bits: 53 }),
  ),
  fixable(
    "F05",
    "57 virtual address bits without LA57",
    "0x80000008.0:eax[15:8]",
    INTEL.with({ la57: 0 }),
  ),
  fixable(
    "F05",
    "LA57 and 48 virtual address bits",
    "0x80000008.0:eax[15:8]",
    AMD.with({ virt_addr_bits: 48 }),
  ),
  fixable(
    "F06",
    "more guest physical address bits than physical ones",
    "0x80000008.0:eax[23:16]",
    AMD.with({ guest_phys_addr_bits: 49 }),
  ),
  fixable("F07", "more physical address bits than the host", "0x80000008.0:eax[7:0]", INTEL, {
    host: INTEL.with({ phys_addr_bits: 45 }),
  }),
  broken(
    "F08",
    "address bits that memory encryption takes",
    "0x8000001f.0:ebx[11:6]",
    AMD.append({ function: 0x8000_001f, eax: 3, ebx: 0x173 }),
  ),
  fixable(
    "F09",
    "reserved bits of leaf 0x80000008",
    "0x80000008.0:eax[31:24]",
    INTEL.replace(at(0x8000_0008), { eax: 0x0100_392e }),
  ),
  fixable(
    "F10",
    "lines of 16 quadwords for CLFLUSH",
    "0x1.0:ebx[15:8]",
    INTEL.with({ clflush_size: 16 }),
  ),
  fixable(
    "F11",
    "AL of 0 in leaf 2 of an Intel CPU",
    "0x2.0:eax[7:0]",
    INTEL.with({ iteration_count: 0 }),
  ),
  fixable("F11", "data in leaf 2 of an AMD CPU", "0x2.0", AMD.with({ desc4: 0xf0 })),
  broken("F11", "the descriptor 0xff without leaf 4", "0x2.0", INTEL.without(4)),
  fixable(
    "F12",
    "a serial number without pn",
    "0x3.0",
    INTEL.append({ function: 3 }).map((e) => (e.function === 3 ? { ...e, ecx: 1 } : e)),
    { ignore: ["S17"] },
  ),
  fixable(
    "F13",
    "an AMD CPU that does not repeat a feature",
    "0x80000001.0:edx[31:0]",
    AMD.with({ e_mmx: 0 }),
  ),
  fixable(
    "F13",
    "an Intel CPU that repeats a feature",
    "0x80000001.0:edx[31:0]",
    INTEL.with({ e_mmx: 1 }),
  ),
  fixable("F14", "a CPU type", "0x1.0:eax[13:12]", INTEL.with({ cpu_type: 1 })),
  broken(
    "F15",
    "a TSC numerator without a denominator",
    "0x15.0:eax[31:0]",
    INTEL.with({ tsc_denominator: 0 }),
  ),
  broken("F15", "another TSC frequency than the VM", "0x15.0:ecx[31:0]", INTEL, {
    vm: { tscKhz: 2_100_000 },
  }),
  fixable(
    "F15",
    "another TSC frequency in the hypervisor's leaf",
    "0x40000010.0:eax[31:0]",
    INTEL.append({ function: 0x4000_0010, eax: 2_100_000 }),
  ),
  fixable(
    "F15",
    "another TSC frequency in the hypervisor's leaf than the VM",
    "0x40000010.0:eax[31:0]",
    AMD.append({ function: 0x4000_0010, eax: 2_100_000 }),
    { vm: { tscKhz: 2_000_000 } },
  ),
  broken(
    "F15",
    "a base frequency above the maximum",
    "0x16.0:eax[15:0]",
    INTEL.with({ cpu_base_mhz: 3900 }),
  ),
  broken("F15", "a frequency of 20 GHz", "0x16.0:ebx[15:0]", INTEL.with({ cpu_max_mhz: 20_000 })),
];
