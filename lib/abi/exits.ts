/** The exits of x86: the kind of each exit, and the fields of `kvm_run` that describe it. kvm/exits/ decodes exits. */
import { KVM_EXIT_REASONS } from "./generated/names.ts";
import { Run } from "./generated/structs.ts";
import { offsetOf } from "./struct.ts";

/** The offset of `exit_reason` in `kvm_run`, in bytes. */
export const EXIT_REASON_OFFSET: number = offsetOf(Run, "exitReason");
/** The offset of the exit's union in `kvm_run`, in bytes. */
export const EXIT_UNION_OFFSET: number = offsetOf(Run, "hw");
/** The size of the exit's union in bytes. */
export const EXIT_UNION_BYTES: number = offsetOf(Run, "kvmValidRegs") - EXIT_UNION_OFFSET;

/** The description of an exit. The names of fields are C names, relative to `kvm_run`. */
export interface ExitRow {
  /** The `kind` of the decoded exit. */
  readonly kind: string;
  /** The members of the union that KVM sets for this exit. */
  readonly members: readonly string[];
  /** The fields whose values are the same in each run if the guest executes the same instructions. */
  readonly fields: readonly string[];
  /** Fields whose values may differ between runs, and the reason. */
  readonly varying?: { readonly fields: readonly string[]; readonly why: string };
  /** Fields that are not compared between runs, and the reason. */
  readonly others?: { readonly fields: readonly string[]; readonly why: string };
}

/**
 * The exits of x86 by name: the 27 exits that the code of Linux 7.2 returns (arch/x86/kvm, virt/kvm), and KVM_EXIT_NMI,
 * which only the headers define. All other exit reasons belong to another architecture or a later kernel.
 */
export const EXITS = {
  KVM_EXIT_UNKNOWN: {
    kind: "hw",
    members: ["hw"],
    fields: [],
    varying: { fields: ["hw.hardware_exit_reason"], why: "each vendor has its own numbers" },
  },
  KVM_EXIT_EXCEPTION: {
    kind: "exception",
    members: ["ex"],
    fields: ["ex.exception", "ex.error_code"],
  },
  KVM_EXIT_IO: {
    kind: "io",
    members: ["io"],
    fields: ["io.direction", "io.size", "io.port", "io.count"],
    others: { fields: ["io.data_offset"], why: "the bytes at this offset are compared instead" },
  },
  KVM_EXIT_HYPERCALL: {
    kind: "hypercall",
    members: ["hypercall"],
    fields: ["hypercall.nr", "hypercall.args"],
    others: {
      fields: ["hypercall.ret", "hypercall.longmode", "hypercall.flags"],
      why: "user space sets the result; older kernels set only the lower half of the flags",
    },
  },
  KVM_EXIT_DEBUG: {
    kind: "debug",
    members: ["debug"],
    fields: ["debug.arch.exception", "debug.arch.pc", "debug.arch.dr6", "debug.arch.dr7"],
  },
  KVM_EXIT_HLT: { kind: "hlt", members: [], fields: [] },
  KVM_EXIT_MMIO: {
    kind: "mmio",
    members: ["mmio"],
    fields: ["mmio.phys_addr", "mmio.len", "mmio.is_write"],
    others: { fields: ["mmio.data"], why: "only the first bytes of a write are valid" },
  },
  KVM_EXIT_IRQ_WINDOW_OPEN: { kind: "irq_window_open", members: [], fields: [] },
  KVM_EXIT_SHUTDOWN: { kind: "shutdown", members: [], fields: [] },
  KVM_EXIT_FAIL_ENTRY: {
    kind: "fail_entry",
    members: ["fail_entry"],
    fields: ["fail_entry.hardware_entry_failure_reason"],
    varying: { fields: ["fail_entry.cpu"], why: "the CPU on which KVM_RUN was executed" },
  },
  KVM_EXIT_INTR: { kind: "intr", members: [], fields: [] },
  KVM_EXIT_SET_TPR: { kind: "set_tpr", members: [], fields: [] },
  KVM_EXIT_TPR_ACCESS: {
    kind: "tpr_access",
    members: ["tpr_access"],
    fields: ["tpr_access.rip", "tpr_access.is_write"],
  },
  KVM_EXIT_NMI: { kind: "nmi", members: [], fields: [] },
  KVM_EXIT_INTERNAL_ERROR: {
    kind: "internal_error",
    members: ["internal", "emulation_failure"],
    fields: ["internal.suberror"],
    varying: {
      fields: ["internal.ndata", "internal.data"],
      why: "each release of KVM may add data",
    },
    others: {
      fields: [
        "emulation_failure.suberror",
        "emulation_failure.ndata",
        "emulation_failure.flags",
        "emulation_failure.insn_size",
        "emulation_failure.insn_bytes",
      ],
      why: "the same bytes as `internal`",
    },
  },
  KVM_EXIT_SYSTEM_EVENT: {
    kind: "system_event",
    members: ["system_event"],
    fields: ["system_event.type", "system_event.ndata"],
    others: {
      fields: ["system_event.flags", "system_event.data"],
      why: "only `ndata` words are valid",
    },
  },
  KVM_EXIT_IOAPIC_EOI: { kind: "ioapic_eoi", members: ["eoi"], fields: ["eoi.vector"] },
  KVM_EXIT_HYPERV: {
    kind: "hyperv",
    members: ["hyperv"],
    fields: ["hyperv.type"],
    others: {
      fields: [
        "hyperv.u.synic.msr",
        "hyperv.u.synic.control",
        "hyperv.u.synic.evt_page",
        "hyperv.u.synic.msg_page",
        "hyperv.u.hcall.input",
        "hyperv.u.hcall.result",
        "hyperv.u.hcall.params",
        "hyperv.u.syndbg.msr",
        "hyperv.u.syndbg.control",
        "hyperv.u.syndbg.status",
        "hyperv.u.syndbg.send_page",
        "hyperv.u.syndbg.recv_page",
        "hyperv.u.syndbg.pending_page",
      ],
      why: "the type selects one of these members",
    },
  },
  KVM_EXIT_X86_RDMSR: {
    kind: "x86_rdmsr",
    members: ["msr"],
    fields: ["msr.reason", "msr.index"],
    others: { fields: ["msr.error", "msr.data"], why: "user space sets these fields" },
  },
  KVM_EXIT_X86_WRMSR: {
    kind: "x86_wrmsr",
    members: ["msr"],
    fields: ["msr.reason", "msr.index", "msr.data"],
    others: { fields: ["msr.error"], why: "user space sets this field" },
  },
  KVM_EXIT_DIRTY_RING_FULL: { kind: "dirty_ring_full", members: [], fields: [] },
  KVM_EXIT_AP_RESET_HOLD: { kind: "ap_reset_hold", members: [], fields: [] },
  KVM_EXIT_X86_BUS_LOCK: { kind: "x86_bus_lock", members: [], fields: [] },
  KVM_EXIT_XEN: {
    kind: "xen",
    members: ["xen"],
    fields: ["xen.type"],
    others: {
      fields: [
        "xen.u.hcall.longmode",
        "xen.u.hcall.cpl",
        "xen.u.hcall.input",
        "xen.u.hcall.result",
        "xen.u.hcall.params",
      ],
      why: "the type selects this member",
    },
  },
  KVM_EXIT_NOTIFY: { kind: "notify", members: ["notify"], fields: ["notify.flags"] },
  KVM_EXIT_MEMORY_FAULT: {
    kind: "memory_fault",
    members: ["memory_fault"],
    fields: ["memory_fault.flags", "memory_fault.gpa", "memory_fault.size"],
  },
  KVM_EXIT_TDX: {
    kind: "tdx",
    members: ["tdx"],
    fields: ["tdx.flags", "tdx.nr"],
    others: {
      fields: [
        "tdx.unknown.ret",
        "tdx.unknown.data",
        "tdx.get_quote.ret",
        "tdx.get_quote.gpa",
        "tdx.get_quote.size",
        "tdx.get_tdvmcall_info.ret",
        "tdx.get_tdvmcall_info.leaf",
        "tdx.get_tdvmcall_info.r11",
        "tdx.get_tdvmcall_info.r12",
        "tdx.get_tdvmcall_info.r13",
        "tdx.get_tdvmcall_info.r14",
        "tdx.setup_event_notify.ret",
        "tdx.setup_event_notify.vector",
      ],
      why: "the number selects one of these members",
    },
  },
  KVM_EXIT_SNP_REQ_CERTS: {
    kind: "snp_req_certs",
    members: ["snp_req_certs"],
    fields: ["snp_req_certs.gpa", "snp_req_certs.npages"],
    others: { fields: ["snp_req_certs.ret"], why: "user space sets this field" },
  },
} as const;

/** The name of an exit of x86. */
export type X86ExitName = keyof typeof EXITS;

const names = Object.keys(EXITS) as X86ExitName[];
const byReason = new Map<number, X86ExitName>(
  names.map((name) => [KVM_EXIT_REASONS[name], name] as const),
);

/** Returns the description of an exit reason; `undefined` if x86 does not have it. */
export function exitRow(reason: number): (ExitRow & { readonly name: X86ExitName }) | undefined {
  const name = byReason.get(reason);
  return name === undefined ? undefined : { name, ...EXITS[name] };
}

/** Returns the C name of an exit reason; its number if x86 does not have it. */
export function exitName(reason: number): string {
  return byReason.get(reason) ?? `exit_reason ${reason}`;
}
