/** Why a VM, a vCPU or a device was not made, or a VM would not take what must come before its vCPUs. */
import {
  KVM_X86_DEFAULT_VM,
  KVM_X86_SEV_ES_VM,
  KVM_X86_SEV_VM,
  KVM_X86_SNP_VM,
  KVM_X86_SW_PROTECTED_VM,
  KVM_X86_TDX_VM,
} from "../abi/generated/constants.ts";
import { CreateDevice, DeviceAttr } from "../abi/generated/structs.ts";
import {
  capability,
  type Evidence,
  known,
  type Reasons,
  type Refusal,
  sentInteger,
  sentStruct,
} from "./refusal.ts";
import { firstOf, hex } from "./wording.ts";

const VM_TYPES: Readonly<Record<number, string>> = {
  [KVM_X86_DEFAULT_VM]: "KVM_X86_DEFAULT_VM",
  [KVM_X86_SW_PROTECTED_VM]: "KVM_X86_SW_PROTECTED_VM",
  [KVM_X86_SEV_VM]: "KVM_X86_SEV_VM",
  [KVM_X86_SEV_ES_VM]: "KVM_X86_SEV_ES_VM",
  [KVM_X86_SNP_VM]: "KVM_X86_SNP_VM",
  [KVM_X86_TDX_VM]: "KVM_X86_TDX_VM",
};

/** The highest address whose three pages lie below 4 GiB. */
const LAST_TSS_ADDR = 0xffff_d000n;
const TSS_BYTES = 0x3000n;

/** The reasons of KVM_CREATE_VM. */
export const CREATE_VM: Reasons = {
  EINVAL: (refusal) => explainVmType(refusal),
  EBUSY: () => "the CPU's virtualisation is in use: another hypervisor has it; stop it first",
};

function explainVmType(refusal: Refusal): string | undefined {
  const type = sentInteger(refusal);
  const mask = capability(refusal.evidence, "KVM_CAP_VM_TYPES");
  if (type === undefined || mask === undefined) return undefined;
  // Before the capability (6.8), there was the default type alone.
  const types = BigInt(mask === 0 ? 1 : mask);
  if (type < 64n && ((types >> type) & 1n) === 1n) return undefined;
  const name = type < 64n ? VM_TYPES[Number(type)] : undefined;
  const said = name === undefined ? `${type}` : `${type} ${name}`;
  return `type ${said}: this KVM has only the types in the bits of ${hex(types)} (KVM_CAP_VM_TYPES)`;
}

/** The reasons of KVM_CREATE_VCPU. */
export const CREATE_VCPU: Reasons = {
  EEXIST: (refusal) =>
    `vCPU ${sentInteger(refusal)} was made before; an id stays taken, even when its vCPU is closed`,
  EINVAL: (refusal) =>
    firstOf(
      () => explainVcpuId(refusal),
      () => explainVcpuCount(refusal),
    ),
};

function explainVcpuId(refusal: Refusal): string | undefined {
  const { evidence } = refusal;
  const id = sentInteger(refusal);
  if (id === undefined) return undefined;
  const [limit] = known(evidence.vm?.enabled)?.get("KVM_CAP_MAX_VCPU_ID") ?? [];
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
  return `the VM has ${made} vCPUs, and this KVM takes ${most} (KVM_CAP_MAX_VCPUS)`;
}

/** Says that a call must come before the first vCPU, where there is one; `undefined` where not. */
export function afterVcpu(evidence: Evidence): string | undefined {
  const ids = known(evidence.vm?.vcpuIds);
  if (ids === undefined || ids.length === 0) return undefined;
  return `too late: it must come before the first vCPU, and vCPU ${ids[0]} was made already`;
}

/** The reasons of KVM_SET_BOOT_CPU_ID. */
export const SET_BOOT_CPU_ID: Reasons = {
  EBUSY: ({ evidence }) => afterVcpu(evidence),
  EINVAL: (refusal) => explainVcpuId(refusal),
};

/** The reasons of KVM_SET_TSS_ADDR. */
export const SET_TSS_ADDR: Reasons = {
  EINVAL: (refusal) => {
    const address = sentInteger(refusal);
    if (address === undefined || address <= LAST_TSS_ADDR) return undefined;
    return `address ${hex(address)}: its three pages must lie below 4 GiB, so ${hex(LAST_TSS_ADDR)} is the last`;
  },
  EEXIST: explainTssTaken,
};

/** On Intel the three pages are a slot of KVM's own, which is made once (__x86_set_memory_region). */
function explainTssTaken(refusal: Refusal): string | undefined {
  const address = sentInteger(refusal);
  const slots = known(refusal.evidence.vm?.slots);
  if (address === undefined || slots === undefined) return undefined;
  const taken = slots.find(
    ({ slot, guestPhysAddr, memorySize }) =>
      slot < 0x1_0000 &&
      guestPhysAddr < address + TSS_BYTES &&
      address < guestPhysAddr + memorySize,
  );
  return taken === undefined
    ? "the VM's TSS has an address, which is set once"
    : `address ${hex(address)}: slot ${taken.slot} has one of its three pages`;
}

/** The reasons of KVM_SET_IDENTITY_MAP_ADDR. */
export const SET_IDENTITY_MAP_ADDR: Reasons = {
  EINVAL: ({ evidence }) => afterVcpu(evidence),
};

/** The reasons of KVM_SET_NR_MMU_PAGES. */
export const SET_NR_MMU_PAGES: Reasons = {
  EINVAL: (refusal) => {
    const pages = sentInteger(refusal);
    if (pages === undefined || pages >= 64n) return undefined;
    return `${pages} pages, and KVM wants at least 64 (KVM_MIN_ALLOC_MMU_PAGES)`;
  },
};

/** The reasons of KVM_CREATE_DEVICE. */
export const CREATE_DEVICE: Reasons = {
  ENODEV: (refusal) => {
    const device = sentStruct(refusal, CreateDevice);
    return (
      device && `type ${device.type}: this kernel has no such device (its module may be missing)`
    );
  },
  EBUSY: () => "the VM has a device of this type, and can have one only",
};

/** The reasons of KVM_SET_DEVICE_ATTR, KVM_GET_DEVICE_ATTR and KVM_HAS_DEVICE_ATTR. */
export const DEVICE_ATTR: Reasons = {
  ENXIO: (refusal) => {
    const device = sentStruct(refusal, DeviceAttr);
    return device && `there is no attribute ${device.attr} of group ${device.group} here`;
  },
  EPERM: ({ ioctl }) => `this device has no ${ioctl} at all`,
};
