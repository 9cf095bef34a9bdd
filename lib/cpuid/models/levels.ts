/**
 * The models that do not represent a CPU: the levels of the x86-64 psABI, and the minimum with which common 64-bit
 * kernels start.
 */
import { type CpuidModel, names, shared } from "./model.ts";

const PSABI =
  "x86-64 psABI, chapter 3.1.1, table of the micro-architecture levels; SDM volume 3, 10.8.5: long mode requires PAE";
const KVM_BASE_IDENTITY =
  "family 15 model 6 is the last Intel CPU of family 15 (SDM volume 4, table 2-1); observed: QEMU 7.2, kvm64-v1";

/**
 * The members that the levels share. The psABI defines no vendor or signature, so the levels have the vendor and the
 * signature of kvm-base.
 */
const LEVEL = {
  vendor: "GenuineIntel",
  signature: { family: 15, model: 6, stepping: 1 },
  maxExtended: 0x8000_0008,
  remove: [],
  physicalBits: 40,
  caches: [],
  variants: [],
  aliases: shared(),
  sources: {
    identity: KVM_BASE_IDENTITY,
    features: PSABI,
    sizes: "observed: QEMU 7.2, kvm64-v1",
    unverified: [],
  },
} as const;

/** The psABI levels 1 to 4, and kvm-base. */
export const LEVELS: readonly CpuidModel[] = [
  {
    ...LEVEL,
    name: "x86-64-v1",
    from: undefined,
    title: "x86-64 level 1: the instructions of every 64-bit x86 CPU, and nothing else",
    maxLeaf: 1,
    add: names("cmov cx8 fpu fxsr lm mmx pae sse sse2 syscall"),
    brand: "x86-64-v1",
  },
  {
    ...LEVEL,
    name: "x86-64-v2",
    from: "x86-64-v1",
    title: "x86-64 level 2: Nehalem's instructions, and nothing else",
    maxLeaf: 1,
    add: names("cx16 lahf_lm pni popcnt sse4_1 sse4_2 ssse3"),
    brand: "x86-64-v2",
  },
  {
    ...LEVEL,
    name: "x86-64-v3",
    from: "x86-64-v2",
    title: "x86-64 level 3: Haswell's instructions, and nothing else",
    maxLeaf: 0xd,
    add: names("abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"),
    brand: "x86-64-v3",
  },
  {
    ...LEVEL,
    name: "x86-64-v4",
    from: "x86-64-v3",
    title: "x86-64 level 4: five groups of AVX-512, and nothing else",
    maxLeaf: 0xd,
    add: names("avx512bw avx512cd avx512dq avx512f avx512vl"),
    brand: "x86-64-v4",
  },
  {
    name: "kvm-base",
    from: "x86-64-v1",
    title: "The minimum with which common 64-bit kernels start on Intel and AMD hosts",
    vendor: "GenuineIntel",
    signature: { family: 15, model: 6, stepping: 1 },
    maxLeaf: 0xd,
    maxExtended: 0x8000_0008,
    add: names("apic clflush cx16 de mca mce msr mtrr nx pat pge pni pse pse36 sep tsc vme"),
    remove: [],
    brand: "KVM base processor",
    physicalBits: 40,
    caches: [
      { level: 1, type: "data", kib: 32, ways: 8 },
      { level: 1, type: "instruction", kib: 32, ways: 8 },
      { level: 2, type: "unified", kib: 4096, ways: 16 },
      { level: 3, type: "unified", kib: 16384, ways: 16 },
    ],
    variants: [],
    aliases: shared("kvm64", "kvm64-v1"),
    sources: {
      identity: KVM_BASE_IDENTITY,
      features:
        "Linux arch/x86/Kconfig.cpu and Kconfig.cpufeatures (features that a 64-bit kernel requires); observed: QEMU 7.2, kvm64-v1",
      sizes: "observed: QEMU 7.2, kvm64-v1; its caches: observed with CPUID leaf 4 in a guest",
      unverified: [],
    },
  },
];
