/** The features of a table that another table lacks: which registers have feature bits, and which bits are exceptions. */
import { runs } from "../diff.ts";
import { CPUID_REGISTERS, type CpuidRegister, formatLeaf, isIndexed } from "../entry.ts";
import { type CpuidFieldName, fieldsOf, readField } from "../field.ts";
import type { LintBits } from "./rule.ts";
import type { LintTable } from "./table.ts";

/**
 * The registers in which a bit is a feature, so that the guest cannot use a bit which KVM_GET_SUPPORTED_CPUID lacks.
 * Source: reverse_cpuid[] of arch/x86/kvm/reverse_cpuid.h (7.2), KVM's own leaf, and leaf 0xD.0. All other registers
 * contain numbers, topology or names.
 */
const FEATURE_REGISTERS: ReadonlySet<string> = new Set([
  ...["0x1.0:ecx", "0x1.0:edx", "0x6.0:eax"],
  ...["0x7.0:ebx", "0x7.0:ecx", "0x7.0:edx", "0x7.1:eax", "0x7.1:ecx", "0x7.1:edx", "0x7.2:edx"],
  ...["0xd.0:eax", "0xd.0:edx", "0xd.1:eax", "0x12.0:eax", "0x12.1:eax"],
  ...["0x1e.1:eax", "0x24.0:ebx", "0x24.1:ecx"],
  ...["0x80000001.0:ecx", "0x80000001.0:edx", "0x80000007.0:ebx", "0x80000007.0:edx"],
  ...["0x80000008.0:ebx", "0x8000000a.0:edx", "0x8000001f.0:eax"],
  ...["0x80000021.0:eax", "0x80000021.0:ecx", "0x80000022.0:eax", "0xc0000001.0:edx"],
  ...["kvm:0x1.0:eax"],
]);

/** The functions of {@link FEATURE_REGISTERS}, without the space. */
const FEATURE_FUNCTIONS: ReadonlySet<number> = new Set(
  Array.from(FEATURE_REGISTERS, (key) => Number.parseInt(key.replace("kvm:", ""), 16)),
);

/** Features that a table may have although KVM_GET_SUPPORTED_CPUID does not report them, with the reason. */
export const UNREPORTED_FEATURES: Readonly<Partial<Record<CpuidFieldName, string>>> = {
  osxsave: "KVM writes it from CR4.OSXSAVE",
  ospke: "KVM writes it from CR4.PKE",
  ht: "it is the number of APIC ids in the package, which belongs to the table's topology",
  tsc_deadline_timer:
    "KVM_CAP_TSC_DEADLINE_TIMER reports it; before Linux 6.14 the table never does (api.rst 4.46)",
};

/**
 * Lists the feature bits of an entry that another table lacks, by register and bit: fields, and runs of unnamed bits.
 * Leaves of an interface that the other table does not have are skipped.
 */
export function missingFeatures(
  table: LintTable,
  position: number,
  other: LintTable,
): readonly LintBits[] {
  const e = table.entries[position];
  if (e === undefined) return [];
  const space = table.space(e.function);
  const [base = 0, theirs] = [table.base(space), other.base(space)];
  const relative = e.function - base;
  if (!FEATURE_FUNCTIONS.has(relative) || theirs === undefined) return [];
  const index = isIndexed(relative) ? e.index : 0;
  const prefix = `${space === "native" ? "" : `${space}:`}${formatLeaf(relative, index)}`;
  const has = other.leaf(theirs + relative, index);
  return CPUID_REGISTERS.flatMap((register: CpuidRegister): readonly LintBits[] => {
    if (!FEATURE_REGISTERS.has(`${prefix}:${register}`)) return [];
    let left = (e[register] & ~(has?.[register] ?? 0)) >>> 0;
    if (left === 0) return [];
    const missing: LintBits[] = [];
    for (const { name, low, high } of fieldsOf(space, relative, index, register)) {
      const extra = readField(left, low, high);
      for (let bit = low; bit <= high; bit += 1) left = (left & ~(1 << bit)) >>> 0;
      if (extra !== 0) missing.push({ register, low, high, name });
    }
    const unnamed = runs(left).map(({ low, high }) => ({ register, low, high, name: undefined }));
    return [...missing, ...unnamed].sort((a, b) => a.low - b.low);
  });
}
