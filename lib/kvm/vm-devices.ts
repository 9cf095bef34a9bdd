/** A VM's interrupts and devices: lines, eventfds, Hyper-V, Xen, SEV. Slots are vm-memory.ts. */
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
import type { EventFd } from "./host-file.ts";
import type { MemoryLink } from "./link.ts";
import type { GuestMemory } from "./memory/guest-memory.ts";
import { type MemoryEncryptCommand, memoryEncryptOp } from "./memory-encrypt.ts";
import { methodOf } from "./method-name.ts";
import { VmMemory } from "./vm-memory.ts";

/** `struct kvm_irqfd`: an eventfd whose signal raises an interrupt. */
export interface IrqfdInput {
  readonly fd: EventFd;
  /** The GSI (KVM_SET_GSI_ROUTING); without routes, the pin of PIC and IOAPIC. */
  readonly gsi: number;
  /** `KVM_IRQFD_FLAG_DEASSIGN`; `KVM_IRQFD_FLAG_RESAMPLE` is set if `resamplefd` is present. */
  readonly flags?: number;
  /** For level-triggered interrupts: KVM signals it when the guest has acknowledged the interrupt. */
  readonly resamplefd?: EventFd;
}

/** `struct kvm_ioeventfd`: an eventfd that a guest's write signals. */
export interface IoeventfdInput {
  readonly fd: EventFd;
  /** A guest physical address, or with `KVM_IOEVENTFD_FLAG_PIO` a port. */
  readonly addr: bigint | number;
  /** The size of the write in bytes: 1, 2, 4, 8, or 0 for any. */
  readonly len: number;
  /** Only this value signals; it sets `KVM_IOEVENTFD_FLAG_DATAMATCH`. */
  readonly datamatch?: bigint | number;
  /** `KVM_IOEVENTFD_FLAG_PIO`, `_DEASSIGN`, `_VIRTIO_CCW_NOTIFY`; none if omitted. */
  readonly flags?: number;
}

/** A range of guest memory for SEV whose pages are pinned. */
export interface EncRegionInput extends MemoryLink {
  /** Bytes. */
  readonly size: bigint | number;
}

/** Adds a VM's interrupts and devices. */
export abstract class VmDevices extends VmMemory {
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
   * @returns above 0: the number of destinations; 0: coalesced with a pending interrupt; -1: masked.
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
    refuseMisfit("irqfd()", input, ["fd", "gsi"], ["flags", "resamplefd"]);
    const { fd, gsi, flags: given = 0, resamplefd } = input;
    const flags = given | (resamplefd === undefined ? 0 : KVM_IRQFD_FLAG_RESAMPLE);
    this.ioctl(KVM_IRQFD, encode(Irqfd, { gsi, flags }, "irqfd()"), {
      args: { gsi, flags },
      links: [fd, resamplefd ?? null],
    });
  }

  /**
   * Makes a guest's write to an address or a port signal an eventfd instead of causing an exit.
   *
   * @ioctl KVM_IOEVENTFD (api.rst 4.59; vm; KVM_CAP_IOEVENTFD)
   * @throws {@link KvmError} `EINVAL`: `len` is not 0, 1, 2, 4 or 8, the range wraps, or a flag is undefined; `EEXIST`:
   *   the same ioeventfd is registered already; `ENOENT`: no such ioeventfd is registered, so none can be removed.
   */
  ioeventfd(input: IoeventfdInput): void {
    refuseMisfit("ioeventfd()", input, ["fd", "addr", "len"], ["datamatch", "flags"]);
    const { fd, addr, len, datamatch, flags = 0 } = input;
    const matches = datamatch === undefined ? 0 : KVM_IOEVENTFD_FLAG_DATAMATCH;
    const args = { addr, len, datamatch: datamatch ?? 0n, flags: flags | matches };
    this.ioctl(KVM_IOEVENTFD, encode(Ioeventfd, args, "ioeventfd()"), { args, links: [fd] });
  }

  /**
   * Creates a device that the kernel emulates. With `KVM_CREATE_DEVICE_TEST` in `flags`, it only checks whether the
   * kernel has the device, and returns undefined.
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
   * @param input - `connId` and `flags` (`KVM_HYPERV_EVENTFD_DEASSIGN`) as in C; omit `fd` to disconnect.
   * @ioctl KVM_HYPERV_EVENTFD (api.rst 4.113; vm; KVM_CAP_HYPERV_EVENTFD)
   * @throws {@link KvmError} `EINVAL`: an undefined flag, or a connection id above 0xffffff; `EEXIST`: the connection
   *   id already has an eventfd; `ENOENT`: it has no eventfd to remove; `EBADF`: the descriptor is not an eventfd.
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
   * Enables Xen emulation: sets the MSR, and the pages that KVM copies into the guest when it writes the MSR.
   *
   * @param blobs - the pages for 32-bit and for 64-bit guests.
   * @ioctl KVM_XEN_HVM_CONFIG (api.rst 4.28; vm; KVM_CAP_XEN_HVM)
   * @throws {@link KvmError} `EINVAL`: a flag that KVM_CAP_XEN_HVM does not report, or pages together with
   *   `KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL`.
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
   * Reads an attribute of the VM's Xen emulation: a `KVM_XEN_ATTR_TYPE_*`. An address in this process reads as 0.
   *
   * @ioctl KVM_XEN_HVM_GET_ATTR (api.rst 4.127; vm; KVM_CAP_XEN_HVM)
   * @throws {@link KvmError} `ENOENT`: the attribute does not exist.
   */
  xenHvmGetAttr(type: number): XenHvmAttr {
    const bytes = encode(XenHvmAttr, { type }, "xenHvmGetAttr()");
    this.ioctl(KVM_XEN_HVM_GET_ATTR, bytes, { args: { type }, links: [] });
    return read(XenHvmAttr, bytes);
  }

  /**
   * Writes an attribute of the VM's Xen emulation: a `KVM_XEN_ATTR_TYPE_*`.
   *
   * @param files - `sharedInfo` for `_SHARED_INFO_HVA`, `eventfd` for an `_EVTCHN` that uses one.
   * @ioctl KVM_XEN_HVM_SET_ATTR (api.rst 4.126; vm; KVM_CAP_XEN_HVM)
   * @throws {@link KvmError} `ENOENT`: the attribute does not exist; `EINVAL`: an invalid value; `EBADF`: the
   *   descriptor is not an eventfd; `EEXIST`: the port is already assigned.
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
   * Runs a command of AMD's SEV or of Intel's TDX for this VM.
   *
   * @returns the firmware's error code; 0 on success.
   * @ioctl KVM_MEMORY_ENCRYPT_OP (api.rst 4.110; vm)
   * @throws {@link KvmError} `ENOTTY`: this VM is not of that type; `EINVAL`: the command does not exist, or is not
   *   allowed in the VM's current state; `EIO`: the firmware returned an error; `EBADF`: the descriptor is not
   *   `/dev/sev`.
   */
  memoryEncryptOp(command: MemoryEncryptCommand): number {
    return memoryEncryptOp(this, command);
  }

  /**
   * Pins guest memory for SEV. The memory stays mapped until the VM is destroyed.
   *
   * @ioctl KVM_MEMORY_ENCRYPT_REG_REGION (api.rst 4.111; vm)
   * @throws {@link KvmError} `ENOTTY`: this is not an SEV VM; `EINVAL`: too large; `ENOMEM`.
   */
  memoryEncryptRegRegion(region: EncRegionInput): void {
    this.#encRegion(KVM_MEMORY_ENCRYPT_REG_REGION, region);
  }

  /**
   * Unpins a range that {@link memoryEncryptRegRegion} has pinned.
   *
   * @ioctl KVM_MEMORY_ENCRYPT_UNREG_REGION (api.rst 4.112; vm)
   * @throws {@link KvmError} `ENOTTY`: this is not an SEV VM; `EINVAL`: the range was not registered.
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
