/** Why an eventfd or a coalesced zone was not tied to a VM: KVM_IRQFD, KVM_IOEVENTFD and their like. */
import {
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  KVM_IOEVENTFD_FLAG_DEASSIGN,
  KVM_IOEVENTFD_FLAG_PIO,
  KVM_IOEVENTFD_VALID_FLAG_MASK,
  KVM_IRQFD_FLAG_DEASSIGN,
  KVM_IRQFD_FLAG_RESAMPLE,
} from "../abi/generated/constants.ts";
import { CoalescedMmioZone, Ioeventfd, Irqfd } from "../abi/generated/structs.ts";
import { withoutIrqchip } from "./irq.ts";
import { known, type Reasons, type Refusal, sentStruct } from "./refusal.ts";
import { firstOf, hex, unknownBits } from "./wording.ts";

const IRQFD_FLAGS = KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE;
const LENGTHS: readonly number[] = [0, 1, 2, 4, 8];
/** NR_IOBUS_DEVS in include/linux/kvm_host.h. */
const BUS_DEVICES = 1000;

/** A rule, not a finding: what was sent as the descriptor is not known here. */
const EVENTFDS_ONLY = "the descriptor must be an eventfd's";
const BUS_FULL = `the bus has ${BUS_DEVICES} devices, and KVM takes no more`;

/** The reasons of KVM_IRQFD. */
export const IRQFD: Reasons = {
  EINVAL: explainIrqfd,
  EBUSY: () => "this eventfd raises an interrupt of this VM already: take it off, or use another",
};

function explainIrqfd(refusal: Refusal): string | undefined {
  const irqfd = sentStruct(refusal, Irqfd);
  if (irqfd === undefined) return undefined;
  const { flags } = irqfd;
  const isResampled = (flags & KVM_IRQFD_FLAG_RESAMPLE) !== 0;
  const isOff = (flags & KVM_IRQFD_FLAG_DEASSIGN) !== 0;
  const irqchip = known(refusal.evidence.vm?.irqchip);
  return firstOf(
    () => unknownBits("flags", flags, IRQFD_FLAGS),
    () => (isOff ? undefined : withoutIrqchip(refusal.evidence)),
    () =>
      isResampled && !isOff && irqchip === "split"
        ? "KVM_IRQFD_FLAG_RESAMPLE needs the IOAPIC in the kernel, and the irqchip is split"
        : undefined,
    () => (isOff || irqchip !== undefined ? EVENTFDS_ONLY : undefined),
  );
}

/** The reasons of KVM_IOEVENTFD. */
export const IOEVENTFD: Reasons = {
  EINVAL: explainIoeventfd,
  EEXIST: (refusal) =>
    `${placeOf(refusal)} has an eventfd already that would match the same writes`,
  ENOENT: (refusal) =>
    `no such eventfd is at ${placeOf(refusal)}: flags, len, datamatch and the eventfd must be those it was tied with`,
  ENOSPC: () => BUS_FULL,
};

function placeOf(refusal: Refusal): string {
  const sent = sentStruct(refusal, Ioeventfd);
  if (sent === undefined) return "this address";
  const kind = (sent.flags & KVM_IOEVENTFD_FLAG_PIO) === 0 ? "address" : "port";
  return `${kind} ${hex(sent.addr)}`;
}

// virt/kvm/eventfd.c:kvm_assign_ioeventfd; taking one off is checked for its descriptor alone.
function explainIoeventfd(refusal: Refusal): string | undefined {
  const sent = sentStruct(refusal, Ioeventfd);
  if (sent === undefined) return undefined;
  const { addr, len, flags } = sent;
  if ((flags & KVM_IOEVENTFD_FLAG_DEASSIGN) !== 0) return EVENTFDS_ONLY;
  const isMatched = (flags & KVM_IOEVENTFD_FLAG_DATAMATCH) !== 0;
  return firstOf(
    () => (LENGTHS.includes(len) ? undefined : `len ${len}: KVM takes 0 (any), 1, 2, 4 and 8`),
    () =>
      addr + BigInt(len) >= 1n << 64n
        ? `addr ${hex(addr)} and len ${len} reach past 2^64`
        : undefined,
    () => unknownBits("flags", flags, KVM_IOEVENTFD_VALID_FLAG_MASK),
    () =>
      len === 0 && isMatched
        ? "len 0 takes any length, which KVM_IOEVENTFD_FLAG_DATAMATCH cannot"
        : undefined,
    () => EVENTFDS_ONLY,
  );
}

/** The reasons of KVM_REGISTER_COALESCED_MMIO and KVM_UNREGISTER_COALESCED_MMIO. */
export const COALESCED_MMIO: Reasons = {
  EINVAL: (refusal) => {
    const zone = sentStruct(refusal, CoalescedMmioZone);
    if (zone === undefined || zone.pio < 2) return undefined;
    return `pio ${zone.pio}: it is 0 (memory) or 1 (ports)`;
  },
  ENOSPC: () => BUS_FULL,
};
