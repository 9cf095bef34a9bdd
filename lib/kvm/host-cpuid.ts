/** The CPUID table of this host's CPU, read by the instruction itself. KVM's tables are kvm.ts. */
import type { CpuidTable } from "../cpuid/table.ts";
import { type CpuidRegisters, walkCpuid } from "../cpuid/walk.ts";
import { native } from "../native.ts";

/** How often a table is read again because the thread moved to another CPU while it was read. */
const MOST_TRIES = 16;

/**
 * Reads the table of the CPU on which this thread runs. It needs no KVM. The APIC ids are those of one CPU: the table
 * is read again if the thread has moved meanwhile. In a virtual machine it is the table that the hypervisor shows.
 *
 * @throws Error if the thread moves at each of 16 attempts.
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
  // The initial APIC id (leaf 1) and the x2APIC id (leaf 0xB).
  const cpu = (): string => `${read(0x1, 0).ebx >>> 24}.${read(0xb, 0).edx}`;
  for (let attempt = 0; attempt < MOST_TRIES; attempt += 1) {
    const before = cpu();
    const table = walkCpuid(read);
    if (cpu() === before) return table;
  }
  throw new Error(`the thread moved to another CPU during each of ${MOST_TRIES} attempts`);
}
