/**
 * A saved machine: plain values of the kernel's own structs, one property per part. The list of parts and the order of
 * restoring are parts.ts; documents of it are json.ts and binary.ts.
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

/** The document's format, its first field. */
export const STATE_FORMAT = "node-kvm-state";

/** The version of the format that this package writes, and the only one that it reads. */
export const STATE_VERSION = 1;

/** The parts of a vCPU. A part is absent if the kernel or the VM does not have it. */
export interface VcpuParts {
  /** The CPUID table, as KVM_GET_CPUID2 returns it. */
  readonly cpuid?: readonly CpuidEntry2[];
  /**
   * The frequency of the guest's TSC in kHz, at most 0xfffff000: KVM_GET_TSC_KHZ returns it as an int, in which
   * a larger number is an errno.
   */
  readonly tscKhz?: number;
  /** Segments, control registers, EFER, APIC base, and the PDPTRs of PAE paging. */
  readonly sregs2?: Sregs2;
  /** The same registers without PDPTRs, from a kernel without KVM_CAP_SREGS2; never beside `sregs2`. */
  readonly sregs?: Sregs;
  /** The general registers, RIP and RFLAGS. */
  readonly regs?: Regs;
  /** DR0 to DR3, DR6, DR7. */
  readonly debugregs?: Debugregs;
  /** XCR0. */
  readonly xcrs?: Xcrs;
  /** The XSAVE area, not compacted: x87, SSE, AVX, PKRU, AMX tiles. The area has at least 4096 bytes. */
  readonly xsave?: Uint8Array;
  /** Every MSR that KVM can read, including TSC and TSC deadline. */
  readonly msrs?: readonly MsrEntry[];
  /** The local APIC, where it is in the kernel. */
  readonly lapic?: LapicState;
  /** Pending exceptions, interrupts, NMIs and SMIs. */
  readonly vcpuEvents?: VcpuEvents;
  /** A `KVM_MP_STATE_*`: running, halted, waiting for an IPI. */
  readonly mpState?: number;
  /** A `struct kvm_nested_state`, whose `size` field is its size in bytes. */
  readonly nestedState?: Uint8Array;
}

/** A vCPU that is not running. */
export interface VcpuState extends VcpuParts {
  /** The id that was passed to KVM_CREATE_VCPU. */
  readonly id: number;
}

/** `struct kvm_ioapic_state`, with each entry of its redirection table as 64 bits. */
export interface IoapicRegisters {
  /** The guest physical address. */
  readonly baseAddress: bigint;
  /** The selected register. */
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
  /** kvmclock, in nanoseconds. */
  readonly clock?: ClockData;
  /** The 8254, and the speaker's gate. */
  readonly pit2?: PitState2;
}

/** The host of the save; restoring ignores it. */
export interface StateSource {
  /** The kernel's release. */
  readonly kernel: string;
  /** The vendor module: `kvm_amd`, `kvm_intel`. */
  readonly vendor?: string;
}

/**
 * A VM that is not running, without its memory: one document.
 *
 * Save guest memory separately and restore it first. The document does not contain the VM's settings, because KVM
 * cannot return them: memory slots, enabled capabilities, interrupt routes.
 */
export interface VmState extends VmParts {
  /** Always `"node-kvm-state"`. */
  readonly format: typeof STATE_FORMAT;
  /** The version of the format. */
  readonly version: typeof STATE_VERSION;
  /** The host of the save. */
  readonly source: StateSource;
  /** The VM's vCPUs, in the order in which they were passed. */
  readonly vcpus: readonly VcpuState[];
}

/**
 * Reports faults that no part's shape can detect: two vCPUs with one id, registers in two forms, a wrong size inside.
 * The time is linear in the number of vCPUs.
 */
export function contradictions(state: Pick<VmState, "vcpus">, complaints: Complaints): void {
  const seen = new Map<number, number>();
  for (const [i, { id, sregs, sregs2, nestedState }] of state.vcpus.entries()) {
    const first = seen.get(id);
    if (first === undefined) seen.set(id, i);
    else complaints.add(`vcpus[${i}].id: ${id} is the id of vcpus[${first}] too`);
    if (sregs && sregs2) complaints.add(`vcpus[${i}].sregs: cannot stand beside sregs2`);
    const size = nestedState && read(NestedState, nestedState).size;
    if (size === nestedState?.length) continue;
    complaints.add(`vcpus[${i}].nestedState: says ${size} bytes, and has ${nestedState?.length}`);
  }
}
