/**
 * The models of AMD's EPYC families, and of Hygon's CPUs, which are based on the first EPYC generation. model.ts
 * defines the type of a model.
 */
import { type CpuidModel, type CpuidModelCache, names, shared } from "./model.ts";

const APM = "APM volume 3, appendices D and E";
const DUMPS = "CPUID leaves 0x80000008 and 0x8000001d of the CPU in the title";
/** KVM's __do_cpuid_func reports these features on every host. */
const SVM = { svm_version: 1, svm_nasid: 8 } as const;

type Size = readonly [kib: number, ways: number];

/** Lists the caches of a core and of its complex, each with its size in KiB and its ways. */
function caches(data: Size, code: Size, l2: Size, l3: Size): readonly CpuidModelCache[] {
  return [
    { level: 1, type: "data", kib: data[0], ways: data[1] },
    { level: 1, type: "instruction", kib: code[0], ways: code[1] },
    { level: 2, type: "unified", kib: l2[0], ways: l2[1] },
    { level: 3, type: "unified", kib: l3[0], ways: l3[1] },
  ];
}

/** The models since the first EPYC, in the order of inheritance. */
export const AMD: readonly CpuidModel[] = [
  {
    name: "EPYC",
    from: "kvm-base",
    title: "AMD EPYC 7001 (Naples, Zen, 2017)",
    vendor: "AuthenticAMD",
    signature: { family: 23, model: 1, stepping: 2 },
    maxLeaf: 0xd,
    maxExtended: 0x8000_001e,
    add: names(
      "3dnowprefetch abm adx aes arat avx avx2 bmi1 bmi2 clflushopt cr8_legacy f16c fma fsgsbase",
      "fxsr_opt lahf_lm misalignsse mmxext movbe npt nrip_save osvw pclmulqdq pdpe1gb popcnt rdrand",
      "rdseed rdtscp sha_ni smap smep sse4_1 sse4_2 sse4a ssse3 svm topoext xgetbv1 xsave xsavec",
      "xsaveopt",
    ),
    remove: [],
    values: SVM,
    brand: "AMD EPYC 7001 (Naples)",
    physicalBits: 48,
    caches: caches([32, 8], [64, 4], [512, 8], [8192, 16]),
    variants: [
      {
        name: "EPYC-IBPB",
        note: "Adds IBPB of the microcode of 2018",
        add: names("amd_ibpb"),
        remove: [],
        aliases: shared("EPYC-IBPB", "EPYC-v2"),
      },
      {
        name: "EPYC-XSAVES",
        note: "Adds IBPB, XSAVES, and bits that hypervisors offered later",
        add: names("amd_ibpb clzero perfctr_core xsaveerptr xsaves"),
        remove: [],
        aliases: shared("EPYC-v3"),
      },
    ],
    aliases: shared("EPYC", "EPYC-v1"),
    sources: {
      identity: "PPR for family 17h model 01h (54945)",
      features: `PPR 54945; ${APM}; archspec; observed: QEMU 7.2, EPYC-v1 to v3`,
      sizes: DUMPS,
      unverified: ["sizes"],
    },
  },
  {
    name: "EPYC-Rome",
    from: "EPYC",
    title: "AMD EPYC 7002 (Rome, Zen 2, 2019)",
    vendor: "AuthenticAMD",
    signature: { family: 23, model: 49, stepping: 0 },
    maxLeaf: 0xd,
    maxExtended: 0x8000_001e,
    add: names("amd_ibpb amd_stibp clwb clzero perfctr_core rdpid umip wbnoinvd xsaveerptr xsaves"),
    remove: [],
    values: SVM,
    brand: "AMD EPYC 7002 (Rome)",
    physicalBits: 48,
    caches: caches([32, 8], [32, 8], [512, 8], [16384, 16]),
    variants: [
      {
        name: "EPYC-Rome-IBRS",
        note: "Adds IBRS and SSBD",
        add: names("amd_ibrs amd_ssbd"),
        remove: [],
        aliases: shared("EPYC-Rome-v2"),
      },
      {
        name: "EPYC-Rome-noXSAVES",
        note: "Adds IBRS and SSBD; XSAVES is off because of erratum 1386",
        add: names("amd_ibrs amd_ssbd"),
        remove: names("xsaves"),
        aliases: shared("EPYC-Rome-v4"),
      },
    ],
    aliases: shared("EPYC-Rome", "EPYC-Rome-v1"),
    sources: {
      identity: "PPR for family 17h model 31h (55803)",
      features: `PPR 55803; ${APM}; archspec; revision guide 56323; observed: QEMU 7.2, EPYC-Rome-v1 and v2; equal to QEMU's EPYC-Rome-v4`,
      sizes: DUMPS,
      unverified: ["sizes"],
    },
  },
  {
    name: "EPYC-Milan",
    from: "EPYC-Rome",
    title: "AMD EPYC 7003 (Milan, Zen 3, 2021)",
    vendor: "AuthenticAMD",
    signature: { family: 25, model: 1, stepping: 1 },
    maxLeaf: 0xd,
    maxExtended: 0x8000_001e,
    add: names("amd_ibrs amd_ssbd erms fsrm invpcid pcid pku svme_addr_chk"),
    remove: [],
    values: SVM,
    brand: "AMD EPYC 7003 (Milan)",
    physicalBits: 48,
    caches: caches([32, 8], [32, 8], [512, 8], [32768, 16]),
    variants: [
      {
        name: "EPYC-Milan-VAES",
        note: "Adds VAES, VPCLMULQDQ and bits of leaf 0x80000021 that hypervisors offered later",
        add: names(
          "amd_psfd amd_stibp_always_on lfence_rdtsc no_nested_data_bp null_sel_clr_base vaes",
          "vpclmulqdq",
        ),
        remove: [],
        maxExtended: 0x8000_0021,
        aliases: shared("EPYC-Milan-v2"),
      },
    ],
    aliases: shared("EPYC-Milan", "EPYC-Milan-v1"),
    sources: {
      identity: "PPR for family 19h model 01h (55898)",
      features: `PPR 55898; ${APM}; archspec; observed: QEMU 7.2, EPYC-Milan-v1; equal to QEMU's EPYC-Milan-v2`,
      sizes: DUMPS,
      unverified: ["sizes"],
    },
  },
  {
    name: "EPYC-Genoa",
    from: "EPYC-Milan",
    title: "AMD EPYC 9004 (Genoa, Zen 4, 2022)",
    vendor: "AuthenticAMD",
    signature: { family: 25, model: 17, stepping: 0 },
    maxLeaf: 0xd,
    maxExtended: 0x8000_0022,
    add: names(
      "amd_psfd amd_stibp_always_on autoibrs avx512_bf16 avx512_bitalg avx512_vbmi2 avx512_vnni",
      "avx512_vpopcntdq avx512bw avx512cd avx512dq avx512f avx512ifma avx512vbmi avx512vl gfni la57",
      "lfence_rdtsc no_nested_data_bp null_sel_clr_base vaes vnmi vpclmulqdq",
    ),
    remove: [],
    values: SVM,
    brand: "AMD EPYC 9004 (Genoa)",
    physicalBits: 52,
    caches: caches([32, 8], [32, 8], [1024, 8], [32768, 16]),
    variants: [],
    aliases: shared("EPYC-Genoa", "EPYC-Genoa-v1"),
    sources: {
      identity: "PPR for family 19h model 11h (55901)",
      features: `PPR 55901; ${APM}; archspec; equal to QEMU's EPYC-Genoa-v1`,
      sizes: DUMPS,
      unverified: ["sizes"],
    },
  },
  {
    name: "EPYC-Turin",
    from: "EPYC-Genoa",
    title: "AMD EPYC 9005 (Turin, Zen 5, 2024)",
    vendor: "AuthenticAMD",
    signature: { family: 26, model: 2, stepping: 1 },
    maxLeaf: 0xd,
    maxExtended: 0x8000_0022,
    add: names(
      "avx512_vp2intersect avx_vnni fsgs_non_serializing ibpb_brtype movdir64b movdiri prefetchi sbpb",
      "srso_uk_no",
    ),
    remove: [],
    values: SVM,
    brand: "AMD EPYC 9005 (Turin)",
    physicalBits: 52,
    caches: caches([48, 12], [32, 8], [1024, 16], [32768, 16]),
    variants: [],
    aliases: shared(),
    sources: {
      identity: "PPR for family 1Ah model 02h (57238); a captured table, test/unit/cpuid/tables",
      features: `PPR 57238; ${APM}; archspec; each is in QEMU's EPYC-Turin`,
      sizes: DUMPS,
      unverified: ["sizes"],
    },
  },
  {
    name: "Dhyana",
    from: "EPYC",
    title: "Hygon C86 7100 (Dhyana, 2018)",
    vendor: "HygonGenuine",
    signature: { family: 24, model: 0, stepping: 1 },
    maxLeaf: 0xd,
    maxExtended: 0x8000_001e,
    add: names("amd_ibpb"),
    remove: names("aes pclmulqdq sha_ni"),
    values: SVM,
    brand: "Hygon C86 7100 (Dhyana)",
    physicalBits: 48,
    caches: caches([32, 8], [64, 4], [512, 8], [8192, 16]),
    variants: [
      {
        name: "Dhyana-XSAVES",
        note: "Adds XSAVES, which hypervisors offered later",
        add: names("xsaves"),
        remove: [],
        aliases: shared("Dhyana-v2"),
      },
    ],
    aliases: shared("Dhyana", "Dhyana-v1"),
    sources: {
      identity: "observed: CPUID leaf 1 of a Hygon C86 7185 (libcpuid's tests, BSD-2-Clause)",
      features:
        "observed: Hygon C86 7185 (libcpuid's tests, BSD-2-Clause); QEMU 7.2, Dhyana-v1 and v2",
      sizes: DUMPS,
      unverified: ["sizes"],
    },
  },
];
