/** Reads the CPUID table of this host's CPU with the CPUID instruction. kvm.ts reads KVM's tables. */
import type { CpuidTable } from "../cpuid/table.ts";
import { type CpuidRegisters, walkCpuid } from "../cpuid/walk.ts";
import { native } from "../native.ts";

/** The maximum number of attempts; an attempt fails if the thread moves to another CPU during the reads. */
const MOST_TRIES = 16;

/**
 * Reads the CPUID table of the CPU on which this thread runs. This function does not need KVM. All APIC ids in the
 * table are those of one CPU: if the thread moves to another CPU during the reads, the table is read again. In a
 * virtual machine, the result is the table that the hypervisor provides.
 *
 * @throws Error if the thread moves to another CPU in each of 16 attempts.
 */
export function hostCpuid(): CpuidTable {
  const { hostCpuid: execute } = native();
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  const read = (fn: number, index: number): CpuidRegisters => {
    execute(fn, index, bytes);
    const [eax = 0, ebx = 0, ecx = 0, edx = 0] = [0, 4, 8, 12].map((at) =>
      view.getUint32(at, true),
    );
    return { eax, ebx, ecx, edx };
  };
  // Returns the initial APIC id (leaf 1) and the x2APIC id (leaf 0xB).
  const cpu = (): string => `${read(0x1, 0).ebx >>> 24}.${read(0xb, 0).edx}`;
  for (let attempt = 0; attempt < MOST_TRIES; attempt += 1) {
    const before = cpu();
    const table = walkCpuid(read);
    if (cpu() === before) return table;
  }
  throw new Error(`the thread moved to another CPU during each of ${MOST_TRIES} attempts`);
}
