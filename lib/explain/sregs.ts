/** Why KVM_SET_SREGS and KVM_SET_SREGS2 were refused: control registers, EFER and APIC base. */
import { KVM_SREGS2_FLAGS_PDPTRS_VALID } from "../abi/generated/constants.ts";
import { Sregs, Sregs2 } from "../abi/generated/structs.ts";
import type { CpuidTable } from "../cpuid/index.ts";
import {
  blameBits,
  type FeatureBits,
  supportedTable,
  tooWide,
  vcpuTable,
  writeBlame,
} from "./cpuid-rules.ts";
import { type Reasons, type Rule, type Rules, sentStruct } from "./refusal.ts";
import { fault, open } from "./verdict.ts";
import { bitsOf, hasBit, hex, unknownBits, writeBits } from "./wording.ts";

/** CR4, and what each bit needs (__cr4_reserved_bits in arch/x86/kvm). */
const CR4: FeatureBits = {
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

/** EFER, and what each bit needs (__kvm_valid_efer). LMSLE has no feature of its own. */
export const EFER: FeatureBits = {
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
const CR4_PAE = 5;
const [EFER_LME, EFER_LMA] = [8, 10] as const;
const [APIC_EXTD, APIC_EN] = [10, 11] as const;
const APIC_BASE_RESERVED = 0x2ffn;

type Registers = Pick<Sregs, "cs" | "cr0" | "cr3" | "cr4" | "efer" | "apicBase">;

/** Judges the special registers that were sent, by a table and by what this KVM supports. */
type SregsRule = (
  sregs: Registers,
  table: CpuidTable | undefined,
  supported: CpuidTable | undefined,
) => ReturnType<Rule>;

const sregs =
  (judge: SregsRule): Rule =>
  (refusal) => {
    const sent =
      refusal.ioctl === "KVM_SET_SREGS2" ? sentStruct(refusal, Sregs2) : sentStruct(refusal, Sregs);
    const { evidence } = refusal;
    return sent && judge(sent, vcpuTable(evidence), supportedTable(evidence));
  };

/** The causes that both ioctls have (arch/x86/kvm: kvm_is_valid_sregs, __set_sregs_common). */
const REGISTERS: Rules = {
  mode: sregs((sent, table) => fault(explainMode(sent, table))),
  CR4: sregs(({ cr4 }, table, supported) => {
    const blame = blameBits(cr4, CR4, table, supported);
    return fault(
      writeBlame(
        "CR4",
        blame.filter(({ isOnlyUntold }) => !isOnlyUntold),
        CR4,
      ),
    );
  }),
  CR0: sregs((sent) => fault(explainCr0(sent))),
  "APIC base": sregs(({ apicBase }, table) => fault(explainApicBase(apicBase, table))),
  // Linux 7.2 checks EFER here, and 6.18 does not.
  EFER: sregs(({ efer }, table, supported) =>
    open(writeBlame("EFER", blameBits(efer, EFER, table, supported), EFER)),
  ),
  // Linux 6.14 and later check CR4 against an empty table, and 6.12 does not.
  "CR4 without a table": sregs(({ cr4 }, table, supported) => {
    const blame = blameBits(cr4, CR4, table, supported);
    return open(
      writeBlame(
        "CR4",
        blame.filter(({ isOnlyUntold }) => isOnlyUntold),
        CR4,
      ),
    );
  }),
  "EFER.LMSLE": sregs(({ efer }) =>
    open(hasBit(efer, 13) ? "EFER bit 13 LMSLE: this KVM does not take it" : undefined),
  ),
};

/** The causes of KVM_SET_SREGS. */
export const SET_SREGS: Reasons = { EINVAL: REGISTERS };

/** The causes of KVM_SET_SREGS2. */
export const SET_SREGS2: Reasons = {
  EINVAL: {
    flags: (refusal) => {
      const { flags = 0n } = sentStruct(refusal, Sregs2) ?? {};
      return fault(unknownBits("flags", flags, KVM_SREGS2_FLAGS_PDPTRS_VALID));
    },
    PDPTRs: (refusal) => {
      const sent = sentStruct(refusal, Sregs2);
      return fault(sent && explainPdptrs(sent));
    },
    ...REGISTERS,
  },
};

function explainMode(sregs: Registers, table: CpuidTable | undefined): string | undefined {
  const isLong = hasBit(sregs.efer, EFER_LME) && hasBit(sregs.cr0, CR0_PG);
  if (!isLong) {
    const without = hasBit(sregs.efer, EFER_LME) ? "CR0.PG" : "EFER.LME";
    if (hasBit(sregs.efer, EFER_LMA)) return `EFER.LMA is 1, and ${without} is 0`;
    return sregs.cs.l === 0 ? undefined : `cs.l is ${sregs.cs.l}, and ${without} is 0`;
  }
  if (!hasBit(sregs.cr4, CR4_PAE)) return "EFER.LME and CR0.PG are 1, and CR4.PAE is 0";
  if (!hasBit(sregs.efer, EFER_LMA)) return "EFER.LME and CR0.PG are 1, and EFER.LMA is 0";
  if (table === undefined) return undefined;
  // With LAM, CR3 has two bits of its own (LAM_U57, LAM_U48).
  const lam = table.has("lam") ? 3n << 61n : 0n;
  return tooWide("CR3", sregs.cr3 & ~lam, table);
}

function explainCr0({ cr0 }: Registers): string | undefined {
  const upper = bitsOf(cr0).filter((bit) => bit > 31);
  if (upper.length > 0) return `CR0 ${writeBits(upper)}: reserved`;
  if (hasBit(cr0, CR0_NW) && !hasBit(cr0, CR0_CD)) return "CR0.NW is 1, and CR0.CD is 0";
  if (hasBit(cr0, CR0_PG) && !hasBit(cr0, CR0_PE)) return "CR0.PG is 1, and CR0.PE is 0";
  return undefined;
}

/** Says why an APIC base cannot be (kvm_apic_set_base); `undefined` when it can. */
export function explainApicBase(base: bigint, table: CpuidTable | undefined): string | undefined {
  const reserved = bitsOf(base & APIC_BASE_RESERVED);
  if (reserved.length > 0) return `apicBase ${hex(base)}: ${writeBits(reserved)} reserved`;
  if (hasBit(base, APIC_EXTD) && !hasBit(base, APIC_EN)) {
    return `apicBase ${hex(base)}: bit 10 EXTD (x2APIC) without bit 11 EN`;
  }
  if (table === undefined) return undefined;
  if (hasBit(base, APIC_EXTD) && !table.has("x2apic")) {
    return `apicBase ${hex(base)}: bit 10 EXTD: x2apic is not in this vCPU's CPUID (0x1.0:ecx[21])`;
  }
  return tooWide("apicBase", base, table);
}

function explainPdptrs({ flags, cr0, cr4, efer }: Sregs2): string | undefined {
  if ((flags & BigInt(KVM_SREGS2_FLAGS_PDPTRS_VALID)) === 0n) return undefined;
  const isPae = hasBit(cr0, CR0_PG) && hasBit(cr4, CR4_PAE) && !hasBit(efer, EFER_LMA);
  if (isPae) return undefined;
  return "KVM_SREGS2_FLAGS_PDPTRS_VALID is set, and CR0.PG, CR4.PAE and EFER.LMA are not those of PAE paging";
}
