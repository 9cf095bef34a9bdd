/** Explains why KVM_IRQFD, KVM_IOEVENTFD or a call for a coalesced zone was refused. */
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
import {
  type IrqfdPlace,
  known,
  type Reasons,
  type Refusal,
  type Rule,
  sentStruct,
} from "./refusal.ts";
import { claim, fault, only, open } from "./verdict.ts";
import { hex, unknownBits } from "./wording.ts";

const IRQFD_FLAGS = KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE;
const LENGTHS: readonly number[] = [0, 1, 2, 4, 8];
/** The maximum number of devices on an I/O bus: NR_IOBUS_DEVS in include/linux/kvm_host.h. */
const BUS_DEVICES = 1000;

/** Returns an open verdict for the cause "a descriptor is not an eventfd", because no call can test this. */
const noEventfd: Rule = (refusal) =>
  open(isSent(refusal) ? "a descriptor is not an eventfd" : undefined);

const isSent = ({ argument, sent }: Refusal): boolean =>
  argument !== undefined || Object.keys(sent).length > 0;

const busFull: Rule = () =>
  only(
    "virt/kvm/kvm_main.c:kvm_io_bus_register_dev",
    `the bus has ${BUS_DEVICES} devices, the maximum of KVM`,
  );

const irqfdOf = (refusal: Refusal): { flags: number; isOff: boolean } => {
  const flags = sentStruct(refusal, Irqfd)?.flags ?? 0;
  return { flags, isOff: (flags & KVM_IRQFD_FLAG_DEASSIGN) !== 0 };
};

const placeOfEventfd = ({ evidence: { vm }, links }: Refusal): IrqfdPlace | undefined =>
  known(() => vm?.irqfdPlace?.(links?.[0]));

/** The causes of errors of KVM_IRQFD. */
export const IRQFD: Reasons = {
  EINVAL: {
    flags: (refusal) => fault(unknownBits("flags", irqfdOf(refusal).flags, IRQFD_FLAGS)),
    "no irqchip": (refusal) =>
      fault(irqfdOf(refusal).isOff ? undefined : withoutIrqchip(refusal.evidence)),
    "resample without IOAPIC": (refusal) => {
      const { flags, isOff } = irqfdOf(refusal);
      const isResampled = (flags & KVM_IRQFD_FLAG_RESAMPLE) !== 0;
      return claim(
        isResampled && !isOff && known(refusal.evidence.vm?.irqchip) === "split",
        "KVM_IRQFD_FLAG_RESAMPLE needs the IOAPIC in the kernel, and the irqchip is split",
      );
    },
    "no eventfd": noEventfd,
  },
  // Since Linux 6.17, an eventfd can raise an interrupt of only one VM (virt/kvm/eventfd.c:kvm_irqfd_assign).
  EBUSY: {
    "irqfd of this VM": (refusal) => {
      const place = placeOfEventfd(refusal);
      return claim(
        place && place === "here",
        "this eventfd already raises an interrupt of this VM: remove that connection, or use another eventfd",
      );
    },
    "irqfd of another VM": (refusal) => {
      const place = placeOfEventfd(refusal);
      return claim(
        place && place === "elsewhere",
        "this eventfd raises an interrupt of another VM, and since Linux 6.17 it can belong to one VM only",
      );
    },
    "another user": (refusal) =>
      open(
        placeOfEventfd(refusal) === "nowhere"
          ? "another process or device uses this eventfd exclusively"
          : undefined,
      ),
  },
};

const ioeventfdOf = (refusal: Refusal): Ioeventfd | undefined => {
  const sent = sentStruct(refusal, Ioeventfd);
  // For the removal of an ioeventfd, KVM checks only the descriptor (kvm_deassign_ioeventfd).
  return sent && (sent.flags & KVM_IOEVENTFD_FLAG_DEASSIGN) === 0 ? sent : undefined;
};

/** The causes of errors of KVM_IOEVENTFD (virt/kvm/eventfd.c:kvm_assign_ioeventfd). */
export const IOEVENTFD: Reasons = {
  EINVAL: {
    length: (refusal) => {
      const { len = 0 } = ioeventfdOf(refusal) ?? {};
      return claim(!LENGTHS.includes(len), `len ${len}: KVM takes 0 (any), 1, 2, 4 and 8`);
    },
    "end of all addresses": (refusal) => {
      const { addr = 0n, len = 0 } = ioeventfdOf(refusal) ?? {};
      return claim(
        addr + BigInt(len) >= 1n << 64n,
        `addr ${hex(addr)} and len ${len} reach past 2^64`,
      );
    },
    flags: (refusal) =>
      fault(unknownBits("flags", ioeventfdOf(refusal)?.flags ?? 0, KVM_IOEVENTFD_VALID_FLAG_MASK)),
    "match without length": (refusal) => {
      const { flags = 0, len = 1 } = ioeventfdOf(refusal) ?? {};
      return claim(
        len === 0 && (flags & KVM_IOEVENTFD_FLAG_DATAMATCH) !== 0,
        "len 0 matches any length, but KVM_IOEVENTFD_FLAG_DATAMATCH requires a length",
      );
    },
    "no eventfd": noEventfd,
  },
  EEXIST: {
    "same writes": (refusal) =>
      only(
        "virt/kvm/eventfd.c:ioeventfd_check_collision",
        `${placeOf(refusal)} already has an eventfd that would match the same writes`,
      ),
  },
  ENOENT: {
    "not registered": (refusal) =>
      only(
        "virt/kvm/eventfd.c:kvm_deassign_ioeventfd_idx",
        `no such eventfd is at ${placeOf(refusal)}: flags, len, datamatch and the eventfd must be those of its registration`,
      ),
  },
  ENOSPC: { "full bus": busFull },
};

function placeOf(refusal: Refusal): string {
  const sent = sentStruct(refusal, Ioeventfd);
  if (sent === undefined) return "this address";
  const kind = (sent.flags & KVM_IOEVENTFD_FLAG_PIO) === 0 ? "address" : "port";
  return `${kind} ${hex(sent.addr)}`;
}

/** The causes of errors of KVM_REGISTER_COALESCED_MMIO and KVM_UNREGISTER_COALESCED_MMIO. */
export const COALESCED_MMIO: Reasons = {
  EINVAL: {
    pio: (refusal) => {
      const { pio = 0 } = sentStruct(refusal, CoalescedMmioZone) ?? {};
      return claim(pio > 1, `pio ${pio}: it must be 0 (memory) or 1 (ports)`);
    },
  },
  ENOSPC: { "full bus": busFull },
};
