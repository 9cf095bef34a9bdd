/**
 * Explains why a VM, a vCPU or a device was not created, and why a VM rejected a call that must come before the
 * creation of its vCPUs.
 */
import {
  KVM_DEV_TYPE_VFIO,
  KVM_X86_DEFAULT_VM,
  KVM_X86_SEV_ES_VM,
  KVM_X86_SEV_VM,
  KVM_X86_SNP_VM,
  KVM_X86_SW_PROTECTED_VM,
  KVM_X86_TDX_VM,
} from "../abi/generated/constants.ts";
import { CreateDevice, DeviceAttr } from "../abi/generated/structs.ts";
import { APIC_PAGE, IDENTITY_BYTES, slotAt, TSS_BYTES } from "./kernel-pages.ts";
import {
  capability,
  type Evidence,
  known,
  type Reasons,
  type Refusal,
  type Rule,
  sentInteger,
  sentStruct,
} from "./refusal.ts";
import { claim, fault, only, open } from "./verdict.ts";
import { hex } from "./wording.ts";

const VM_TYPES: Readonly<Record<number, string>> = {
  [KVM_X86_DEFAULT_VM]: "KVM_X86_DEFAULT_VM",
  [KVM_X86_SW_PROTECTED_VM]: "KVM_X86_SW_PROTECTED_VM",
  [KVM_X86_SEV_VM]: "KVM_X86_SEV_VM",
  [KVM_X86_SEV_ES_VM]: "KVM_X86_SEV_ES_VM",
  [KVM_X86_SNP_VM]: "KVM_X86_SNP_VM",
  [KVM_X86_TDX_VM]: "KVM_X86_TDX_VM",
};

/** The highest address of a TSS whose three pages are all below 4 GiB. */
const LAST_TSS_ADDR = 0xffff_d000n;

/** The causes of errors of KVM_CREATE_VM. */
export const CREATE_VM: Reasons = {
  EINVAL: { "unknown type": (refusal) => fault(explainVmType(refusal)) },
  // virt/kvm/kvm_main.c:kvm_enable_virtualization calls *_enable_virtualization_cpu of vmx.c or svm.c
  EBUSY: {
    "another hypervisor": () =>
      open("another hypervisor uses the CPU's virtualisation: stop it first"),
    shutdown: () => open("the host is about to shut down or reboot"),
  },
};

function explainVmType(refusal: Refusal): string | undefined {
  const type = sentInteger(refusal);
  const mask = capability(refusal.evidence, "KVM_CAP_VM_TYPES");
  if (type === undefined || mask === undefined) return undefined;
  // Before KVM_CAP_VM_TYPES (Linux 6.8), only the default type exists.
  const types = BigInt(mask === 0 ? 1 : mask);
  if (((types >> type) & 1n) === 1n) return undefined;
  const name = VM_TYPES[Number(type)];
  const written = name === undefined ? `${type}` : `${type} ${name}`;
  return `type ${written}: this KVM has only the types whose bits are in ${hex(types)} (KVM_CAP_VM_TYPES)`;
}

/** The causes of errors of KVM_CREATE_VCPU. */
export const CREATE_VCPU: Reasons = {
  EEXIST: {
    "id taken": (refusal) => {
      const id = sentInteger(refusal);
      const ids = known(refusal.evidence.vm?.vcpuIds);
      if (id === undefined) return undefined;
      return claim(
        ids?.some((one) => BigInt(one) === id),
        `vCPU ${id} was created before; an id stays in use after its vCPU is closed`,
      );
    },
    // arch/x86/kvm/lapic.c:kvm_alloc_apic_access_page adds the page for the first vCPU of a VM
    "slot over the APIC's page": ({ evidence }) =>
      claimSlot(evidence, APIC_PAGE, 0x1000n, "the first vCPU's APIC page"),
    // arch/x86/kvm/vmx/vmx.c:init_rmode_identity_map adds the page on a CPU without unrestricted guest
    "slot over the identity map": ({ evidence }) =>
      claimSlot(
        evidence,
        known(evidence.vm?.identityMapAddr),
        IDENTITY_BYTES,
        "the identity map that this CPU needs (it has no unrestricted guest)",
      ),
  },
  EINVAL: {
    "id too large": (refusal) => fault(explainVcpuId(refusal)),
    "too many vCPUs": (refusal) => fault(explainVcpuCount(refusal)),
  },
};

/** Proves the cause if a slot overlaps the address of a page that KVM_CREATE_VCPU adds. */
function claimSlot(
  evidence: Evidence,
  address: bigint | undefined,
  bytes: bigint,
  what: string,
): ReturnType<Rule> {
  const slots = known(evidence.vm?.slots);
  const at = address === undefined ? "" : ` at ${hex(address)}`;
  const overlap = `overlaps ${what}${at}: delete or shorten the slot`;
  if (address === undefined || slots === undefined) return open(`a slot ${overlap}`);
  const found = slotAt(slots, address, bytes);
  return fault(found && `slot ${found.slot} ${overlap}`);
}

function explainVcpuId(refusal: Refusal): string | undefined {
  const { evidence } = refusal;
  const id = sentInteger(refusal);
  if (id === undefined) return undefined;
  const limit = known(evidence.vm?.enabled)?.get("KVM_CAP_MAX_VCPU_ID")?.[0];
  if (limit !== undefined && id >= limit) {
    return `id ${id}: KVM_CAP_MAX_VCPU_ID was set to ${limit}, so the ids end at ${limit - 1n}`;
  }
  const ids = capability(evidence, "KVM_CAP_MAX_VCPU_ID");
  if (ids === undefined || ids === 0 || id < BigInt(ids)) return undefined;
  return `id ${id}: this KVM has ids 0 to ${ids - 1} (KVM_CAP_MAX_VCPU_ID)`;
}

function explainVcpuCount({ evidence }: Refusal): string | undefined {
  const most = capability(evidence, "KVM_CAP_MAX_VCPUS");
  const made = known(evidence.vm?.vcpuIds)?.length;
  if (most === undefined || made === undefined || most === 0 || made < most) return undefined;
  return `the VM has ${made} vCPUs, and this KVM supports at most ${most} (KVM_CAP_MAX_VCPUS)`;
}

/** Returns a sentence if the VM already has a vCPU: the call came too late. Returns undefined if the VM has no vCPU. */
export function afterVcpu(evidence: Evidence): string | undefined {
  const ids = known(evidence.vm?.vcpuIds);
  if (ids === undefined || ids.length === 0) return undefined;
  return `too late: the call must come before the first vCPU, but vCPU ${ids[0]} exists`;
}

/** Judges whether a call was made after the creation of the first vCPU. */
export const tooLate: Rule = ({ evidence }) => fault(afterVcpu(evidence));

/** The causes of errors of KVM_SET_BOOT_CPU_ID. */
export const SET_BOOT_CPU_ID: Reasons = {
  EBUSY: { "after the first vCPU": tooLate },
  EINVAL: { "id too large": (refusal) => fault(explainVcpuId(refusal)) },
};

/** The causes of errors of KVM_SET_TSS_ADDR. */
export const SET_TSS_ADDR: Reasons = {
  EINVAL: {
    "above 4 GiB": (refusal) => {
      const address = sentInteger(refusal) ?? 0n;
      return claim(
        address > LAST_TSS_ADDR,
        `address ${hex(address)}: its three pages must be below 4 GiB, so ${hex(LAST_TSS_ADDR)} is the last`,
      );
    },
  },
  // On Intel, KVM creates the internal slot of the three pages only once (__x86_set_memory_region).
  EEXIST: {
    "set before": ({ evidence: { vm } }) => {
      const before = known(vm?.tssAddr);
      return claim(
        before === undefined ? undefined : before !== null,
        `the address of the VM's TSS is already set, and can be set only once${typeof before === "bigint" ? `: ${hex(before)}` : ""}`,
      );
    },
    "slot in the way": (refusal) => {
      const address = sentInteger(refusal);
      const slots = known(refusal.evidence.vm?.slots);
      if (address === undefined) return undefined;
      const text = (which: string): string =>
        `address ${hex(address)}: ${which} contains one of the TSS's three pages`;
      if (slots === undefined) return open(text("a slot"));
      const taken = slotAt(slots, address, TSS_BYTES);
      return fault(taken && text(`slot ${taken.slot}`));
    },
    "pages of KVM's own": (refusal) => {
      const address = sentInteger(refusal);
      if (address === undefined) return undefined;
      const isOver = (start: bigint | undefined, bytes: bigint): boolean =>
        start !== undefined && start < address + TSS_BYTES && address < start + bytes;
      const map = known(refusal.evidence.vm?.identityMapAddr);
      return open(
        isOver(APIC_PAGE, 0x1000n) || isOver(map, IDENTITY_BYTES)
          ? `address ${hex(address)}: one of the TSS's three pages would be KVM's own page (the APIC's or the identity map's)`
          : undefined,
      );
    },
  },
};

/** The causes of errors of KVM_SET_IDENTITY_MAP_ADDR. */
export const SET_IDENTITY_MAP_ADDR: Reasons = { EINVAL: { "after the first vCPU": tooLate } };

const LEAST_MMU_PAGES = 64n;

/** The causes of errors of KVM_SET_NR_MMU_PAGES. */
export const SET_NR_MMU_PAGES: Reasons = {
  EINVAL: {
    "too few": (refusal) => {
      const pages = sentInteger(refusal) ?? LEAST_MMU_PAGES;
      return claim(
        pages < LEAST_MMU_PAGES,
        `${pages} pages, and KVM requires at least ${LEAST_MMU_PAGES} (KVM_MIN_ALLOC_MMU_PAGES)`,
      );
    },
  },
};

/** The causes of errors of KVM_CREATE_DEVICE. */
export const CREATE_DEVICE: Reasons = {
  ENODEV: {
    "unknown type": (refusal) => {
      const device = sentStruct(refusal, CreateDevice);
      return only(
        "virt/kvm/kvm_main.c:kvm_ioctl_create_device",
        device && `type ${device.type}: this kernel has no such device (its module may be missing)`,
      );
    },
  },
  EBUSY: {
    "second VFIO device": (refusal) =>
      sentStruct(refusal, CreateDevice)?.type === KVM_DEV_TYPE_VFIO
        ? only(
            "virt/kvm/vfio.c:kvm_vfio_create",
            "the VM already has a device of this type, and can have only one",
          )
        : undefined,
  },
};

/** The causes of errors of KVM_SET_DEVICE_ATTR, KVM_GET_DEVICE_ATTR and KVM_HAS_DEVICE_ATTR. */
export const DEVICE_ATTR: Reasons = {
  ENXIO: {
    "unknown attribute": (refusal) => {
      const device = sentStruct(refusal, DeviceAttr);
      return only(
        "kvm_vfio_has_attr, kvm_arch_tsc_has_attr, kvm_x86_dev_has_attr",
        device && `this device has no attribute ${device.attr} in group ${device.group}`,
      );
    },
  },
  EPERM: {
    "no such call": ({ ioctl, fd }) =>
      fd === "dev"
        ? only(
            "virt/kvm/kvm_main.c:kvm_device_ioctl_attr",
            `this device does not implement ${ioctl}`,
          )
        : undefined,
  },
};
