/**
 * Passes `struct kvm_cpuid2` to and from the kernel: sets the count, enlarges buffers, and determines the entries that
 * the kernel has written.
 */

import type { CpuidEntry2Input } from "../../abi/cpuid2.ts";
import { Cpuid2, type CpuidEntry2 } from "../../abi/generated/structs.ts";
import type { Ioctl } from "../../abi/ioctl.ts";
import { KVM_MAX_CPUID_ENTRIES } from "../../abi/limits.ts";
import { encode, offsetOf, read, sizeOf } from "../../abi/struct.ts";
import { isUnchanging } from "../../abi/unchanging.ts";
import { KvmError } from "../../errors.ts";
import { describe, toList } from "../../options.ts";

import type { IoctlTarget } from "../handle.ts";

const NENT = offsetOf(Cpuid2, "nent");
const HEADER_BYTES = sizeOf(Cpuid2, 0);
const ENTRY_BYTES = sizeOf(Cpuid2, 1) - HEADER_BYTES;

/** The encoded form of a table that is passed to the kernel. */
export interface EncodedCpuid2 {
  readonly entries: readonly CpuidEntry2Input[];
  /** A whole `struct kvm_cpuid2`. */
  readonly bytes: Uint8Array;
}

const encoded = new WeakMap<object, EncodedCpuid2>();

/**
 * Returns the bytes of a table that never changes, such as a CpuidTable. The bytes are encoded at the first call and
 * kept. To set the same table again, on any vCPU, the package only copies the bytes.
 *
 * @returns the bytes; undefined for an iterable whose entries may have changed since the last call
 */
export function encodedOnce(
  table: Iterable<CpuidEntry2Input>,
  where: string,
): EncodedCpuid2 | undefined {
  if (!isUnchanging(table)) return undefined;
  let found = encoded.get(table);
  if (found === undefined) {
    const entries = Object.freeze(toList(where, table));
    found = { entries, bytes: encode(Cpuid2, { entries }, where) };
    encoded.set(table, found);
  }
  return found;
}

/** Reads a table of unknown length; after each E2BIG, the call is repeated with a larger buffer. */
export function growCpuid2(handle: IoctlTarget, ioctl: Ioctl): readonly CpuidEntry2[] {
  // KVM returns no count with E2BIG, so the buffer is doubled. If a future table exceeds KVM_MAX_CPUID_ENTRIES, the
  // kernel always returns E2BIG, and this function throws that error.
  for (let nent = 64; ; nent *= 2) {
    const bytes = blank(nent, 0);
    try {
      handle.ioctl(ioctl, bytes, { args: { nent } });
      return read(Cpuid2, bytes).entries;
    } catch (error) {
      const grow = error instanceof KvmError && error.code === "E2BIG";
      if (!grow || nent > 16 * KVM_MAX_CPUID_ENTRIES) throw error;
    }
  }
}

/**
 * Reads a vCPU's whole table.
 *
 * Linux 6.1 leaves `nent` unchanged instead of writing the count. If `nent` is unchanged, the table is read twice into
 * buffers with different contents. The kernel has written the entries that are equal in both buffers.
 */
export function getCpuid2(handle: IoctlTarget, ioctl: Ioctl, nent: number): readonly CpuidEntry2[] {
  if (!Number.isInteger(nent) || nent < 0) {
    const Kind = typeof nent === "number" ? RangeError : TypeError;
    throw new Kind(`getCpuid2(): nent: expected a count of entries, got ${describe(nent)}`);
  }
  const readInto = (fill: number): Uint8Array => {
    const bytes = blank(nent, fill);
    handle.ioctl(ioctl, bytes, { args: { nent } });
    return bytes;
  };
  const first = readInto(0x5a);
  const entries = read(Cpuid2, first).entries;
  if (entries.length < nent || nent === 0) return entries;
  const second = readInto(0xa5);
  const isWritten = (_: unknown, i: number): boolean =>
    first
      .subarray(HEADER_BYTES + i * ENTRY_BYTES, HEADER_BYTES + (i + 1) * ENTRY_BYTES)
      .some((byte, at) => byte === second[HEADER_BYTES + i * ENTRY_BYTES + at]);
  return entries.filter(isWritten);
}

function blank(nent: number, fill: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + nent * ENTRY_BYTES).fill(fill, HEADER_BYTES);
  new DataView(bytes.buffer).setUint32(NENT, nent, true);
  return bytes;
}
