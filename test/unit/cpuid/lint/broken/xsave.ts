/** Tables that break the rules of leaf 0xD, X01 to X23. */
import { CpuidTable } from "../../../../../lib/cpuid/index.ts";
import { AMD, INTEL } from "../bases.ts";
import { type Broken, broken, fixable } from "./row.ts";

/** An Intel CPU with XSAVE for x87, SSE and PKRU. */
const SMALL: CpuidTable = CpuidTable.from([
  { function: 0, eax: 0xd, ebx: 0x756e_6547, ecx: 0x6c65_746e, edx: 0x4965_6e69 },
  { function: 1, eax: 0x0008_06f4, ebx: 0x0001_0800, ecx: 1 << 26, edx: 0x0700_8001 },
  { function: 7, flags: 1, ecx: 1 << 3 },
  { function: 0xd, flags: 1, eax: 0x203, ebx: 576, ecx: 2696 },
  { function: 0xd, index: 1, flags: 1, eax: 0xe, ebx: 576 },
  { function: 0xd, index: 9, flags: 1, eax: 8, ebx: 2688 },
]);

interface Part {
  readonly eax?: number;
  readonly ebx?: number;
  readonly ecx?: number;
  readonly edx?: number;
}

const part = (table: CpuidTable, index: number, registers: Part): CpuidTable =>
  table.map((e) => (e.function === 0xd && e.index === index ? { ...e, ...registers } : e));

const add = (table: CpuidTable, index: number, registers: Part): CpuidTable =>
  table.append({ function: 0xd, index, flags: 1, ...registers });

const UINTR = add(SMALL.with({ uintr: 1, xss_uintr: 1 }), 14, { eax: 48, ecx: 1 });

export const BROKEN_XSAVE: readonly Broken[] = [
  fixable(
    "X01",
    "leaf 0xd without XSAVE",
    "0xd.0",
    SMALL.with({ xsave: 0, pku: 0, xgetbv1: 0, xsaves: 0, xsavec: 0 }),
  ),
  fixable("X02", "XCR0 without SSE", "0xd.0:eax[1:0]", SMALL.with({ xcr0_sse: 0 })),
  broken("X03", "AVX without its component", "0xd.0:eax[2]", SMALL.with({ avx: 1 })),
  broken(
    "X03",
    "the AVX component without AVX",
    "0xd.0:eax[2]",
    add(SMALL.with({ xcr0_avx: 1 }), 2, { eax: 256, ebx: 576 }),
  ),
  broken(
    "X04",
    "one of two MPX components",
    "0xd.0:eax[4]",
    add(SMALL.with({ mpx: 1, xcr0_mpx_bndregs: 1 }), 3, { eax: 64, ebx: 960 }),
  ),
  broken(
    "X05",
    "two of three AVX-512 components",
    "0xd.0:eax[7]",
    part(INTEL.with({ xcr0_avx512_hi16_zmm: 0 }).without(0xd, 7), 0, {}),
  ),
  broken(
    "X05",
    "AVX-512 without its components",
    "0xd.0:eax[5]",
    INTEL.with({ xcr0_avx512_opmask: 0, xcr0_avx512_zmm_hi256: 0, xcr0_avx512_hi16_zmm: 0 })
      .without(0xd, 5)
      .without(0xd, 6)
      .without(0xd, 7),
  ),
  broken("X06", "the PKRU component without PKU", "0xd.0:eax[9]", SMALL.with({ pku: 0 })),
  broken(
    "X07",
    "one of two AMX components",
    "0xd.0:eax[17]",
    INTEL.with({ xcr0_tileconfig: 0 }).without(0xd, 17),
  ),
  broken(
    "X08",
    "the APX component without APX",
    "0xd.0:eax[19]",
    add(part(SMALL, 0, { eax: 0x8_0203 }), 19, { eax: 128, ebx: 960 }),
  ),
  broken("X09", "CET components without CET", "0xd.1:ecx[11]", AMD.with({ cet_ss: 0 })),
  broken(
    "X10",
    "a component of user interrupts without them",
    "0xd.1:ecx[14]",
    UINTR.with({ uintr: 0 }),
  ),
  broken("X11", "IA32_XSS without XSAVES", "0xd.1:ecx[31:0]", UINTR.with({ xsaves: 0 })),
  broken("X12", "a component in both masks", "0xd.1:ecx[9]", part(SMALL, 1, { ecx: 0x200 })),
  broken("X13", "an enabled component without a sub-leaf", "0xd.2", INTEL.without(0xd, 2)),
  fixable(
    "X13b",
    "a sub-leaf of a component that is not enabled",
    "0xd.2",
    add(SMALL, 2, { eax: 256, ebx: 576 }),
  ),
  fixable(
    "X14",
    "a user component that is marked as a supervisor one",
    "0xd.9:ecx[0]",
    part(INTEL, 9, { ecx: 1, ebx: 0 }).map((e) =>
      e.function === 0xd && e.index === 9 ? { ...e, ebx: 2688 } : e,
    ),
  ),
  fixable(
    "X14",
    "an offset of a supervisor component",
    "0xd.11:ebx[31:0]",
    part(AMD, 11, { ebx: 2440 }),
  ),
  broken("X15", "another size of PKRU", "0xd.9:eax[31:0]", part(INTEL, 9, { eax: 16 })),
  broken("X16", "overlapping components", "0xd.6:ebx[31:0]", part(INTEL, 6, { ebx: 1100 })),
  broken("X16", "a component in the header", "0xd.2:ebx[31:0]", part(INTEL, 2, { ebx: 512 })),
  fixable("X17", "a size that is too small", "0xd.0:ecx[31:0]", INTEL.with({ xsave_sz_max: 2696 })),
  fixable(
    "K12",
    "a size that is too large",
    "0xd.0:ecx[31:0]",
    SMALL.with({ xsave_sz_max: 11_008 }),
  ),
  fixable(
    "X18",
    "a current size between two components",
    "0xd.0:ebx[31:0]",
    INTEL.with({ xsave_sz_xcr0: 600 }),
  ),
  fixable(
    "X19",
    "a compacted size above all components",
    "0xd.1:ebx[31:0]",
    SMALL.with({ xsave_sz_xcr0_xss: 1024 }),
  ),
  fixable(
    "X19",
    "no compacted size with XSAVEC",
    "0xd.1:ebx[31:0]",
    SMALL.with({ xsave_sz_xcr0_xss: 0 }),
  ),
  fixable(
    "X20",
    "a component for IA32_XFD without XFD",
    "0xd.9:ecx[2]",
    part(SMALL, 9, { ecx: 4 }),
  ),
  broken(
    "X21",
    "tile data of another size than the palette",
    "0xd.18:eax[31:0]",
    part(INTEL, 18, { eax: 4096 }).with({ xsave_sz_max: 6912 }),
  ),
  fixable("X22", "EDX of a component", "0xd.2:edx[31:0]", part(INTEL, 2, { edx: 1 })),
  broken("X23", "XSAVES without XSAVEC", "0xd.1:eax[3]", SMALL.with({ xsavec: 0 })),
];
