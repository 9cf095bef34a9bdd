/** `struct kvm_device_attr`, which /dev/kvm, vCPUs and devices have: groups of numbered attributes. */
import {
  KVM_GET_DEVICE_ATTR,
  KVM_HAS_DEVICE_ATTR,
  KVM_SET_DEVICE_ATTR,
} from "../abi/generated/ioctls.ts";
import { DeviceAttr } from "../abi/generated/structs.ts";
import { encode } from "../abi/struct.ts";
import { refuseMisfit } from "../options.ts";
import type { Handle } from "./handle.ts";

/** Which attribute: a group and a number in it, as the device's document gives them. */
export interface Attribute {
  /** `KVM_X86_GRP_SYSTEM`, `KVM_VCPU_TSC_CTRL`, `KVM_DEV_VFIO_FILE` ... */
  readonly group: number;
  /** The attribute in the group. */
  readonly attr: bigint | number;
  /** None are defined; 0 when left out. */
  readonly flags?: number;
}

/** Encodes an attribute, read once. */
function request(where: string, attribute: Attribute): { bytes: Uint8Array; args: object } {
  refuseMisfit(where, attribute, ["group", "attr"], ["flags"]);
  const args = { ...attribute };
  return { bytes: encode(DeviceAttr, args, where), args };
}

/** Reads an attribute of so many bytes. */
export function getDeviceAttr(handle: Handle, attribute: Attribute, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const { bytes: struct, args } = request("getDeviceAttr()", attribute);
  handle.ioctl(KVM_GET_DEVICE_ATTR, struct, { args: { ...args }, links: [bytes] });
  return bytes;
}

/** Writes an attribute; without bytes for those that are mere commands. */
export function setDeviceAttr(handle: Handle, attribute: Attribute, bytes?: Uint8Array): void {
  const { bytes: struct, args } = request("setDeviceAttr()", attribute);
  handle.ioctl(KVM_SET_DEVICE_ATTR, struct, { args: { ...args }, links: [bytes ?? null] });
}

/** Asks whether there is an attribute: throws ENXIO when there is none. */
export function hasDeviceAttr(handle: Handle, attribute: Attribute): void {
  const { bytes: struct, args } = request("hasDeviceAttr()", attribute);
  handle.ioctl(KVM_HAS_DEVICE_ATTR, struct, { args: { ...args }, links: [null] });
}
