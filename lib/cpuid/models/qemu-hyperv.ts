/**
 * Makes the Hyper-V leaves of a guest of QEMU from its `hv-` properties. qemu.ts imports models;
 * gen/facts/cpuid-aliases.csv has the property of each field.
 */

import { withField } from "../feature-edits.ts";
import type { CpuidFieldName } from "../field.ts";
import { CPUID_FIELDS } from "../generated/fields.ts";
import { writeHypervisors } from "../hypervisor.ts";
import { withSubleaf } from "../leaf.ts";
import type { CpuidFieldValuesInput, CpuidTable } from "../table.ts";

/**
 * The fields of each property that is on or off. Source: kvm_hyperv_properties and hyperv_fill_cpuids
 * (target/i386/kvm/kvm.c, QEMU 11), with the bits of target/i386/kvm/hyperv-proto.h.
 */
const PROPERTIES: ReadonlyMap<string, readonly CpuidFieldName[]> = new Map<
  string,
  readonly CpuidFieldName[]
>([
  ["hv-relaxed", ["hv_hint_relaxed_timing"]],
  ["hv-vapic", ["hv_apic_access", "hv_hint_apic_msrs"]],
  ["hv-time", ["hv_time_ref_count", "hv_reference_tsc"]],
  ["hv-crash", ["hv_crash_msrs"]],
  ["hv-reset", ["hv_reset"]],
  ["hv-vpindex", ["hv_vp_index"]],
  ["hv-runtime", ["hv_vp_runtime"]],
  ["hv-synic", ["hv_synic", "hv_post_messages", "hv_signal_events"]],
  ["hv-stimer", ["hv_stimer"]],
  ["hv-frequencies", ["hv_frequency_msrs", "hv_frequency_available"]],
  ["hv-reenlightenment", ["hv_reenlightenment"]],
  ["hv-tlbflush", ["hv_hint_remote_flush", "hv_hint_ex_masks"]],
  ["hv-evmcs", ["hv_hint_evmcs"]],
  ["hv-ipi", ["hv_hint_cluster_ipi", "hv_hint_ex_masks"]],
  ["hv-stimer-direct", ["hv_stimer_direct"]],
  ["hv-avic", ["hv_hint_no_auto_eoi"]],
  ["hv-apicv", ["hv_hint_no_auto_eoi"]],
  ["hv-emsr-bitmap", ["hv_nested_msr_bitmap"]],
  ["hv-xmm-input", ["hv_xmm_input"]],
  ["hv-tlbflush-ext", ["hv_ext_gva_flush"]],
  ["hv-tlbflush-direct", ["hv_nested_direct_flush"]],
  ["hv-no-nonarch-coresharing", ["hv_no_nonarch_coreshare"]],
]);

/**
 * hv-spinlocks is the number of attempts after which a guest notifies the hypervisor of a spinlock that it waits for.
 * With the default, a guest never notifies the hypervisor.
 */
const SPINLOCKS = "hv-spinlocks";
const NEVER_NOTIFY = 0xffff_ffff;

const VENDOR_ID = "hv-vendor-id";

/** The property as QEMU spells it: QEMU accepts `_` for `-`. */
const keyOf = (name: string): string => name.replaceAll("_", "-");

/** Whether a name is an `hv-` property that is on or off and has a CPUID bit. */
export const isQemuHyperv = (name: string): boolean => PROPERTIES.has(keyOf(name));

/** The `hv-` properties with another value that {@link withQemuHyperv} applies. */
export const QEMU_HYPERV_VALUES: readonly string[] = [SPINLOCKS, VENDOR_ID];

/** The leaf with nested features, and the leaves before it, which QEMU writes as zeros. */
const NESTED = 0x4000_000a;
const AFTER_LIMITS = 0x4000_0006;
/** QEMU's range of versions of the enlightened VMCS, DEFAULT_EVMCS_VERSION (target/i386/kvm/kvm.c). */
const EVMCS_VERSION = (1 << 8) | 1;

/** Lists the one-bit fields of Hyper-V. */
function bitFields(): readonly CpuidFieldName[] {
  return CPUID_FIELDS.hyperv
    .trim()
    .split("\n")
    .flatMap((line) => {
      const [name, , , , , low, high] = line.split(" ");
      return low === high ? [name as CpuidFieldName] : [];
    });
}

/**
 * Replaces the hypervisor interfaces of a table with Hyper-V's, as QEMU does if an `hv-` property is on.
 *
 * @param on - the names of the features that are on; only the names of Hyper-V features are used.
 * @param properties - other properties, of which hv-spinlocks and hv-vendor-id are applied.
 * @returns the unchanged table if no `hv-` property is on.
 * @throws RangeError for a value of hv-spinlocks that is not a u32, and for an hv-vendor-id that is not at most twelve
 *   printable ASCII characters.
 */
export function withQemuHyperv(
  table: CpuidTable,
  on: readonly string[],
  properties: Readonly<Record<string, string>>,
): CpuidTable {
  const values = new Map(Object.entries(properties).map(([name, value]) => [keyOf(name), value]));
  const spinlocks = toSpinlocks(values.get(SPINLOCKS));
  const wanted = on.flatMap((name) => PROPERTIES.get(keyOf(name)) ?? []);
  if (wanted.length === 0 && spinlocks === NEVER_NOTIFY) return table;
  const isSet = new Set<CpuidFieldName>([
    ...["hv_hypercall_msrs" as const, "hv_dynamic_partitioning" as const],
    ...wanted,
  ]);
  // With AVIC, QEMU does not recommend the MSRs of the APIC.
  if (isSet.has("hv_hint_no_auto_eoi")) isSet.delete("hv_hint_apic_msrs");
  let made = writeHypervisors("withQemuHyperv()", table, ["hyperv"]);
  for (const name of bitFields()) made = withField(made, name, isSet.has(name) ? 1 : 0);
  made = made.with({
    hv_spinlock_retries: spinlocks,
    hv_max_vps: 0xffff_ffff,
    hv_max_lps: 64,
    ...vendorFields(values.get(VENDOR_ID)),
  });
  return withNested(made, isSet.has("hv_hint_evmcs"));
}

function toSpinlocks(text: string | undefined): number {
  if (text === undefined) return NEVER_NOTIFY;
  const value = /^(?:0x[0-9a-f]{1,8}|\d{1,10})$/i.test(text) ? Number(text) : Number.NaN;
  if (value <= NEVER_NOTIFY) return value;
  throw new RangeError(`${SPINLOCKS}: expected a 32-bit number, got ${JSON.stringify(text)}`);
}

/** Returns the fields of the vendor's name; without a name, the table keeps "Microsoft Hv". */
function vendorFields(text: string | undefined): CpuidFieldValuesInput {
  if (text === undefined) return {};
  if (!/^[\x20-\x7e]{1,12}$/.test(text)) {
    throw new RangeError(
      `${VENDOR_ID}: expected 1 to 12 printable ASCII characters, got ${JSON.stringify(text)}`,
    );
  }
  const word = (at: number): number =>
    [3, 2, 1, 0].reduce((value, i) => ((value << 8) | (text.charCodeAt(at + i) || 0)) >>> 0, 0);
  return { hv_vendor_0: word(0), hv_vendor_1: word(4), hv_vendor_2: word(8) };
}

/** Adds the version of the enlightened VMCS to the leaf with nested features, and the empty leaves before it. */
function withNested(table: CpuidTable, hasEvmcs: boolean): CpuidTable {
  if (!hasEvmcs && table.find(NESTED, 0) === undefined) return table;
  const first = table.find(0x4000_0000, 0);
  let made = table;
  for (let fn = AFTER_LIMITS; fn <= NESTED; fn += 1) made = withSubleaf(made, fn, 0);
  const eax = ((made.find(NESTED, 0)?.eax ?? 0) | (hasEvmcs ? EVMCS_VERSION : 0)) >>> 0;
  const nested = made.withEntry({ function: NESTED, eax });
  return first === undefined ? nested : nested.withEntry({ ...first, eax: NESTED });
}
