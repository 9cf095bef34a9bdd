/** `struct kvm_cpuid2` on its way in and out: counts, growing, and who wrote which entry. */

import { Cpuid2, type CpuidEntry2 } from "../abi/generated/structs.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import { read } from "../abi/struct.ts";
import { KvmError } from "../errors.ts";
import { describe } from "../options.ts";
import type { Handle } from "./handle.ts";

/** KVM_MAX_CPUID_ENTRIES in arch/x86/include/asm/kvm_host.h: no vCPU has more. */
export const KVM_MAX_CPUID_ENTRIES = 256;

const HEADER_BYTES = 8;
const ENTRY_BYTES = 40;

/** What a table's entry must have; the rest is zero when left out, as in C. */
export type CpuidEntry2Input = Pick<CpuidEntry2, "function"> & Partial<CpuidEntry2>;

/** Asks for a table whose length only the kernel knows, with more room after each E2BIG. */
export function growCpuid2(handle: Handle, ioctl: Ioctl): readonly CpuidEntry2[] {
  // KVM writes no count back on E2BIG, so the room is doubled. The table itself may be longer than
  // KVM_MAX_CPUID_ENTRIES one day; the kernel then says E2BIG for ever, and this gives up.
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
 * Linux 6.1 leaves `nent` as it was sent instead of writing the count. Where the answer could be
 * that, the table is read twice into differently filled memory: what is equal was written.
 */
export function getCpuid2(handle: Handle, ioctl: Ioctl, nent: number): readonly CpuidEntry2[] {
  if (!Number.isInteger(nent) || nent < 0) {
    throw new RangeError(`getCpuid2(): nent: expected a count of entries, got ${describe(nent)}`);
  }
  const ask = (fill: number): Uint8Array => {
    const bytes = blank(nent, fill);
    handle.ioctl(ioctl, bytes, { args: { nent } });
    return bytes;
  };
  const first = ask(0x5a);
  const entries = read(Cpuid2, first).entries;
  if (entries.length < nent || nent === 0) return entries;
  const second = ask(0xa5);
  const isWritten = (_: unknown, i: number): boolean =>
    first
      .subarray(HEADER_BYTES + i * ENTRY_BYTES, HEADER_BYTES + (i + 1) * ENTRY_BYTES)
      .some((byte, at) => byte === second[HEADER_BYTES + i * ENTRY_BYTES + at]);
  return entries.filter(isWritten);
}

function blank(nent: number, fill: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + nent * ENTRY_BYTES).fill(fill, HEADER_BYTES);
  new DataView(bytes.buffer).setUint32(0, nent, true);
  return bytes;
}
