/** The update of the bits that KVM writes itself, in a stored or a new table (cpuid.c:kvm_update_cpuid_runtime). */
import type { CpuidEntry2 } from "../../cpuid/entry.ts";
import { baseOf, type CpuidFieldName, hasSubleaves, writeField } from "../../cpuid/field.ts";
import { xsaveCompactedSize, xsaveSize } from "../../cpuid/xsave.ts";
import { KVM_OWNED, type KvmOwned } from "../runtime-bits.ts";
import { componentsIn } from "../xsave.ts";
import { positionOf } from "./lookup.ts";
import type { LifecycleRules } from "./rules.ts";
import type { LifecycleHost, LifecycleVcpu, LifecycleVmOptions } from "./state.ts";

/** The state from which KVM computes its own bits. */
export interface UpdateContext {
  readonly rules: LifecycleRules;
  readonly host: LifecycleHost;
  readonly vm: LifecycleVmOptions;
  readonly vcpu: LifecycleVcpu;
  /** Whether the update is part of KVM_SET_CPUID2. */
  readonly isSet: boolean;
}

const LOW = 0xffff_ffffn;
/** The components x87 and SSE (XFEATURE_MASK_FPSSE). */
const FPSSE = 3n;

/** The values of KVM's own bits, by the field. */
const VALUES: Partial<Record<CpuidFieldName, (context: UpdateContext) => number>> = {
  osxsave: ({ vcpu }) => Number(vcpu.osxsave),
  apic: ({ vcpu }) => Number(vcpu.isApicEnabled),
  monitor: ({ vcpu }) => Number(vcpu.mwait),
  ospke: ({ vcpu }) => Number(vcpu.pke),
  xsave_sz_xcr0: ({ vcpu, host }) => xsaveSize(host.parts, vcpu.xcr0),
  xsave_sz_xcr0_xss: ({ vcpu, host }) => xsaveCompactedSize(host.parts, vcpu.xcr0 | vcpu.xss),
  kvm_pv_unhalt: () => 0,
};

/** Masks a register of leaf 0x12.1 (6.1:cpuid.c:__kvm_update_cpuid_runtime). */
function maskedSgx(
  { rules, host }: UpdateContext,
  entries: readonly CpuidEntry2[],
  { register }: KvmOwned,
  old: number,
): number {
  const components = componentsIn(entries[positionOf(rules, entries, 0xd, 0)]) ?? 0n;
  const supported = components & host.xcr0;
  return register === "ecx"
    ? Number((BigInt(old) & supported & LOW) | FPSSE)
    : Number(BigInt(old) & (supported >> 32n));
}

/** The base of KVM's leaves in the table whose signature counts. */
function pvBase(
  { rules, vcpu }: UpdateContext,
  entries: readonly CpuidEntry2[],
): number | undefined {
  return rules.pvBase === "previous" ? vcpu.pvBase : baseOf(entries, "kvm");
}

/** Whether KVM writes the bits of a row now. */
function isWritten(
  context: UpdateContext,
  entries: readonly CpuidEntry2[],
  row: KvmOwned,
): boolean {
  const { rules, vm, isSet } = context;
  if (row.unless !== undefined && rules.leaves.includes(row.unless)) return false;
  const when = (row.field && rules.when[row.field]) ?? row.when;
  switch (when) {
    case "leaf":
      return true;
    case "quirk":
      return vm.mwaitQuirkOff;
    case "compacted": {
      const features = entries[positionOf(rules, entries, 0xd, 1)]?.eax ?? 0;
      return (features & rules.compacted) !== 0;
    }
    case "hlt":
      return (
        vm.hltExitsOff &&
        (rules.pvUpdates === "each-update" || (isSet && rules.pvUpdates === "set"))
      );
    case "sgx":
      return rules.masksSgx;
    // A rewrite of Xen's leaf is not modelled.
    case "xen":
    case "never":
      return false;
    default:
      return when satisfies never;
  }
}

/** The position of the entry of a row, or -1. */
function place(context: UpdateContext, entries: readonly CpuidEntry2[], row: KvmOwned): number {
  const { rules } = context;
  if (row.space === "kvm") {
    const base = pvBase(context, entries);
    return base === undefined ? -1 : positionOf(rules, entries, (base | row.function) >>> 0);
  }
  const isOne = !hasSubleaves(row.space, row.function);
  const index = isOne && rules.rewriteLookup === "ignores-index" ? undefined : row.index;
  return positionOf(rules, entries, row.function, index);
}

/** Returns a table with KVM's own bits up to date; entries that do not change stay the same objects. */
export function updated(
  context: UpdateContext,
  entries: readonly CpuidEntry2[],
): readonly CpuidEntry2[] {
  let table = entries;
  for (const row of KVM_OWNED) {
    if (!isWritten(context, table, row)) continue;
    const position = place(context, table, row);
    const old = table[position];
    if (old === undefined) continue;
    const { register, low, high, when } = row;
    const value =
      when === "sgx" ? maskedSgx(context, table, row, old[register]) : valueFor(context, row);
    const written = writeField(old[register], low, high, value);
    if (written !== old[register]) table = table.with(position, { ...old, [register]: written });
  }
  return table;
}

function valueFor(context: UpdateContext, { field }: KvmOwned): number {
  return (field && VALUES[field]?.(context)) ?? 0;
}
