/** Why MSRs were refused: too many in a call, and the first one that KVM did not take. Filters are filter.ts. */
import type { CpuidTable } from "../cpuid/index.ts";
import { blameBits, supportedTable, tooWide, vcpuTable, writeBlame } from "./cpuid-rules.ts";
import { FEATURE_MSR_CAUSES } from "./feature-msrs.ts";
import { PV_MSR_CAUSES } from "./pv-msrs.ts";
import { type Evidence, known, type Reasons, sentCount } from "./refusal.ts";
import { EFER, explainApicBase } from "./sregs.ts";
import { type Causes, claim, decide, fault, type Judge, only, open, write } from "./verdict.ts";
import { hex, unknownBits } from "./wording.ts";

/** One MSR of a KVM_SET_MSRS, or with no `data` of a KVM_GET_MSRS. */
export interface SentMsr {
  /** Which MSR. */
  readonly index: number;
  /** What was to be written. */
  readonly data?: bigint;
}

/** What a rule about an MSR may look at. */
export interface MsrAccess extends SentMsr {
  /** The vCPU's CPUID table. */
  readonly table: CpuidTable | undefined;
  /** What this KVM can give a guest. */
  readonly supported: CpuidTable | undefined;
  /** What the MSR is now; `undefined` when KVM does not let it be read, or nobody can be asked. */
  readonly current: bigint | undefined;
  /** Whom to ask about the rest. */
  readonly evidence: Evidence;
}

type Rule = Judge<MsrAccess>;

/** MAX_IO_MSRS in arch/x86/kvm is 256, and msr_io wants less. */
const MSRS_PER_CALL = 255;

const PAT_TYPES: readonly number[] = [0, 1, 4, 5, 6, 7];
const MTRR_TYPES: readonly number[] = [0, 1, 4, 5, 6];
const MTRR_DEF_BITS = 0xcff;

const bytesOf = (data: bigint): readonly number[] =>
  Array.from({ length: 8 }, (_, i) => Number((data >> BigInt(8 * i)) & 0xffn));

/** Judges the value that was to be written. */
const value =
  (judge: (data: bigint, access: MsrAccess) => ReturnType<Rule>): Rule =>
  (access) =>
    access.data === undefined ? undefined : judge(access.data, access);

const memoryTypes = (types: readonly number[]): Rule =>
  value((data) => {
    const bytes = bytesOf(data);
    const at = bytes.findIndex((byte) => !types.includes(byte));
    return claim(at >= 0, `byte ${at} is ${bytes[at]}, which is no memory type`);
  });

/** Beyond 57 bits an address is certainly wrong; beyond 48 it is where the vCPU has no LA57. */
const canonical: Rule = value((data, { table }) => {
  const is = (bits: number): boolean => BigInt.asIntN(bits, data) === BigInt.asIntN(64, data);
  const text = "the address is not canonical";
  if (!is(57)) return fault(text);
  return is(48) ? undefined : claim(table && !table.has("la57") ? true : undefined, text);
});

/** Leaf 0 of an AMD or Hygon table; KVM ignores the high half of TSC_AUX for such a guest. */
function isAmd(table: CpuidTable | undefined): boolean | undefined {
  const ebx = table?.find(0)?.ebx;
  const [AUTH, HYGO, GENU] = [0x6874_7541, 0x6f67_7948, 0x756e_6547];
  if (ebx === AUTH || ebx === HYGO) return true;
  return ebx === GENU ? false : undefined;
}

/** What KVM wants of the values of MSRs, by index, for the ones that people set. */
const VALUES: Readonly<Record<number, readonly [name: string, rule: Rule]>> = {
  27: ["IA32_APICBASE", value((data, { table }) => fault(explainApicBase(data, table)))],
  // Bit 7 SBPB came with Linux 6.6; the host's CPU must have IBPB.
  73: [
    "PRED_CMD",
    value(
      (data) =>
        fault(unknownBits("it", data, 0x81, "the register has")) ??
        open("the host's CPU has no IBPB (or for bit 7 no SBPB)"),
    ),
  ],
  267: [
    "FLUSH_CMD",
    value(
      (data) =>
        fault(unknownBits("it", data, 1, "the register has")) ??
        open("the host's CPU has no L1D flush"),
    ),
  ],
  631: ["IA32_PAT", memoryTypes(PAT_TYPES)],
  767: [
    "MTRRdefType",
    value(
      (data) =>
        fault(unknownBits("it", data, MTRR_DEF_BITS, "the register has")) ??
        claim(!MTRR_TYPES.includes(Number(data & 0xffn)), `type ${data & 0xffn} is no memory type`),
    ),
  ],
  3488: ["IA32_XSS", value((data, { supported }) => fault(explainXss(data, supported)))],
  3221225600: [
    "EFER",
    value((data, { supported }) =>
      fault(writeBlame("EFER", blameBits(data, EFER, undefined, supported), EFER)),
    ),
  ],
  3221225602: ["LSTAR", canonical],
  3221225603: ["CSTAR", canonical],
  3221225728: ["FS_BASE", canonical],
  3221225729: ["GS_BASE", canonical],
  3221225730: ["KERNEL_GS_BASE", canonical],
  3221225731: [
    "TSC_AUX",
    value((data, { table }) => {
      const amd = isAmd(table);
      const isFault = amd === undefined ? undefined : !amd;
      return data >> 32n === 0n ? undefined : claim(isFault, "bits 32-63 are reserved");
    }),
  ],
};

const NAMES: Readonly<Record<number, string>> = {
  58: "IA32_FEATURE_CONTROL",
  266: "IA32_ARCH_CAPABILITIES",
  837: "IA32_PERF_CAPABILITIES",
  909: "IA32_FIXED_CTR_CTRL",
  3221295145: "DE_CFG",
  1263947010: "MSR_KVM_ASYNC_PF_EN",
  1263947011: "MSR_KVM_STEAL_TIME",
  1263947012: "MSR_KVM_PV_EOI_EN",
  1263947013: "MSR_KVM_POLL_CONTROL",
  1263947014: "MSR_KVM_ASYNC_PF_INT",
  1263947016: "MSR_KVM_MIGRATION_CONTROL",
};

/** MSRs that nobody can read, so that no reading tells whether KVM has them. */
const WRITE_ONLY: readonly number[] = [0x49, 0x10b];
const FIXED_MTRRS: readonly number[] = [
  0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
];
const [FIRST_VARIABLE_MTRR, LAST_VARIABLE_MTRR] = [0x200, 0x20f] as const;

const isRead = ({ data }: SentMsr): boolean => data === undefined;

/** Whether KVM was asked to read the MSR, and refused. */
const isUnreadable = ({ index, data, current, evidence }: MsrAccess): boolean =>
  !WRITE_ONLY.includes(index) &&
  (data === undefined || (evidence.vcpu?.msr !== undefined && current === undefined));

/** The causes that an access to an MSR can be refused for. */
export const MSR_CAUSES: Causes<MsrAccess> = {
  ...FEATURE_MSR_CAUSES,
  ...PV_MSR_CAUSES,
  value: (access) => VALUES[access.index]?.[1](access),
  "type of a fixed MTRR": (access) =>
    FIXED_MTRRS.includes(access.index) ? memoryTypes(MTRR_TYPES)(access) : undefined,
  "variable MTRR": value((data, access) => fault(explainVariableMtrr(access.index, data, access))),
  "write-only": (access) =>
    claim(isRead(access) && WRITE_ONLY.includes(access.index), "it can only be written"),
  "unknown MSR": (access) => open(isUnreadable(access) ? "this KVM has no such MSR" : undefined),
  "feature of the MSR": (access) =>
    open(
      isUnreadable(access) ? "this vCPU's CPUID lacks the feature that it belongs to" : undefined,
    ),
};

/** The causes of KVM_GET_MSRS and KVM_SET_MSRS as a whole; what stops them early is {@link explainMsrs}. */
export const MSRS: Reasons = {
  E2BIG: {
    "too many MSRs": (refusal) => {
      const count = sentCount(refusal, "nmsrs");
      return only(
        "arch/x86/kvm/x86.c:msr_io",
        count === undefined
          ? undefined
          : `nmsrs ${count}: KVM takes at most ${MSRS_PER_CALL} in one call (MAX_IO_MSRS)`,
      );
    },
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
  const { index, data } = msr;
  const name = VALUES[index]?.[0] ?? NAMES[index];
  const written = data === undefined ? "" : ` = ${hex(data)}`;
  const place = `entries[${taken}] MSR ${hex(index)}${name === undefined ? "" : ` ${name}`}${written}`;
  const why = known(() => write(decide(MSR_CAUSES, accessOf(msr, evidence))));
  return why === undefined ? `${place} was refused` : `${place}: ${why}`;
}

function accessOf(msr: SentMsr, evidence: Evidence): MsrAccess {
  const { vcpu } = evidence;
  const { index, data } = msr;
  return {
    ...msr,
    table: vcpuTable(evidence),
    supported: supportedTable(evidence),
    // The call has just refused to read it.
    current: data === undefined ? undefined : known(() => vcpu?.msr?.(index)),
    evidence,
  };
}

function explainXss(data: bigint, supported: CpuidTable | undefined): string | undefined {
  const leaf = supported?.find(0xd, 1);
  if (leaf === undefined) return undefined;
  const allowed = (BigInt(leaf.edx) << 32n) | BigInt(leaf.ecx);
  return unknownBits("it", data, allowed, "this KVM's guests have");
}

// arch/x86/kvm/mtrr.c:kvm_mtrr_valid
function explainVariableMtrr(
  index: number,
  data: bigint,
  { table }: MsrAccess,
): string | undefined {
  if (index < FIRST_VARIABLE_MTRR || index > LAST_VARIABLE_MTRR) return undefined;
  const isBase = (index & 1) === 0;
  const type = Number(data & 0xffn);
  if (isBase && !MTRR_TYPES.includes(type)) return `type ${type} is no memory type`;
  const reserved = data & (isBase ? 0xf00n : 0x7ffn);
  if (reserved !== 0n) return `bits ${isBase ? "8-11" : "0-10"} are reserved`;
  return table && tooWide("it", data, table);
}
