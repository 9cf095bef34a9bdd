/** A device that the kernel emulates for a VM (KVM_CREATE_DEVICE); on x86, only the VFIO device exists. */
import { inspectAs } from "../inspect.ts";
import type { NativeFd } from "../native.ts";
import {
  type DeviceAttrInput,
  getDeviceAttr,
  hasDeviceAttr,
  setDeviceAttr,
} from "./calls/device-attr.ts";
import { Handle } from "./handle.ts";

/** A device of a VM, which `vm.createDevice()` creates. */
export class Device extends Handle {
  /** The type: a `KVM_DEV_TYPE_*`. */
  readonly type: number;

  /** Wraps the descriptor of a device; use `vm.createDevice` to create a device. @internal */
  constructor(fd: NativeFd, type: number) {
    super(fd, `device ${type}`);
    this.type = type;
  }

  /**
   * Reads an attribute of `length` bytes.
   *
   * @param length - the attribute's size in bytes; from 65536, KVM_HAS_DEVICE_ATTR is called first.
   * @ioctl KVM_GET_DEVICE_ATTR (api.rst 4.80; device; KVM_CAP_DEVICE_CTRL)
   * @throws {@link KvmError} `ENXIO`: the attribute does not exist; `EPERM`: it cannot be read.
   */
  getDeviceAttr(attribute: DeviceAttrInput, length = 8): Uint8Array {
    return getDeviceAttr(this, attribute, length);
  }

  /**
   * Writes an attribute.
   *
   * @ioctl KVM_SET_DEVICE_ATTR (api.rst 4.80; device; KVM_CAP_DEVICE_CTRL)
   * @throws {@link KvmError} `ENXIO`: the attribute does not exist; `EPERM`: it cannot be written.
   */
  setDeviceAttr(attribute: DeviceAttrInput, bytes?: Uint8Array): void {
    setDeviceAttr(this, attribute, bytes);
  }

  /**
   * Checks that the device has an attribute, and throws if it does not.
   *
   * @ioctl KVM_HAS_DEVICE_ATTR (api.rst 4.81; device; KVM_CAP_DEVICE_CTRL)
   * @throws {@link KvmError} `ENXIO`: the attribute does not exist.
   */
  hasDeviceAttr(attribute: DeviceAttrInput): void {
    hasDeviceAttr(this, attribute);
  }

  static {
    inspectAs(Device, (it) => ({ type: it.type, closed: it.closed }));
  }
}
