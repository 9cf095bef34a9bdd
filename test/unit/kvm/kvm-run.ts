/** Shared by tests of exits: kvm_run as a kernel would fill it, and its exit. */
import { Run } from "../../../lib/abi/generated/structs.ts";
import { offsetOf, type StructInput, write } from "../../../lib/abi/struct.ts";
import type { Exit } from "../../../lib/kvm/exits/exit.ts";
import { decodeExit } from "../../../lib/kvm/exits/exit.ts";
import { ExitSource } from "../../../lib/kvm/exits/source.ts";

/** As x86 maps it: kvm_run, the page of port data, the ring of coalesced MMIO. */
export const MAPPED: number = 3 * 4096;
/** Where the exit's union begins. */
export const UNION: number = offsetOf(Run, "hw");

/** A vCPU's mapping with these fields set and all else zero. */
export function mapped(fields: StructInput<Run>): Uint8Array {
  const bytes = new Uint8Array(MAPPED);
  write(Run, fields, bytes);
  return bytes;
}

/** The mapping as the vCPU "vcpu 0" has it. */
export const sourceOf = (bytes: Uint8Array): ExitSource => new ExitSource(bytes, "vcpu 0");

/** The exit that a mapping holds. */
export const decoded = (bytes: Uint8Array): Exit => decodeExit(sourceOf(bytes));

/** The exit of a mapping with these fields. */
export const decode = (fields: StructInput<Run>): Exit => decoded(mapped(fields));

/** A u64 of `kvm_run`, such as `"hypercall.ret"`. */
export function wordAt(bytes: Uint8Array, path: string): bigint {
  return new DataView(bytes.buffer).getBigUint64(offsetOf(Run, path), true);
}

/** Where two states of a mapping differ. */
export function changes(before: Uint8Array, after: Uint8Array): readonly number[] {
  return Array.from(before.keys()).filter((at) => before[at] !== after[at]);
}
