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
import { type Capability, capabilityNumber, type EnableCapInput, enableCap } from "./capability.ts";
import { evidenceOf, evidenceOfVm } from "./evidence.ts";
import type { CallContext, Handle, IoctlArgument } from "./handle.ts";
import { noteIrqfd } from "./irqfds.ts";
import type { Kvm } from "./kvm.ts";
import type { MemorySlot } from "./memory/address-space.ts";
import { RunGate } from "./run/run-gate.ts";
import type { RestoreStateOptions, SaveStateOptions } from "./state/vcpu-state.ts";
import { checkVmState, restoreVm, saveVm } from "./state/vm-state.ts";
import { Stats } from "./stats.ts";
import { Vcpu } from "./vcpu.ts";
import { VmDevices } from "./vm-devices.ts";

/** A range of MSRs with a bitmap of allowed accesses: `struct kvm_msr_filter_range`. */
export interface MsrFilterRange {
  /** `KVM_MSR_FILTER_READ`, `KVM_MSR_FILTER_WRITE`. */
  readonly flags: number;
  /** The first MSR. */
  readonly base: number;
  /** One bit per MSR from `base`: 1 allows the access. */
  readonly bitmap: Uint8Array;
  /** The number of MSRs; the default is 8 per byte of the bitmap. */
  readonly nmsrs?: number;
}

/** The MSRs that a guest may access. */
export interface MsrFilterInput {
  /** `KVM_MSR_FILTER_DEFAULT_DENY`: MSRs outside all ranges are denied; otherwise they are allowed. */
  readonly flags?: number;
  /** At most 16. */
  readonly ranges?: readonly MsrFilterRange[];
}

/** A virtual machine. */
export class Vm extends VmDevices {
  /** The KVM that created it. */
  readonly kvm: Kvm;
  /** Controls its vCPUs' runs on their own threads. @internal */
  readonly gate: RunGate = new RunGate();
  readonly #pid: number = process.pid;
  readonly #vcpuIds: number[] = [];
  readonly #enabled = new Map<CapabilityName, readonly bigint[]>();
  #tssAddr: bigint | null = null;
  #identityMapAddr: bigint = IDENTITY_MAP;

  /** Takes a VM's descriptor; use {@link Kvm.createVm}. @internal */
  constructor(fd: NativeFd, kvm: Kvm) {
    super(fd, "vm");
    this.kvm = kvm;
  }

  /**
   * Returns the value of a capability of this VM: 0 if it is absent or unknown, else 1 or a capability-specific number.
   *
   * @ioctl KVM_CHECK_EXTENSION (api.rst 4.4; vm; KVM_CAP_CHECK_EXTENSION_VM)
   */
  checkExtension(capability: Capability): number {
    return this.ioctl(KVM_CHECK_EXTENSION, capabilityNumber(capability), { args: { capability } });
  }

  /**
   * Enables a capability of this VM.
   *
   * @returns 0.
   * @ioctl KVM_ENABLE_CAP (api.rst 4.37 and 7; vm; KVM_CAP_ENABLE_CAP_VM)
   * @throws {@link KvmError} `EINVAL` for an unknown capability, a wrong argument, or a call that is too late.
   */
  enableCap(input: EnableCapInput): number {
    return enableCap(this, input);
  }

  /**
   * Creates a vCPU with an empty CPUID table and the state of a CPU after reset.
   *
   * @param id - its id, which is also its APIC id after reset. An id cannot be used again in the same VM.
   * @ioctl KVM_CREATE_VCPU (api.rst 4.7; vm)
   * @throws {@link KvmError} `EEXIST` if the id was used before, `EINVAL` if it is too large.
   */
  createVcpu(id = 0): Vcpu {
    const given: unknown = id;
    if (typeof given !== "number") {
      throw new TypeError(`createVcpu(): id: expected a number, got ${describe(given)}`);
    }
    return new Vcpu(this.openFd(KVM_CREATE_VCPU, id, { args: { id } }), id, this);
  }

  /**
   * Stops all vCPUs that run on their own threads. Their runs stay pending, and new runs wait. The vCPUs can be read,
   * changed and saved. {@link Vcpu.runSync} throws `ERR_PAUSED`.
   *
   * @returns a promise that resolves when no vCPU runs, or after {@link resume}. A run may still return an exit before
   *   that; its promise then resolves as usual.
   */
  pause(): Promise<void> {
    return this.gate.shut();
  }

  /** Continues the vCPUs that {@link pause} has stopped. */
  resume(): void {
    this.gate.open();
  }

  /**
   * Interrupts the {@link Vcpu.run} of each of this VM's vCPUs, which return `{ kind: "intr" }`, and closes the
   * descriptor. It kicks all vCPUs before it waits for any, so closing the VM before its vCPUs is faster if many guests
   * run. The vCPUs stay open, and the kernel keeps the VM for them.
   */
  override close(): void {
    if (!this.closed) this.gate.end();
    super.close();
  }

  /**
   * Sets the MSRs that a guest may access. Other accesses raise #GP, or exit with KVM_CAP_X86_USER_SPACE_MSR.
   *
   * @ioctl KVM_X86_SET_MSR_FILTER (api.rst 4.97; vm; KVM_CAP_X86_MSR_FILTER)
   * @throws {@link KvmError} `EINVAL`: an undefined flag, too many MSRs in a range, or DEFAULT_DENY without ranges;
   *   `EFAULT`: `nmsrs` exceeds the bitmap.
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
   * Opens the statistics of this VM.
   *
   * @ioctl KVM_GET_STATS_FD (api.rst 4.133; vm; KVM_CAP_BINARY_STATS_FD)
   */
  getStatsFd(): Stats {
    return new Stats(this.openFd(KVM_GET_STATS_FD), "vm stats");
  }

  /**
   * Reads the state of the VM and of the given vCPUs, without memory. `stateToJson` and `stateToBytes` convert the
   * result into a document. No vCPU may run.
   *
   * Pending exits are completed first ({@link Vcpu.completeExit}).
   *
   * @throws {@link KvmError} with the errno of the failed ioctl.
   * @throws {@link StateError} as {@link Vcpu.saveState}.
   * @throws TypeError if a vCPU belongs to another VM, or is listed twice.
   */
  saveState(vcpus: Iterable<Vcpu>, options: SaveStateOptions = {}): VmState {
    return saveVm(this, vcpus, this.kvm.origin, options);
  }

  /**
   * Writes a saved state to this VM and its vCPUs, which then continue where the saved ones stopped. The VM must have
   * been created like the saved one: memory slots with their content, interrupt controllers, timer, capabilities, vCPUs
   * with the same ids. The vCPUs may be new, or may have run with the same CPUID tables.
   *
   * Guest time continues from the saved value: kvmclock and the TSC.
   *
   * It first runs {@link checkState}; if a finding prevents restoring, nothing is written. At the end every part is
   * read back, because KVM accepts some values without storing them. Counters and derived values may differ (MAY_DIFFER
   * of lib/state/read-back.ts). `{ readBack: false }` skips the reads.
   *
   * @throws {@link KvmError} with the errno of the failed ioctl, and what the part requires; the parts before it are
   *   restored.
   * @throws {@link RestoreError} with `findings` if the state does not fit and nothing was written; with `differences`
   *   if all was written and some values read back differently.
   * @throws TypeError if a vCPU belongs to another VM, or is listed twice.
   */
  restoreState(state: VmState, vcpus: Iterable<Vcpu>, options: RestoreStateOptions = {}): void {
    restoreVm(this, state, vcpus, this.kvm.origin, options);
  }

  /**
   * Finds all incompatibilities between a saved state and this VM with its vCPUs, without writing anything: ids, CPUID
   * features, MSRs, XSAVE components, the TSC's frequency, nested state, devices, capabilities. Incompatibilities that
   * only show after the guest's CPUID table was set are not found; {@link restoreState} reports them.
   *
   * @returns the findings, each with whether it prevents restoring; empty if there are none.
   * @throws TypeError if a vCPU belongs to another VM, or is listed twice.
   */
  checkState(state: VmState, vcpus: Iterable<Vcpu>): readonly StateFinding[] {
    return checkVmState(this, state, vcpus, this.kvm.origin);
  }

  /** Records what explains later errors, for calls through any method. */
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

  /** The KVM that created it. */
  protected override above(): Handle {
    return this.kvm;
  }

  /** Returns the evidence that this VM and its KVM can provide after an error. @internal */
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

/** Returns the name of a capability that this package knows. */
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
