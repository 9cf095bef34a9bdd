/** The bytes of a struct kvm_cpuid2 as faults.ts and rule-faults.ts change them, without decoding the whole table. */
import { Cpuid2, CpuidEntry2, offsetOf, sizeOf } from "../abi/index.ts";

/** The offset of the count of entries in a struct kvm_cpuid2. */
export const NENT: number = offsetOf(Cpuid2, "nent");
/** The offset of the entries in a struct kvm_cpuid2. */
export const ENTRIES: number = offsetOf(Cpuid2, "entries");

const ENTRY_BYTES = sizeOf(CpuidEntry2);

/** The offsets of the members of a struct kvm_cpuid_entry2. */
export const FUNCTION: number = offsetOf(CpuidEntry2, "function");
export const INDEX: number = offsetOf(CpuidEntry2, "index");
export const FLAGS: number = offsetOf(CpuidEntry2, "flags");
export const EAX: number = offsetOf(CpuidEntry2, "eax");
export const EBX: number = offsetOf(CpuidEntry2, "ebx");
export const ECX: number = offsetOf(CpuidEntry2, "ecx");
export const EDX: number = offsetOf(CpuidEntry2, "edx");
export const PADDING: number = offsetOf(CpuidEntry2, "padding");

/** Yields a view of each entry of a struct kvm_cpuid2. */
export function* entriesOf(bytes: Uint8Array): Generator<DataView> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < view.getUint32(NENT, true); i += 1) {
    yield new DataView(view.buffer, view.byteOffset + ENTRIES + i * ENTRY_BYTES, ENTRY_BYTES);
  }
}
