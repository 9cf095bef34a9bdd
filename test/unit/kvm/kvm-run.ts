/** Functions for the tests of exits: they create a kvm_run as a kernel fills it, and decode its exit. */
import { Run } from "../../../lib/abi/generated/structs.ts";
import { offsetOf, type StructInput, write } from "../../../lib/abi/struct.ts";
import type { Exit } from "../../../lib/kvm/exits/exit.ts";
import { decodeExit } from "../../../lib/kvm/exits/exit.ts";
import { ExitSource } from "../../../lib/kvm/exits/source.ts";

/** The size of x86's mapping: kvm_run, the page of port data, and the ring of coalesced MMIO. */
export const MAPPED: number = 3 * 4096;
/** The offset of the exit's union. */
export const UNION: number = offsetOf(Run, "hw");

/** Creates a vCPU's mapping in which these fields are set and all other bytes are zero. */
export function mapped(fields: StructInput<Run>): Uint8Array {
  const bytes = new Uint8Array(MAPPED);
  write(Run, fields, bytes);
  return bytes;
}

/** Creates the exit source of a vCPU with the label "vcpu 0" from a mapping. */
export const sourceOf = (bytes: Uint8Array): ExitSource => new ExitSource(bytes, "vcpu 0");

/** Decodes the exit in a mapping. */
export const decoded = (bytes: Uint8Array): Exit => decodeExit(sourceOf(bytes));

/** Decodes the exit in a mapping with these fields. */
export const decode = (fields: StructInput<Run>): Exit => decoded(mapped(fields));

/** Reads a u64 of `kvm_run`, such as `"hypercall.ret"`. */
export function wordAt(bytes: Uint8Array, path: string): bigint {
  return new DataView(bytes.buffer).getBigUint64(offsetOf(Run, path), true);
}

/** Lists the offsets at which two states of a mapping differ. */
export function changes(before: Uint8Array, after: Uint8Array): readonly number[] {
  return Array.from(before.keys()).filter((at) => before[at] !== after[at]);
}
