/** Why interrupts were refused: controllers in the kernel, the PIT, routes and messages. eventfds are eventfd.ts. */
import {
  KVM_IRQ_ROUTING_HV_SINT,
  KVM_IRQ_ROUTING_IRQCHIP,
  KVM_IRQ_ROUTING_MSI,
  KVM_IRQ_ROUTING_XEN_EVTCHN,
  KVM_IRQCHIP_IOAPIC,
  KVM_IRQCHIP_PIC_MASTER,
  KVM_IRQCHIP_PIC_SLAVE,
  KVM_MSI_VALID_DEVID,
  KVM_NR_INTERRUPTS,
} from "../abi/generated/constants.ts";
import {
  Interrupt,
  Irqchip,
  IrqRouting,
  type IrqRoutingEntry,
  Msi,
} from "../abi/generated/structs.ts";
import { afterVcpu } from "./creation.ts";
import {
  capability,
  type Evidence,
  known,
  type Reasons,
  type Refusal,
  sentStruct,
} from "./refusal.ts";
import { firstOf, hex, unknownBits } from "./wording.ts";

/** How many pins each chip has. */
const PINS: Readonly<Record<number, readonly [name: string, pins: number]>> = {
  [KVM_IRQCHIP_PIC_MASTER]: ["PIC_MASTER", 8],
  [KVM_IRQCHIP_PIC_SLAVE]: ["PIC_SLAVE", 8],
  [KVM_IRQCHIP_IOAPIC]: ["IOAPIC", 24],
};

const ROUTE_TYPES: readonly number[] = [
  KVM_IRQ_ROUTING_IRQCHIP,
  KVM_IRQ_ROUTING_MSI,
  KVM_IRQ_ROUTING_HV_SINT,
  KVM_IRQ_ROUTING_XEN_EVTCHN,
];

const MAKE_IRQCHIP = "KVM_CREATE_IRQCHIP makes them, before the first vCPU";

/** Says that no interrupt controller is in the kernel; `undefined` when one is, or it is not known. */
export function withoutIrqchip({ vm }: Evidence): string | undefined {
  if (known(vm?.irqchip) !== "none") return undefined;
  return `the VM has no interrupt controllers in the kernel: ${MAKE_IRQCHIP}`;
}

/** Says that PICs and IOAPIC are not in the kernel; `undefined` when they are, or it is not known. */
function withoutPic(evidence: Evidence): string | undefined {
  if (known(evidence.vm?.irqchip) !== "split") return withoutIrqchip(evidence);
  return "with KVM_CAP_SPLIT_IRQCHIP only the LAPICs are in the kernel, no PIC and no IOAPIC";
}

/** Says that the vCPU's LAPIC is not in the kernel; `undefined` when it is, or it is not known. */
export function withoutLapic({ vcpu }: Evidence): string | undefined {
  if (known(vcpu?.hasLapic) !== false) return undefined;
  return `this vCPU has no LAPIC in the kernel: ${MAKE_IRQCHIP}`;
}

/** The reasons of KVM_CREATE_IRQCHIP. */
export const CREATE_IRQCHIP: Reasons = {
  EEXIST: ({ evidence: { vm } }) =>
    known(vm?.irqchip) === "split"
      ? "the VM has a split irqchip (KVM_CAP_SPLIT_IRQCHIP)"
      : "the VM has an irqchip",
  EINVAL: ({ evidence }) => afterVcpu(evidence),
};

/** The reasons of KVM_CREATE_PIT and KVM_CREATE_PIT2. */
export const CREATE_PIT: Reasons = {
  EEXIST: () => "the VM has a PIT",
  ENOENT: ({ evidence }) => withoutPic(evidence),
};

/** The reasons of the ioctls that read and write the PIT. */
export const PIT: Reasons = {
  ENXIO: ({ evidence: { vm } }) =>
    known(vm?.hasPit) === false
      ? "the VM has no PIT in the kernel: KVM_CREATE_PIT2 makes it"
      : undefined,
};

/** The reasons of KVM_GET_IRQCHIP and KVM_SET_IRQCHIP. */
export const IRQCHIP: Reasons = {
  ENXIO: ({ evidence }) => withoutPic(evidence),
  EINVAL: (refusal) => {
    const chip = sentStruct(refusal, Irqchip);
    if (chip === undefined || PINS[chip.chipId] !== undefined) return undefined;
    return `chipId ${chip.chipId}: there are 0 (PIC_MASTER), 1 (PIC_SLAVE) and 2 (IOAPIC)`;
  },
};

/** The reasons of KVM_IRQ_LINE and KVM_IRQ_LINE_STATUS. */
export const IRQ_LINE: Reasons = { ENXIO: ({ evidence }) => withoutIrqchip(evidence) };

/** The reasons of KVM_GET_LAPIC. */
export const GET_LAPIC: Reasons = { EINVAL: ({ evidence }) => withoutLapic(evidence) };

/** The reasons of KVM_SET_LAPIC. */
export const SET_LAPIC: Reasons = {
  EINVAL: ({ evidence }) =>
    firstOf(
      () => withoutLapic(evidence),
      // The only other refusal there is (kvm_apic_state_fixup).
      () => {
        const [format] = known(evidence.vm?.enabled)?.get("KVM_CAP_X2APIC_API") ?? [];
        return known(evidence.vcpu?.hasLapic) && format !== undefined && (format & 1n) === 1n
          ? "in x2APIC mode with KVM_X2APIC_API_USE_32BIT_IDS, regs must hold this vCPU's own id at 0x20"
          : undefined;
      },
    ),
};

/** The reasons of KVM_INTERRUPT. */
export const INTERRUPT: Reasons = {
  EINVAL: (refusal) => {
    const interrupt = sentStruct(refusal, Interrupt);
    if (interrupt === undefined || interrupt.irq < KVM_NR_INTERRUPTS) return undefined;
    return `irq ${interrupt.irq}: it is a vector, 0 to ${KVM_NR_INTERRUPTS - 1}`;
  },
  ENXIO: () => "the VM's PICs are in the kernel: raise a line with KVM_IRQ_LINE instead",
  EEXIST: () => "an interrupt of KVM_INTERRUPT is pending, and the vCPU has not taken it yet",
};

/** The reasons of KVM_SIGNAL_MSI. */
export const SIGNAL_MSI: Reasons = {
  EINVAL: (refusal) => {
    const msi = sentStruct(refusal, Msi);
    return firstOf(
      () => withoutIrqchip(refusal.evidence),
      () => msi && unknownBits("flags", msi.flags, KVM_MSI_VALID_DEVID),
      () => msi && explainAddressHi("addressHi", msi.addressHi, refusal.evidence),
    );
  },
  // KVM_SIGNAL_MSI answers -1 when nobody took the message, and -1 is EPERM.
  EPERM: (refusal) => {
    const msi = sentStruct(refusal, Msi);
    return (
      msi &&
      `no LAPIC is the destination: addressLo ${hex(msi.addressLo)} names ${hex((msi.addressLo >>> 12) & 0xff)}`
    );
  },
};

// arch/x86/kvm/irq.c:kvm_msi_route_invalid
function explainAddressHi(name: string, value: number, { vm }: Evidence): string | undefined {
  const [format] = known(vm?.enabled)?.get("KVM_CAP_X2APIC_API") ?? [];
  if (format === undefined || (format & 1n) === 0n || (value & 0xff) === 0) return undefined;
  return `${name} ${hex(value)}: bits 0-7 are reserved with KVM_X2APIC_API_USE_32BIT_IDS`;
}

/** The reasons of KVM_SET_GSI_ROUTING. */
export const SET_GSI_ROUTING: Reasons = { EINVAL: explainRouting };

function explainRouting(refusal: Refusal): string | undefined {
  const { evidence } = refusal;
  const routing = sentStruct(refusal, IrqRouting);
  const most = capability(evidence, "KVM_CAP_IRQ_ROUTING");
  return firstOf(
    () => withoutIrqchip(evidence),
    () =>
      routing && most !== undefined && routing.nr > most
        ? `nr ${routing.nr}: KVM takes at most ${most} routes (KVM_CAP_IRQ_ROUTING)`
        : undefined,
    () => routing && unknownBits("flags", routing.flags, 0),
    () => routing && explainEntries(routing.entries, most, evidence),
  );
}

function explainEntries(
  entries: readonly IrqRoutingEntry[],
  most: number | undefined,
  evidence: Evidence,
): string | undefined {
  // All GSIs are looked at before the first entry's rest is.
  const far = most === undefined ? -1 : entries.findIndex(({ gsi }) => gsi >= most);
  if (far >= 0) return `entries[${far}].gsi ${entries[far]?.gsi}: GSIs end at ${(most ?? 0) - 1}`;
  for (const [i, entry] of entries.entries()) {
    const why = firstOf(
      () => unknownBits("flags", entry.flags, entry.type === KVM_IRQ_ROUTING_MSI ? 1 : 0),
      () => explainTwice(entry, entries.slice(0, i)),
      () => explainRoute(entry, evidence),
    );
    if (why !== undefined) return `entries[${i}].${why}`;
  }
  return undefined;
}

function explainTwice(
  entry: IrqRoutingEntry,
  before: readonly IrqRoutingEntry[],
): string | undefined {
  const isClash = (other: IrqRoutingEntry): boolean =>
    other.gsi === entry.gsi &&
    (other.type !== KVM_IRQ_ROUTING_IRQCHIP ||
      entry.type !== KVM_IRQ_ROUTING_IRQCHIP ||
      other.u.irqchip.irqchip === entry.u.irqchip.irqchip);
  const clash = before.findIndex(isClash);
  return clash < 0 ? undefined : `gsi ${entry.gsi}: entries[${clash}] routes it already`;
}

// arch/x86/kvm/irq.c:kvm_set_routing_entry
function explainRoute({ type, u }: IrqRoutingEntry, evidence: Evidence): string | undefined {
  if (!ROUTE_TYPES.includes(type)) {
    return `type ${type}: x86 has 1 (IRQCHIP), 2 (MSI), 4 (HV_SINT) and 5 (XEN_EVTCHN)`;
  }
  if (type === KVM_IRQ_ROUTING_MSI) {
    return explainAddressHi("u.msi.addressHi", u.msi.addressHi, evidence);
  }
  if (type !== KVM_IRQ_ROUTING_IRQCHIP) return undefined;
  if (known(evidence.vm?.irqchip) === "split") {
    return "type 1 (IRQCHIP): with KVM_CAP_SPLIT_IRQCHIP no PIC and no IOAPIC are in the kernel";
  }
  const { irqchip, pin } = u.irqchip;
  const [name, pins] = PINS[irqchip] ?? [];
  if (name === undefined || pins === undefined) {
    return `u.irqchip.irqchip ${irqchip}: there are 0 (PIC_MASTER), 1 (PIC_SLAVE) and 2 (IOAPIC)`;
  }
  return pin < pins ? undefined : `u.irqchip.pin ${pin}: the ${name} has pins 0 to ${pins - 1}`;
}
