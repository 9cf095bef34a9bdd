/** The rules of KVM_SET_MSRS and KVM_GET_MSRS, for the values of architectural MSRs and for the existence of an MSR. */
import { MSRS } from "../abi/msrs.ts";
import type { CpuidTable } from "../cpuid/index.ts";
import { type ForbiddenBits, forbiddenBits } from "./bits.ts";
import { apicBaseFinding, EFER_BITS, type X2apicFinding } from "./control-registers.ts";
import { FEATURE_MSR_RULES, type FeatureMsrFinding } from "./feature-msrs.ts";
import { type FeatureBitsFinding, featureBits, type WideAddress, wideAddress } from "./features.ts";
import type { MsrAccess } from "./msr-access.ts";
import { PV_MSR_RULES, type PvMsrFinding } from "./pv-msrs.ts";
import { type Rules, type RuleVerdict, refused, undecided, verdictIf } from "./verdict.ts";

/** A finding about the value of an MSR. */
export type MsrFinding =
  | FeatureMsrFinding
  | PvMsrFinding
  | FeatureBitsFinding
  | X2apicFinding
  | ForbiddenBits
  | WideAddress
  | {
      readonly kind: "memory-type";
      readonly type: number;
      /** The position of the byte in the value; undefined if the value has only one memory type. */
      readonly byte?: number;
    }
  | { readonly kind: "reserved-range"; readonly low: number; readonly high: number }
  | { readonly kind: "host-lacks"; readonly feature: "ibpb" | "l1d-flush" }
  | { readonly kind: "not-canonical" | "write-only" | "no-such-msr" | "no-feature-of-msr" };

type MsrVerdict = RuleVerdict<MsrFinding> | undefined;

/** The memory types of IA32_PAT; an MTRR can have all of these except UC-. */
const MTRR_TYPES: readonly number[] = [0, 1, 4, 5, 6];
const PAT_TYPES: readonly number[] = [...MTRR_TYPES, 7];
const MTRR_DEF_BITS = 0xcff;
/** The bits that may be set are IBPB and, since Linux 6.6, SBPB. */
const PRED_CMD_BITS = 0x81;
const FLUSH_CMD_BITS = 1;

const bytesOf = (data: bigint): readonly number[] =>
  Array.from({ length: 8 }, (_, i) => Number((data >> BigInt(8 * i)) & 0xffn));

function memoryTypes(data: bigint, types: readonly number[]): MsrFinding | undefined {
  const bytes = bytesOf(data);
  const byte = bytes.findIndex((type) => !types.includes(type));
  return byte < 0 ? undefined : { kind: "memory-type", byte, type: bytes[byte] ?? 0 };
}

function mtrrType(data: bigint): MsrFinding | undefined {
  const type = Number(data & 0xffn);
  return MTRR_TYPES.includes(type) ? undefined : { kind: "memory-type", type };
}

/**
 * An address beyond 57 bits is wrong on every vCPU; an address beyond 48 bits is wrong without LA57, and may be valid
 * with LA57.
 */
function canonical(data: bigint, { table }: MsrAccess): MsrVerdict {
  const fits = (bits: number): boolean => BigInt.asIntN(bits, data) === BigInt.asIntN(64, data);
  if (fits(48)) return undefined;
  const isWrong = !fits(57) || table?.has("la57") === false;
  return verdictIf(isWrong || undefined, { kind: "not-canonical" });
}

/** Whether the vendor in leaf 0 is AMD or Hygon; undefined if it is none of AMD, Hygon and Intel. */
function isAmd(table: CpuidTable | undefined): boolean | undefined {
  const ebx = table?.find(0)?.ebx;
  const [AUTH, HYGO, GENU] = [0x6874_7541, 0x6f67_7948, 0x756e_6547];
  if (ebx === AUTH || ebx === HYGO) return true;
  return ebx === GENU ? false : undefined;
}

/** KVM ignores the high half of TSC_AUX if the guest's vendor is AMD. */
function tscAux(data: bigint, { table }: MsrAccess): MsrVerdict {
  const amd = isAmd(table);
  if (data >> 32n === 0n) return undefined;
  return verdictIf(amd === undefined ? undefined : !amd, {
    kind: "reserved-range",
    low: 32,
    high: 63,
  });
}

function xss(data: bigint, { supported }: MsrAccess): MsrVerdict {
  const leaf = supported?.find(0xd, 1);
  if (leaf === undefined) return undefined;
  return refused(forbiddenBits(data, (BigInt(leaf.edx) << 32n) | BigInt(leaf.ecx), "guests"));
}

/** The check of the value of each MSR (arch/x86/kvm/x86.c:kvm_set_msr_common, __kvm_set_msr; mtrr.c:kvm_mtrr_valid). */
const VALUES: Readonly<Record<number, (data: bigint, access: MsrAccess) => MsrVerdict>> = {
  [MSRS.MSR_IA32_APICBASE]: (data, { table }) => refused(apicBaseFinding(data, table)),
  [MSRS.MSR_IA32_PRED_CMD]: (data) =>
    refused(forbiddenBits(data, PRED_CMD_BITS, "register")) ??
    undecided({ kind: "host-lacks", feature: "ibpb" }),
  [MSRS.MSR_IA32_FLUSH_CMD]: (data) =>
    refused(forbiddenBits(data, FLUSH_CMD_BITS, "register")) ??
    undecided({ kind: "host-lacks", feature: "l1d-flush" }),
  [MSRS.MSR_IA32_CR_PAT]: (data) => refused(memoryTypes(data, PAT_TYPES)),
  [MSRS.MSR_MTRRdefType]: (data) =>
    refused(forbiddenBits(data, MTRR_DEF_BITS, "register") ?? mtrrType(data)),
  [MSRS.MSR_IA32_XSS]: xss,
  [MSRS.MSR_EFER]: (data, { supported }) =>
    refused(featureBits("EFER", data, EFER_BITS, undefined, supported)),
  [MSRS.MSR_LSTAR]: canonical,
  [MSRS.MSR_CSTAR]: canonical,
  [MSRS.MSR_FS_BASE]: canonical,
  [MSRS.MSR_GS_BASE]: canonical,
  [MSRS.MSR_KERNEL_GS_BASE]: canonical,
  [MSRS.MSR_TSC_AUX]: tscAux,
};

/** Write-only MSRs: a failed read does not prove that KVM does not have the MSR. */
const WRITE_ONLY: readonly number[] = [MSRS.MSR_IA32_PRED_CMD, MSRS.MSR_IA32_FLUSH_CMD];

const FIXED_MTRRS: readonly number[] = [
  MSRS.MSR_MTRRfix64K_00000,
  MSRS.MSR_MTRRfix16K_80000,
  MSRS.MSR_MTRRfix16K_A0000,
  MSRS.MSR_MTRRfix4K_C0000,
  MSRS.MSR_MTRRfix4K_C8000,
  MSRS.MSR_MTRRfix4K_D0000,
  MSRS.MSR_MTRRfix4K_D8000,
  MSRS.MSR_MTRRfix4K_E0000,
  MSRS.MSR_MTRRfix4K_E8000,
  MSRS.MSR_MTRRfix4K_F0000,
  MSRS.MSR_MTRRfix4K_F8000,
];
/** KVM_NR_VAR_MTRR is 8: pairs of a base (even) and a mask (odd). */
const LAST_VARIABLE_MTRR = MSRS.MTRRphysBase0_MSR + 15;

function variableMtrr(
  index: number,
  data: bigint,
  table: CpuidTable | undefined,
): MsrFinding | undefined {
  if (index < MSRS.MTRRphysBase0_MSR || index > LAST_VARIABLE_MTRR) return undefined;
  const isBase = (index & 1) === 0;
  const wrongType = isBase ? mtrrType(data) : undefined;
  if (wrongType !== undefined) return wrongType;
  const [low, high] = isBase ? [8, 11] : [0, 10];
  const reserved = data & (isBase ? 0xf00n : 0x7ffn);
  if (reserved !== 0n) return { kind: "reserved-range", low, high };
  return table && wideAddress(data, table);
}

const isUnreadable = ({ index, current }: MsrAccess): boolean =>
  !WRITE_ONLY.includes(index) && current === "unreadable";

/** The rules for one MSR of KVM_SET_MSRS or KVM_GET_MSRS. */
export const MSR_RULES: Rules<MsrAccess, MsrFinding> = {
  ...FEATURE_MSR_RULES,
  ...PV_MSR_RULES,
  value: {
    source: "arch/x86/kvm/x86.c:kvm_set_msr_common",
    judge: (access) =>
      access.data === undefined ? undefined : VALUES[access.index]?.(access.data, access),
  },
  "type of a fixed MTRR": {
    source: "arch/x86/kvm/mtrr.c:kvm_mtrr_valid",
    judge: ({ index, data }) =>
      refused(
        data !== undefined && FIXED_MTRRS.includes(index)
          ? memoryTypes(data, MTRR_TYPES)
          : undefined,
      ),
  },
  "variable MTRR": {
    source: "arch/x86/kvm/mtrr.c:kvm_mtrr_valid",
    judge: ({ index, data, table }) =>
      refused(data === undefined ? undefined : variableMtrr(index, data, table)),
  },
  "write-only": {
    source: "arch/x86/kvm/x86.c:kvm_get_msr_common",
    judge: ({ index, data }) =>
      verdictIf(data === undefined && WRITE_ONLY.includes(index), { kind: "write-only" }),
  },
  "unknown MSR": {
    source: "arch/x86/kvm/x86.c:kvm_get_msr_common",
    judge: (access) => undecided(isUnreadable(access) ? { kind: "no-such-msr" } : undefined),
  },
  "feature of the MSR": {
    source: "arch/x86/kvm/x86.c:kvm_get_msr_common",
    judge: (access) => undecided(isUnreadable(access) ? { kind: "no-feature-of-msr" } : undefined),
  },
};
