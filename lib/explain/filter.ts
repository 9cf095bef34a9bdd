/** Explains why an MSR filter or a PMU event filter was refused. */
import {
  KVM_MSR_FILTER_DEFAULT_DENY,
  KVM_MSR_FILTER_MAX_BITMAP_SIZE,
  KVM_MSR_FILTER_RANGE_VALID_MASK,
  KVM_MSR_FILTER_VALID_MASK,
  KVM_PMU_EVENT_ALLOW,
  KVM_PMU_EVENT_DENY,
  KVM_PMU_EVENT_FLAG_MASKED_EVENTS,
  KVM_PMU_EVENT_FLAGS_VALID_MASK,
  KVM_PMU_MASKED_ENTRY_EVENT_SELECT,
  KVM_PMU_MASKED_ENTRY_EXCLUDE,
  KVM_PMU_MASKED_ENTRY_UMASK_MASK,
  KVM_PMU_MASKED_ENTRY_UMASK_MATCH,
} from "../abi/generated/constants.ts";
import { MsrFilter, type MsrFilterRange, PmuEventFilter } from "../abi/generated/structs.ts";
import { type Reasons, type Refusal, sentStruct } from "./refusal.ts";
import { claim, fault } from "./verdict.ts";
import { hex, unknownBits } from "./wording.ts";

const BITS_PER_BYTE = 8;
const BYTES_PER_WORD = 8;
const MOST_MSRS = KVM_MSR_FILTER_MAX_BITMAP_SIZE * BITS_PER_BYTE;
/** The maximum number of events: KVM_PMU_EVENT_FILTER_MAX_EVENTS in arch/x86/kvm/pmu.c. */
const MOST_EVENTS = 300;
const MASKED_ENTRY =
  KVM_PMU_MASKED_ENTRY_EVENT_SELECT |
  KVM_PMU_MASKED_ENTRY_UMASK_MASK |
  BigInt(KVM_PMU_MASKED_ENTRY_UMASK_MATCH) |
  KVM_PMU_MASKED_ENTRY_EXCLUDE;

/** The causes of errors of KVM_X86_SET_MSR_FILTER. */
export const X86_SET_MSR_FILTER: Reasons = {
  EINVAL: {
    flags: (refusal) =>
      fault(unknownBits("flags", filterOf(refusal)?.flags ?? 0, KVM_MSR_FILTER_VALID_MASK)),
    "nothing allowed": (refusal) => {
      const { flags = 0, ranges = [] } = filterOf(refusal) ?? {};
      return claim(
        (flags & KVM_MSR_FILTER_DEFAULT_DENY) !== 0 && ranges.every(({ nmsrs }) => nmsrs === 0),
        "KVM_MSR_FILTER_DEFAULT_DENY without any range would deny every MSR, which KVM does not accept",
      );
    },
    range: (refusal) => {
      for (const [i, range] of filterOf(refusal)?.ranges.entries() ?? []) {
        const why = explainRange(range);
        if (why !== undefined) return fault(`ranges[${i}].${why}`);
      }
      return undefined;
    },
  },
};

const filterOf = (refusal: Refusal): MsrFilter | undefined => sentStruct(refusal, MsrFilter);

// kvm_add_msr_filter of arch/x86/kvm checks a range of the filter
function explainRange({ flags, nmsrs }: MsrFilterRange): string | undefined {
  if (nmsrs === 0) return undefined;
  if (flags === 0) return "flags is 0, but a range needs KVM_MSR_FILTER_READ, _WRITE or both";
  const unknown = unknownBits("flags", flags, KVM_MSR_FILTER_RANGE_VALID_MASK);
  if (unknown !== undefined) return unknown;
  const bytes = Math.ceil(nmsrs / (BITS_PER_BYTE * BYTES_PER_WORD)) * BYTES_PER_WORD;
  return bytes > KVM_MSR_FILTER_MAX_BITMAP_SIZE
    ? `nmsrs ${nmsrs}: a range has at most ${MOST_MSRS}`
    : undefined;
}

/** The causes of errors of KVM_SET_PMU_EVENT_FILTER. */
export const SET_PMU_EVENT_FILTER: Reasons = {
  EINVAL: {
    action: (refusal) => {
      const { action = KVM_PMU_EVENT_ALLOW } = pmuOf(refusal) ?? {};
      return claim(
        action !== KVM_PMU_EVENT_ALLOW && action !== KVM_PMU_EVENT_DENY,
        `action ${action}: it must be 0 (KVM_PMU_EVENT_ALLOW) or 1 (KVM_PMU_EVENT_DENY)`,
      );
    },
    flags: (refusal) =>
      fault(unknownBits("flags", pmuOf(refusal)?.flags ?? 0, KVM_PMU_EVENT_FLAGS_VALID_MASK)),
    "masked event": (refusal) => {
      const { flags = 0, events = [] } = pmuOf(refusal) ?? {};
      return fault(
        (flags & KVM_PMU_EVENT_FLAG_MASKED_EVENTS) === 0 ? undefined : explainMasked(events),
      );
    },
  },
  E2BIG: {
    "too many events": (refusal) => {
      const { nevents = pmuOf(refusal)?.nevents } = refusal.sent;
      return claim(
        typeof nevents === "number" && nevents > MOST_EVENTS,
        `nevents ${nevents}: KVM accepts at most ${MOST_EVENTS}`,
      );
    },
  },
};

const pmuOf = (refusal: Refusal): PmuEventFilter | undefined => sentStruct(refusal, PmuEventFilter);

function explainMasked(events: readonly bigint[]): string | undefined {
  const i = events.findIndex((event) => (event & ~MASKED_ENTRY) !== 0n);
  return i < 0
    ? undefined
    : `events[${i}] ${hex(events[i] ?? 0n)} has bits outside of a masked event (${hex(MASKED_ENTRY)})`;
}
