/** Reduces a table to the features that KVM supports on a host. check.ts lists the registers with feature bits. */
import { FEATURE_REGISTERS, UNREPORTED } from "./check.ts";
import { CPUID_REGISTERS, type CpuidEntry2, formatLeaf, isIndexed, locate } from "./entry.ts";
import { leafDependents, withFeatures } from "./feature-edits.ts";
import { baseOf, type CpuidFieldName, type CpuidSpace, fieldsOf, spaceOf } from "./field.ts";
import { leafEntries, withLeaf } from "./leaf.ts";
import { CpuidTable } from "./table.ts";
import { withXsave, XSAVE_COMPONENTS, xsaveOf } from "./xsave.ts";

/** The reduced table, and the features that were removed. */
export interface WithinResult {
  readonly table: CpuidTable;
  /** The features that were removed, each with the reason. */
  readonly dropped: ReadonlyMap<CpuidFieldName, string>;
}

/** Leaf 0xD.0 contains the components of XCR0, which are computed from the features. */
const isComponentRegister = (key: string): boolean => key.startsWith("0xd.0:");

interface Register {
  readonly position: number;
  readonly entry: CpuidEntry2;
  readonly register: (typeof CPUID_REGISTERS)[number];
  /** The bits that the register has in the host's table. */
  readonly there: number;
  readonly space: CpuidSpace;
  readonly relative: number;
  readonly index: number;
}

/** Lists the feature registers of a table with the host's bits. */
function featureRegisters(
  entries: readonly CpuidEntry2[],
  supported: readonly CpuidEntry2[],
): readonly Register[] {
  return entries.flatMap((entry, position) => {
    const space = spaceOf(entries, entry.function);
    const [base = 0, theirs] = [baseOf(entries, space), baseOf(supported, space)];
    const relative = entry.function - base;
    const index = isIndexed(relative) ? entry.index : 0;
    return CPUID_REGISTERS.flatMap((register): readonly Register[] => {
      const prefix = space === "native" ? "" : `${space}:`;
      const key = `${prefix}${formatLeaf(relative, index)}:${register}`;
      // KVM_GET_SUPPORTED_CPUID reports no leaves of other hypervisors, so these leaves are not checked.
      if (!FEATURE_REGISTERS.has(key) || isComponentRegister(key)) return [];
      const at = theirs === undefined ? -1 : locate(supported, theirs + relative, index);
      const there = supported[at]?.[register] ?? 0;
      return [{ position, entry, register, there, space, relative, index }];
    });
  });
}

/** Returns the mask of bits `high` to `low`. */
const maskOf = (low: number, high: number): number => (2 ** (high + 1) - 2 ** low) >>> 0;

/** The bits of a register that are not checked: KVM does not report them, although a table may have them. */
function unreported({ space, relative, index, register }: Register): number {
  return fieldsOf(space, relative, index, register)
    .filter(({ name }) => Object.hasOwn(UNREPORTED, name))
    .reduce((mask, { low, high }) => (mask | maskOf(low, high)) >>> 0, 0);
}

/** Lists the one-bit fields among the bits of a register. */
function namesIn({ space, relative, index, register }: Register, bits: number): CpuidFieldName[] {
  return fieldsOf(space, relative, index, register)
    .filter(({ low, high }) => low === high && (bits & maskOf(low, high)) !== 0)
    .map(({ name }) => name);
}

/** Clears every feature bit that the host lacks; returns the names of the cleared bits that have a name. */
function withoutUnsupported(
  table: CpuidTable,
  supported: readonly CpuidEntry2[],
): { readonly table: CpuidTable; readonly dropped: readonly CpuidFieldName[] } {
  const entries = [...table];
  const dropped: CpuidFieldName[] = [];
  for (const one of featureRegisters(entries, supported)) {
    const extra = (one.entry[one.register] & ~(one.there | unreported(one))) >>> 0;
    if (extra === 0) continue;
    dropped.push(...namesIn(one, extra));
    const old = entries[one.position] ?? one.entry;
    entries[one.position] = { ...old, [one.register]: (old[one.register] & ~extra) >>> 0 };
  }
  return { table: CpuidTable.from(entries), dropped };
}

/** Lists the features whose XSAVE components the host does not have. */
function withoutState(table: CpuidTable, supported: CpuidTable): readonly CpuidFieldName[] {
  const host = xsaveOf(supported);
  const mask = host === undefined ? 0n : host.xcr0 | host.xss;
  return XSAVE_COMPONENTS.filter(
    ({ number, isGiven }) => isGiven && ((mask >> BigInt(number)) & 1n) === 0n,
  ).flatMap(({ features }) => features.filter((name) => table.has(name)));
}

/**
 * Bits that report a missing function; a guest must have the CPU's values of these bits (errata.rst of KVM's
 * documentation).
 */
const OF_THE_CPU: readonly CpuidFieldName[] = ["fdp_excptn_only", "zero_fcs_fds"];

function withCpuBits(table: CpuidTable, supported: CpuidTable): CpuidTable {
  return OF_THE_CPU.reduce((made, name) => {
    const [own, host] = [made.get(name), supported.get(name)];
    return own === undefined || host === undefined ? made : made.with({ [name]: host });
  }, table);
}

/** The widths of addresses, which are at most the host's. */
const WIDTHS: readonly CpuidFieldName[] = [
  "phys_addr_bits",
  "virt_addr_bits",
  "guest_phys_addr_bits",
];

function withWidths(table: CpuidTable, supported: CpuidTable): CpuidTable {
  return WIDTHS.reduce((made, name) => {
    const own = made.get(name);
    const host = supported.get(name === "guest_phys_addr_bits" ? "phys_addr_bits" : name);
    return own === undefined || host === undefined || host === 0 || own <= host
      ? made
      : made.with({ [name]: host });
  }, table);
}

/** Sets the sizes and offsets of the XSAVE components to the values that the host's XSAVE instruction uses. */
function withHostLayout(table: CpuidTable, supported: CpuidTable): CpuidTable {
  const own = leafEntries(table, 0xd);
  if (own.length === 0) return table;
  const host = new Map(leafEntries(supported, 0xd).map((e) => [e.index ?? 0, e]));
  const laidOut = own.map(({ index = 0 }) => {
    const theirs = index < 2 ? undefined : host.get(index);
    if (theirs === undefined) return { index };
    const { eax = 0, ebx = 0, ecx = 0 } = theirs;
    return { index, eax, ebx, ecx };
  });
  // withXsave() adds the sub-leaves of enabled components that the table lacks, and removes those of all others.
  const has = new Set(own.map(({ index = 0 }) => index));
  const others = [...host.values()].filter(({ index = 0 }) => index >= 2 && !has.has(index));
  return withXsave(withLeaf(table, 0xd, [...laidOut, ...others]));
}

/**
 * Removes from a table each feature that KVM_GET_SUPPORTED_CPUID does not report, and each feature that needs a removed
 * feature. The widths of addresses become at most the host's, XSAVE components get the host's sizes and offsets, and
 * bits that report a missing function become the host's. All other fields stay unchanged.
 */
export function withinSupported(table: CpuidTable, supported: CpuidTable): WithinResult {
  const host = [...supported];
  const direct = withoutUnsupported(table, host).dropped;
  const roots = [...new Set([...direct, ...withoutState(table, supported)])];
  const dropped = new Map<CpuidFieldName, string>(
    roots.map((name) => [name, "KVM does not support it"]),
  );
  for (const root of roots) {
    for (const name of leafDependents([root])) {
      if (dropped.has(name) || !table.has(name)) continue;
      dropped.set(name, `it needs ${root}, which KVM does not support`);
    }
  }
  const off = withFeatures(table, [], dropped.keys());
  // All unsupported features with a name are off now; this call clears unsupported bits without a name.
  const made = withoutUnsupported(off, host).table;
  const sized = withWidths(withCpuBits(made, supported), supported);
  return { table: withHostLayout(sized, supported), dropped };
}
