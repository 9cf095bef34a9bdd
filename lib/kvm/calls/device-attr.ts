/**
 * Reads and writes attributes of /dev/kvm, vCPUs and devices with `struct kvm_device_attr`. A group and a number
 * identify an attribute.
 */
import {
  KVM_GET_DEVICE_ATTR,
  KVM_HAS_DEVICE_ATTR,
  KVM_SET_DEVICE_ATTR,
} from "../../abi/generated/ioctls.ts";
import { DeviceAttr } from "../../abi/generated/structs.ts";
import { encode } from "../../abi/struct.ts";
import { refuseMisfit, toU32 } from "../../options.ts";
import type { IoctlTarget } from "../handle.ts";

/**
 * The identity of an attribute: its group, and its number in the group. The kernel's documents define both for each
 * device.
 */
export interface DeviceAttrInput {
  /** `KVM_X86_GRP_SYSTEM`, `KVM_VCPU_TSC_CTRL`, `KVM_DEV_VFIO_FILE` ... */
  readonly group: number;
  readonly attr: bigint | number;
  /** The flags of `kvm_device_attr`, for which the kernel defines no value; 0 if omitted. */
  readonly flags?: number;
}

/** Reads the members of an attribute's identity, and encodes `struct kvm_device_attr`. */
function request(where: string, attribute: DeviceAttrInput): { bytes: Uint8Array; args: object } {
  refuseMisfit(where, attribute, ["group", "attr"], ["flags"]);
  const args = { ...attribute };
  return { bytes: encode(DeviceAttr, args, where), args };
}

/** For attributes of at least this length, KVM_HAS_DEVICE_ATTR is called before the bytes are allocated. */
const MANY_BYTES = 1 << 16;

/** Reads an attribute of `length` bytes. */
export function getDeviceAttr(
  handle: IoctlTarget,
  attribute: DeviceAttrInput,
  length: number,
): Uint8Array {
  const where = "getDeviceAttr()";
  const size = toU32(`${where}: length`, length);
  const { bytes: struct, args } = request(where, attribute);
  if (size >= MANY_BYTES) hasDeviceAttr(handle, attribute);
  const bytes = new Uint8Array(size);
  handle.ioctl(KVM_GET_DEVICE_ATTR, struct, { args: { ...args }, links: [bytes] });
  return bytes;
}

/** Writes an attribute; omit the bytes for attributes that are commands without data. */
export function setDeviceAttr(
  handle: IoctlTarget,
  attribute: DeviceAttrInput,
  bytes?: Uint8Array,
): void {
  const { bytes: struct, args } = request("setDeviceAttr()", attribute);
  handle.ioctl(KVM_SET_DEVICE_ATTR, struct, { args: { ...args }, links: [bytes ?? null] });
}

/** Throws ENXIO if the attribute does not exist. */
export function hasDeviceAttr(handle: IoctlTarget, attribute: DeviceAttrInput): void {
  const { bytes: struct, args } = request("hasDeviceAttr()", attribute);
  handle.ioctl(KVM_HAS_DEVICE_ATTR, struct, { args: { ...args }, links: [null] });
}
