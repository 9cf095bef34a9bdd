/** A virtual machine: its vCPUs, capabilities and filters. Slots are vm-memory.ts, interrupts vm-devices.ts. */

import { isBytes } from "../abi/bytes.ts";
import {
  type CapabilityName,
  KVM_CAPABILITIES,
  KVM_IRQFD_FLAG_DEASSIGN,
} from "../abi/generated/constants.ts";
import {
  KVM_CHECK_EXTENSION,
  KVM_CREATE_VCPU,
  KVM_GET_STATS_FD,
  KVM_X86_SET_MSR_FILTER,
} from "../abi/generated/ioctls.ts";
import { EnableCap, Irqfd, MsrFilter } from "../abi/generated/structs.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import { encode, read } from "../abi/struct.ts";
import { type Evidence, IDENTITY_MAP } from "../explain/index.ts";
import { inspectAs } from "../inspect.ts";
import type { NativeFd } from "../native.ts";
import { describe, refuseMisfit, refuseUnknown, toBytes, toList } from "../options.ts";
import type { StateFinding } from "../state/error.ts";
import type { VmState } from "../state/state.ts";
import type { MemorySlot } from "./address-space.ts";
import { type Capability, capabilityNumber, type EnableCapInput, enableCap } from "./capability.ts";
import { evidenceOf, evidenceOfVm } from "./evidence.ts";
import type { CallContext, Handle, IoctlArgument } from "./handle.ts";
import { noteIrqfd } from "./irqfds.ts";
import type { Kvm } from "./kvm.ts";
import { RunGate } from "./run-gate.ts";
import { Stats } from "./stats.ts";
import { Vcpu } from "./vcpu.ts";
import type { RestoreStateOptions, SaveStateOptions } from "./vcpu-state.ts";
import { VmDevices } from "./vm-devices.ts";
import { checkVmState, restoreVm, saveVm } from "./vm-state.ts";

/** A range of MSRs, and which of them a guest may use: `struct kvm_msr_filter_range`. */
export interface MsrFilterRange {
  /** `KVM_MSR_FILTER_READ`, `KVM_MSR_FILTER_WRITE`. */
  readonly flags: number;
  /** The first MSR. */
  readonly base: number;
  /** A bit an MSR from `base` on: 1 allows. */
  readonly bitmap: Uint8Array;
  /** How many MSRs; 8 a byte of the bitmap when left out. */
  readonly nmsrs?: number;
}

/** Which MSRs a guest may use. */
export interface MsrFilterInput {
  /** `KVM_MSR_FILTER_DEFAULT_DENY`: what no range has is refused; else allowed. */
  readonly flags?: number;
  /** At most 16. */
  readonly ranges?: readonly MsrFilterRange[];
}

/** A virtual machine. */
export class Vm extends VmDevices {
  /** The KVM that made it. */
  readonly kvm: Kvm;
  /** What its vCPUs pass to run beside the event loop. @internal */
  readonly gate: RunGate = new RunGate();
  readonly #pid: number = process.pid;
  readonly #vcpuIds: number[] = [];
  readonly #enabled = new Map<CapabilityName, readonly bigint[]>();
  #tssAddr: bigint | null = null;
  #identityMapAddr: bigint = IDENTITY_MAP;

  /** Takes over a VM's descriptor; {@link Kvm.createVm} makes one. @internal */
  constructor(fd: NativeFd, kvm: Kvm) {
    super(fd, "vm");
    this.kvm = kvm;
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
   * @returns 0.
   * @ioctl KVM_ENABLE_CAP (api.rst 4.37 and 7; vm; KVM_CAP_ENABLE_CAP_VM)
   * @throws {@link KvmError} `EINVAL` for an unknown capability, a wrong argument, or too late.
   */
  enableCap(input: EnableCapInput): number {
    return enableCap(this, input);
  }

  /**
   * Makes a vCPU, with an empty CPUID table and the state of a CPU after reset.
   *
   * @param id - its number, which is also its APIC id after reset; unique in the VM for ever.
   * @ioctl KVM_CREATE_VCPU (api.rst 4.7; vm)
   * @throws {@link KvmError} `EEXIST` when the id was used before, `EINVAL` when it is too large.
   */
  createVcpu(id = 0): Vcpu {
    const given: unknown = id;
    if (typeof given !== "number") {
      throw new TypeError(`createVcpu(): id: expected a number, got ${describe(given)}`);
    }
    return new Vcpu(this.openFd(KVM_CREATE_VCPU, id, { args: { id } }), id, this);
  }

  /**
   * Stops all vCPUs that run beside the event loop. Their runs stay pending, and those that are begun
   * meanwhile wait; the vCPUs can be looked at, changed and saved. {@link Vcpu.runSync} is refused.
   *
   * @returns a promise that is settled when none runs any more, or with {@link resume}. A run may end
   *   with an exit just before; it is settled as ever.
   */
  pause(): Promise<void> {
    return this.gate.shut();
  }

  /** Lets the vCPUs go on that {@link pause} has stopped. */
  resume(): void {
    this.gate.open();
  }

  /**
   * Ends the runs of this VM's vCPUs that are under way beside the event loop, with `{ kind: "intr" }`, and
   * closes the descriptor. All of them are asked to end before any is waited for, so closing the VM
   * before its vCPUs is the fast order while many guests run. The vCPUs stay open: the kernel keeps the
   * VM for them.
   */
  override close(): void {
    if (!this.closed) this.gate.end();
    super.close();
  }

  /**
   * Says which MSRs a guest may use; what it may not is `#GP`, or an exit with
   * KVM_CAP_X86_USER_SPACE_MSR.
   *
   * @ioctl KVM_X86_SET_MSR_FILTER (api.rst 4.97; vm; KVM_CAP_X86_MSR_FILTER)
   * @throws {@link KvmError} `EINVAL`: a flag that there is not, too many MSRs in a range, or
   *   DEFAULT_DENY without ranges; `EFAULT`: `nmsrs` reaches past the bitmap.
   */
  x86SetMsrFilter(filter: MsrFilterInput): void {
    const where = "x86SetMsrFilter()";
    refuseUnknown(where, filter, ["flags", "ranges"], "member");
    const { flags = 0, ranges: given = [] } = filter;
    const links: Uint8Array[] = [];
    const ranges = toList(`${where}: ranges`, given).map((range, i) => {
      refuseMisfit(`${where}: ranges[${i}]`, range, ["flags", "base", "bitmap"], ["nmsrs"]);
      const { base, bitmap, nmsrs } = range;
      const bytes = toBytes(`${where}: ranges[${i}].bitmap`, bitmap);
      links.push(wholeLongs(bytes));
      return { flags: range.flags, base, nmsrs: nmsrs ?? 8 * bytes.length };
    });
    const argument = encode(MsrFilter, { flags, ranges }, where);
    this.ioctl(KVM_X86_SET_MSR_FILTER, argument, { args: { flags, ranges }, links });
  }

  /**
   * Opens what KVM counts for this VM.
   *
   * @ioctl KVM_GET_STATS_FD (api.rst 4.133; vm; KVM_CAP_BINARY_STATS_FD)
   */
  getStatsFd(): Stats {
    return new Stats(this.openFd(KVM_GET_STATS_FD), "vm stats");
  }

  /**
   * Reads the state of the VM and of those of its vCPUs that are given, without its memory: a value that
   * `stateToJson` and `stateToBytes` make a document of. No vCPU may run.
   *
   * Pending exits are completed first ({@link Vcpu.completeExit}).
   *
   * @throws {@link KvmError} with the errno of the ioctl that KVM refused.
   * @throws {@link StateError} as {@link Vcpu.saveState}.
   * @throws TypeError when a vCPU is another VM's, or is given twice.
   */
  saveState(vcpus: Iterable<Vcpu>, options: SaveStateOptions = {}): VmState {
    return saveVm(this, vcpus, this.kvm.origin, options);
  }

  /**
   * Puts a saved state into this VM and its vCPUs, which go on where the saved ones stood. The VM must
   * have been made like the saved one: memory slots with their content, interrupt controllers, timer,
   * capabilities, vCPUs of the same ids. These may be fresh, or have run with the same CPUID tables.
   *
   * Time goes on from where it stood, kvmclock as the TSC.
   *
   * First {@link checkState} is asked; if one of its findings prevents restoring, nothing is written. After all was
   * written every part is read back, because KVM takes some values and loses them. What counts or is derived may
   * differ (MAY_DIFFER of lib/state/read-back.ts). `{ readBack: false }` leaves that out.
   *
   * @throws {@link KvmError} with the errno of the ioctl that KVM refused, and what it can mean; the parts before it
   *   are restored.
   * @throws {@link RestoreError} with `findings` when the state does not fit, and nothing was written; with
   *   `differences` when all was written, and some of it reads other than it was saved.
   * @throws TypeError when a vCPU is another VM's, or is given twice.
   */
  restoreState(state: VmState, vcpus: Iterable<Vcpu>, options: RestoreStateOptions = {}): void {
    restoreVm(this, state, vcpus, this.kvm.origin, options);
  }

  /**
   * Finds everything in which a saved state does not fit this VM and its vCPUs, without writing anything: ids,
   * CPUID features, MSRs, XSAVE components, the TSC's frequency, nested state, devices, capabilities.
   * What does not show before the guest's own CPUID table is set is not found; {@link restoreState} says it.
   *
   * @returns the findings; those that prevent restoring say so. Empty when nothing was found.
   * @throws TypeError when a vCPU is another VM's, or is given twice.
   */
  checkState(state: VmState, vcpus: Iterable<Vcpu>): readonly StateFinding[] {
    return checkVmState(this, state, vcpus, this.kvm.origin);
  }

  /** Notes what explains later refusals, whichever method the call came through. */
  protected override taken(
    ioctl: Ioctl,
    argument: IoctlArgument | undefined,
    { links }: CallContext,
  ): void {
    const bytes = isBytes(argument) ? argument : new Uint8Array();
    switch (ioctl.name) {
      case "KVM_CREATE_VCPU":
        this.#vcpuIds.push(Number(argument));
        return;
      case "KVM_ENABLE_CAP": {
        const { cap, args } = read(EnableCap, bytes);
        const name = nameOf(cap);
        if (name !== undefined) this.#enabled.set(name, args);
        return;
      }
      case "KVM_SET_TSS_ADDR":
        this.#tssAddr = BigInt(Number(argument));
        return;
      case "KVM_SET_IDENTITY_MAP_ADDR":
        this.#identityMapAddr =
          new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true) || IDENTITY_MAP;
        return;
      case "KVM_IRQFD":
        noteIrqfd(links?.[0], this, (read(Irqfd, bytes).flags & KVM_IRQFD_FLAG_DEASSIGN) !== 0);
        return;
      default:
    }
  }

  /** The KVM that made it. */
  protected override above(): Handle {
    return this.kvm;
  }

  /** What this VM, and its KVM, can be asked about a refusal. @internal */
  override evidence(): Evidence {
    const history = {
      pid: this.#pid,
      vcpuIds: this.#vcpuIds,
      enabled: this.#enabled,
      tssAddr: this.#tssAddr,
      identityMapAddr: this.#identityMapAddr,
    };
    return {
      kvm: evidenceOf(this.kvm),
      vm: evidenceOfVm(this, history, () => this.#slots()),
    };
  }

  /** The slots of both address spaces. */
  #slots(): readonly MemorySlot[] {
    return [0, 1].flatMap((id) => this.addressSpace(id).slots());
  }

  static {
    inspectAs(Vm, (it) => ({
      vcpus: it.#vcpuIds.length,
      slots: it.#slots().length,
      closed: it.closed,
    }));
  }
}

/** The name of a capability that this package knows. */
function nameOf(cap: number): CapabilityName | undefined {
  const names = Object.keys(KVM_CAPABILITIES) as CapabilityName[];
  return names.find((name) => KVM_CAPABILITIES[name] === cap);
}

/** KVM reads bitmaps in longs (BITS_TO_LONGS in kvm_add_msr_filter). */
function wholeLongs(bitmap: Uint8Array): Uint8Array {
  const padded = new Uint8Array(Math.ceil(bitmap.length / 8) * 8);
  padded.set(bitmap);
  return padded;
}
