/** Reads and writes state of variable size as bytes: the XSAVE area, and the state of nested guests. */
import {
  KVM_GET_NESTED_STATE,
  KVM_GET_XSAVE2,
  KVM_SET_NESTED_STATE,
  KVM_SET_XSAVE,
} from "../../abi/generated/ioctls.ts";
import { NestedState, Xsave } from "../../abi/generated/structs.ts";
import { offsetOf, read, sizeOf } from "../../abi/struct.ts";
import { KvmError } from "../../errors.ts";
import { toBytes } from "../../options.ts";
import type { IoctlTarget } from "../handle.ts";

/** The maximum size of a buffer; no state of KVM has this size. */
const MOST_BYTES = 1 << 20;
const NESTED_SIZE = offsetOf(NestedState, "size");

/** Reads the XSAVE area. */
export function getXsave2(handle: IoctlTarget): Uint8Array {
  // KVM_CAP_XSAVE2 is not read: the VM's handle may be closed, and the area of a guest can grow (arch_prctl).
  // The buffer that KVM writes to ends at an unmapped page, so a buffer that is too small causes EFAULT.
  return grow("EFAULT", sizeOf(Xsave), (bytes) => handle.ioctl(KVM_GET_XSAVE2, bytes));
}

/** Writes the XSAVE area. */
export function setXsave(handle: IoctlTarget, bytes: Uint8Array): void {
  const area = toBytes("setXsave()", bytes);
  handle.ioctl(KVM_SET_XSAVE, area, { args: { byteLength: area.length } });
}

/** Reads a `struct kvm_nested_state` with its data. */
export function getNestedState(handle: IoctlTarget): Uint8Array {
  const bytes = grow("E2BIG", sizeOf(NestedState), (room) => {
    new DataView(room.buffer).setUint32(NESTED_SIZE, room.length, true);
    return handle.ioctl(KVM_GET_NESTED_STATE, room);
  });
  return bytes.slice(0, read(NestedState, bytes).size);
}

/** Writes a `struct kvm_nested_state` with its data. */
export function setNestedState(handle: IoctlTarget, state: Uint8Array): void {
  const bytes = toBytes("setNestedState()", state);
  handle.ioctl(KVM_SET_NESTED_STATE, bytes, {
    args: { byteLength: bytes.length },
    pastEnd: true,
  });
}

/** Calls `ioctl` with a buffer, and repeats the call with a buffer of twice the size after each error `code`. */
function grow(code: string, size: number, ioctl: (bytes: Uint8Array) => number): Uint8Array {
  for (let length = size; ; length *= 2) {
    const bytes = new Uint8Array(length);
    try {
      ioctl(bytes);
      return bytes;
    } catch (error) {
      const more = error instanceof KvmError && error.code === code;
      if (!more || length >= MOST_BYTES) throw error;
    }
  }
}
