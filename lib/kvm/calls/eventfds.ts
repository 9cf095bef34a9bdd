/**
 * Connects eventfds to a VM's interrupts, to addresses and ports, and to Hyper-V connection ids. The class of an
 * eventfd is in host-file.ts.
 */
import {
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  KVM_IRQFD_FLAG_RESAMPLE,
} from "../../abi/generated/constants.ts";
import { KVM_HYPERV_EVENTFD, KVM_IOEVENTFD, KVM_IRQFD } from "../../abi/generated/ioctls.ts";
import { HypervEventfd, Ioeventfd, Irqfd } from "../../abi/generated/structs.ts";
import { encode } from "../../abi/struct.ts";
import type { StructInputWith } from "../../abi/whole.ts";
import { refuseMisfit, refuseMissing } from "../../options.ts";
import type { IoctlTarget } from "../handle.ts";
import type { EventFd } from "../host-file.ts";

/** `struct kvm_irqfd`: an eventfd whose signal raises an interrupt. */
export interface IrqfdInput {
  readonly fd: EventFd;
  /**
   * The GSI. KVM_SET_GSI_ROUTING routes a GSI to an interrupt; without routes, the GSI is the number of a pin of the
   * PIC and the IOAPIC.
   */
  readonly gsi: number;
  /** The flag `KVM_IRQFD_FLAG_DEASSIGN`, or 0. `KVM_IRQFD_FLAG_RESAMPLE` is added if `resamplefd` is present. */
  readonly flags?: number;
  /** An eventfd for level-triggered interrupts: KVM signals it when the guest has acknowledged the interrupt. */
  readonly resamplefd?: EventFd;
}

/** `struct kvm_ioeventfd`: an eventfd that KVM signals when the guest writes to an address or a port. */
export interface IoeventfdInput {
  readonly fd: EventFd;
  /** A guest physical address; with `KVM_IOEVENTFD_FLAG_PIO`, a port. */
  readonly addr: bigint | number;
  /** The size of the write in bytes: 1, 2, 4 or 8, or 0 for a write of any size. */
  readonly len: number;
  /**
   * The eventfd is signalled only if the guest writes this value; if this member is present,
   * `KVM_IOEVENTFD_FLAG_DATAMATCH` is set.
   */
  readonly datamatch?: bigint | number;
  /** The flags `KVM_IOEVENTFD_FLAG_PIO`, `_DEASSIGN`, `_VIRTIO_CCW_NOTIFY`; none if omitted. */
  readonly flags?: number;
}

/** `struct kvm_hyperv_eventfd`: an eventfd for a Hyper-V connection id. */
export type HypervEventfdInput = Omit<StructInputWith<HypervEventfd, "connId">, "fd"> & {
  readonly fd?: EventFd;
};

/** Connects an eventfd to an interrupt, or disconnects it. */
export function irqfd(handle: IoctlTarget, input: IrqfdInput): void {
  refuseMisfit("irqfd()", input, ["fd", "gsi"], ["flags", "resamplefd"]);
  const { fd, gsi, flags: given = 0, resamplefd } = input;
  const flags = given | (resamplefd === undefined ? 0 : KVM_IRQFD_FLAG_RESAMPLE);
  handle.ioctl(KVM_IRQFD, encode(Irqfd, { gsi, flags }, "irqfd()"), {
    args: { gsi, flags },
    links: [fd, resamplefd ?? null],
  });
}

/** Connects an eventfd to writes of an address or a port, or disconnects it. */
export function ioeventfd(handle: IoctlTarget, input: IoeventfdInput): void {
  refuseMisfit("ioeventfd()", input, ["fd", "addr", "len"], ["datamatch", "flags"]);
  const { fd, addr, len, datamatch, flags = 0 } = input;
  const matches = datamatch === undefined ? 0 : KVM_IOEVENTFD_FLAG_DATAMATCH;
  const args = { addr, len, datamatch: datamatch ?? 0n, flags: flags | matches };
  handle.ioctl(KVM_IOEVENTFD, encode(Ioeventfd, args, "ioeventfd()"), { args, links: [fd] });
}

/** Connects an eventfd to a Hyper-V connection id, or disconnects it. */
export function hypervEventfd(handle: IoctlTarget, input: HypervEventfdInput): void {
  refuseMissing("hypervEventfd()", input, ["connId"]);
  const { fd, ...rest } = input;
  handle.ioctl(KVM_HYPERV_EVENTFD, encode(HypervEventfd, rest, "hypervEventfd()"), {
    args: rest,
    links: [fd ?? null],
  });
}
