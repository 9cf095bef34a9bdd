/**
 * The kind of each CPUID field, and the order of its values. The order decides whether a guest that starts with one
 * value may continue with another value. diff.ts, compare.ts and baseline.ts use the kinds and the orders.
 */
import { refuseMissing } from "../options.ts";
import type { CpuidRegister } from "./entry.ts";
import type { CpuidField, CpuidFieldName, CpuidSpace } from "./field.ts";
import { RUNTIME_OWNED } from "./runtime-owned.ts";

/**
 * The kind of a field. `feature`: a bit, or a mask of bits, that the guest may use. `negated`: a bit whose 1 reports
 * that the CPU lacks something. `size`: a number, such as a width, a limit, a byte size, a count or a frequency.
 * `topology`: a value that describes CPUs, caches or TLBs. `id`: a name, a signature or a per-CPU id. `runtime-owned`:
 * KVM computes the value, so the stored value does not matter.
 */
export type CpuidFieldKind = "feature" | "negated" | "size" | "topology" | "id" | "runtime-owned";

/**
 * The order of a field's values. `bits`: a value is less than another if its bits are a subset. `inverted-bits`: a
 * value is less if its bits are a superset. `number`: the lower number is less. `equal`: different values exclude each
 * other. `none`: a guest runs with any value.
 */
export type CpuidFieldOrder = "bits" | "inverted-bits" | "number" | "equal" | "none";

/** The kind and the order of a field. */
export interface CpuidFieldNature {
  readonly kind: CpuidFieldKind;
  readonly order: CpuidFieldOrder;
}

/** The kind and order of all fields of some registers, except for fields that a later table of this file names. */
interface Row extends CpuidFieldNature {
  readonly space?: CpuidSpace;
  readonly first: number;
  /** The last leaf; the same as `first` if omitted. */
  readonly last?: number;
  /** The first sub-leaf; all sub-leaves if omitted. */
  readonly index?: number;
  /** The last sub-leaf; the same as `index` if omitted. */
  readonly lastIndex?: number;
  /** The registers; all four if omitted. */
  readonly registers?: readonly CpuidRegister[];
}

const FEATURE = { kind: "feature", order: "bits" } as const;
const NUMBER = { kind: "size", order: "number" } as const;
const FIXED = { kind: "size", order: "equal" } as const;
const FREE_NUMBER = { kind: "size", order: "none" } as const;
const TOPOLOGY = { kind: "topology", order: "none" } as const;
const ID = { kind: "id", order: "equal" } as const;
const FREE_ID = { kind: "id", order: "none" } as const;
const OWNED = { kind: "runtime-owned", order: "none" } as const;

/**
 * The first element that includes a register applies to the fields and the unnamed bits of this register. Source: SDM
 * volume 2A, CPUID; APM volume 3, appendix E; TLFS, section 2.4; arch/x86/include/uapi/asm/kvm_para.h; Xen's
 * public/arch-x86/cpuid.h.
 */
const ROWS: readonly Row[] = [
  { first: 0x0, registers: ["eax"], ...NUMBER },
  { first: 0x0, ...ID },
  { first: 0x1, registers: ["eax", "ebx"], ...FREE_ID },
  { first: 0x1, ...FEATURE },
  { first: 0x2, ...TOPOLOGY },
  { first: 0x3, ...FREE_ID },
  { first: 0x4, ...TOPOLOGY },
  { first: 0x5, registers: ["ecx"], ...FEATURE },
  { first: 0x5, ...FREE_NUMBER },
  { first: 0x6, registers: ["eax", "ecx"], ...FEATURE },
  { first: 0x6, ...FREE_NUMBER },
  { first: 0x7, index: 0, registers: ["eax"], ...NUMBER },
  { first: 0x7, ...FEATURE },
  { first: 0x9, ...FEATURE },
  { first: 0xa, registers: ["ebx"], kind: "negated", order: "inverted-bits" },
  { first: 0xa, registers: ["ecx"], ...FEATURE },
  { first: 0xa, ...NUMBER },
  { first: 0xb, registers: ["edx"], ...FREE_ID },
  { first: 0xb, ...TOPOLOGY },
  { first: 0xd, index: 0, registers: ["ecx"], ...NUMBER },
  { first: 0xd, index: 0, lastIndex: 1, ...FEATURE },
  { first: 0xd, ...FIXED },
  { first: 0xf, index: 1, registers: ["ebx"], ...FIXED },
  { first: 0xf, registers: ["edx"], ...FEATURE },
  { first: 0xf, ...NUMBER },
  { first: 0x10, index: 0, ...FEATURE },
  { first: 0x10, index: 1, lastIndex: 2, registers: ["ebx"], ...FREE_NUMBER },
  { first: 0x10, registers: ["ecx"], ...FEATURE },
  { first: 0x10, ...NUMBER },
  { first: 0x12, index: 0, registers: ["edx"], ...NUMBER },
  { first: 0x12, index: 0, lastIndex: 1, ...FEATURE },
  { first: 0x12, ...ID },
  { first: 0x14, index: 0, registers: ["eax"], ...NUMBER },
  { first: 0x14, ...FEATURE },
  { first: 0x15, last: 0x16, ...FREE_NUMBER },
  { first: 0x17, ...FREE_ID },
  { first: 0x18, ...TOPOLOGY },
  { first: 0x19, ...FEATURE },
  { first: 0x1a, ...FREE_ID },
  { first: 0x1b, ...ID },
  { first: 0x1c, ...FEATURE },
  { first: 0x1d, index: 0, registers: ["eax"], ...NUMBER },
  { first: 0x1d, ...FIXED },
  { first: 0x1e, index: 0, registers: ["eax"], ...NUMBER },
  { first: 0x1e, index: 0, ...FIXED },
  { first: 0x1e, ...FEATURE },
  { first: 0x1f, registers: ["edx"], ...FREE_ID },
  { first: 0x1f, ...TOPOLOGY },
  { first: 0x20, registers: ["eax"], ...NUMBER },
  { first: 0x20, ...FEATURE },
  { first: 0x21, ...ID },
  { first: 0x23, ...FEATURE },
  { first: 0x24, index: 0, registers: ["eax"], ...NUMBER },
  { first: 0x24, ...FEATURE },
  { first: 0x29, registers: ["eax"], ...NUMBER },
  { first: 0x29, ...FEATURE },
  { first: 0x40000000, last: 0x4fffffff, ...ID },
  { space: "kvm", first: 0x0, registers: ["eax"], ...NUMBER },
  { space: "kvm", first: 0x0, ...ID },
  { space: "kvm", first: 0x1, ...FEATURE },
  { space: "kvm", first: 0x10, ...FREE_NUMBER },
  { space: "xen", first: 0x0, registers: ["eax"], ...NUMBER },
  { space: "xen", first: 0x0, ...ID },
  { space: "xen", first: 0x1, ...FREE_ID },
  { space: "xen", first: 0x2, registers: ["eax", "ebx"], ...FIXED },
  { space: "xen", first: 0x2, ...FEATURE },
  { space: "xen", first: 0x3, index: 0, registers: ["eax"], ...FEATURE },
  { space: "xen", first: 0x3, ...FREE_NUMBER },
  { space: "xen", first: 0x4, registers: ["eax"], ...FEATURE },
  { space: "xen", first: 0x4, ...FREE_ID },
  { space: "xen", first: 0x5, ...NUMBER },
  { space: "vmware", first: 0x0, registers: ["eax"], ...NUMBER },
  { space: "vmware", first: 0x0, ...ID },
  { space: "vmware", first: 0x10, registers: ["ecx"], ...FEATURE },
  { space: "vmware", first: 0x10, ...FREE_NUMBER },
  { space: "hyperv", first: 0x0, registers: ["eax"], ...NUMBER },
  { space: "hyperv", first: 0x0, ...FREE_ID },
  { space: "hyperv", first: 0x1, ...ID },
  { space: "hyperv", first: 0x2, ...FREE_ID },
  { space: "hyperv", first: 0x3, ...FEATURE },
  { space: "hyperv", first: 0x4, registers: ["ebx"], ...FREE_NUMBER },
  { space: "hyperv", first: 0x4, ...FEATURE },
  { space: "hyperv", first: 0x5, ...NUMBER },
  { space: "hyperv", first: 0xa, ...FEATURE },
  { space: "hyperv", first: 0xc, ...ID },
  { first: 0x80000000, registers: ["eax"], ...NUMBER },
  { first: 0x80000000, ...ID },
  { first: 0x80000001, registers: ["eax", "ebx"], ...FREE_ID },
  { first: 0x80000001, ...FEATURE },
  { first: 0x80000002, last: 0x80000004, ...FREE_ID },
  { first: 0x80000005, last: 0x80000006, ...TOPOLOGY },
  { first: 0x80000007, registers: ["ecx"], ...FREE_NUMBER },
  { first: 0x80000007, ...FEATURE },
  { first: 0x80000008, registers: ["ebx"], ...FEATURE },
  { first: 0x80000008, registers: ["ecx"], ...TOPOLOGY },
  { first: 0x80000008, ...NUMBER },
  { first: 0x8000000a, registers: ["eax", "ebx"], ...NUMBER },
  { first: 0x8000000a, ...FEATURE },
  { first: 0x80000019, ...TOPOLOGY },
  { first: 0x8000001a, kind: "feature", order: "none" },
  { first: 0x8000001b, ...FEATURE },
  { first: 0x8000001c, registers: ["eax", "edx"], ...FEATURE },
  { first: 0x8000001c, ...FIXED },
  { first: 0x8000001d, ...TOPOLOGY },
  { first: 0x8000001e, ...TOPOLOGY },
  { first: 0x8000001f, registers: ["eax"], ...FEATURE },
  { first: 0x8000001f, ...NUMBER },
  { first: 0x80000020, index: 0, ...FEATURE },
  { first: 0x80000020, index: 3, registers: ["ecx"], ...FEATURE },
  { first: 0x80000020, ...NUMBER },
  { first: 0x80000021, registers: ["ebx"], ...FREE_NUMBER },
  { first: 0x80000021, ...FEATURE },
  { first: 0x80000022, registers: ["ebx"], ...NUMBER },
  { first: 0x80000022, ...FEATURE },
  { first: 0x80000023, registers: ["ebx"], ...NUMBER },
  { first: 0x80000023, ...FEATURE },
  { first: 0x80000026, registers: ["edx"], ...FREE_ID },
  { first: 0x80000026, ...TOPOLOGY },
  { first: 0x80860000, registers: ["eax"], ...NUMBER },
  { first: 0x80860000, ...ID },
  { first: 0x80860001, registers: ["edx"], ...FEATURE },
  { first: 0x80860001, last: 0x80860007, ...FREE_ID },
  { first: 0xc0000000, ...NUMBER },
  { first: 0xc0000001, registers: ["edx"], ...FEATURE },
];

/** The kind and order of bits without a known meaning: different values exclude each other. */
const UNKNOWN: CpuidFieldNature = FIXED;

/**
 * The ids that differ between the CPUs of one machine: the APIC id, and numbers that are derived from it. The list was
 * derived from 310 dumps of machines with several CPUs.
 */
export const PER_CPU_FIELDS: readonly CpuidFieldName[] = [
  "local_apic_id",
  "this_lcpu_hwfdbk_idx",
  "x2apic_id",
  "x2apic_id_1f",
  "ext_apic_id",
  "core_id",
  "node_id",
  "x2apic_id_80000026",
];

/**
 * Bits that report a flaw which the CPU does not have. A guest that reads 1 omits the mitigation, so a table must not
 * have the bit on a CPU that has the flaw. Without the bit the guest runs, but slower. Source: api.rst and the vendors'
 * guidance.
 */
const WITHOUT_FLAW: readonly CpuidFieldName[] = [
  "mcdt_no",
  "amd_ssb_no",
  "btc_no",
  "coherency_sfw_no",
  "srso_no",
  "srso_uk_no",
  "tsa_sq_no",
  "tsa_l1_no",
  "hv_no_nonarch_coreshare",
];

/**
 * Bits that report that the CPU lacks a function. The function exists if the bit is 0, so a guest that started with 0
 * needs a host with 0. Source: Documentation/virt/kvm/x86/errata.rst for the first two bits; SDM and APM for all other
 * bits. EBX of leaf 0xA is not listed here: all its bits are in an earlier table of this file.
 */
const WITHOUT_FUNCTION: readonly CpuidFieldName[] = [
  "fdp_excptn_only",
  "zero_fcs_fds",
  "rtm_always_abort",
  "anythread_deprecation",
  "no_efer_lmsle",
  "no_nested_data_bp",
  "no_smm_ctl_msr",
  "hv_hint_no_auto_eoi",
];

/** The fields whose kind or order differs from the kind or order of the register, grouped by kind and order. */
const EXCEPTIONS: readonly (readonly [
  nature: CpuidFieldNature,
  names: readonly CpuidFieldName[],
])[] = [
  [OWNED, RUNTIME_OWNED.filter(isAlwaysOwned).flatMap(({ field }) => field ?? [])],
  [FREE_ID, PER_CPU_FIELDS],
  [{ kind: "negated", order: "bits" }, WITHOUT_FLAW],
  [{ kind: "negated", order: "inverted-bits" }, WITHOUT_FUNCTION],
  [FIXED, ["clflush_size", "ip_payloads_lip", "lbr_ip_is_lip", "pte_cbit_pos"]],
  [
    FREE_NUMBER,
    [
      "guest_phys_addr_bits",
      "phys_addr_reduction_nbits",
      "min_sev_asid_no_sev_es",
      "lbr_v2_stack_size",
    ],
  ],
  [
    NUMBER,
    [
      ...["mawau_val_lm", "num_address_ranges", "avx10_version", "soc_max_subleaf"],
      ...["pt_max_subleaf", "perf_tsc_len"],
    ],
  ],
  [TOPOLOGY, ["n_logical_cpu", "ht", "cmp_legacy", "hybrid_cpu"]],
] as const;

/**
 * Whether KVM writes the bits on every VM; false if KVM writes them only with a quirk, with HLT exits disabled, or on
 * one old kernel.
 */
function isAlwaysOwned({ when }: (typeof RUNTIME_OWNED)[number]): boolean {
  return when === "leaf" || when === "compacted" || when === "xen";
}

const BY_NAME: ReadonlyMap<string, CpuidFieldNature> = new Map(
  EXCEPTIONS.flatMap(([nature, names]) => names.map((name) => [name, nature] as const)),
);

/** The place of bits whose kind and order are looked up. `function` is relative to the base of `space`. */
export interface NaturePlace {
  readonly space: CpuidSpace;
  readonly function: number;
  readonly index: number;
  readonly register: CpuidRegister;
  /** The field; undefined for bits without a name. */
  readonly name: CpuidFieldName | undefined;
}

function isRowOf(row: Row, { space, function: fn, index, register }: NaturePlace): boolean {
  const { first, last = first, index: firstIndex, lastIndex = firstIndex } = row;
  const hasIndex =
    firstIndex === undefined || (index >= firstIndex && index <= (lastIndex ?? firstIndex));
  return (
    (row.space ?? "native") === space &&
    fn >= first &&
    fn <= last &&
    hasIndex &&
    (row.registers?.includes(register) ?? true)
  );
}

/**
 * Returns the kind and the order of bits. Bits that the tables of this file do not contain have the kind "size", and
 * different values of these bits exclude each other.
 */
export function natureAt(place: NaturePlace): CpuidFieldNature {
  const exception = place.name === undefined ? undefined : BY_NAME.get(place.name);
  const { kind, order } = exception ?? ROWS.find((row) => isRowOf(row, place)) ?? UNKNOWN;
  return { kind, order };
}

/**
 * Returns the kind and the order of a field; for a field of several sub-leaves, the kind and the order in the first
 * sub-leaf.
 */
export function natureOf(field: CpuidField): CpuidFieldNature {
  refuseMissing("natureOf()", field, ["space", "function", "index", "register", "name"]);
  const { space, function: fn, index, register, name } = field;
  const first = typeof index === "number" ? index : index.first;
  return natureAt({ space, function: fn, index: first, register, name });
}
