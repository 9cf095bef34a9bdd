/** The exits of x86 by number, with the fields of `kvm_run` that describe each. */
import * as constants from "../abi/generated/constants.ts";

/** The description of an exit. */
export interface ExitFields {
  /** The C name of its reason. */
  readonly name: string;
  /** Fields of kvm_run, by their C names, that are the same whenever the guest does the same. */
  readonly fields: readonly string[];
  /** Fields that may differ from run to run, and the reason. */
  readonly varying?: { readonly fields: readonly string[]; readonly why: string };
}

const MSR = ["msr.reason", "msr.index"];

/** By `exit_reason`. */
export const EXIT_FIELDS: Readonly<Record<number, ExitFields>> = {
  [constants.KVM_EXIT_UNKNOWN]: {
    name: "KVM_EXIT_UNKNOWN",
    fields: [],
    varying: { fields: ["hw.hardware_exit_reason"], why: "each vendor has its own numbers" },
  },
  [constants.KVM_EXIT_EXCEPTION]: {
    name: "KVM_EXIT_EXCEPTION",
    fields: ["ex.exception", "ex.error_code"],
  },
  [constants.KVM_EXIT_IO]: {
    name: "KVM_EXIT_IO",
    fields: ["io.direction", "io.size", "io.port", "io.count"],
  },
  [constants.KVM_EXIT_HYPERCALL]: {
    name: "KVM_EXIT_HYPERCALL",
    fields: ["hypercall.nr", "hypercall.args"],
  },
  [constants.KVM_EXIT_DEBUG]: {
    name: "KVM_EXIT_DEBUG",
    fields: ["debug.arch.exception", "debug.arch.pc", "debug.arch.dr6", "debug.arch.dr7"],
  },
  [constants.KVM_EXIT_HLT]: { name: "KVM_EXIT_HLT", fields: [] },
  [constants.KVM_EXIT_MMIO]: {
    name: "KVM_EXIT_MMIO",
    fields: ["mmio.phys_addr", "mmio.len", "mmio.is_write"],
  },
  [constants.KVM_EXIT_IRQ_WINDOW_OPEN]: { name: "KVM_EXIT_IRQ_WINDOW_OPEN", fields: [] },
  [constants.KVM_EXIT_SHUTDOWN]: { name: "KVM_EXIT_SHUTDOWN", fields: [] },
  [constants.KVM_EXIT_FAIL_ENTRY]: {
    name: "KVM_EXIT_FAIL_ENTRY",
    fields: ["fail_entry.hardware_entry_failure_reason"],
    varying: { fields: ["fail_entry.cpu"], why: "the CPU that happened to run it" },
  },
  [constants.KVM_EXIT_INTR]: { name: "KVM_EXIT_INTR", fields: [] },
  [constants.KVM_EXIT_SET_TPR]: { name: "KVM_EXIT_SET_TPR", fields: [] },
  [constants.KVM_EXIT_TPR_ACCESS]: {
    name: "KVM_EXIT_TPR_ACCESS",
    fields: ["tpr_access.rip", "tpr_access.is_write"],
  },
  [constants.KVM_EXIT_NMI]: { name: "KVM_EXIT_NMI", fields: [] },
  [constants.KVM_EXIT_INTERNAL_ERROR]: {
    name: "KVM_EXIT_INTERNAL_ERROR",
    fields: ["internal.suberror"],
    varying: {
      fields: ["internal.ndata", "internal.data"],
      why: "KVM says here what it knows, which its releases extend",
    },
  },
  [constants.KVM_EXIT_SYSTEM_EVENT]: {
    name: "KVM_EXIT_SYSTEM_EVENT",
    fields: ["system_event.type", "system_event.ndata"],
  },
  [constants.KVM_EXIT_IOAPIC_EOI]: { name: "KVM_EXIT_IOAPIC_EOI", fields: ["eoi.vector"] },
  [constants.KVM_EXIT_HYPERV]: { name: "KVM_EXIT_HYPERV", fields: ["hyperv.type"] },
  [constants.KVM_EXIT_X86_RDMSR]: { name: "KVM_EXIT_X86_RDMSR", fields: MSR },
  [constants.KVM_EXIT_X86_WRMSR]: { name: "KVM_EXIT_X86_WRMSR", fields: [...MSR, "msr.data"] },
  [constants.KVM_EXIT_DIRTY_RING_FULL]: { name: "KVM_EXIT_DIRTY_RING_FULL", fields: [] },
  [constants.KVM_EXIT_AP_RESET_HOLD]: { name: "KVM_EXIT_AP_RESET_HOLD", fields: [] },
  [constants.KVM_EXIT_X86_BUS_LOCK]: { name: "KVM_EXIT_X86_BUS_LOCK", fields: [] },
  [constants.KVM_EXIT_XEN]: { name: "KVM_EXIT_XEN", fields: ["xen.type"] },
  [constants.KVM_EXIT_NOTIFY]: { name: "KVM_EXIT_NOTIFY", fields: ["notify.flags"] },
  [constants.KVM_EXIT_MEMORY_FAULT]: {
    name: "KVM_EXIT_MEMORY_FAULT",
    fields: ["memory_fault.flags", "memory_fault.gpa", "memory_fault.size"],
  },
};

/** Returns the C name of an exit reason; its number if x86 does not have it. */
export function exitName(reason: number): string {
  return EXIT_FIELDS[reason]?.name ?? `exit_reason ${reason}`;
}
