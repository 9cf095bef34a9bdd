/**
 * The type of a saved machine: each part is a property, and the value of the property is a struct of the kernel.
 * parts.ts has the list of parts in the order of restoring; json.ts and binary.ts convert a state to documents.
 */
import {
  type ClockData,
  type CpuidEntry2,
  type Debugregs,
  type LapicState,
  type MsrEntry,
  NestedState,
  type PicState,
  type PitState2,
  type Regs,
  type Sregs,
  type Sregs2,
  type VcpuEvents,
  type Xcrs,
} from "../abi/generated/structs.ts";
import { read } from "../abi/struct.ts";
import type { Complaints } from "./error.ts";

/** The value of the field `format`, which is the first field of a document. */
export const STATE_FORMAT = "node-kvm-state";

/** The version of the format. This package writes this version, and reads no other version. */
export const STATE_VERSION = 1;

/** The parts of a vCPU. A part is absent if the kernel or the VM does not have it. */
export interface VcpuParts {
  /** The CPUID table, as KVM_GET_CPUID2 returns it. */
  readonly cpuid?: readonly CpuidEntry2[];
  /**
   * The frequency of the guest's TSC in kHz, at most 0xfffff000, because KVM_GET_TSC_KHZ returns an int in which a
   * larger number represents an errno.
   */
  readonly tscKhz?: number;
  /** The segments, the control registers, EFER, the APIC base, and the PDPTRs of PAE paging. */
  readonly sregs2?: Sregs2;
  /**
   * The same registers as `sregs2`, without the PDPTRs, from a kernel without KVM_CAP_SREGS2. A state has `sregs` or
   * `sregs2`, but not both.
   */
  readonly sregs?: Sregs;
  /** The general registers, RIP and RFLAGS. */
  readonly regs?: Regs;
  /** The debug registers DR0 to DR3, DR6 and DR7. */
  readonly debugregs?: Debugregs;
  /** XCR0. */
  readonly xcrs?: Xcrs;
  /** The XSAVE area in the standard format: x87, SSE, AVX, PKRU, AMX tiles. The area has at least 4096 bytes. */
  readonly xsave?: Uint8Array;
  /** All MSRs that KVM can read, including the TSC and the TSC deadline. */
  readonly msrs?: readonly MsrEntry[];
  /** The local APIC, if it is in the kernel. */
  readonly lapic?: LapicState;
  /** Pending exceptions, interrupts, NMIs and SMIs. */
  readonly vcpuEvents?: VcpuEvents;
  /** The MP state, a `KVM_MP_STATE_*`: running, halted, waiting for an IPI. */
  readonly mpState?: number;
  /** A `struct kvm_nested_state`, whose `size` field is its size in bytes. */
  readonly nestedState?: Uint8Array;
}

/** A vCPU that is not running. */
export interface VcpuState extends VcpuParts {
  /** The id that was passed to KVM_CREATE_VCPU. */
  readonly id: number;
}

/** The `struct kvm_ioapic_state`, in which each entry of the redirection table is a 64-bit number. */
export interface IoapicRegisters {
  /** The guest physical address of the I/O APIC's registers. */
  readonly baseAddress: bigint;
  /** The register that the guest has selected. */
  readonly ioregsel: number;
  readonly id: number;
  /** The lines that request an interrupt. */
  readonly irr: number;
  /** Padding. */
  readonly pad: number;
  /** The 24 entries of the redirection table. */
  readonly redirtbl: readonly bigint[];
}

/** The parts of a VM besides its vCPUs. A part is absent if the VM does not have it. */
export interface VmParts {
  /** The first 8259A. */
  readonly picMaster?: PicState;
  /** The second 8259A. */
  readonly picSlave?: PicState;
  /** The I/O APIC. */
  readonly ioapic?: IoapicRegisters;
  /** The value of kvmclock, in nanoseconds. */
  readonly clock?: ClockData;
  /** The 8254 timer, and the gate of the PC speaker. */
  readonly pit2?: PitState2;
}

/** Information about the host on which the state was saved; restoring ignores it. */
export interface StateSource {
  /** The release of the kernel. */
  readonly kernel: string;
  /** The name of the vendor module: `kvm_amd`, `kvm_intel`. */
  readonly vendor?: string;
}

/**
 * The state of a VM that is not running, without the guest's memory.
 *
 * Save guest memory separately and restore it first. The state does not contain the VM's memory slots, enabled
 * capabilities and interrupt routes, because KVM cannot return these settings.
 */
export interface VmState extends VmParts {
  /** Always `"node-kvm-state"`. */
  readonly format: typeof STATE_FORMAT;
  /** The version of the format. */
  readonly version: typeof STATE_VERSION;
  /** Information about the host on which the state was saved. */
  readonly source: StateSource;
  /** The states of the VM's vCPUs, in the order in which the vCPUs were passed. */
  readonly vcpus: readonly VcpuState[];
}

/**
 * Reports faults that the shape of a single part cannot reveal: two vCPUs with the same id, both `sregs` and `sregs2`,
 * a nested state whose `size` field is wrong. The required time is linear in the number of vCPUs.
 */
export function contradictions(state: Pick<VmState, "vcpus">, complaints: Complaints): void {
  const seen = new Map<number, number>();
  for (const [i, { id, sregs, sregs2, nestedState }] of state.vcpus.entries()) {
    const first = seen.get(id);
    if (first === undefined) seen.set(id, i);
    else complaints.add(`vcpus[${i}].id: ${id} is the id of vcpus[${first}] too`);
    if (sregs && sregs2) complaints.add(`vcpus[${i}].sregs: cannot be used together with sregs2`);
    const size = nestedState && read(NestedState, nestedState).size;
    if (size === nestedState?.length) continue;
    complaints.add(
      `vcpus[${i}].nestedState: the field size is ${size}, but the value has ${nestedState?.length} bytes`,
    );
  }
}
