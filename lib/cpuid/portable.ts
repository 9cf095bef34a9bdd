/**
 * Decides from two CPUID tables whether a guest that started on one host can continue on another. `vm.checkState()`
 * checks a whole saved state.
 */
import { describe, refuseUnknown } from "../options.ts";
import { type CpuidDifference, differences } from "./compare.ts";
import { type CpuidEntry2, locate, toEntries } from "./entry.ts";
import { baseOf, type CpuidFieldName, formatValue, readField } from "./field.ts";

/** The options of {@link portable}. */
export interface PortableOptions {
  /**
   * The guest's TSC on the destination. `same`: the TSC of the destination's CPU has the same frequency. `scaled`: KVM
   * scales the TSC (KVM_CAP_TSC_CONTROL). `unknown`, the default: the frequency may change, so a guest with an invariant
   * TSC is not portable, even if both tables are equal: tables do not contain the frequency.
   */
  readonly tsc?: "same" | "scaled" | "unknown";
}

/**
 * The kind of a reason. `feature`: the destination lacks a bit. `negated`: the destination lacks a function that the
 * guest's table does not report as missing. `size`: a number of the destination is smaller. `xsave`: the destination
 * lacks a component of the XSAVE area, or has another layout. `layout`: a fixed value differs. `vendor`: the vendors
 * are different. `tsc`: the guest has an invariant TSC, and its frequency may change. If this is the only reason, the
 * guest can continue if and only if the frequency stays the same; the option `tsc` passes this fact.
 */
export type PortabilityReasonKind =
  | "feature"
  | "negated"
  | "size"
  | "xsave"
  | "layout"
  | "vendor"
  | "tsc";

/** A reason why a guest cannot continue. */
export interface PortabilityReason {
  readonly kind: PortabilityReasonKind;
  /** The bits that differ; undefined for the TSC. */
  readonly difference: CpuidDifference | undefined;
  /** The reason in one sentence, on one line. */
  readonly message: string;
}

/** The result of {@link portable}. */
export interface CpuidPortability {
  /** Whether the guest can continue; false also if this only depends on the TSC frequency (the kind `tsc`). */
  readonly isPortable: boolean;
  /** Every reason that prevents the guest from continuing, in the order of the leaves. */
  readonly reasons: readonly PortabilityReason[];
  /** Differences that do not matter, and facts that the tables do not contain, one sentence each. */
  readonly notes: readonly string[];
}

/**
 * Bits that a guest may have although KVM_GET_SUPPORTED_CPUID does not report them, because KVM emulates these bits or
 * the program provides them. Source: api.rst 4.46; KVM_CAP_TSC_DEADLINE_TIMER, KVM_CAP_X2APIC_API,
 * KVM_CAP_X86_DISABLE_EXITS.
 */
const PROVIDED: ReadonlySet<CpuidFieldName | undefined> = new Set<CpuidFieldName>([
  "x2apic",
  "tsc_deadline_timer",
  "guest_status",
  "monitor",
  "kvm_msi_ext_dest_id",
  "kvm_hc_map_gpa_range",
  "kvm_migration_control",
  "kvm_hint_realtime",
]);

/**
 * The maxima of a table. Differences of maxima do not matter, because the guest still has its own table after a move.
 */
const OWN_LIMITS: ReadonlySet<CpuidFieldName | undefined> = new Set<CpuidFieldName>([
  "max_std_leaf",
  "leaf7_n_subleaves",
  "pt_max_subleaf",
  "soc_max_subleaf",
  "amx_max_palette",
  "tmul_max_subleaf",
  "hreset_nr_subleaves",
  "avx10_max_subleaf",
  "apx_max_subleaf",
  "kvm_max_leaf",
  "max_hyp_leaf",
  "max_ext_leaf",
  "max_tra_leaf",
  "max_cntr_leaf",
  "xsave_sz_max",
]);

const XSAVE_LEAF = 0xd;
const INVARIANT_TSC = { function: 0x8000_0007, bit: 8 };

/** The leaves that contain the vendor's name. */
const VENDOR_LEAVES: readonly number[] = [0, 0x8000_0000];

/** Whether a table enables an XSAVE component. */
function hasComponent(entries: readonly CpuidEntry2[], i: number): boolean {
  const [user, supervisor] = [0, 1].map((index) => entries[locate(entries, XSAVE_LEAF, index)]);
  const low = (user?.eax ?? 0) | (supervisor?.ecx ?? 0);
  const high = (user?.edx ?? 0) | (supervisor?.edx ?? 0);
  return readField((i < 32 ? low : high) >>> 0, i % 32, i % 32) === 1;
}

/** Returns the kind of a difference that prevents the guest from continuing; undefined for any other difference. */
function kindOf(
  difference: CpuidDifference,
  from: readonly CpuidEntry2[],
  to: readonly CpuidEntry2[],
): PortabilityReasonKind | undefined {
  const { name, more, function: fn, index, space, order, fieldKind } = difference;
  if (more !== "first" && more !== "both") return undefined;
  if (PROVIDED.has(name) || OWN_LIMITS.has(name) || name === "constant_tsc") return undefined;
  // The VMM decides about the leaves of Hyper-V, Xen and VMware; KVM_GET_SUPPORTED_CPUID does not report them.
  if (space !== "native" && (space !== "kvm" || order === "equal")) return undefined;
  if (space === "native" && fn >= 0x4000_0000 && fn <= 0x4fff_ffff) return undefined;
  if (VENDOR_LEAVES.includes(fn) && fieldKind === "id") return "vendor";
  if (fn === XSAVE_LEAF && index >= 2) {
    const isUsed = hasComponent(from, index) && hasComponent(to, index);
    return isUsed ? "xsave" : undefined;
  }
  if (fn === XSAVE_LEAF)
    return name?.startsWith("xcr0_") || name?.startsWith("xss_") ? "xsave" : "feature";
  if (fieldKind === "negated") return order === "bits" ? "feature" : "negated";
  if (fieldKind === "feature") return "feature";
  return order === "equal" ? "layout" : "size";
}

/** For each kind, the rest of the sentence after the place and the name. */
const SENTENCES: Readonly<
  Record<Exclude<PortabilityReasonKind, "tsc">, (first: string, second: string) => string>
> = {
  feature: () => "the guest may use it, and the destination lacks it",
  negated: () => "the guest may use the function, and the destination lacks it",
  size: (first, second) => `the guest has ${first}, and the destination ${second}`,
  xsave: (first, second) => `the guest's XSAVE area has ${first}, and the destination's ${second}`,
  layout: (first, second) => `the guest has ${first}, and the destination ${second}`,
  vendor: () => "the vendors are different: SYSENTER, SYSCALL and errata differ",
};

function reasonOf(
  kind: Exclude<PortabilityReasonKind, "tsc">,
  difference: CpuidDifference,
): PortabilityReason {
  const { where, name, low, high, first, second } = difference;
  const words = SENTENCES[kind](formatValue(first, low, high), formatValue(second, low, high));
  return { kind, difference, message: `${where} ${name ?? "reserved"}: ${words}` };
}

/** The reason for a guest whose TSC frequency may change. */
const TSC_REASON: PortabilityReason = {
  kind: "tsc",
  difference: undefined,
  message:
    "0x80000007.0:edx[8] constant_tsc: the guest relies on a constant TSC frequency, which tables do not contain; " +
    'pass { tsc: "same" } (--tsc same) if the destination has the same frequency, or { tsc: "scaled" } (--tsc scaled) ' +
    "if KVM scales the TSC",
};

/** Whether a difference precedes the bit of the invariant TSC in the order of the leaves. */
function isBeforeTsc({ function: fn, index, register, low }: CpuidDifference): boolean {
  if (fn !== INVARIANT_TSC.function) return fn < INVARIANT_TSC.function;
  if (index > 0) return false;
  return register !== "edx" || low < INVARIANT_TSC.bit;
}

const TSC: readonly unknown[] = ["same", "scaled", "unknown"];

/** Moves the KVM leaves of a table to the base that they have in another table. */
function atBaseOf(
  entries: readonly CpuidEntry2[],
  other: readonly CpuidEntry2[],
): readonly CpuidEntry2[] {
  const [own, wanted] = [baseOf(entries, "kvm"), baseOf(other, "kvm")];
  if (own === undefined || wanted === undefined || own === wanted) return entries;
  return entries
    .filter((e) => e.function < wanted || e.function > wanted + 0xff)
    .map((e) =>
      e.function >= own && e.function <= own + 0xff
        ? { ...e, function: e.function - own + wanted }
        : e,
    );
}

/**
 * Decides whether a guest that started with a table can continue on another host. The destination may have more
 * features than the guest's table, but not fewer. After a move, a guest still has its own table, so ids, topology,
 * caches, the brand, the maxima and bits that KVM computes do not matter. KVM accepts a table with features that the
 * host lacks; the guest then fails when it first uses such a feature, or KVM rejects its registers.
 *
 * @param from - the guest's table (KVM_GET_CPUID2, or a saved state).
 * @param to - the entries of KVM_GET_SUPPORTED_CPUID on the destination, or a table of a guest that runs there.
 * @throws TypeError for an unknown option.
 */
export function portable(
  from: Iterable<CpuidEntry2>,
  to: Iterable<CpuidEntry2>,
  options: PortableOptions = {},
): CpuidPortability {
  refuseUnknown("portable()", options, ["tsc"]);
  const { tsc = "unknown" } = options;
  if (!TSC.includes(tsc)) {
    throw new TypeError(`portable(): tsc is "same", "scaled" or "unknown", not ${describe(tsc)}`);
  }
  const target = toEntries("portable()", to);
  const guest = atBaseOf(toEntries("portable()", from), target);
  const reasons: PortabilityReason[] = [];
  const notes: string[] = [];
  const power = guest[locate(guest, INVARIANT_TSC.function)]?.edx ?? 0;
  const isInvariant = readField(power, INVARIANT_TSC.bit, INVARIANT_TSC.bit) === 1;
  const found = differences(guest, target);
  const add = (difference: CpuidDifference): void => {
    const kind = kindOf(difference, guest, target);
    // The vendor's name is in three registers of two leaves, but is reported as one reason.
    const isRepeated = kind === "vendor" && reasons.some((reason) => reason.kind === kind);
    if (kind !== undefined && kind !== "tsc" && !isRepeated) {
      reasons.push(reasonOf(kind, difference));
    }
  };
  found.filter(isBeforeTsc).forEach(add);
  if (isInvariant && tsc === "unknown") reasons.push(TSC_REASON);
  found.filter((difference) => !isBeforeTsc(difference)).forEach(add);
  for (const space of ["hyperv", "xen", "vmware"] as const) {
    if (baseOf(guest, space) === undefined || baseOf(target, space) !== undefined) continue;
    notes.push(`the guest has the leaves of ${space}, which the destination's table does not show`);
  }
  return { isPortable: reasons.length === 0, reasons, notes };
}
