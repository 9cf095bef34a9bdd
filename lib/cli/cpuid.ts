/** `node-kvm cpuid`: showing a table, naming the differences of two. */
import { readFileSync } from "node:fs";
import { CpuidTable, diff, printDiff, printTable } from "../cpuid/index.ts";
import { Kvm } from "../kvm/kvm.ts";

/** How a table is printed. */
export type TableForm = "fields" | "raw" | "json";

const HOST_TABLES = {
  supported: (kvm: Kvm) => kvm.getSupportedCpuid(),
  emulated: (kvm: Kvm) => kvm.getEmulatedCpuid(),
  hyperv: (kvm: Kvm) => kvm.getSupportedHvCpuid(),
} as const;

const NAMES = Object.keys(HOST_TABLES).join(", ");

/** Prints the table that `source` names. */
export function cpuidShow(source: string, form: TableForm): void {
  const table = load(source);
  const text =
    form === "json" ? JSON.stringify(table, null, 2) : printTable(table, { format: form });
  process.stdout.write(`${text.trimEnd()}\n`);
}

/** Prints in which fields two tables differ; returns 1 when they do. */
export function cpuidDiff(before: string, after: string): number {
  const changes = diff(load(before), load(after));
  if (changes.length > 0) process.stdout.write(`${printDiff(changes).trimEnd()}\n`);
  return changes.length === 0 ? 0 : 1;
}

function load(source: string): CpuidTable {
  if (Object.hasOwn(HOST_TABLES, source)) {
    using kvm = Kvm.open();
    return CpuidTable.from(HOST_TABLES[source as keyof typeof HOST_TABLES](kvm));
  }
  try {
    const json: unknown = JSON.parse(readFileSync(source, "utf8"));
    return CpuidTable.fromJSON(json);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new SyntaxError(`${source} is neither ${NAMES} nor a JSON table: ${why}`, { cause });
  }
}
