/** What of a VM are interrupts and devices: lines, eventfds, Hyper-V, Xen, SEV. Slots are vm-memory.ts. */
import {
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  KVM_IRQFD_FLAG_RESAMPLE,
} from "../abi/generated/constants.ts";
import {
  KVM_CREATE_DEVICE,
  KVM_HYPERV_EVENTFD,
  KVM_IOEVENTFD,
  KVM_IRQ_LINE,
  KVM_IRQ_LINE_STATUS,
  KVM_IRQFD,
  KVM_MEMORY_ENCRYPT_REG_REGION,
  KVM_MEMORY_ENCRYPT_UNREG_REGION,
  KVM_XEN_HVM_CONFIG,
  KVM_XEN_HVM_GET_ATTR,
  KVM_XEN_HVM_SET_ATTR,
} from "../abi/generated/ioctls.ts";
import {
  CreateDevice,
  EncRegion,
  HypervEventfd,
  Ioeventfd,
  Irqfd,
  IrqLevel,
  XenHvmAttr,
  XenHvmConfig,
} from "../abi/generated/structs.ts";
import { encode, read } from "../abi/struct.ts";
import type { StructWith } from "../abi/whole.ts";
import { refuseMisfit, refuseMissing, refuseUnknown, toU64 } from "../options.ts";
import { Device } from "./device.ts";
import type { GuestMemory } from "./guest-memory.ts";
import type { EventFd } from "./host-file.ts";
import type { MemoryLink } from "./link.ts";
import { type MemoryEncryptCommand, memoryEncryptOp } from "./memory-encrypt.ts";
import { methodOf } from "./method-name.ts";
import { VmMemory } from "./vm-memory.ts";

/** `struct kvm_irqfd`: an eventfd whose signal raises an interrupt. */
export interface IrqfdInput {
  readonly fd: EventFd;
  /** The route's number (KVM_SET_GSI_ROUTING), at first the pin of PIC and IOAPIC. */
  readonly gsi: number;
  /** `KVM_IRQFD_FLAG_DEASSIGN`; `KVM_IRQFD_FLAG_RESAMPLE` is set when there is a `resamplefd`. */
  readonly flags?: number;
  /** For level-triggered interrupts: KVM signals it when the guest has acknowledged one. */
  readonly resamplefd?: EventFd;
}

/** `struct kvm_ioeventfd`: an eventfd that a guest's write signals. */
export interface IoeventfdInput {
  readonly fd: EventFd;
  /** A guest physical address, or with `KVM_IOEVENTFD_FLAG_PIO` a port. */
  readonly addr: bigint | number;
  /** How many bytes the write has: 1, 2, 4, 8, or 0 for any. */
  readonly len: number;
  /** Only this value signals; sets `KVM_IOEVENTFD_FLAG_DATAMATCH`. */
  readonly datamatch?: bigint | number;
  /** `KVM_IOEVENTFD_FLAG_PIO`, `_DEASSIGN`, `_VIRTIO_CCW_NOTIFY`; none when left out. */
  readonly flags?: number;
}

/** A range of guest memory for SEV, whose pages stay where they are. */
export interface EncRegionInput extends MemoryLink {
  /** Bytes. */
  readonly size: bigint | number;
}

/** The part of a VM that is interrupts and devices. */
export abstract class VmDevices extends VmMemory {
  /**
   * Raises (1) or lowers (0) an interrupt line of the in-kernel controllers.
   *
   * @ioctl KVM_IRQ_LINE (api.rst 4.25; vm; KVM_CAP_IRQCHIP)
   * @throws {@link KvmError} `ENXIO`: the VM has no interrupt controllers in the kernel.
   */
  irqLine(irq: number, level: 0 | 1): void {
    const bytes = encode(IrqLevel, { irq, level }, "irqLine()");
    this.ioctl(KVM_IRQ_LINE, bytes, { args: { irq, level } });
  }

  /**
   * Raises or lowers an interrupt line, and tells what became of it.
   *
   * @returns above 0: delivered to so many; 0: coalesced with one before; -1: masked.
   * @ioctl KVM_IRQ_LINE_STATUS (vm; KVM_CAP_IRQ_INJECT_STATUS)
   * @throws {@link KvmError} `ENXIO`: the VM has no interrupt controllers in the kernel.
   */
  irqLineStatus(irq: number, level: 0 | 1): number {
    return this.exchangeStruct(KVM_IRQ_LINE_STATUS, IrqLevel, { irq, level }).status | 0;
  }

  /**
   * Connects an eventfd to an interrupt, or disconnects it. KVM keeps its own hold on the file.
   *
   * @ioctl KVM_IRQFD (api.rst 4.75; vm; KVM_CAP_IRQFD)
   * @throws {@link KvmError} `EINVAL`: there are no in-kernel interrupt controllers, a flag that
   *   there is not, or a GSI too large; `EBUSY`: the eventfd is connected already.
   */
  irqfd(input: IrqfdInput): void {
    refuseMisfit("irqfd()", input, ["fd", "gsi"], ["flags", "resamplefd"]);
    const { fd, gsi, flags: given = 0, resamplefd } = input;
    const flags = given | (resamplefd === undefined ? 0 : KVM_IRQFD_FLAG_RESAMPLE);
    this.ioctl(KVM_IRQFD, encode(Irqfd, { gsi, flags }, "irqfd()"), {
      args: { gsi, flags },
      links: [fd, resamplefd ?? null],
    });
  }

  /**
   * Lets a guest's write to an address or a port signal an eventfd instead of leaving the guest.
   *
   * @ioctl KVM_IOEVENTFD (api.rst 4.59; vm; KVM_CAP_IOEVENTFD)
   * @throws {@link KvmError} `EINVAL`: `len` is not 0, 1, 2, 4 or 8, the range wraps, or a flag that
   *   there is not; `EEXIST`: the same is there already; `ENOENT`: there is none to take away.
   */
  ioeventfd(input: IoeventfdInput): void {
    refuseMisfit("ioeventfd()", input, ["fd", "addr", "len"], ["datamatch", "flags"]);
    const { fd, addr, len, datamatch, flags = 0 } = input;
    const matches = datamatch === undefined ? 0 : KVM_IOEVENTFD_FLAG_DATAMATCH;
    const args = { addr, len, datamatch: datamatch ?? 0n, flags: flags | matches };
    this.ioctl(KVM_IOEVENTFD, encode(Ioeventfd, args, "ioeventfd()"), { args, links: [fd] });
  }

  /**
   * Makes a device that the kernel emulates, or with `KVM_CREATE_DEVICE_TEST` in `flags` only asks
   * whether it could; then nothing is returned.
   *
   * @param type - a `KVM_DEV_TYPE_*`.
   * @ioctl KVM_CREATE_DEVICE (api.rst 4.79; vm; KVM_CAP_DEVICE_CTRL)
   * @throws {@link KvmError} `ENODEV`: this kernel has no such device; `EBUSY`: the VM has a VFIO
   *   device, and can have one only.
   */
  createDevice(type: number, flags: number & 1): undefined;
  createDevice(type: number, flags?: 0): Device;
  createDevice(type: number, flags = 0): Device | undefined {
    const bytes = encode(CreateDevice, { type, flags }, "createDevice()");
    const answer = this.call(KVM_CREATE_DEVICE, bytes, { args: { type, flags } });
    return typeof answer === "number" ? undefined : new Device(answer, type);
  }

  /**
   * Lets a Hyper-V guest's HvSignalEvent hypercall signal an eventfd.
   *
   * @param input - `connId` and `flags` (`KVM_HYPERV_EVENTFD_DEASSIGN`) as in C; no `fd` to disconnect.
   * @ioctl KVM_HYPERV_EVENTFD (api.rst 4.113; vm; KVM_CAP_HYPERV_EVENTFD)
   * @throws {@link KvmError} `EINVAL`: a flag that there is not, or a connection id above 0xffffff;
   *   `EEXIST`: it has one already; `ENOENT`: there is none to take away; `EBADF`: no file was given.
   */
  hypervEventfd(
    input: Omit<StructWith<HypervEventfd, "connId">, "fd"> & { readonly fd?: EventFd },
  ): void {
    refuseMissing("hypervEventfd()", input, ["connId"]);
    const { fd, ...rest } = input;
    this.ioctl(KVM_HYPERV_EVENTFD, encode(HypervEventfd, rest, "hypervEventfd()"), {
      args: rest,
      links: [fd ?? null],
    });
  }

  /**
   * Sets up Xen emulation: the MSR, and the pages that a guest's write to it copies into the guest.
   *
   * @param blobs - the pages for 32-bit and for 64-bit guests.
   * @ioctl KVM_XEN_HVM_CONFIG (api.rst 4.28; vm; KVM_CAP_XEN_HVM)
   * @throws {@link KvmError} `EINVAL`: a flag that KVM_CAP_XEN_HVM does not have, or pages together
   *   with `KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL`.
   */
  xenHvmConfig(
    config: StructWith<XenHvmConfig, "msr">,
    blobs: { readonly blob32?: MemoryLink; readonly blob64?: MemoryLink } = {},
  ): void {
    refuseMissing("xenHvmConfig()", config, ["msr"]);
    refuseUnknown("xenHvmConfig()", blobs, ["blob32", "blob64"], "member");
    const { blob32 = null, blob64 = null } = blobs;
    this.ioctl(KVM_XEN_HVM_CONFIG, encode(XenHvmConfig, config, "xenHvmConfig()"), {
      args: config as Readonly<Record<string, unknown>>,
      links: [blob32, blob64],
    });
  }

  /**
   * Reads an attribute of the VM's Xen emulation: a `KVM_XEN_ATTR_TYPE_*`. An address in this
   * process reads as 0.
   *
   * @ioctl KVM_XEN_HVM_GET_ATTR (api.rst 4.127; vm; KVM_CAP_XEN_HVM)
   * @throws {@link KvmError} `ENOENT`: there is no such attribute.
   */
  xenHvmGetAttr(type: number): XenHvmAttr {
    const bytes = encode(XenHvmAttr, { type }, "xenHvmGetAttr()");
    this.ioctl(KVM_XEN_HVM_GET_ATTR, bytes, { args: { type }, links: [] });
    return read(XenHvmAttr, bytes);
  }

  /**
   * Writes an attribute of the VM's Xen emulation: a `KVM_XEN_ATTR_TYPE_*`.
   *
   * @param files - `sharedInfo` with `_SHARED_INFO_HVA`, `eventfd` with an `_EVTCHN` that has one.
   * @ioctl KVM_XEN_HVM_SET_ATTR (api.rst 4.126; vm; KVM_CAP_XEN_HVM)
   * @throws {@link KvmError} `ENOENT`: there is no such attribute; `EINVAL`: a value that it cannot
   *   have; `EBADF`: no eventfd was given; `EEXIST`: the port is assigned.
   */
  xenHvmSetAttr(
    attr: StructWith<XenHvmAttr, "type">,
    files: { readonly sharedInfo?: MemoryLink; readonly eventfd?: EventFd } = {},
  ): void {
    refuseMissing("xenHvmSetAttr()", attr, ["type"]);
    refuseUnknown("xenHvmSetAttr()", files, ["sharedInfo", "eventfd"], "member");
    const { sharedInfo = null, eventfd = null } = files;
    this.ioctl(KVM_XEN_HVM_SET_ATTR, encode(XenHvmAttr, attr, "xenHvmSetAttr()"), {
      args: attr as Readonly<Record<string, unknown>>,
      links: [sharedInfo, eventfd],
    });
  }

  /**
   * Sends a command of AMD's SEV or of Intel's TDX for this VM.
   *
   * @returns the firmware's error word; 0 when all is well.
   * @ioctl KVM_MEMORY_ENCRYPT_OP (api.rst 4.110; vm)
   * @throws {@link KvmError} `ENOTTY`: this VM is of no such type; `EINVAL`: no such command, or too
   *   early; `EIO`: the firmware refused; `EBADF`: no secure processor was given.
   */
  memoryEncryptOp(command: MemoryEncryptCommand): number {
    return memoryEncryptOp(this, command);
  }

  /**
   * Keeps guest memory where it is, for SEV. The memory stays mapped as long as the VM lives.
   *
   * @ioctl KVM_MEMORY_ENCRYPT_REG_REGION (api.rst 4.111; vm)
   * @throws {@link KvmError} `ENOTTY`: this VM is not SEV's; `EINVAL`: too large; `ENOMEM`.
   */
  memoryEncryptRegRegion(region: EncRegionInput): void {
    this.#encRegion(KVM_MEMORY_ENCRYPT_REG_REGION, region);
  }

  /**
   * Takes back what {@link memoryEncryptRegRegion} did, for the same range.
   *
   * @ioctl KVM_MEMORY_ENCRYPT_UNREG_REGION (api.rst 4.112; vm)
   * @throws {@link KvmError} `ENOTTY`: this VM is not SEV's; `EINVAL`: the range was not registered.
   */
  memoryEncryptUnregRegion(region: EncRegionInput): void {
    this.#encRegion(KVM_MEMORY_ENCRYPT_UNREG_REGION, region);
  }

  #encRegion(ioctl: typeof KVM_MEMORY_ENCRYPT_REG_REGION, region: EncRegionInput): void {
    const where = methodOf(ioctl.name);
    refuseMisfit(where, region, ["memory", "size"], ["offset"]);
    const { memory, offset = 0 } = region;
    const size = toU64(`${where}: size`, region.size);
    const rest: GuestMemory["byteLength"] = memory.byteLength - offset;
    if (size > BigInt(Math.max(0, rest))) {
      throw new RangeError(`size ${size} at offset ${offset} is beyond the memory's end`);
    }
    this.ioctl(ioctl, encode(EncRegion, { size }, where), {
      args: { size, offset },
      links: [{ memory, offset }],
    });
  }
}
