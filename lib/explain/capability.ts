/**
 * Explains why KVM_ENABLE_CAP was refused: the rules for the arguments of each capability, and the calls before which a
 * capability must be enabled.
 */
import {
  KVM_BUS_LOCK_DETECTION_EXIT,
  KVM_BUS_LOCK_DETECTION_OFF,
  KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
  KVM_MSR_EXIT_REASON_VALID_MASK,
  KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST,
  KVM_X2APIC_ENABLE_SUPPRESS_EOI_BROADCAST,
  KVM_X86_NOTIFY_VMEXIT_ENABLED,
  KVM_X86_NOTIFY_VMEXIT_USER,
} from "../abi/generated/constants.ts";
import { type CapabilityName, KVM_CAPABILITIES } from "../abi/generated/names.ts";
import { EnableCap } from "../abi/generated/structs.ts";
import type { FdKind } from "../abi/ioctl.ts";
import { afterVcpu } from "./creation.ts";
import { withoutIrqchip } from "./irq.ts";
import {
  capability,
  type Evidence,
  known,
  type Reasons,
  type Refusal,
  sentStruct,
} from "./refusal.ts";
import { claim, fault, type Judge, only, open } from "./verdict.ts";
import { firstOf, hex, unknownBits } from "./wording.ts";

/** The capability and the first argument of a refused KVM_ENABLE_CAP, with the evidence. */
interface Switch {
  readonly name: CapabilityName;
  readonly first: bigint;
  readonly evidence: Evidence;
  readonly fd: FdKind | undefined;
}

type Rule = (asked: Switch) => string | undefined;

/** The rules of a capability. */
interface Card {
  /** The kind of the handle on which the capability is enabled. */
  readonly fd: FdKind;
  /** The causes of EINVAL, in the order in which KVM checks them. */
  readonly rules?: readonly Rule[];
  /** Whether KVM accepts the capability even if KVM_CHECK_EXTENSION returns 0. */
  readonly isKnownAtZero?: true;
}

const tooLate: Rule = ({ evidence }) => afterVcpu(evidence);

/** Whether KVM_CHECK_EXTENSION returns the bits that are allowed in `args[0]`. */
const allowedBits: Rule = ({ name, first, evidence }) => {
  const allowed = capability(evidence, name);
  return allowed === undefined
    ? undefined
    : unknownBits("args[0]", first, allowed, `${name} allows`);
};

const bits =
  (allowed: number): Rule =>
  ({ first }) =>
    unknownBits("args[0]", first, allowed);

const both =
  (one: number, other: number, why: string): Rule =>
  ({ first }) =>
    (first & BigInt(one)) !== 0n && (first & BigInt(other)) !== 0n
      ? `args[0] ${hex(first)}: ${why}`
      : undefined;

const zero: Rule = ({ first }) => (first === 0n ? undefined : `args[0] ${hex(first)} must be 0`);
const nonZero: Rule = ({ first }) => (first === 0n ? "args[0] must not be 0" : undefined);

/**
 * The size in bytes of the ring entries that KVM may reserve: 64 entries, and 512 more for PML; an entry has 16 bytes.
 */
const RESERVED_RING_BYTES = 9216n;

const VM: Card = { fd: "vm" };
const VCPU: Card = { fd: "vcpu" };
const DIRTY_RING: Card = { fd: "vm", rules: [explainRing, tooLate] };

/** The rules of every capability that can be enabled on x86, from Linux 6.1 to 7.2. */
const CARDS: Readonly<Partial<Record<CapabilityName, Card>>> = {
  KVM_CAP_DISABLE_QUIRKS: VM,
  KVM_CAP_DISABLE_QUIRKS2: { fd: "vm", rules: [allowedBits] },
  KVM_CAP_SPLIT_IRQCHIP: { fd: "vm", rules: [explainPins] },
  KVM_CAP_X2APIC_API: {
    fd: "vm",
    rules: [
      allowedBits,
      both(
        KVM_X2APIC_ENABLE_SUPPRESS_EOI_BROADCAST,
        KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST,
        "bit 2 and bit 3 (ENABLE and DISABLE_SUPPRESS_EOI_BROADCAST) exclude each other",
      ),
    ],
  },
  KVM_CAP_X86_DISABLE_EXITS: { fd: "vm", rules: [allowedBits, tooLate] },
  KVM_CAP_MSR_PLATFORM_INFO: VM,
  KVM_CAP_EXCEPTION_PAYLOAD: VM,
  KVM_CAP_X86_TRIPLE_FAULT_EVENT: VM,
  KVM_CAP_X86_USER_SPACE_MSR: { fd: "vm", rules: [bits(KVM_MSR_EXIT_REASON_VALID_MASK)] },
  KVM_CAP_X86_BUS_LOCK_EXIT: {
    fd: "vm",
    isKnownAtZero: true,
    rules: [
      bits(KVM_BUS_LOCK_DETECTION_OFF | KVM_BUS_LOCK_DETECTION_EXIT),
      both(
        KVM_BUS_LOCK_DETECTION_OFF,
        KVM_BUS_LOCK_DETECTION_EXIT,
        "bit 0 and bit 1 (KVM_BUS_LOCK_DETECTION_OFF and _EXIT) exclude each other",
      ),
    ],
  },
  KVM_CAP_SGX_ATTRIBUTE: VM,
  KVM_CAP_VM_COPY_ENC_CONTEXT_FROM: VM,
  KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM: VM,
  KVM_CAP_EXIT_HYPERCALL: { fd: "vm", rules: [allowedBits] },
  KVM_CAP_EXIT_ON_EMULATION_FAILURE: { fd: "vm", rules: [bits(1)] },
  KVM_CAP_PMU_CAPABILITY: { fd: "vm", rules: [allowedBits, tooLate] },
  KVM_CAP_MAX_VCPU_ID: { fd: "vm", rules: [explainMaxVcpuId] },
  KVM_CAP_X86_NOTIFY_VMEXIT: {
    fd: "vm",
    rules: [
      ({ first }) =>
        unknownBits(
          "args[0] bits 0-31",
          first & 0xffff_ffffn,
          KVM_X86_NOTIFY_VMEXIT_ENABLED | KVM_X86_NOTIFY_VMEXIT_USER,
        ),
      ({ first }) =>
        (first & BigInt(KVM_X86_NOTIFY_VMEXIT_ENABLED)) === 0n
          ? "args[0] lacks bit 0 KVM_X86_NOTIFY_VMEXIT_ENABLED, but the capability cannot be disabled"
          : undefined,
      tooLate,
    ],
  },
  KVM_CAP_VM_DISABLE_NX_HUGE_PAGES: { fd: "vm", rules: [zero, tooLate] },
  KVM_CAP_X86_APIC_BUS_CYCLES_NS: { fd: "vm", rules: [nonZero, explainCycles, tooLate] },
  KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: { fd: "vm", rules: [explainManualProtect, allowedBits] },
  KVM_CAP_HALT_POLL: {
    fd: "vm",
    rules: [
      ({ first }) =>
        first >> 32n === 0n
          ? undefined
          : `args[0] ${hex(first)} does not fit 32 bits (nanoseconds)`,
    ],
  },
  KVM_CAP_DIRTY_LOG_RING: DIRTY_RING,
  KVM_CAP_DIRTY_LOG_RING_ACQ_REL: DIRTY_RING,
  KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP: VM,
  KVM_CAP_HYPERV_SYNIC: { fd: "vcpu", rules: [({ evidence }) => withoutIrqchip(evidence)] },
  KVM_CAP_HYPERV_SYNIC2: { fd: "vcpu", rules: [zero, ({ evidence }) => withoutIrqchip(evidence)] },
  KVM_CAP_HYPERV_ENLIGHTENED_VMCS: VCPU,
  KVM_CAP_HYPERV_DIRECT_TLBFLUSH: VCPU,
  KVM_CAP_HYPERV_ENFORCE_CPUID: VCPU,
  KVM_CAP_ENFORCE_PV_FEATURE_CPUID: VCPU,
};

/** Judges the capability and its arguments, if both are known. */
const asked =
  (judge: (asked: Switch & { readonly card: Card | undefined }) => ReturnType<Judge<Refusal>>) =>
  (refusal: Refusal): ReturnType<Judge<Refusal>> => {
    const name = nameOf(refusal);
    const sent = sentStruct(refusal, EnableCap);
    if (name === undefined || sent === undefined) return undefined;
    const { evidence, fd } = refusal;
    return judge({ name, first: sent.args[0] ?? 0n, evidence, fd, card: CARDS[name] });
  };

const of =
  (capabilities: readonly CapabilityName[], judge: (asked: Switch) => ReturnType<Judge<Refusal>>) =>
  (refusal: Refusal): ReturnType<Judge<Refusal>> =>
    asked((found) => (capabilities.includes(found.name) ? judge(found) : undefined))(refusal);

const SPLIT: readonly CapabilityName[] = ["KVM_CAP_SPLIT_IRQCHIP"];
const RINGS: readonly CapabilityName[] = [
  "KVM_CAP_DIRTY_LOG_RING",
  "KVM_CAP_DIRTY_LOG_RING_ACQ_REL",
];

/** The causes of errors of KVM_ENABLE_CAP. */
export const ENABLE_CAP: Reasons = {
  EINVAL: {
    flags: (refusal) => {
      const { flags = 0 } = sentStruct(refusal, EnableCap) ?? {};
      return claim(flags !== 0, `flags ${hex(flags)} must be 0`);
    },
    "only for KVM_CHECK_EXTENSION": asked(({ name, card }) =>
      claim(
        card === undefined,
        `${name} cannot be enabled on x86: it is only a result of KVM_CHECK_EXTENSION`,
      ),
    ),
    "wrong kind of handle": asked(({ name, card, fd }) =>
      claim(
        card !== undefined && card.fd !== fd,
        `${name} is enabled on a ${card?.fd}, not on a ${fd}`,
      ),
    ),
    "missing capability": asked(({ name, card, evidence }) =>
      claim(
        card?.isKnownAtZero !== true && capability(evidence, name) === 0,
        `this VM has no ${name}`,
      ),
    ),
    "argument or order": asked((found) =>
      fault(firstOf(...(found.card?.rules ?? []).map((rule) => () => rule(found)))),
    ),
    // arch/x86/kvm/x86.c:kvm_vm_ioctl_enable_cap compares args[0] with bsp_vcpu_id; Linux 6.1 does not make this
    // comparison
    "boot vCPU left out": of(["KVM_CAP_MAX_VCPU_ID"], ({ first }) =>
      open(`args[0] ${first}: KVM_SET_BOOT_CPU_ID has selected a vCPU with a higher id`),
    ),
    // virt/kvm/dirty_ring.c:kvm_dirty_ring_get_rsvd_entries returns 64, or 576 on a CPU with page-modification logging
    "entries that KVM keeps": of(RINGS, ({ first }) =>
      open(
        (first & 0xffff_ffffn) < RESERVED_RING_BYTES
          ? `args[0] ${first} bytes is less than the entries that KVM reserves for itself (${RESERVED_RING_BYTES} bytes with PML)`
          : undefined,
      ),
    ),
  },
  EEXIST: {
    "irqchip made before": of(SPLIT, ({ evidence: { vm } }) => {
      const mode = known(vm?.irqchip);
      return claim(
        mode && mode !== "none",
        mode === "split"
          ? "the VM has a split irqchip"
          : "the VM has an irqchip (KVM_CREATE_IRQCHIP)",
      );
    }),
    "after the first vCPU": of(SPLIT, ({ evidence }) => fault(afterVcpu(evidence))),
  },
  EPERM: {
    "no CAP_SYS_BOOT": of(["KVM_CAP_VM_DISABLE_NX_HUGE_PAGES"], () =>
      only(
        "arch/x86/kvm/x86.c:kvm_vm_ioctl_enable_cap",
        "this process has no CAP_SYS_BOOT in the first user namespace",
      ),
    ),
  },
  ENXIO: {
    "no irqchip": of(["KVM_CAP_X86_APIC_BUS_CYCLES_NS"], ({ evidence }) =>
      fault(withoutIrqchip(evidence)),
    ),
  },
  E2BIG: {
    "large ring": of(RINGS, ({ name, first, evidence }) => {
      const most = capability(evidence, name);
      return only(
        "virt/kvm/kvm_main.c:kvm_vm_ioctl_enable_dirty_log_ring",
        `args[0] is ${first} bytes, but a ring has at most ${most ?? "1 MiB"} (${name})`,
      );
    }),
  },
  ENOTTY: {
    "missing capability": asked(({ name, evidence }) =>
      claim(capability(evidence, name) === 0, `this VM has no ${name}`),
    ),
  },
};

/** Returns the capability's name; `undefined` for a number that this package does not know. */
function nameOf(refusal: Refusal): CapabilityName | undefined {
  const { cap = sentStruct(refusal, EnableCap)?.cap } = refusal.sent;
  const names = Object.keys(KVM_CAPABILITIES) as CapabilityName[];
  return names.find((name) => name === cap || KVM_CAPABILITIES[name] === cap);
}

function explainPins({ first, evidence }: Switch): string | undefined {
  // KVM's limit MAX_NR_RESERVED_IOAPIC_PINS is equal to KVM_MAX_IRQ_ROUTES. KVM_CHECK_EXTENSION of KVM_CAP_IRQ_ROUTING
  // returns KVM_MAX_IRQ_ROUTES.
  const most = capability(evidence, "KVM_CAP_IRQ_ROUTING");
  if (most === undefined || most === 0 || first <= BigInt(most)) return undefined;
  return `args[0] is ${first} IOAPIC pins, but KVM reserves at most ${most} routes`;
}

function explainMaxVcpuId({ name, first, evidence }: Switch): string | undefined {
  const most = capability(evidence, name);
  if (most !== undefined && first > BigInt(most)) {
    return `args[0] ${first}: the ids of this KVM end before ${most}`;
  }
  const before = known(evidence.vm?.enabled)?.get(name)?.[0];
  if (before === undefined || before === first) return undefined;
  return `the value was set to ${before} before, and can be set only once`;
}

function explainCycles({ first }: Switch): string | undefined {
  // The product with the largest count and divider (128) must fit 64 bits.
  return first * 0xffff_ffffn * 128n < 1n << 64n
    ? undefined
    : `args[0] ${first} ns is too long: its product with 2^32 - 1 and 128 must fit 64 bits`;
}

function explainManualProtect({ first }: Switch): string | undefined {
  return first !== 0n && (first & BigInt(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)) === 0n
    ? `args[0] ${hex(first)} lacks bit 0 KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, which every other bit requires`
    : undefined;
}

// virt/kvm/kvm_main.c:kvm_vm_ioctl_enable_dirty_log_ring checks the low 32 bits of args[0]
function explainRing({ first, evidence }: Switch): string | undefined {
  const size = first & 0xffff_ffffn;
  if (size === 0n || (size & (size - 1n)) !== 0n) {
    return `args[0] ${size} bytes is not a power of two`;
  }
  if (size < 4096n) return `args[0] ${size} bytes is less than a page`;
  const enabled = known(evidence.vm?.enabled);
  const before =
    enabled?.get("KVM_CAP_DIRTY_LOG_RING") ?? enabled?.get("KVM_CAP_DIRTY_LOG_RING_ACQ_REL");
  return before && `the rings' size was set to ${before[0]} before, and can be set only once`;
}
