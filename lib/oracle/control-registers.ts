/** The rules of KVM_SET_SREGS and KVM_SET_SREGS2: control registers, EFER and the APIC base. */
import { KVM_SREGS2_FLAGS_PDPTRS_VALID } from "../abi/generated/constants.ts";
import type { Sregs, Sregs2 } from "../abi/generated/structs.ts";
import type { CpuidTable } from "../cpuid/index.ts";
import {
  type ForbiddenBits,
  forbiddenBits,
  hasBit,
  type ReservedBits,
  reservedBits,
} from "./bits.ts";
import {
  bitsWithCause,
  type FeatureBits,
  type FeatureBitsFinding,
  featureBits,
  type WideAddress,
  wideAddress,
} from "./features.ts";
import { type Rule, type Rules, refused, undecided } from "./verdict.ts";

/** The bits of CR4 and their features (arch/x86/kvm/x86.h:__cr4_reserved_bits). */
export const CR4_BITS: FeatureBits = {
  0: ["VME"],
  1: ["PVI"],
  2: ["TSD"],
  3: ["DE"],
  4: ["PSE"],
  5: ["PAE"],
  6: ["MCE"],
  7: ["PGE"],
  8: ["PCE"],
  9: ["OSFXSR"],
  10: ["OSXMMEXCPT"],
  11: ["UMIP", "umip"],
  12: ["LA57", "la57"],
  13: ["VMXE", "vmx"],
  14: ["SMXE", "smx"],
  16: ["FSGSBASE", "fsgsbase"],
  17: ["PCIDE", "pcid"],
  18: ["OSXSAVE", "xsave"],
  20: ["SMEP", "smep"],
  21: ["SMAP", "smap"],
  22: ["PKE", "pku"],
  23: ["CET", "cet_ss", "ibt"],
  24: ["PKS", "pks"],
  25: ["UINTR", "uintr"],
  28: ["LAM_SUP", "lam"],
  32: ["FRED", "fred"],
};

/**
 * The bits of EFER and their features (arch/x86/kvm/x86.c:__kvm_valid_efer). KVM requires no CPUID feature for LMSLE.
 */
export const EFER_BITS: FeatureBits = {
  0: ["SCE"],
  8: ["LME", "lm"],
  10: ["LMA", "lm"],
  11: ["NX", "nx"],
  12: ["SVME", "svm"],
  13: ["LMSLE"],
  14: ["FFXSR", "fxsr_opt"],
  15: ["TCE", "tce"],
  21: ["AUTOIBRS", "autoibrs"],
};

const [CR0_PE, CR0_NW, CR0_CD, CR0_PG] = [0, 29, 30, 31] as const;
const CR0_HIGH = 0xffff_ffff_0000_0000n;
const CR4_PAE = 5;
const [EFER_LME, EFER_LMA, EFER_LMSLE] = [8, 10, 13] as const;
const [APIC_EXTD, APIC_EN] = [10, 11] as const;
const APIC_BASE_RESERVED = 0x2ffn;
/** The bits CR3.LAM_U57 and CR3.LAM_U48. */
const CR3_LAM = 3n << 61n;

/** The special registers that the rules of KVM_SET_SREGS and KVM_SET_SREGS2 read. */
export type SpecialRegisters = Pick<Sregs, "cs" | "cr0" | "cr3" | "cr4" | "efer" | "apicBase">;

/** The registers that a call sets, and the CPUID tables of the vCPU and of KVM if they are known. */
export interface SregsAsked<Registers extends SpecialRegisters = SpecialRegisters> {
  readonly sregs: Registers;
  /** The vCPU's CPUID table; undefined if it is unknown. */
  readonly table: CpuidTable | undefined;
  /** The result of KVM_GET_SUPPORTED_CPUID; undefined if it is unknown. */
  readonly supported: CpuidTable | undefined;
}

/** Values of fields that KVM does not accept together. */
export interface Contradiction {
  readonly kind: "contradiction";
  /** The fields with their values, such as `["EFER.LMA", 1], ["CR0.PG", 0]`. */
  readonly states: readonly (readonly [name: string, value: number])[];
}

const contradiction = (...states: Contradiction["states"]): Contradiction => ({
  kind: "contradiction",
  states,
});

/** A fault of an APIC base that enables the x2APIC mode. */
export interface X2apicFinding {
  readonly kind: "x2apic-not-enabled" | "no-x2apic";
  readonly base: bigint;
}

/** A finding about special registers. */
export type SregsFinding =
  | FeatureBitsFinding
  | WideAddress
  | ReservedBits
  | ForbiddenBits
  | Contradiction
  | X2apicFinding
  | { readonly kind: "lmsle" | "not-pae-paging" };

function judgeMode({ sregs, table }: SregsAsked): SregsFinding | undefined {
  const [lme, lma] = [hasBit(sregs.efer, EFER_LME), hasBit(sregs.efer, EFER_LMA)];
  if (!lme || !hasBit(sregs.cr0, CR0_PG)) {
    const without = [lme ? "CR0.PG" : "EFER.LME", 0] as const;
    if (lma) return contradiction(["EFER.LMA", 1], without);
    return sregs.cs.l === 0 ? undefined : contradiction(["cs.l", sregs.cs.l], without);
  }
  const long = [["EFER.LME", 1] as const, ["CR0.PG", 1] as const];
  if (!hasBit(sregs.cr4, CR4_PAE)) return contradiction(...long, ["CR4.PAE", 0]);
  if (!lma) return contradiction(...long, ["EFER.LMA", 0]);
  if (table === undefined) return undefined;
  return wideAddress(sregs.cr3 & ~(table.has("lam") ? CR3_LAM : 0n), table, "CR3");
}

function judgeCr0({ sregs: { cr0 } }: SregsAsked): SregsFinding | undefined {
  const reserved = reservedBits(cr0, CR0_HIGH, "CR0");
  if (reserved !== undefined) return reserved;
  if (hasBit(cr0, CR0_NW) && !hasBit(cr0, CR0_CD)) {
    return contradiction(["CR0.NW", 1], ["CR0.CD", 0]);
  }
  return hasBit(cr0, CR0_PG) && !hasBit(cr0, CR0_PE)
    ? contradiction(["CR0.PG", 1], ["CR0.PE", 0])
    : undefined;
}

/** Finds why KVM refuses an APIC base (arch/x86/kvm/lapic.c:kvm_apic_set_base). */
export function apicBaseFinding(
  base: bigint,
  table: CpuidTable | undefined,
): ReservedBits | X2apicFinding | WideAddress | undefined {
  const reserved = reservedBits(base, APIC_BASE_RESERVED, "apicBase");
  if (reserved !== undefined) return reserved;
  const isX2apic = hasBit(base, APIC_EXTD);
  if (isX2apic && !hasBit(base, APIC_EN)) return { kind: "x2apic-not-enabled", base };
  if (table === undefined) return undefined;
  if (isX2apic && !table.has("x2apic")) return { kind: "no-x2apic", base };
  return wideAddress(base, table, "apicBase");
}

const cr4Bits = ({ sregs, table, supported }: SregsAsked): FeatureBitsFinding | undefined =>
  featureBits("CR4", sregs.cr4, CR4_BITS, table, supported);

/** The rules that KVM_SET_SREGS and KVM_SET_SREGS2 have in common. */
export const SREGS_RULES: Rules<SregsAsked, SregsFinding> = {
  mode: {
    source: "arch/x86/kvm/x86.c:kvm_is_valid_sregs",
    judge: (asked) => refused(judgeMode(asked)),
  },
  CR4: {
    source: "arch/x86/kvm/x86.c:__kvm_is_valid_cr4",
    judge: (asked) => refused(bitsWithCause(cr4Bits(asked), (cause) => cause !== "no-table")),
  },
  CR0: {
    source: "arch/x86/kvm/x86.c:kvm_is_valid_cr0",
    judge: (asked) => refused(judgeCr0(asked)),
  },
  "APIC base": {
    source: "arch/x86/kvm/lapic.c:kvm_apic_set_base",
    judge: ({ sregs, table }) => refused(apicBaseFinding(sregs.apicBase, table)),
  },
  EFER: {
    source: "arch/x86/kvm/regs.c:kvm_is_valid_sregs",
    kernels: "7.2; 6.18 and earlier do not check EFER in this call",
    judge: ({ sregs, table, supported }) =>
      refused(featureBits("EFER", sregs.efer, EFER_BITS, table, supported)),
  },
  "CR4 without a table": {
    source: "arch/x86/kvm/x86.c:__kvm_is_valid_cr4",
    kernels:
      "6.14 and later; on older kernels, a vCPU without a table accepts every feature of the host",
    judge: (asked) => refused(bitsWithCause(cr4Bits(asked), (cause) => cause === "no-table")),
  },
  "EFER.LMSLE": {
    source: "arch/x86/kvm/x86.c:efer_reserved_bits",
    judge: ({ sregs }) => undecided(hasBit(sregs.efer, EFER_LMSLE) ? { kind: "lmsle" } : undefined),
  },
};

/** The argument of the rules of KVM_SET_SREGS2: its registers and flags, and the evidence. */
export type Sregs2Asked = SregsAsked<SpecialRegisters & Pick<Sregs2, "flags">>;

/** Returns whether the registers select PAE paging without long mode, in which KVM_SET_SREGS2 uses the PDPTRs. */
const isPaePaging = ({ cr0, cr4, efer }: SpecialRegisters): boolean =>
  hasBit(cr0, CR0_PG) && hasBit(cr4, CR4_PAE) && !hasBit(efer, EFER_LMA);

const pdptrs: Rule<Sregs2Asked, SregsFinding> = {
  source: "arch/x86/kvm/x86.c:__set_sregs2",
  judge: ({ sregs }) => {
    const isGiven = (sregs.flags & BigInt(KVM_SREGS2_FLAGS_PDPTRS_VALID)) !== 0n;
    return refused(isGiven && !isPaePaging(sregs) ? { kind: "not-pae-paging" } : undefined);
  },
};

/** The rules that KVM_SET_SREGS2 checks before the rules of {@link SREGS_RULES}. */
export const SREGS2_RULES: Rules<Sregs2Asked, SregsFinding> = {
  flags: {
    source: "arch/x86/kvm/x86.c:__set_sregs2",
    judge: ({ sregs }) =>
      refused(forbiddenBits(sregs.flags, KVM_SREGS2_FLAGS_PDPTRS_VALID, "linux", "flags")),
  },
  PDPTRs: pdptrs,
};
