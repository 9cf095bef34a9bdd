/** Lists the features of a table that another table lacks. check.ts lists the registers with feature bits. */
import { FEATURE_REGISTERS } from "../check.ts";
import { runs } from "../diff.ts";
import { CPUID_REGISTERS, type CpuidRegister, formatLeaf, isIndexed } from "../entry.ts";
import { fieldsOf, readField } from "../field.ts";
import type { LintBits } from "./rule.ts";
import type { LintTable } from "./table.ts";

/** The functions of `FEATURE_REGISTERS`, without their space. */
const FEATURE_FUNCTIONS: ReadonlySet<number> = new Set(
  Array.from(FEATURE_REGISTERS, (key) => Number.parseInt(key.replace("kvm:", ""), 16)),
);

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
