/**
 * Explains why calls for interrupts were refused: calls for in-kernel controllers, the PIT, routes and messages.
 * eventfd.ts explains calls for eventfds.
 */
import { isBytes } from "../abi/bytes.ts";
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
  KVM_X2APIC_API_USE_32BIT_IDS,
} from "../abi/generated/constants.ts";
import {
  Interrupt,
  Irqchip,
  IrqRouting,
  type IrqRoutingEntry,
  Msi,
} from "../abi/generated/structs.ts";
import { hasBit } from "../oracle/bits.ts";
import { tooLate } from "./creation.ts";
import {
  capability,
  type Evidence,
  known,
  type Reasons,
  type Refusal,
  type Rule,
  sentStruct,
} from "./refusal.ts";
import { claim, fault, only } from "./verdict.ts";
import { firstOf, hex, unknownBits } from "./wording.ts";

/** The number of pins of each chip. */
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

const MAKE_IRQCHIP = "KVM_CREATE_IRQCHIP creates them, before the first vCPU";

/**
 * Returns a sentence if no interrupt controller is in the kernel; undefined if a controller is in the kernel, or if
 * this is unknown.
 */
export function withoutIrqchip({ vm }: Evidence): string | undefined {
  if (known(vm?.irqchip) !== "none") return undefined;
  return `the VM has no interrupt controllers in the kernel: ${MAKE_IRQCHIP}`;
}

/**
 * Returns a sentence if the PICs and the IOAPIC are not in the kernel; undefined if they are in the kernel, or if this
 * is unknown.
 */
function withoutPic(evidence: Evidence): string | undefined {
  if (known(evidence.vm?.irqchip) !== "split") return withoutIrqchip(evidence);
  return "with KVM_CAP_SPLIT_IRQCHIP, only the LAPICs are in the kernel, and PIC and IOAPIC are not";
}

/**
 * Returns a sentence if the vCPU's LAPIC is not in the kernel; undefined if the LAPIC is in the kernel, or if this is
 * unknown.
 */
export function withoutLapic({ vcpu }: Evidence): string | undefined {
  if (known(vcpu?.hasLapic) !== false) return undefined;
  return `this vCPU has no LAPIC in the kernel: ${MAKE_IRQCHIP}`;
}

const noIrqchip: Rule = ({ evidence }) => fault(withoutIrqchip(evidence));
const noPic: Rule = ({ evidence }) => fault(withoutPic(evidence));
const noLapic: Rule = ({ evidence }) => fault(withoutLapic(evidence));

/** The causes of errors of KVM_CREATE_IRQCHIP. */
export const CREATE_IRQCHIP: Reasons = {
  EEXIST: {
    "split irqchip": ({ evidence: { vm } }) =>
      fault(
        known(vm?.irqchip) === "split"
          ? "the VM has a split irqchip (KVM_CAP_SPLIT_IRQCHIP)"
          : undefined,
      ),
    "created before": () =>
      only("arch/x86/kvm/x86.c:kvm_arch_vm_ioctl, irqchip_in_kernel", "the VM has an irqchip"),
  },
  EINVAL: { "after the first vCPU": tooLate },
};

/** The causes of errors of KVM_CREATE_PIT and KVM_CREATE_PIT2. */
export const CREATE_PIT: Reasons = {
  EEXIST: {
    "created before": () =>
      only("arch/x86/kvm/x86.c:kvm_arch_vm_ioctl, arch.vpit", "the VM has a PIT"),
  },
  ENOENT: { "no PIC": noPic },
};

/** The causes of errors of the ioctls that read and write the PIT. */
export const PIT: Reasons = {
  ENXIO: {
    "no PIT": ({ evidence: { vm } }) =>
      fault(
        known(vm?.hasPit) === false
          ? "the VM has no PIT in the kernel: KVM_CREATE_PIT2 makes it"
          : undefined,
      ),
  },
};

/** The causes of errors of KVM_GET_IRQCHIP and KVM_SET_IRQCHIP. */
export const IRQCHIP: Reasons = {
  ENXIO: { "no PIC": noPic },
  EINVAL: {
    "unknown chip": (refusal) => {
      const chip = sentStruct(refusal, Irqchip);
      return claim(
        chip !== undefined && PINS[chip.chipId] === undefined,
        `chipId ${chip?.chipId}: it must be 0 (PIC_MASTER), 1 (PIC_SLAVE) or 2 (IOAPIC)`,
      );
    },
  },
};

/** The causes of errors of KVM_IRQ_LINE and KVM_IRQ_LINE_STATUS. */
export const IRQ_LINE: Reasons = { ENXIO: { "no irqchip": noIrqchip } };

/** The causes of errors of KVM_GET_LAPIC. */
export const GET_LAPIC: Reasons = { EINVAL: { "no LAPIC": noLapic } };

/** The offset of the APIC id in the registers of KVM_SET_LAPIC. */
const APIC_ID = 0x20;
const APIC_BASE_EXTD = 10;

/** Whether the VM's APIC ids are known to have 32 bits (KVM_X2APIC_API_USE_32BIT_IDS). */
function has32BitIds(vm: Evidence["vm"]): boolean {
  const [format = 0n] = known(vm?.enabled)?.get("KVM_CAP_X2APIC_API") ?? [];
  return (format & BigInt(KVM_X2APIC_API_USE_32BIT_IDS)) !== 0n;
}

function apicIdOf({ argument }: Refusal): number | undefined {
  if (!isBytes(argument) || argument.length < APIC_ID + 4) return undefined;
  return new DataView(argument.buffer, argument.byteOffset).getUint32(APIC_ID, true);
}

/** The causes of errors of KVM_SET_LAPIC. */
export const SET_LAPIC: Reasons = {
  EINVAL: {
    "no LAPIC": noLapic,
    // arch/x86/kvm/lapic.c:kvm_apic_state_fixup checks the APIC id
    "id of another vCPU": (refusal) => {
      const { vm, vcpu } = refusal.evidence;
      if (!has32BitIds(vm) || vcpu === undefined) return undefined;
      const id = apicIdOf(refusal);
      if (id === vcpu.id) return undefined;
      const base = known(vcpu.sregs)?.apicBase;
      const isX2apic = base === undefined ? undefined : hasBit(base, APIC_BASE_EXTD);
      return claim(
        isX2apic === false ? false : id === undefined ? undefined : isX2apic,
        "in x2APIC mode with KVM_X2APIC_API_USE_32BIT_IDS, regs must contain this vCPU's own id " +
          `at 0x20: ${vcpu.id}${id === undefined ? "" : `, not ${id}`}`,
      );
    },
  },
};

/** The causes of errors of KVM_INTERRUPT. */
export const INTERRUPT: Reasons = {
  EINVAL: {
    "no vector": (refusal) => {
      const { irq = 0 } = sentStruct(refusal, Interrupt) ?? {};
      return claim(
        irq >= KVM_NR_INTERRUPTS,
        `irq ${irq} is not a vector, 0 to ${KVM_NR_INTERRUPTS - 1}`,
      );
    },
  },
  ENXIO: {
    "PIC in the kernel": () =>
      only(
        "arch/x86/kvm/x86.c:kvm_vcpu_ioctl_interrupt",
        "the VM's PICs are in the kernel: raise a line with KVM_IRQ_LINE instead",
      ),
  },
  EEXIST: {
    "one is pending": () =>
      only(
        "arch/x86/kvm/x86.c:kvm_vcpu_ioctl_interrupt",
        "an interrupt of KVM_INTERRUPT is pending, and the vCPU has not accepted it yet",
      ),
  },
};

/** The causes of errors of KVM_SIGNAL_MSI. */
export const SIGNAL_MSI: Reasons = {
  EINVAL: {
    "no irqchip": noIrqchip,
    flags: (refusal) =>
      fault(unknownBits("flags", sentStruct(refusal, Msi)?.flags ?? 0, KVM_MSI_VALID_DEVID)),
    "reserved address bits": (refusal) => {
      const { addressHi = 0 } = sentStruct(refusal, Msi) ?? {};
      return fault(explainAddressHi("addressHi", addressHi, refusal.evidence));
    },
  },
  // KVM_SIGNAL_MSI returns -1 if no LAPIC accepted the message, and -1 is EPERM.
  EPERM: {
    "no such LAPIC": (refusal) => {
      const msi = sentStruct(refusal, Msi);
      return only(
        "arch/x86/kvm/irq.c:kvm_irq_delivery_to_apic",
        msi &&
          `no LAPIC is the destination: addressLo ${hex(msi.addressLo)} names the APIC id ${hex((msi.addressLo >>> 12) & 0xff)}`,
      );
    },
  },
};

// arch/x86/kvm/irq.c:kvm_msi_route_invalid checks the address of a message
function explainAddressHi(name: string, value: number, { vm }: Evidence): string | undefined {
  if (!has32BitIds(vm) || (value & 0xff) === 0) return undefined;
  return `${name} ${hex(value)}: bits 0-7 are reserved with KVM_X2APIC_API_USE_32BIT_IDS`;
}

/** The causes of errors of KVM_SET_GSI_ROUTING. */
export const SET_GSI_ROUTING: Reasons = {
  EINVAL: {
    "no irqchip": noIrqchip,
    "too many routes": (refusal) => {
      const { nr = 0 } = sentStruct(refusal, IrqRouting) ?? {};
      const most = capability(refusal.evidence, "KVM_CAP_IRQ_ROUTING");
      return claim(
        most !== undefined && nr > most,
        `nr ${nr}: KVM accepts at most ${most} routes (KVM_CAP_IRQ_ROUTING)`,
      );
    },
    flags: (refusal) => fault(unknownBits("flags", sentStruct(refusal, IrqRouting)?.flags ?? 0, 0)),
    entry: (refusal) => {
      const { entries = [] } = sentStruct(refusal, IrqRouting) ?? {};
      const most = capability(refusal.evidence, "KVM_CAP_IRQ_ROUTING");
      return fault(explainEntries(entries, most, refusal.evidence));
    },
  },
};

function explainEntries(
  entries: readonly IrqRoutingEntry[],
  most: number | undefined,
  evidence: Evidence,
): string | undefined {
  // KVM checks the GSIs of all entries before it checks the other fields of the first entry.
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
  return clash < 0 ? undefined : `gsi ${entry.gsi}: entries[${clash}] already routes this GSI`;
}

// arch/x86/kvm/irq.c:kvm_set_routing_entry checks a route
function explainRoute({ type, u }: IrqRoutingEntry, evidence: Evidence): string | undefined {
  if (!ROUTE_TYPES.includes(type)) {
    return `type ${type}: on x86 it must be 1 (IRQCHIP), 2 (MSI), 4 (HV_SINT) or 5 (XEN_EVTCHN)`;
  }
  if (type === KVM_IRQ_ROUTING_MSI) {
    return explainAddressHi("u.msi.addressHi", u.msi.addressHi, evidence);
  }
  if (type !== KVM_IRQ_ROUTING_IRQCHIP) return undefined;
  if (known(evidence.vm?.irqchip) === "split") {
    return "type 1 (IRQCHIP): with KVM_CAP_SPLIT_IRQCHIP no PIC and no IOAPIC are in the kernel";
  }
  const { irqchip, pin } = u.irqchip;
  const chip = PINS[irqchip];
  if (chip === undefined) {
    return `u.irqchip.irqchip ${irqchip}: it must be 0 (PIC_MASTER), 1 (PIC_SLAVE) or 2 (IOAPIC)`;
  }
  const [name, pins] = chip;
  return pin < pins ? undefined : `u.irqchip.pin ${pin}: the ${name} has pins 0 to ${pins - 1}`;
}
