/**
 * Explains why KVM rejected MSRs: too many MSRs in one call, or a fault of the first rejected MSR. lib/oracle/msrs.ts
 * has the rules.
 */
import { MAX_IO_MSRS } from "../abi/limits.ts";
import { msrName } from "../abi/msrs.ts";
import type { MsrAccess } from "../oracle/msr-access.ts";
import { MSR_RULES } from "../oracle/msrs.ts";
import { causesOf } from "./findings.ts";
import { slotAt } from "./kernel-pages.ts";
import { type Evidence, known, type Reasons, sentCount } from "./refusal.ts";
import { supportedTable, vcpuTable } from "./tables.ts";
import { type Causes, decide, only, write } from "./verdict.ts";
import { hex } from "./wording.ts";

/** One MSR of a KVM_SET_MSRS; without `data`, one MSR of a KVM_GET_MSRS. */
export interface SentMsr {
  readonly index: number;
  /** The value to write; undefined for a read. */
  readonly data?: bigint;
}

/** The causes for which KVM refuses an access to an MSR. */
const MSR_CAUSES: Causes<MsrAccess> = causesOf(MSR_RULES, (access: MsrAccess) => access);

/**
 * The causes for which KVM_GET_MSRS and KVM_SET_MSRS return an errno; {@link explainMsrs} explains why these calls stop
 * early.
 */
export const MSRS: Reasons = {
  E2BIG: {
    "too many MSRs": (refusal) => {
      const count = sentCount(refusal, "nmsrs");
      return only(
        "arch/x86/kvm/x86.c:msr_io",
        count === undefined
          ? undefined
          : `nmsrs ${count}: KVM accepts at most ${MAX_IO_MSRS - 1} in one call (MAX_IO_MSRS)`,
      );
    },
  },
};

/**
 * Explains why KVM_SET_MSRS or KVM_GET_MSRS stopped early: names the first entry that KVM did not process, and its
 * fault, because KVM returns only a count. Returns undefined if KVM processed all entries.
 */
export function explainMsrs(
  sent: readonly SentMsr[],
  taken: number,
  evidence: Evidence,
): string | undefined {
  const msr = sent[taken];
  if (msr === undefined) return undefined;
  const { index, data } = msr;
  const name = msrName(index);
  const written = data === undefined ? "" : ` = ${hex(data)}`;
  const place = `entries[${taken}] MSR ${hex(index)}${name === undefined ? "" : ` ${name}`}${written}`;
  const why = known(() => write(decide(MSR_CAUSES, accessOf(msr, evidence))));
  return why === undefined ? `${place} was refused` : `${place}: ${why}`;
}

function accessOf({ index, data }: SentMsr, evidence: Evidence): MsrAccess {
  const { kvm, vm, vcpu } = evidence;
  return {
    index,
    data,
    table: vcpuTable(evidence),
    supported: supportedTable(evidence),
    current: data === undefined ? "unreadable" : currentOf(index, evidence),
    get featureValue() {
      return kvm?.featureMsr === undefined
        ? undefined
        : (known(() => kvm.featureMsr?.(index)) ?? "none");
    },
    get hasEntered() {
      return known(vcpu?.hasEntered);
    },
    get hasLapic() {
      return known(vcpu?.hasLapic);
    },
    hasMemoryAt: (gpa) => {
      const slots = known(vm?.slots);
      return slots && slotAt(slots, gpa, 1n) !== undefined;
    },
  };
}

/** Reads the MSR; if the read fails, KVM refuses to read this MSR. */
function currentOf(index: number, { vcpu }: Evidence): MsrAccess["current"] {
  if (vcpu?.msr === undefined) return undefined;
  return known(() => vcpu.msr?.(index)) ?? "unreadable";
}
