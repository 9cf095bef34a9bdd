/** Applies a mask to a table, as Firecracker, Cloud Hypervisor and Xen do. formats/ reads masks. */
import { describe, refuseMissing, refuseUnknown, toList, toU32 } from "../options.ts";
import { CPUID_REGISTERS, type CpuidEntry2, type CpuidRegister } from "./entry.ts";
import type { CpuidMask, CpuidMaskEntry } from "./formats/dump.ts";
import { CpuidTable } from "./table.ts";

/** Options of {@link applyMask}. */
export interface ApplyMaskOptions {
  /**
   * The CPUID table of the host, from which a mask copies bits (`k` and `s` of Xen). If `host` is omitted, a mask with
   * bits of the host is rejected.
   */
  readonly host?: CpuidTable;
}

/** The result of {@link applyMask}. */
export interface AppliedMask {
  /** The table after all changes whose entry exists. */
  readonly table: CpuidTable;
  /**
   * The changes without an entry in the table, in their order. Firecracker rejects a template with such a change. Cloud
   * Hypervisor rejects a profile only if the change sets bits, so with "clear" the list contains only changes that set
   * bits.
   */
  readonly absent: readonly CpuidMaskEntry[];
}

/**
 * Checks the mask of a caller and returns its changes.
 *
 * @throws TypeError for anything but a mask; RangeError for a number that is not a u32, and for a value that has a bit
 *   outside of its mask. The message begins with `where` and names the change.
 */
export function toChanges(where: string, mask: CpuidMask): readonly CpuidMaskEntry[] {
  refuseMissing(where, mask, ["mask", "unlisted", "capabilities"]);
  if (mask.unlisted !== "keep" && mask.unlisted !== "clear") {
    throw new TypeError(`${where}: unlisted is "keep" or "clear", not ${describe(mask.unlisted)}`);
  }
  toList(`${where}: capabilities`, mask.capabilities);
  const changes = toList(`${where}: mask`, mask.mask);
  for (const [i, change] of changes.entries()) {
    const at = `${where}: mask[${i}]`;
    refuseMissing(at, change, ["function", "register", "mask", "value"]);
    const { function: fn, indexes, register, mask: bits, value, host = 0, flags = 0 } = change;
    const { first, last } = indexes ?? { first: 0, last: 0 };
    const numbers = { function: fn, first, last, mask: bits, value, host, flags };
    for (const [name, number] of Object.entries(numbers)) toU32(`${at}: ${name}`, number);
    if (!CPUID_REGISTERS.includes(register)) {
      throw new TypeError(`${at}: register is eax, ebx, ecx or edx, not ${describe(register)}`);
    }
    if (((value & ~bits) | (host & bits)) !== 0) {
      throw new RangeError(`${at}: value has bits outside of mask, or host has bits of mask`);
    }
  }
  return changes;
}

/** The registers of an entry while they are changed. */
type Registers = { -readonly [name in CpuidRegister]: number };

/** Whether a change applies to an entry of its leaf. */
const appliesTo = ({ indexes }: CpuidMaskEntry, { index }: CpuidEntry2): boolean =>
  indexes === undefined || (indexes.first <= index && index <= indexes.last);

/** Returns a register's new value, `(old & ~mask) | value`, with the bits that are copied from the host. */
function changed(
  old: number,
  change: CpuidMaskEntry,
  e: CpuidEntry2,
  host: CpuidTable | undefined,
): number {
  const { mask, value, host: copied = 0, register } = change;
  const set = ((old & ~mask) | value) >>> 0;
  if (copied === 0) return set;
  const own = host?.find(e.function, e.index)?.[register] ?? 0;
  return ((set & ~copied) | (own & copied)) >>> 0;
}

/**
 * Changes the registers of a table: `new = (old & ~mask) | value` for each change, in order. The entry gets the flags
 * of the change. A change applies to the entries with the change's leaf and sub-leaf; no entries are added. With
 * `unlisted: "clear"`, only the first change of a register applies, and registers that no change names become 0.
 *
 * @throws TypeError for anything but a table and a mask, and RangeError for bits of the host without `options.host`.
 *
 * @example
 * ```ts run
 * import { applyMask, CpuidTable, readCpuid } from "node-kvm/cpuid";
 *
 * const template = readCpuid(
 *   '{"cpuid_modifiers":[{"leaf":"0x7","subleaf":"0x0","flags":1,"modifiers":[{"register":"ebx","bitmap":"0b0xxxxx"}]}]}',
 * );
 * const table = CpuidTable.from([{ function: 7, flags: 1, ebx: 0x21 }]);
 * if (template.kind === "mask") console.log(applyMask(table, template).table.has("avx2"));
 * ```
 *
 * ```text output
 * false
 * ```
 */
export function applyMask(
  table: CpuidTable,
  mask: CpuidMask,
  options: ApplyMaskOptions = {},
): AppliedMask {
  if (!(table instanceof CpuidTable)) throw new TypeError("applyMask(): expected a CpuidTable");
  refuseUnknown("applyMask()", options, ["host"]);
  const changes = toChanges("applyMask()", mask);
  const { host } = options;
  if (host === undefined && changes.some((change) => (change.host ?? 0) !== 0)) {
    throw new RangeError("applyMask(): the mask copies bits of the host; pass its table as host");
  }
  const byLeaf = new Map<number, CpuidMaskEntry[]>();
  for (const change of changes) {
    const same = byLeaf.get(change.function);
    if (same) same.push(change);
    else byLeaf.set(change.function, [change]);
  }
  const isClear = mask.unlisted === "clear";
  const found = new Set<CpuidMaskEntry>();
  const after = table.map((e) => {
    const registers: Registers = { eax: e.eax, ebx: e.ebx, ecx: e.ecx, edx: e.edx };
    let flags = e.flags;
    const done = new Set<CpuidRegister>();
    for (const change of byLeaf.get(e.function) ?? []) {
      if (!appliesTo(change, e)) continue;
      found.add(change);
      const { register } = change;
      if (isClear && done.has(register)) continue;
      done.add(register);
      registers[register] = changed(registers[register], change, e, host);
      flags = change.flags ?? flags;
    }
    for (const name of isClear ? CPUID_REGISTERS : []) if (!done.has(name)) registers[name] = 0;
    return { ...e, ...registers, flags };
  });
  const absent = changes.filter((change) => !found.has(change) && !(isClear && change.value === 0));
  return { table: after, absent };
}
