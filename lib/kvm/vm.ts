/**
 * The class of a virtual machine. calls/, memory/ and state/ implement parts of the class; generated/vm-ioctls.ts has
 * further ioctls.
 */
import {
  KVM_CHECK_EXTENSION,
  KVM_CREATE_DEVICE,
  KVM_CREATE_GUEST_MEMFD,
  KVM_CREATE_VCPU,
  KVM_GET_STATS_FD,
  KVM_IRQ_LINE,
  KVM_IRQ_LINE_STATUS,
  KVM_MEMORY_ENCRYPT_REG_REGION,
  KVM_MEMORY_ENCRYPT_UNREG_REGION,
} from "../abi/generated/ioctls.ts";
import {
  CreateDevice,
  CreateGuestMemfd,
  IrqLevel,
  type XenHvmAttr,
  type XenHvmConfig,
} from "../abi/generated/structs.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import { encode } from "../abi/struct.ts";
import type { StructInputWith } from "../abi/whole.ts";
import type { Evidence } from "../explain/index.ts";
import { inspectAs } from "../inspect.ts";
import type { NativeFd } from "../native.ts";
import { describe, refuseMissing, toU64 } from "../options.ts";
import type { StateFinding } from "../state/error.ts";
import type { VmState } from "../state/state.ts";
import {
  type Capability,
  capabilityNumber,
  type EnableCapInput,
  enableCap,
} from "./calls/capability.ts";
import {
  type HypervEventfdInput,
  hypervEventfd,
  type IoeventfdInput,
  type IrqfdInput,
  ioeventfd,
  irqfd,
} from "./calls/eventfds.ts";
import {
  type EncRegionInput,
  type MemoryEncryptOpInput,
  memoryEncryptOp,
  setEncRegion,
} from "./calls/memory-encrypt.ts";
import { type MsrFilterInput, setMsrFilter } from "./calls/msr-filter.ts";
import {
  type XenBlobsInput,
  type XenHvmFilesInput,
  xenHvmConfig,
  xenHvmGetAttr,
  xenHvmSetAttr,
} from "./calls/xen.ts";
import { Device } from "./device.ts";
import { evidenceOf, evidenceOfVm } from "./evidence.ts";
import { VmIoctls } from "./generated/vm-ioctls.ts";
import type { Handle, IoctlArgument, IoctlOptions } from "./handle.ts";
import { VmHistory } from "./history.ts";
import { recordIrqfd } from "./irqfds.ts";
import type { Kvm } from "./kvm.ts";
import type { AddressSpace } from "./memory/address-space.ts";
import { type ClearDirtyLogInput, clearDirtyLog, getDirtyLog } from "./memory/dirty-log.ts";
import { dirtyPages } from "./memory/dirty-pages.ts";
import { GuestMemfd } from "./memory/guest-memfd.ts";
import {
  MemorySlots,
  type UserspaceMemoryRegion2Input,
  type UserspaceMemoryRegionInput,
} from "./memory/memory-slots.ts";
import { RunGate } from "./run/run-gate.ts";
import type { RestoreStateOptions, SaveStateOptions } from "./state/vcpu-state.ts";
import { checkVmState, restoreVm, saveVm } from "./state/vm-state.ts";
import { Stats } from "./stats.ts";
import { Vcpu } from "./vcpu.ts";

/** A virtual machine. */
export class Vm extends VmIoctls {
  /** The KVM that created the VM. */
  readonly kvm: Kvm;
  /** Stops and continues the runs of the VM's vCPUs on their own threads. @internal */
  readonly gate: RunGate = new RunGate();
  readonly #history = new VmHistory();
  readonly #slots = new MemorySlots({
    traced: this.traced,
    fd: () => this.fd,
    refusal: (call, errno, context) => this.refusal(call, errno, context),
  });

  /** Wraps a VM's descriptor; use {@link Kvm.createVm} to create a VM. @internal */
  constructor(fd: NativeFd, kvm: Kvm) {
    super(fd, "vm");
    this.kvm = kvm;
  }

  /**
   * Returns the value of a capability of this VM: 0 if the capability is absent or unknown; otherwise 1 or a number
   * that depends on the capability.
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
   * @param id - the vCPU's id, which is also its APIC id after reset. An id cannot be used again in the same VM.
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
   * Stops all vCPUs that run on their own threads. The runs of these vCPUs stay pending, and new runs wait. The vCPUs
   * can be read, changed and saved. {@link Vcpu.runSync} throws `ERR_PAUSED`.
   *
   * @returns a promise that resolves when no vCPU runs, or when {@link resume} is called. A run may still return an
   *   exit before this promise resolves; the run's promise then resolves as usual.
   */
  pause(): Promise<void> {
    return this.gate.shut();
  }

  /** Continues the vCPUs that {@link pause} has stopped. */
  resume(): void {
    this.gate.open();
  }

  /** The guest physical memory for reading and writing by the host. */
  get memory(): AddressSpace {
    return this.addressSpace(0);
  }

  /** Returns one of the guest's address spaces: 0, or 1 for SMM. */
  addressSpace(id: number): AddressSpace {
    return this.#slots.space(id);
  }

  /**
   * Creates, moves or deletes a memory slot. A slot keeps its host memory mapped while a guest can access it, even
   * after the {@link GuestMemory} was closed.
   *
   * @ioctl KVM_SET_USER_MEMORY_REGION (api.rst 4.35; vm; KVM_CAP_USER_MEMORY)
   * @throws {@link KvmError} `EINVAL` (not page aligned, too large, too many slots), `EEXIST` (overlaps another slot).
   * @throws RangeError if the slot would exceed its memory.
   */
  setUserMemoryRegion(region: UserspaceMemoryRegionInput): void {
    this.#slots.setRegion(region);
  }

  /**
   * Creates, moves or deletes a memory slot that may have private memory in a guest_memfd.
   *
   * @ioctl KVM_SET_USER_MEMORY_REGION2 (api.rst 4.140; vm; KVM_CAP_USER_MEMORY2; Linux 6.12)
   * @throws {@link KvmError} `EINVAL` (as {@link setUserMemoryRegion}; or a guest_memfd of another VM, too small, or in
   *   a VM without private memory), `EEXIST` (overlaps another slot), `EBADF` (the flags require a guest_memfd, and
   *   none was given).
   * @throws RangeError if the slot would exceed its memory.
   */
  setUserMemoryRegion2(region: UserspaceMemoryRegion2Input): void {
    this.#slots.setRegion2(region);
  }

  /**
   * Reads the dirty bitmap of a slot: one bit for each page of the slot. A bit is 1 if the guest has written the page
   * since the last call. The call also makes KVM track writes to these pages again. With
   * KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, only {@link clearDirtyLog} makes KVM track the pages again.
   *
   * @param pages - the number of pages of the slot; required only if the slot was not set with this object.
   * @ioctl KVM_GET_DIRTY_LOG (api.rst 4.8; vm)
   * @throws {@link KvmError} `ENOENT`: the slot does not exist, or dirty logging is off for it; `EINVAL`: the slot
   *   number is too large; `ENXIO`: the VM has dirty rings instead of bitmaps.
   */
  getDirtyLog(slot: number, pages?: bigint | number): Uint8Array {
    return getDirtyLog(this, slot, pages, (number) => this.#slots.pagesOf(number));
  }

  /**
   * Iterates over the pages of a slot that the guest has written since the last call. The page numbers are relative to
   * the slot's first page, and ascend. The log is read when this method is called.
   *
   * @throws {@link KvmError} as {@link getDirtyLog}.
   */
  dirtyPages(slot: number): Generator<number, void> {
    return dirtyPages(this.getDirtyLog(slot));
  }

  /**
   * Makes KVM track writes again to pages that were reported as written.
   *
   * @ioctl KVM_CLEAR_DIRTY_LOG (api.rst 4.117; vm; KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)
   * @throws {@link KvmError} `EINVAL`: the range is not a multiple of 64 pages, or beyond the slot; `ENOENT`: the slot
   *   does not exist, or dirty logging is off for it; `ENXIO`: the VM has dirty rings.
   */
  clearDirtyLog(range: ClearDirtyLogInput): void {
    clearDirtyLog(this, range);
  }

  /**
   * Creates a file of guest memory: private to the guest or, with `GUEST_MEMFD_FLAG_MMAP` and
   * `GUEST_MEMFD_FLAG_INIT_SHARED`, also mappable by the host ({@link GuestMemfd.map}). No child process inherits the
   * file.
   *
   * @param options - `size` is in bytes, and a multiple of the page size; `flags` has `GUEST_MEMFD_FLAG_*` bits, which
   *   `KVM_CAP_GUEST_MEMFD_FLAGS` lists.
   * @ioctl KVM_CREATE_GUEST_MEMFD (api.rst 4.142; vm; KVM_CAP_GUEST_MEMFD; Linux 6.12)
   * @throws {@link KvmError} `EINVAL`: the size is 0 or not page aligned, or this VM does not support a flag.
   */
  createGuestMemfd(options: StructInputWith<CreateGuestMemfd, "size">): GuestMemfd {
    const where = "createGuestMemfd()";
    refuseMissing(where, options, ["size"]);
    const size = toU64(`${where}: size`, options.size);
    const args = { ...options, size };
    const bytes = encode(CreateGuestMemfd, args, where);
    const fd = this.openFd(KVM_CREATE_GUEST_MEMFD, bytes, { args });
    return new GuestMemfd(fd, size, toU64(`${where}: flags`, options.flags ?? 0n));
  }

  /**
   * Raises (1) or lowers (0) an interrupt line of the in-kernel controllers.
   *
   * @ioctl KVM_IRQ_LINE (api.rst 4.25; vm; KVM_CAP_IRQCHIP)
   * @throws {@link KvmError} `ENXIO`: the VM has no in-kernel interrupt controllers.
   */
  irqLine(irq: number, level: 0 | 1): void {
    const bytes = encode(IrqLevel, { irq, level }, "irqLine()");
    this.ioctl(KVM_IRQ_LINE, bytes, { args: { irq, level } });
  }

  /**
   * Raises or lowers an interrupt line, and returns the delivery status.
   *
   * @returns the number of destinations; 0 if the interrupt was coalesced with a pending one; -1 if it was masked.
   * @ioctl KVM_IRQ_LINE_STATUS (vm; KVM_CAP_IRQ_INJECT_STATUS)
   * @throws {@link KvmError} `ENXIO`: the VM has no in-kernel interrupt controllers.
   */
  irqLineStatus(irq: number, level: 0 | 1): number {
    return this.exchangeStruct(KVM_IRQ_LINE_STATUS, IrqLevel, { irq, level }).status | 0;
  }

  /**
   * Connects an eventfd to an interrupt, or disconnects it. KVM keeps its own reference to the file.
   *
   * @ioctl KVM_IRQFD (api.rst 4.75; vm; KVM_CAP_IRQFD)
   * @throws {@link KvmError} `EINVAL`: the VM has no in-kernel interrupt controllers, a flag is undefined, or the GSI
   *   is too large; `EBUSY`: the eventfd is connected already.
   */
  irqfd(input: IrqfdInput): void {
    irqfd(this, input);
  }

  /**
   * Makes a guest's write to an address or a port signal an eventfd instead of causing an exit.
   *
   * @ioctl KVM_IOEVENTFD (api.rst 4.59; vm; KVM_CAP_IOEVENTFD)
   * @throws {@link KvmError} `EINVAL`: `len` is not 0, 1, 2, 4 or 8, the range wraps, or a flag is undefined; `EEXIST`:
   *   the same ioeventfd is registered already; `ENOENT`: the ioeventfd to remove is not registered.
   */
  ioeventfd(input: IoeventfdInput): void {
    ioeventfd(this, input);
  }

  /**
   * Creates a device that the kernel emulates. With `KVM_CREATE_DEVICE_TEST` in `flags`, the call only checks whether
   * the kernel has the device, and returns undefined.
   *
   * @param type - a `KVM_DEV_TYPE_*`.
   * @ioctl KVM_CREATE_DEVICE (api.rst 4.79; vm; KVM_CAP_DEVICE_CTRL)
   * @throws {@link KvmError} `ENODEV`: this kernel does not have this device type; `EBUSY`: the VM already has a VFIO
   *   device, and only one is allowed.
   */
  createDevice(type: number, flags: number & 1): undefined;
  createDevice(type: number, flags?: 0): Device;
  createDevice(type: number, flags = 0): Device | undefined {
    const bytes = encode(CreateDevice, { type, flags }, "createDevice()");
    const answer = this.call(KVM_CREATE_DEVICE, bytes, { args: { type, flags } });
    return typeof answer === "number" ? undefined : new Device(answer, type);
  }

  /**
   * Connects an eventfd to a Hyper-V guest's HvSignalEvent hypercall.
   *
   * @param input - the connection id, the flags (`KVM_HYPERV_EVENTFD_DEASSIGN`) and the eventfd; omit `fd` to
   *   disconnect.
   * @ioctl KVM_HYPERV_EVENTFD (api.rst 4.113; vm; KVM_CAP_HYPERV_EVENTFD)
   * @throws {@link KvmError} `EINVAL`: an undefined flag, or a connection id above 0xffffff; `EEXIST`: the connection
   *   id already has an eventfd; `ENOENT`: it has no eventfd to remove; `EBADF`: the descriptor is not an eventfd.
   */
  hypervEventfd(input: HypervEventfdInput): void {
    hypervEventfd(this, input);
  }

  /**
   * Enables Xen emulation: sets the MSR, and the pages that KVM copies into the guest when it writes the MSR.
   *
   * @param blobs - the pages for 32-bit and for 64-bit guests.
   * @ioctl KVM_XEN_HVM_CONFIG (api.rst 4.28; vm; KVM_CAP_XEN_HVM)
   * @throws {@link KvmError} `EINVAL`: KVM_CAP_XEN_HVM does not report a flag, or pages are passed with
   *   `KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL`.
   */
  xenHvmConfig(config: StructInputWith<XenHvmConfig, "msr">, blobs: XenBlobsInput = {}): void {
    xenHvmConfig(this, config, blobs);
  }

  /**
   * Reads an attribute of the VM's Xen emulation: a `KVM_XEN_ATTR_TYPE_*`. If the attribute is an address in this
   * process, the result is 0.
   *
   * @ioctl KVM_XEN_HVM_GET_ATTR (api.rst 4.127; vm; KVM_CAP_XEN_HVM)
   * @throws {@link KvmError} `ENOENT`: the attribute does not exist.
   */
  xenHvmGetAttr(type: number): XenHvmAttr {
    return xenHvmGetAttr(this, type);
  }

  /**
   * Writes an attribute of the VM's Xen emulation: a `KVM_XEN_ATTR_TYPE_*`.
   *
   * @param files - `sharedInfo` for the type `_SHARED_INFO_HVA`; `eventfd` for an `_EVTCHN` with an eventfd.
   * @ioctl KVM_XEN_HVM_SET_ATTR (api.rst 4.126; vm; KVM_CAP_XEN_HVM)
   * @throws {@link KvmError} `ENOENT`: the attribute does not exist; `EINVAL`: an invalid value; `EBADF`: the
   *   descriptor is not an eventfd; `EEXIST`: the port is already assigned.
   */
  xenHvmSetAttr(attr: StructInputWith<XenHvmAttr, "type">, files: XenHvmFilesInput = {}): void {
    xenHvmSetAttr(this, attr, files);
  }

  /**
   * Runs a command of AMD's SEV or of Intel's TDX for this VM.
   *
   * @returns the firmware's error code; 0 on success.
   * @ioctl KVM_MEMORY_ENCRYPT_OP (api.rst 4.110; vm)
   * @throws {@link KvmError} `ENOTTY`: this VM is not an SEV or TDX VM; `EINVAL`: the command does not exist, or is not
   *   allowed in the VM's current state; `EIO`: the firmware returned an error; `EBADF`: the descriptor is not
   *   `/dev/sev`.
   */
  memoryEncryptOp(command: MemoryEncryptOpInput): number {
    return memoryEncryptOp(this, command);
  }

  /**
   * Pins guest memory for SEV. The memory stays mapped until the VM is destroyed.
   *
   * @ioctl KVM_MEMORY_ENCRYPT_REG_REGION (api.rst 4.111; vm)
   * @throws {@link KvmError} `ENOTTY`: this is not an SEV VM; `EINVAL`: too large; `ENOMEM`.
   */
  memoryEncryptRegRegion(region: EncRegionInput): void {
    setEncRegion(this, KVM_MEMORY_ENCRYPT_REG_REGION, region);
  }

  /**
   * Unpins a range that {@link memoryEncryptRegRegion} has pinned.
   *
   * @ioctl KVM_MEMORY_ENCRYPT_UNREG_REGION (api.rst 4.112; vm)
   * @throws {@link KvmError} `ENOTTY`: this is not an SEV VM; `EINVAL`: the range was not registered.
   */
  memoryEncryptUnregRegion(region: EncRegionInput): void {
    setEncRegion(this, KVM_MEMORY_ENCRYPT_UNREG_REGION, region);
  }

  /**
   * Sets the MSRs that a guest may access. Accesses to other MSRs raise #GP, or cause an exit if
   * KVM_CAP_X86_USER_SPACE_MSR is enabled.
   *
   * @ioctl KVM_X86_SET_MSR_FILTER (api.rst 4.97; vm; KVM_CAP_X86_MSR_FILTER)
   * @throws {@link KvmError} `EINVAL`: an undefined flag, too many MSRs in a range, or DEFAULT_DENY without ranges;
   *   `EFAULT`: `nmsrs` exceeds the bitmap.
   */
  x86SetMsrFilter(filter: MsrFilterInput): void {
    setMsrFilter(this, filter);
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
   * Reads the state of the VM and of the vCPUs that are passed, without memory. `stateToJson` and `stateToBytes`
   * convert the result into a document. No vCPU may run during the call.
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
   * Writes a saved state to this VM and its vCPUs. The vCPUs then continue where the saved vCPUs stopped. The VM must
   * have the same memory slots with their content, the same interrupt controllers, timer and capabilities, and vCPUs
   * with the same ids as the saved VM. The vCPUs may be new, or may have run with the same CPUID tables.
   *
   * The guest's clocks, kvmclock and the TSC, continue from the saved values.
   *
   * The method first runs {@link checkState}; if a finding prevents restoring, nothing is written. At the end, the
   * method reads every part back, because KVM accepts some values without storing them. Counters and derived values may
   * differ (MAY_DIFFER of lib/state/read-back.ts). `{ readBack: false }` skips the reads.
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
   * features, MSRs, XSAVE components, the TSC's frequency, nested state, devices, capabilities. The method does not
   * find incompatibilities that KVM reports only after the guest's CPUID table was set; {@link restoreState} reports
   * them.
   *
   * @returns the findings, each of which states whether it prevents restoring; an empty list if no incompatibility was
   *   found.
   * @throws TypeError if a vCPU belongs to another VM, or is listed twice.
   */
  checkState(state: VmState, vcpus: Iterable<Vcpu>): readonly StateFinding[] {
    return checkVmState(this, state, vcpus, this.kvm.origin);
  }

  /**
   * Interrupts the current {@link Vcpu.run} of each vCPU of this VM, and closes the descriptor. An interrupted run
   * returns `{ kind: "intr" }`. The method kicks all vCPUs before it waits for the first one, so closing the VM before
   * its vCPUs is faster if many vCPUs run. The vCPUs stay open, and the kernel keeps the VM with its memory while one
   * of them is open: {@link Vcpu.runSync} still works. Close the vCPUs to free the VM.
   */
  override close(): void {
    if (!this.closed) this.gate.end();
    super.close();
  }

  /** Records the arguments of accepted calls that explain later errors, for calls through any method. @internal */
  protected override accepted(
    ioctl: Ioctl,
    argument: IoctlArgument | undefined,
    { links }: IoctlOptions,
  ): void {
    this.#history.record(ioctl, argument);
    if (ioctl.name === "KVM_IRQFD") recordIrqfd(this, links?.[0], argument);
  }

  /** The KVM that created the VM. @internal */
  protected override parent(): Handle {
    return this.kvm;
  }

  /** Returns the evidence that this VM and its KVM can provide after an error. @internal */
  override evidence(): Evidence {
    return {
      kvm: evidenceOf(this.kvm),
      vm: evidenceOfVm(this, this.#history, () => this.#slots.all()),
    };
  }

  static {
    inspectAs(Vm, (it) => ({
      vcpus: it.#history.vcpuIds.length,
      slots: it.#slots.all().length,
      closed: it.closed,
    }));
  }
}
