/** Gathers the evidence to explain an exit, from the exit and its vCPU. explain/exit.ts judges the evidence. */
import { type ExplainedExit, explainExit as explain } from "../../explain/exit.ts";
import { refuseMissing } from "../../options.ts";
import { vendorModule } from "../host.ts";
import type { Vcpu } from "../vcpu.ts";
import type { Exit } from "./exit.ts";

const EXPLAINED: readonly Exit["kind"][] = [
  "shutdown",
  "fail_entry",
  "hw",
  "internal_error",
  "memory_fault",
  "mmio",
];

/**
 * Explains an exit that ends a guest. The explanation names, for example, KVM's suberror, the hardware's exit code, the
 * failed check of the guest's state, the exception that was being delivered, or the slot of an address.
 *
 * Call this function before the vCPU runs again. The function calls KVM_GET_SREGS, KVM_GET_REGS and, after a shutdown,
 * KVM_GET_VCPU_EVENTS, and reads page tables in guest memory. A run does not call this function. Of these calls, only
 * KVM_GET_VCPU_EVENTS has a side effect: a pending exception's payload is written to CR2 or DR6.
 *
 * @returns one line; `undefined` if the exit needs no explanation, or the vCPU is closed or runs.
 */
export function explainExit(exit: Exit, vcpu: Vcpu): string | undefined {
  refuseMissing("explainExit(): exit", exit, ["kind"]);
  refuseMissing("explainExit(): vcpu", vcpu, ["vm"]);
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
