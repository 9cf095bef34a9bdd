/** Why MSRs were refused: too many in a call, and the first one that KVM did not take. Filters are filter.ts. */
import type { CpuidTable } from "../cpuid/index.ts";
import { blameBits, supportedTable, tooWide, vcpuTable, writeBlame } from "./cpuid-rules.ts";
import { type Evidence, known, type Reasons, sentCount } from "./refusal.ts";
import { EFER, explainApicBase } from "./sregs.ts";
import { firstOf, hex, unknownBits } from "./wording.ts";

/** One MSR of a KVM_SET_MSRS, or with no `data` of a KVM_GET_MSRS. */
export interface SentMsr {
  /** Which MSR. */
  readonly index: number;
  /** What was to be written. */
  readonly data?: bigint;
}

/** What a rule about a value may look at. */
interface Write {
  readonly index: number;
  readonly data: bigint;
  readonly table: CpuidTable | undefined;
  readonly supported: CpuidTable | undefined;
}

type Rule = (write: Write) => string | undefined;

/** MAX_IO_MSRS in arch/x86/kvm is 256, and msr_io wants less. */
const MSRS_PER_CALL = 255;

const PAT_TYPES: readonly number[] = [0, 1, 4, 5, 6, 7];
const MTRR_TYPES: readonly number[] = [0, 1, 4, 5, 6];
const MTRR_DEF_BITS = 0xcff;

const bytesOf = (data: bigint): readonly number[] =>
  Array.from({ length: 8 }, (_, i) => Number((data >> BigInt(8 * i)) & 0xffn));

const memoryTypes =
  (types: readonly number[]): Rule =>
  ({ data }) => {
    const bytes = bytesOf(data);
    const at = bytes.findIndex((byte) => !types.includes(byte));
    return at < 0 ? undefined : `byte ${at} is ${bytes[at]}, which is no memory type`;
  };

/** Addresses that even 57 bits cannot hold are certainly wrong; beyond 48 it is CR4.LA57's matter. */
const canonical: Rule = ({ data }) =>
  BigInt.asIntN(48, data) === BigInt.asIntN(64, data) ? undefined : "the address is not canonical";

/** What KVM wants of the values of MSRs, by index, for the ones that people set. */
const RULES: Readonly<Record<number, readonly [name: string, rule: Rule]>> = {
  27: ["IA32_APICBASE", ({ data, table }) => explainApicBase(data, table)],
  631: ["IA32_PAT", memoryTypes(PAT_TYPES)],
  767: [
    "MTRRdefType",
    ({ data }) =>
      unknownBits("it", data, MTRR_DEF_BITS, "the register has") ??
      (MTRR_TYPES.includes(Number(data & 0xffn))
        ? undefined
        : `type ${data & 0xffn} is no memory type`),
  ],
  3488: ["IA32_XSS", explainXss],
  3221225600: [
    "EFER",
    ({ data, supported }) => writeBlame("EFER", blameBits(data, EFER, undefined, supported), EFER),
  ],
  3221225602: ["LSTAR", canonical],
  3221225603: ["CSTAR", canonical],
  3221225728: ["FS_BASE", canonical],
  3221225729: ["GS_BASE", canonical],
  3221225730: ["KERNEL_GS_BASE", canonical],
  3221225731: [
    "TSC_AUX",
    ({ data }) => (data >> 32n === 0n ? undefined : "bits 32-63 are reserved"),
  ],
};

const FIXED_MTRRS: readonly number[] = [
  0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
];
const [FIRST_VARIABLE_MTRR, LAST_VARIABLE_MTRR] = [0x200, 0x20f] as const;
/** KVM_FIRST_EMULATED_VMX_MSR to KVM_LAST_EMULATED_VMX_MSR. */
const [FIRST_VMX, LAST_VMX] = [0x480, 0x491] as const;
/** IA32_PLATFORM_INFO, ARCH_CAPABILITIES, PERF_CAPABILITIES, DE_CFG (msr_based_features). */
const FEATURE_MSRS: readonly number[] = [0xce, 0x10a, 0x345, 0xc001_1029];

/** The reasons of KVM_GET_MSRS and KVM_SET_MSRS. */
export const MSRS: Reasons = {
  E2BIG: (refusal) => {
    const count = sentCount(refusal, "nmsrs");
    return count === undefined
      ? undefined
      : `nmsrs ${count}: KVM takes at most ${MSRS_PER_CALL} in one call (MAX_IO_MSRS)`;
  },
};

/**
 * Says why KVM_SET_MSRS or KVM_GET_MSRS stopped early, which it tells by a count alone: the entry
 * after those it took, and what is wrong with it. `undefined` when it took all.
 */
export function explainMsrs(
  sent: readonly SentMsr[],
  taken: number,
  evidence: Evidence,
): string | undefined {
  const msr = sent[taken];
  if (msr === undefined) return undefined;
  const name = nameOf(msr.index);
  const value = msr.data === undefined ? "" : ` = ${hex(msr.data)}`;
  const place = `entries[${taken}] MSR ${hex(msr.index)}${name === undefined ? "" : ` ${name}`}${value}`;
  const why = explainMsr(msr, evidence);
  return why === undefined ? `${place} was refused` : `${place}: ${why}`;
}

function nameOf(index: number): string | undefined {
  return RULES[index]?.[0];
}

function explainMsr({ index, data }: SentMsr, evidence: Evidence): string | undefined {
  const { vcpu } = evidence;
  if (data === undefined) return "KVM does not let it be read";
  const current = known(vcpu?.msr && (() => vcpu.msr?.(index)));
  const write: Write = {
    index,
    data,
    table: vcpuTable(evidence),
    supported: supportedTable(evidence),
  };
  return firstOf(
    () => explainFeatureMsr(write, current, evidence),
    () => RULES[index]?.[1](write),
    () => (FIXED_MTRRS.includes(index) ? memoryTypes(MTRR_TYPES)(write) : undefined),
    () => explainVariableMtrr(write),
    () =>
      vcpu?.msr !== undefined && current === undefined
        ? "KVM does not know it, or not with this vCPU's CPUID: it does not let it be read either"
        : undefined,
  );
}

// arch/x86/kvm: do_set_msr, since Linux 6.4
function explainFeatureMsr(
  { index, data }: Write,
  current: bigint | undefined,
  { vcpu }: Evidence,
): string | undefined {
  const isFeature = FEATURE_MSRS.includes(index) || (index >= FIRST_VMX && index <= LAST_VMX);
  if (!isFeature || known(vcpu?.hasEntered) !== true) return undefined;
  if (current === undefined || current === data) return undefined;
  return `it describes the CPU, and cannot change after KVM_RUN: it is ${hex(current)}`;
}

function explainXss({ data, supported }: Write): string | undefined {
  const leaf = supported?.find(0xd, 1);
  if (leaf === undefined) return undefined;
  const allowed = (BigInt(leaf.edx) << 32n) | BigInt(leaf.ecx);
  return unknownBits("it", data, allowed, "this KVM's guests have");
}

// arch/x86/kvm/mtrr.c:kvm_mtrr_valid
function explainVariableMtrr({ index, data, table }: Write): string | undefined {
  if (index < FIRST_VARIABLE_MTRR || index > LAST_VARIABLE_MTRR) return undefined;
  const isBase = (index & 1) === 0;
  const type = Number(data & 0xffn);
  if (isBase && !MTRR_TYPES.includes(type)) return `type ${type} is no memory type`;
  const reserved = data & (isBase ? 0xf00n : 0x7ffn);
  if (reserved !== 0n) return `bits ${isBase ? "8-11" : "0-10"} are reserved`;
  return table && tooWide("it", data, table);
}
