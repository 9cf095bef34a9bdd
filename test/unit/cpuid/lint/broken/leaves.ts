/** Tables that break the rules about leaves that features need, L01 to L08. */
import { CpuidTable } from "../../../../../lib/cpuid/index.ts";
import { AMD, INTEL } from "../bases.ts";
import { type Broken, broken, fixable } from "./row.ts";

/** A small Intel CPU with leaves up to 3. */
const SMALL: CpuidTable = CpuidTable.from([
  { function: 0, eax: 3, ebx: 0x756e_6547, ecx: 0x6c65_746e, edx: 0x4965_6e69 },
  { function: 1, eax: 0x0008_06f4, ebx: 0x0001_0800 },
  { function: 2, eax: 1 },
  { function: 3 },
]);

export const BROKEN_LEAVES: readonly Broken[] = [
  broken("L01", "MONITOR without leaf 5", "0x1.0:ecx[3]", SMALL.with({ monitor: 1 })),
  fixable(
    "L01",
    "MONITOR and a maximum below leaf 5",
    "0x1.0:ecx[3]",
    SMALL.append({ function: 5, eax: 64, ebx: 64 }).with({ monitor: 1 }),
  ),
  broken("L02", "DCA without leaf 9", "0x1.0:ecx[18]", SMALL.with({ dca: 1 })),
  fixable(
    "L02",
    "DCA and a maximum below leaf 9",
    "0x1.0:ecx[18]",
    SMALL.append({ function: 9, eax: 1 }).with({ dca: 1 }),
  ),
  broken(
    "L03",
    "XSAVE without leaf 0xd",
    "0x1.0:ecx[26]",
    SMALL.with({ xsave: 1, fxsr: 1, fpu: 1 }),
  ),
  fixable(
    "L04",
    "features in leaf 7 and a maximum below it",
    "0x7.0",
    SMALL.append({ function: 7, flags: 1, ebx: 8 }),
  ),
  broken("L05", "SGX without leaf 0x12", "0x7.0:ebx[2]", INTEL.with({ sgx: 1 })),
  fixable(
    "L05",
    "a maximum below leaf 0x1e of AMX",
    "0x7.0:edx[24]",
    INTEL.without(0x1f).with({ max_std_leaf: 0x1d }),
  ),
  broken("L06", "SVM without leaf 0x8000000a", "0x80000001.0:ecx[2]", AMD.with({ svm: 1 })),
  fixable(
    "L06",
    "a maximum below leaf 0x8000001e of topoext",
    "0x80000001.0:ecx[22]",
    AMD.filter((e) => e.function <= 0x8000_001e).with({ max_ext_leaf: 0x8000_001c }),
  ),
  broken(
    "L07",
    "long mode without leaf 0x80000008",
    "0x80000001.0:edx[29]",
    INTEL.without(0x8000_0008),
  ),
  fixable(
    "L07",
    "long mode and a maximum below leaf 0x80000008",
    "0x80000001.0:edx[29]",
    INTEL.with({ max_ext_leaf: 0x8000_0007 }),
  ),
  fixable("L08", "x2APIC without a local APIC in KVM", "0x1.0:ecx[21]", AMD, {
    vm: { hasKernelApic: false },
  }),
  fixable(
    "L08",
    "a TSC deadline timer without a local APIC in KVM",
    "0x1.0:ecx[24]",
    INTEL.with({ x2apic: 0 }),
    { vm: { hasKernelApic: false } },
  ),
];
