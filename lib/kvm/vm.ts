/** A virtual machine: its memory slots, its irqchip, its vCPUs. What runs is vcpu.ts. */
import {
  KVM_CHECK_EXTENSION,
  KVM_CREATE_IRQCHIP,
  KVM_CREATE_VCPU,
  KVM_IRQ_LINE,
  KVM_SET_IDENTITY_MAP_ADDR,
  KVM_SET_TSS_ADDR,
} from "../abi/generated/ioctls.ts";
import { IrqLevel } from "../abi/generated/structs.ts";
import { encode } from "../abi/struct.ts";
import { StateError } from "../errors.ts";
import type { NativeFd } from "../native.ts";
import type { VmState } from "../state/state.ts";
import { type Capability, capabilityNumber, type EnableCapInput } from "./capability.ts";
import { type GuestMemory, mappingOf } from "./guest-memory.ts";
import { Handle } from "./handle.ts";
import type { Origin } from "./origin.ts";
import { Vcpu } from "./vcpu.ts";
import type { SaveStateOptions } from "./vcpu-state.ts";
import { restoreVm, saveVm } from "./vm-state.ts";

/** `struct kvm_userspace_memory_region`, with memory where C has an address. */
export interface UserspaceMemoryRegion {
  /** Bits 0-15: the slot; bits 16-31: the address space (1 is SMM). */
  readonly slot: number;
  /** `KVM_MEM_LOG_DIRTY_PAGES`, `KVM_MEM_READONLY`; none when left out. */
  readonly flags?: number;
  /** Where the guest sees it; a multiple of 4096. */
  readonly guestPhysAddr: bigint;
  /** Bytes, a multiple of 4096; all of the memory from `memoryOffset` on when left out, 0 deletes. */
  readonly memorySize?: bigint;
  /** The host memory behind it; only a deletion can leave it out. */
  readonly memory?: GuestMemory;
  /** Where in `memory` the slot begins, in bytes; 0 when left out. */
  readonly memoryOffset?: number;
}

/** A virtual machine. */
export class Vm extends Handle {
  /** What is asked of the /dev/kvm that it came from. @internal */
  readonly origin: Origin;

  /** Takes over a VM's descriptor; {@link Kvm.createVm} makes one. @internal */
  constructor(fd: NativeFd, origin: Origin) {
    super(fd, "vm");
    this.origin = origin;
  }

  /**
   * Asks whether, or how much of, a capability this VM has; 0 means absent, and also unknown.
   *
   * @ioctl KVM_CHECK_EXTENSION (api.rst 4.4; vm; KVM_CAP_CHECK_EXTENSION_VM)
   */
  checkExtension(capability: Capability): number {
    return this.ioctl(KVM_CHECK_EXTENSION, capabilityNumber(capability), { args: { capability } });
  }

  /**
   * Switches on a capability of this VM.
   *
   * @ioctl KVM_ENABLE_CAP (api.rst 4.37 and 7; vm; KVM_CAP_ENABLE_CAP_VM)
   * @throws {@link KvmError} `EINVAL` for an unknown capability, a wrong argument, or too late.
   */
  enableCap(input: EnableCapInput): void {
    this.callEnableCap(input);
  }

  /**
   * Makes, moves or deletes a memory slot. A slot keeps its host memory mapped for as long as a
   * guest can reach it, even when the {@link GuestMemory} is closed.
   *
   * @ioctl KVM_SET_USER_MEMORY_REGION (api.rst 4.35; vm; KVM_CAP_USER_MEMORY)
   * @throws {@link KvmError} `EINVAL` (not page aligned, too large, too many slots), `EEXIST`
   *   (overlaps another slot).
   * @throws RangeError when the slot would reach beyond its memory.
   */
  setUserMemoryRegion(region: UserspaceMemoryRegion): void {
    const { slot, flags = 0, guestPhysAddr, memory, memoryOffset = 0 } = region;
    const mapping = memory === undefined ? null : mappingOf(memory);
    if (memory !== undefined && mapping === null)
      throw new StateError("ERR_CLOSED", "guest memory");
    const rest = (memory?.byteLength ?? 0) - memoryOffset;
    if (rest < 0) {
      throw new RangeError(
        `memoryOffset ${memoryOffset} is beyond ${memory?.byteLength ?? 0} bytes`,
      );
    }
    const memorySize = region.memorySize ?? BigInt(rest);
    const offset = BigInt(memoryOffset);
    const fd = this.fd;
    const answer = fd.setUserMemoryRegion(slot, flags, guestPhysAddr, memorySize, mapping, offset);
    if (answer < 0) {
      const args = { slot, flags, guestPhysAddr, memorySize, memoryOffset };
      throw this.refusal("KVM_SET_USER_MEMORY_REGION", -answer, { args });
    }
  }

  /**
   * Makes a vCPU, with an empty CPUID table and the state of a CPU after reset.
   *
   * @param id - its number, which is also its APIC id after reset; unique in the VM for ever.
   * @ioctl KVM_CREATE_VCPU (api.rst 4.7; vm)
   * @throws {@link KvmError} `EEXIST` when the id was used before, `EINVAL` when it is too large.
   */
  createVcpu(id = 0): Vcpu {
    return new Vcpu(this.openFd(KVM_CREATE_VCPU, id, { args: { id } }), id, this);
  }

  /**
   * Makes the in-kernel interrupt controllers: two PICs, an IOAPIC, and a LAPIC for each vCPU that
   * is made later.
   *
   * @ioctl KVM_CREATE_IRQCHIP (api.rst 4.24; vm; KVM_CAP_IRQCHIP)
   * @throws {@link KvmError} `EINVAL` after the first vCPU, `EEXIST` the second time.
   */
  createIrqchip(): void {
    this.ioctl(KVM_CREATE_IRQCHIP);
  }

  /**
   * Raises (1) or lowers (0) an interrupt line of the in-kernel controllers.
   *
   * @ioctl KVM_IRQ_LINE (api.rst 4.25; vm; KVM_CAP_IRQCHIP)
   */
  irqLine(irq: number, level: 0 | 1): void {
    this.ioctl(KVM_IRQ_LINE, encode(IrqLevel, { irq, level }), { args: { irq, level } });
  }

  /**
   * Says where in guest physical memory KVM may keep three pages of its own (Intel needs them).
   *
   * @ioctl KVM_SET_TSS_ADDR (api.rst 4.36; vm; KVM_CAP_SET_TSS_ADDR)
   */
  setTssAddr(address: number): void {
    this.ioctl(KVM_SET_TSS_ADDR, address, { args: { address } });
  }

  /**
   * Says where in guest physical memory KVM may keep one page of identity map (Intel needs it).
   *
   * @ioctl KVM_SET_IDENTITY_MAP_ADDR (api.rst 4.40; vm; KVM_CAP_SET_IDENTITY_MAP_ADDR)
   */
  setIdentityMapAddr(address: bigint): void {
    const bytes = new Uint8Array(BigUint64Array.of(address).buffer);
    this.ioctl(KVM_SET_IDENTITY_MAP_ADDR, bytes, { args: { address } });
  }

  /**
   * Reads the state of the VM and of those of its vCPUs that are given, without its memory: a value that
   * `stateToJson` and `stateToBytes` make a document of. No vCPU may run.
   *
   * Pending exits are completed first ({@link Vcpu.completeExit}).
   *
   * @throws {@link KvmError} with the errno of the ioctl that KVM refused.
   * @throws {@link StateError} as {@link Vcpu.saveState}.
   */
  saveState(vcpus: Iterable<Vcpu>, options: SaveStateOptions = {}): VmState {
    return saveVm(this, vcpus, this.origin, options);
  }

  /**
   * Puts a saved state into this VM and its vCPUs, which go on where the saved ones stood. The VM must
   * have been made like the saved one: memory slots with their content, interrupt controllers, timer,
   * capabilities, vCPUs of the same ids. These may be fresh, or have run with the same CPUID tables.
   *
   * Time goes on from where it stood, kvmclock as the TSC.
   *
   * @throws {@link KvmError} with the errno of the ioctl that KVM refused, and what it can mean.
   * @throws {@link RestoreError} when the vCPUs are others, or an MSR does not take its value.
   */
  restoreState(state: VmState, vcpus: Iterable<Vcpu>): void {
    restoreVm(this, state, vcpus, this.origin);
  }
}
