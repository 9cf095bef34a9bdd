/** The state of the life-cycle model: a VM, its vCPUs, and the facts about the host that the model reads. */
import type { CpuidEntry2 } from "../../cpuid/entry.ts";
import { CpuidTable } from "../../cpuid/table.ts";
import { type XsavePart, xsaveOf } from "../../cpuid/xsave.ts";

/** The state of a vCPU. */
export interface LifecycleVcpu {
  /** The stored table. While `isDirty` is true, KVM's own bits in it are out of date. */
  readonly stored: readonly CpuidEntry2[];
  /** Whether a SET has succeeded. */
  readonly wasSet: boolean;
  /** Whether the vCPU has run, so that KVM only compares a further table. */
  readonly hasEntered: boolean;
  /** Whether an update of KVM's own bits is deferred. */
  readonly isDirty: boolean;
  /** CR4.OSXSAVE. */
  readonly osxsave: boolean;
  /** CR4.PKE. */
  readonly pke: boolean;
  /** The enable bit of IA32_APIC_BASE. */
  readonly isApicEnabled: boolean;
  /** The MWAIT bit of IA32_MISC_ENABLE. */
  readonly mwait: boolean;
  readonly xcr0: bigint;
  readonly xss: bigint;
  /** The base of KVM's signature in the table of the last successful SET. */
  readonly pvBase: number | undefined;
}

/** The options of a VM that exist before its vCPUs. */
export interface LifecycleVmOptions {
  /** Whether HLT exits are disabled (KVM_CAP_X86_DISABLE_EXITS). */
  readonly hltExitsOff: boolean;
  /** Whether the quirk MISC_ENABLE_NO_MWAIT is disabled. */
  readonly mwaitQuirkOff: boolean;
  /** Whether the VM has an interrupt controller in the kernel; the model predicts the same answers with and without. */
  readonly irqchip: boolean;
}

/** The state of a VM. */
export interface LifecycleVm extends LifecycleVmOptions {
  readonly vcpus: readonly LifecycleVcpu[];
}

/** A vCPU after KVM_CREATE_VCPU. */
export const FRESH_VCPU: LifecycleVcpu = Object.freeze({
  stored: Object.freeze([]),
  wasSet: false,
  hasEntered: false,
  isDirty: false,
  osxsave: false,
  pke: false,
  isApicEnabled: true,
  mwait: false,
  xcr0: 1n,
  xss: 0n,
  pvBase: undefined,
});

/** Makes a VM with this number of new vCPUs. */
export function freshVm(options: LifecycleVmOptions, vcpus: number): LifecycleVm {
  const { hltExitsOff, mwaitQuirkOff, irqchip } = options;
  return {
    hltExitsOff,
    mwaitQuirkOff,
    irqchip,
    vcpus: Array.from({ length: vcpus }, () => FRESH_VCPU),
  };
}

/** The facts about the host that the model reads. */
export interface LifecycleHost {
  /** The features that KVM supports for guests. */
  readonly supported: CpuidTable;
  /** The components that KVM allows in XCR0. */
  readonly xcr0: bigint;
  /** The components that KVM allows in IA32_XSS; 0 without XSAVES. */
  readonly xss: bigint;
  /** The components of the XSAVE area, with their sizes. */
  readonly parts: readonly XsavePart[];
}

/** Reads the facts about the host from the entries of KVM_GET_SUPPORTED_CPUID. */
export function lifecycleHost(supported: Iterable<CpuidEntry2>): LifecycleHost {
  const table = CpuidTable.from(supported);
  const layout = xsaveOf(table);
  return {
    supported: table,
    xcr0: layout?.xcr0 ?? 0n,
    xss: table.has("xsaves") ? (layout?.xss ?? 0n) : 0n,
    parts: layout?.parts ?? [],
  };
}
