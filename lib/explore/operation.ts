/**
 * The operations that the explorer plans: JSON values whose tables are a base and a list of edits. An operation gets its
 * table when it is executed, so a list stays valid if operations are removed from it.
 */
import type { CpuidEntry2 } from "../cpuid/index.ts";
import type { LifecycleOperation, LifecycleVm, LifecycleVmOptions } from "../oracle/index.ts";
import { applyEdits, type TableBase, type TableEdit } from "./edits.ts";

/** The operations that are the same before and during their execution. */
type Plain = Exclude<
  LifecycleOperation,
  { call: "setCpuid2" | "setCpuid" | "getCpuid2" | "xcr0" | "xss" }
>;

/** A planned operation. */
export type PlannedOperation =
  | Plain
  | {
      readonly call: "setCpuid2" | "setCpuid";
      readonly vcpu: number;
      readonly base: TableBase;
      readonly edits: readonly TableEdit[];
    }
  /** `short` is room for one entry less than the table has. */
  | { readonly call: "getCpuid2"; readonly vcpu: number; readonly room: "all" | "short" }
  /** The value is hexadecimal text, because JSON has no 64-bit integers. */
  | { readonly call: "xcr0" | "xss"; readonly vcpu: number; readonly value: string };

/** A list of operations on one VM. */
export interface Sequence {
  readonly vm: LifecycleVmOptions;
  readonly operations: readonly PlannedOperation[];
}

/** The number of vCPUs of each VM. */
export const VCPUS = 2;

/** The largest number of entries of a table. */
const ROOM = 256;

/** Returns the operation that is executed in a state of the model. */
export function concrete(
  planned: PlannedOperation,
  vm: LifecycleVm,
  supported: readonly CpuidEntry2[],
): LifecycleOperation {
  switch (planned.call) {
    case "setCpuid2":
    case "setCpuid": {
      const { call, vcpu, base, edits } = planned;
      const bases = { supported, stored: vm.vcpus[vcpu]?.stored ?? [], none: [] };
      return { call, vcpu, entries: applyEdits(bases[base], edits) };
    }
    case "getCpuid2": {
      const { call, vcpu, room } = planned;
      const count = vm.vcpus[vcpu]?.stored.length ?? 0;
      return { call, vcpu, room: room === "all" ? ROOM : Math.max(0, count - 1) };
    }
    case "xcr0":
    case "xss":
      return { call: planned.call, vcpu: planned.vcpu, value: BigInt(planned.value) };
    default:
      return planned;
  }
}

/** Formats a sequence as JSON with one operation per line; {@link parseSequence} reads it. */
export function formatSequence({ vm, operations }: Sequence): string {
  const lines = operations.map((operation) => `    ${JSON.stringify(operation)}`);
  return `{\n  "vm": ${JSON.stringify(vm)},\n  "operations": [\n${lines.join(",\n")}\n  ]\n}\n`;
}
