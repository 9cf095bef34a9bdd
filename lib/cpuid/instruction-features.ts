/**
 * The CPUID bits of instruction sets, by the names of iced-x86's CpuidFeature. needs.ts searches code for instructions
 * that a table lacks.
 */
import type { CpuidRegister } from "./entry.ts";
import type { CpuidFieldName } from "./field.ts";

/** A bit that the field database does not have. */
export interface UnnamedBit {
  /** The leaf. */
  readonly function: number;
  /** The sub-leaf. */
  readonly index: number;
  readonly register: CpuidRegister;
  /** The bit, 0 to 31. */
  readonly bit: number;
}

/**
 * The way in which CPUID reports an instruction set. `any`: each of these fields reports the instruction set. `bit`: a
 * bit that is not in the database reports the instruction set. `none`: CPUID does not report the instruction set; the
 * value is the reason.
 */
export type InstructionFeature =
  | { readonly kind: "any"; readonly fields: readonly CpuidFieldName[] }
  | { readonly kind: "bit"; readonly bit: UnnamedBit }
  | { readonly kind: "none"; readonly why: string };

const any = (...fields: readonly CpuidFieldName[]): InstructionFeature => ({ kind: "any", fields });
const none = (why: string): InstructionFeature => ({ kind: "none", why });
const unnamed = (
  fn: number,
  index: number,
  register: CpuidRegister,
  bit: number,
): InstructionFeature => ({ kind: "bit", bit: { function: fn, index, register, bit } });

const BEFORE_CPUID = none("every CPU with CPUID has it");
const EARLY_ONLY = none(
  "only CPUs before the Pentium have it, and they report it by their signature",
);
const OTHER_VENDOR = none("only CPUs of Cyrix, Centaur or National Semiconductor have it");
const BY_FAMILY = none("CPUs of family 6 and later have it");

/**
 * The instruction sets by iced-x86's names (version 1.21). Source: the SDM's and the APM's instruction pages, section
 * "CPUID Feature Flags".
 */
export const INSTRUCTION_FEATURES: Readonly<Record<string, InstructionFeature>> = {
  INTEL8086: BEFORE_CPUID,
  INTEL8086_ONLY: EARLY_ONLY,
  INTEL186: BEFORE_CPUID,
  INTEL286: BEFORE_CPUID,
  INTEL286_ONLY: EARLY_ONLY,
  INTEL386: BEFORE_CPUID,
  INTEL386_ONLY: EARLY_ONLY,
  INTEL386_A0_ONLY: EARLY_ONLY,
  INTEL486: BEFORE_CPUID,
  INTEL486_A_ONLY: EARLY_ONLY,
  UMOV: EARLY_ONLY,
  IA64: any("ia64"),
  X64: any("lm"),
  ADX: any("adx"),
  AES: any("aes"),
  AVX: any("avx"),
  AVX2: any("avx2"),
  AVX512_4FMAPS: any("avx512_4fmaps"),
  AVX512_4VNNIW: any("avx512_4vnniw"),
  AVX512_BF16: any("avx512_bf16"),
  AVX512_BITALG: any("avx512_bitalg"),
  AVX512_IFMA: any("avx512ifma"),
  AVX512_VBMI: any("avx512vbmi"),
  AVX512_VBMI2: any("avx512_vbmi2"),
  AVX512_VNNI: any("avx512_vnni"),
  AVX512_VP2INTERSECT: any("avx512_vp2intersect"),
  AVX512_VPOPCNTDQ: any("avx512_vpopcntdq"),
  AVX512BW: any("avx512bw"),
  AVX512CD: any("avx512cd"),
  AVX512DQ: any("avx512dq"),
  AVX512ER: any("avx512er"),
  AVX512F: any("avx512f"),
  AVX512PF: any("avx512pf"),
  AVX512VL: any("avx512vl"),
  BMI1: any("bmi1"),
  BMI2: any("bmi2"),
  CET_IBT: any("ibt"),
  CET_SS: any("cet_ss"),
  CL1INVMB: none("only the Single-chip Cloud Computer has it"),
  CLDEMOTE: any("cldemote"),
  CLFLUSHOPT: any("clflushopt"),
  CLFSH: any("clflush"),
  CLWB: any("clwb"),
  CLZERO: any("clzero"),
  CMOV: any("cmov"),
  CMPXCHG16B: any("cx16"),
  CPUID: BEFORE_CPUID,
  CX8: any("cx8"),
  D3NOW: any("3dnow"),
  D3NOWEXT: any("3dnowext"),
  OSS: none("only a simulator has it"),
  ENQCMD: any("enqcmd"),
  F16C: any("f16c"),
  FMA: any("fma"),
  FMA4: any("fma4"),
  FPU: any("fpu"),
  FPU287: any("fpu"),
  FPU287XL_ONLY: EARLY_ONLY,
  FPU387: any("fpu"),
  FPU387SL_ONLY: EARLY_ONLY,
  FSGSBASE: any("fsgsbase"),
  FXSR: any("fxsr"),
  CYRIX_D3NOW: OTHER_VENDOR,
  GFNI: any("gfni"),
  HLE: any("hle"),
  HLE_or_RTM: any("hle", "rtm"),
  INVEPT: any("vmx"),
  INVPCID: any("invpcid"),
  INVVPID: any("vmx"),
  LWP: any("lwp"),
  LZCNT: any("abm"),
  MCOMMIT: any("mcommit"),
  MMX: any("mmx"),
  MONITOR: any("monitor"),
  MONITORX: any("mwaitx"),
  MOVBE: any("movbe"),
  MOVDIR64B: any("movdir64b"),
  MOVDIRI: any("movdiri"),
  MPX: any("mpx"),
  MSR: any("msr"),
  MULTIBYTENOP: BY_FAMILY,
  PADLOCK_ACE: any("ace"),
  PADLOCK_PHE: any("phe"),
  PADLOCK_PMM: any("pmm"),
  PADLOCK_RNG: any("xstore"),
  PAUSE: none("it is a NOP on CPUs before SSE2"),
  PCLMULQDQ: any("pclmulqdq"),
  PCOMMIT: unnamed(7, 0, "ebx", 22),
  PCONFIG: any("pconfig"),
  PKU: any("pku"),
  POPCNT: any("popcnt"),
  PREFETCHW: any("3dnowprefetch", "lm"),
  PREFETCHWT1: any("prefetchwt1"),
  PTWRITE: any("ptwrite"),
  RDPID: any("rdpid"),
  RDPMC: BY_FAMILY,
  RDPRU: any("rdpru"),
  RDRAND: any("rdrand"),
  RDSEED: any("rdseed"),
  RDTSCP: any("rdtscp"),
  RTM: any("rtm"),
  SEP: any("sep"),
  SGX1: any("sgx1"),
  SHA: any("sha_ni"),
  SKINIT: any("skinit"),
  SKINIT_or_SVM: any("skinit", "svm"),
  SMAP: any("smap"),
  SMX: any("smx"),
  SSE: any("sse"),
  SSE2: any("sse2"),
  SSE3: any("pni"),
  SSE4_1: any("sse4_1"),
  SSE4_2: any("sse4_2"),
  SSE4A: any("sse4a"),
  SSSE3: any("ssse3"),
  SVM: any("svm"),
  SEV_ES: any("sev_es"),
  SYSCALL: any("syscall"),
  TBM: any("tbm"),
  TSC: any("tsc"),
  VAES: any("vaes"),
  VMX: any("vmx"),
  VPCLMULQDQ: any("vpclmulqdq"),
  WAITPKG: any("waitpkg"),
  WBNOINVD: any("wbnoinvd"),
  XOP: any("xop"),
  XSAVE: any("xsave"),
  XSAVEC: any("xsavec"),
  XSAVEOPT: any("xsaveopt"),
  XSAVES: any("xsaves"),
  SEV_SNP: any("sev_nested_paging"),
  SERIALIZE: any("serialize"),
  TSXLDTRK: any("tsxldtrk"),
  INVLPGB: any("invlpgb"),
  AMX_BF16: any("amx_bf16"),
  AMX_TILE: any("amx_tile"),
  AMX_INT8: any("amx_int8"),
  CYRIX_FPU: OTHER_VENDOR,
  CYRIX_SMM: OTHER_VENDOR,
  CYRIX_SMINT: OTHER_VENDOR,
  CYRIX_SMINT_0F7E: OTHER_VENDOR,
  CYRIX_SHR: OTHER_VENDOR,
  CYRIX_DDI: OTHER_VENDOR,
  CYRIX_EMMI: OTHER_VENDOR,
  CYRIX_DMI: OTHER_VENDOR,
  CENTAUR_AIS: OTHER_VENDOR,
  MOV_TR: EARLY_ONLY,
  SMM: BEFORE_CPUID,
  TDX: none("it is part of SEAM mode, which MSRs report"),
  KL: any("key_locker"),
  AESKLE: any("aes_keylocker"),
  WIDE_KL: any("aes_keylocker_wide"),
  UINTR: any("uintr"),
  HRESET: any("hreset"),
  AVX_VNNI: any("avx_vnni"),
  PADLOCK_GMI: any("ccs_sm2", "ccs_sm3_sm4"),
  FRED: any("fred"),
  LKGS: any("lkgs"),
  AVX512_FP16: any("avx512_fp16"),
  UDBG: none("it is an undocumented debug mode"),
  KNC: none("only Knights Corner has it"),
  PADLOCK_UNDOC: none("it is undocumented"),
  RMPQUERY: any("rpmquery"),
  RAO_INT: unnamed(7, 1, "eax", 3),
  PREFETCHITI: any("prefetchit_0_1"),
  AMX_FP16: any("amx_fp16"),
  CMPCCXADD: any("cmpccxadd"),
  AVX_IFMA: any("avx_ifma"),
  AVX_NE_CONVERT: any("avx_ne_convert"),
  AVX_VNNI_INT8: any("avx_vnni_int8"),
  MSRLIST: any("rd_wr_msrlist"),
  WRMSRNS: any("wrmsrns"),
  AMX_COMPLEX: any("amx_complex"),
  SHA512: any("sha512"),
  SM3: any("sm3"),
  SM4: any("sm4"),
  TSE: unnamed(7, 1, "ebx", 1),
  AVX_VNNI_INT16: any("avx_vnni_int16"),
};

/** The effect of an instruction on a CPU that does not support the instruction. */
export interface WithoutSupport {
  /** The instruction that the CPU executes instead, because it ignores the prefix of the encoding. */
  readonly runsAs: string;
  /** Whether the replacement changes the results of a program; a hint does not. */
  readonly isHarmless: boolean;
}

const NOP: WithoutSupport = { runsAs: "NOP", isHarmless: true };

/**
 * Instructions that do not cause #UD on a CPU that does not support them, by iced-x86's mnemonics in lower case.
 * Source: SDM volume 2, the pages of these instructions.
 */
export const WITHOUT_SUPPORT: Readonly<Record<string, WithoutSupport>> = {
  endbr32: NOP,
  endbr64: NOP,
  rdsspd: NOP,
  rdsspq: NOP,
  cldemote: NOP,
  pause: NOP,
  prefetchwt1: NOP,
  prefetchit0: NOP,
  prefetchit1: NOP,
  tzcnt: { runsAs: "BSF", isHarmless: false },
  lzcnt: { runsAs: "BSR", isHarmless: false },
  wbnoinvd: { runsAs: "WBINVD", isHarmless: true },
};
