/**
 * Returns the CPUID tables of the evidence: the vCPU's table, and the table that KVM supports. lib/oracle has rules
 * that read these tables.
 */
import type { CpuidEntry2 } from "../cpuid/entry.ts";
import { CpuidTable } from "../cpuid/table.ts";
import { type Evidence, known } from "./refusal.ts";

const tables = new WeakMap<readonly CpuidEntry2[], CpuidTable>();

/** Converts entries to a table. The table of each list is cached, because several rules read the same table. */
function tableOf(entries: readonly CpuidEntry2[] | undefined): CpuidTable | undefined {
  if (entries === undefined) return undefined;
  const table = tables.get(entries) ?? CpuidTable.from(entries);
  tables.set(entries, table);
  return table;
}

/** Returns the CPUID table of the refused call's vCPU; undefined if it is unknown. */
export function vcpuTable({ vcpu }: Evidence): CpuidTable | undefined {
  return tableOf(known(vcpu?.cpuid));
}

/** Returns the table of KVM_GET_SUPPORTED_CPUID; undefined if it is unknown. */
export function supportedTable({ kvm }: Evidence): CpuidTable | undefined {
  return tableOf(known(kvm?.supportedCpuid));
}
