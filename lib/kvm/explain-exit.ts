/** What an exit means, from the exit and its vCPU. Judging it is explain/exit.ts. */
import { type ExplainedExit, explainExit as explain } from "../explain/exit.ts";
import type { Exit } from "./exit.ts";
import { vendorModule } from "./host.ts";
import type { Vcpu } from "./vcpu.ts";

const EXPLAINED: readonly Exit["kind"][] = [
  "shutdown",
  "fail_entry",
  "hw",
  "internal_error",
  "memory_fault",
  "mmio",
];

/**
 * Says what an exit means that ends a guest: the name of KVM's suberror and of the hardware's exit code,
 * where the instruction was fetched from, which check a state fails, which exception was being
 * delivered, in which slot an address lies.
 *
 * Call it before the vCPU runs on. It asks the vCPU (KVM_GET_SREGS, KVM_GET_REGS and, after a shutdown,
 * KVM_GET_VCPU_EVENTS) and reads page tables in guest memory; no run does so by itself. Of these only
 * KVM_GET_VCPU_EVENTS changes anything: CR2 and DR6 take over a pending exception's payload.
 *
 * @returns one line; `undefined` when the exit says all there is, or the vCPU is closed or runs.
 */
export function explainExit(exit: Exit, vcpu: Vcpu): string | undefined {
  if (!EXPLAINED.includes(exit.kind)) return undefined;
  const { memory } = vcpu.vm;
  return explain(exit as ExplainedExit, {
    vendor: vendorModule(),
    sregs: () => vcpu.getSregs(),
    regs: () => vcpu.getRegs(),
    events: () => vcpu.getVcpuEvents(),
    slots: () => memory.slots(),
    read: (gpa) => {
      if (memory.at(gpa) === undefined) return undefined;
      const bytes = memory.read(gpa, 8);
      return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
    },
  });
}
