/**
 * Finds probable faults of a CPUID table that KVM accepts. Each rule is one element of CPUID_RULES. lib/explain handles
 * tables that KVM rejects; diff.ts compares two tables.
 */
import { refuseUnknown, toList } from "../options.ts";
import { apicIdBits, apicIdPlace, checkApicId } from "./apic-id.ts";
import { runs } from "./diff.ts";
import {
  CPUID_REGISTERS,
  type CpuidEntry2,
  type CpuidEntry2Input,
  type CpuidRegister,
  entry,
  formatLeaf,
  isIndexed,
  KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
  locate,
} from "./entry.ts";
import {
  baseOf,
  type CpuidFieldName,
  fieldsOf,
  formatBits,
  formatValue,
  readField,
  spaceOf,
} from "./field.ts";

/** The values that a table is checked against. */
export interface CheckCpuidOptions {
  /** The argument of KVM_CREATE_VCPU, which is the vCPU's APIC id after reset; if omitted, no APIC id is checked. */
  readonly id?: number;
  /** The entries of KVM_GET_SUPPORTED_CPUID; if omitted, no feature is checked. */
  readonly supported?: Iterable<CpuidEntry2Input>;
}

/** The name of a rule. */
export type CpuidRuleName = "apic-id" | "duplicate" | "index-flag" | "padding" | "unsupported";

/** One fault of a table. */
export interface CpuidFinding {
  /** The rule that found the fault. */
  readonly rule: CpuidRuleName;
  /** The place: an entry as `0x7.0`, or bits as `0x7.0:ebx[5]`. */
  readonly where: string;
  /** The field; undefined for a whole entry, and for bits that are not in the database. */
  readonly name: CpuidFieldName | undefined;
  /** The leaf, absolute. */
  readonly function: number;
  /** The sub-leaf. */
  readonly index: number;
  /** The position of the entry in the table. */
  readonly position: number;
  /** The fault, in a sentence that begins with the place. */
  readonly message: string;
}

/** The arguments of a rule: all entries of the table, and the entry to check. */
interface Checked {
  readonly entries: readonly CpuidEntry2[];
  readonly entry: CpuidEntry2;
  readonly position: number;
  readonly id: number | undefined;
  readonly supported: readonly CpuidEntry2[] | undefined;
}

/** The result of a rule for an entry: the message that follows the place, and the field if the fault is in a field. */
interface Wrong {
  readonly bits?: {
    readonly register: CpuidRegister;
    readonly low: number;
    readonly high: number;
    readonly name: CpuidFieldName | undefined;
  };
  readonly words: string;
}

interface CpuidRule {
  readonly name: CpuidRuleName;
  /** The reason why the table is wrong, with the source. */
  readonly why: string;
  readonly check: (checked: Checked) => readonly Wrong[];
}

/**
 * The registers in which each bit is a feature; a guest cannot use a bit that KVM_GET_SUPPORTED_CPUID does not report.
 * Source: reverse_cpuid[] of arch/x86/kvm/reverse_cpuid.h (7.2), KVM's own leaf, and leaf 0xD.0. All other registers
 * contain numbers, topology or names instead of features.
 */
export const FEATURE_REGISTERS: ReadonlySet<string> = new Set([
  ...["0x1.0:ecx", "0x1.0:edx", "0x6.0:eax"],
  ...["0x7.0:ebx", "0x7.0:ecx", "0x7.0:edx", "0x7.1:eax", "0x7.1:ecx", "0x7.1:edx", "0x7.2:edx"],
  ...["0xd.0:eax", "0xd.0:edx", "0xd.1:eax", "0x12.0:eax", "0x12.1:eax"],
  ...["0x1e.1:eax", "0x24.0:ebx", "0x24.1:ecx"],
  ...["0x80000001.0:ecx", "0x80000001.0:edx", "0x80000007.0:ebx", "0x80000007.0:edx"],
  ...["0x80000008.0:ebx", "0x8000000a.0:edx", "0x8000001f.0:eax"],
  ...["0x80000021.0:eax", "0x80000021.0:ecx", "0x80000022.0:eax", "0xc0000001.0:edx"],
  ...["kvm:0x1.0:eax"],
]);

/** Features that a table may have although KVM_GET_SUPPORTED_CPUID does not report them. */
export const UNREPORTED: Readonly<Partial<Record<CpuidFieldName, string>>> = {
  osxsave: "KVM writes it from CR4.OSXSAVE",
  ospke: "KVM writes it from CR4.PKE",
  ht: "it is the number of APIC ids in the package, which belongs to the table's topology",
  tsc_deadline_timer:
    "KVM_CAP_TSC_DEADLINE_TIMER reports it; before Linux 6.14 the table never does (api.rst 4.46)",
};

function unsupportedIn(
  { entries, entry: e, supported = [] }: Checked,
  register: CpuidRegister,
): readonly Wrong[] {
  const space = spaceOf(entries, e.function);
  const [base = 0, theirs] = [baseOf(entries, space), baseOf(supported, space)];
  const relative = e.function - base;
  const index = isIndexed(relative) ? e.index : 0;
  const key = `${space === "native" ? "" : `${space}:`}${formatLeaf(relative, index)}:${register}`;
  // KVM_GET_SUPPORTED_CPUID has no leaves of other hypervisors, so features in such leaves are not checked.
  if (!FEATURE_REGISTERS.has(key) || theirs === undefined) return [];
  const there = supported[locate(supported, theirs + relative, index)]?.[register] ?? 0;
  let left = (e[register] & ~there) >>> 0;
  const wrong: Wrong[] = [];
  for (const { name, low, high } of fieldsOf(space, relative, index, register)) {
    const extra = readField(left, low, high);
    for (let bit = low; bit <= high; bit += 1) left = (left & ~(1 << bit)) >>> 0;
    if (extra === 0 || Object.hasOwn(UNREPORTED, name)) continue;
    wrong.push({ bits: { register, low, high, name }, words: "KVM does not support it" });
  }
  const reserved = runs(left).map(({ low, high }) => ({
    bits: { register, low, high, name: undefined },
    words: "KVM does not support it",
  }));
  return [...wrong, ...reserved].sort((a, b) => (a.bits?.low ?? 0) - (b.bits?.low ?? 0));
}

/** All rules; for each rule, test/unit/cpuid/check.test.ts has a table that breaks only this rule. */
export const CPUID_RULES: readonly CpuidRule[] = [
  {
    name: "duplicate",
    why: "KVM uses the first entry that matches (cpuid_entry2_find), and never this one",
    check: ({ entries, entry: e, position }) => {
      const first = locate(entries, e.function, e.index);
      const other = entries[first];
      if (first === position || other === undefined) return [];
      const which = `entry ${first} (${formatLeaf(other.function, other.index)})`;
      return [{ words: `${which} matches first, so KVM never uses entry ${position}` }];
    },
  },
  {
    name: "index-flag",
    why: "without KVM_CPUID_FLAG_SIGNIFCANT_INDEX KVM uses the entry for every sub-leaf (cpuid_entry2_find)",
    check: ({ entry: e }) =>
      isIndexed(e.function) && (e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) === 0
        ? [{ words: "has no KVM_CPUID_FLAG_SIGNIFCANT_INDEX, so KVM uses it for every sub-leaf" }]
        : [],
  },
  {
    name: "padding",
    why: "KVM ignores the reserved words, and a later version may use them (api.rst 4.46)",
    check: ({ entry: { padding } }) =>
      padding.some((word) => word !== 0)
        ? [{ words: `the reserved padding is ${padding.map((word) => `0x${word.toString(16)}`)}` }]
        : [],
  },
  {
    name: "apic-id",
    why: "the guest identifies its CPUs by this id and sends interrupts to it, but KVM's local APIC has the vCPU's id",
    check: ({ entry: e, id }) => {
      const place = apicIdPlace(e);
      if (id === undefined || place === undefined) return [];
      const isAbsent = CPUID_REGISTERS.every((register) => e[register] === 0);
      const { register, low, high } = place;
      const [has, wanted] = [readField(e[register], low, high), apicIdBits(place, id)];
      if (has === wanted || (place.isOptional && isAbsent)) return [];
      const [field] = fieldsOf("native", e.function, e.index, register).filter(
        (f) => f.low === low,
      );
      const words = `is ${formatValue(has, low, high)}, but the vCPU's APIC id is ${formatValue(wanted, low, high)}`;
      return [{ bits: { register, low, high, name: field?.name }, words }];
    },
  },
  {
    name: "unsupported",
    why: "the guest may use every feature of the table, but KVM or this CPU lacks this feature",
    check: (checked) =>
      checked.supported === undefined
        ? []
        : CPUID_REGISTERS.flatMap((register) => unsupportedIn(checked, register)),
  },
];

const OPTIONS = ["id", "supported"] as const;

/**
 * Finds probable faults of a table that KVM accepts: entries that KVM never uses, sub-leaves without the index flag,
 * padding that is not 0, a wrong APIC id, and features that KVM does not support.
 *
 * @returns the findings, in the order of the entries; empty if there are none.
 * @throws RangeError for an `id` or a number that is not a u32; TypeError for an unknown option.
 */
export function checkCpuid(
  table: Iterable<CpuidEntry2Input>,
  options: CheckCpuidOptions = {},
): readonly CpuidFinding[] {
  refuseUnknown("checkCpuid()", options, OPTIONS);
  const { id } = options;
  if (id !== undefined) checkApicId("id", id);
  const supported =
    options.supported && toList("checkCpuid(): supported", options.supported).map(entry);
  const entries = toList("checkCpuid()", table).map(entry);
  return entries.flatMap((one, position) =>
    CPUID_RULES.flatMap((rule) =>
      rule
        .check({ entries, entry: one, position, id, supported })
        .map((wrong) => findingOf(rule.name, one, position, wrong)),
    ),
  );
}

function findingOf(
  rule: CpuidRuleName,
  { function: fn, index }: CpuidEntry2,
  position: number,
  { bits, words }: Wrong,
): CpuidFinding {
  const place = { function: fn, index };
  const where = bits === undefined ? formatLeaf(fn, index) : formatBits({ ...place, ...bits });
  const subject = bits === undefined ? where : `${where} ${bits.name ?? "reserved"}`;
  return { rule, where, name: bits?.name, ...place, position, message: `${subject}: ${words}` };
}
