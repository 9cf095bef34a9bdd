/**
 * The description of an ioctl: the fields of its number, and the shape of its argument. The list of KVM's ioctls is
 * generated/ioctls.ts; making them is kvm/.
 */

import { IOCTLS } from "./generated/ioctls.ts";
import type { CapabilityName } from "./generated/names.ts";
import type { Layout } from "./layout.ts";

/** A kind of descriptor with KVM ioctls: /dev/kvm, a VM, a vCPU, or a KVM_CREATE_DEVICE device. */
export type FdKind = "sys" | "vm" | "vcpu" | "dev";

/**
 * The kind of the argument:
 *
 * - `none`: nothing
 * - `value`: an integer that the kernel does not use as an address
 * - `plain`: exactly `size` bytes
 * - `tailed`: a header of `size` bytes with a count, then that many entries
 * - `sized`: at least `size` bytes; the size is defined elsewhere
 * - `pointing`: `size` bytes that contain an address, which the kernel accesses
 */
export type IoctlKind = "none" | "value" | "plain" | "tailed" | "sized" | "pointing";

/** The direction of the bytes: `in` is to the kernel, `out` is from it. */
export type Direction = "none" | "in" | "out" | "inout";

/**
 * A field with an address or a descriptor. Neither is a JavaScript value: the field's content is replaced by the
 * address of the bytes or the guest memory, or by the file's descriptor.
 *
 * - `bytes`: the address of bytes
 * - `memory`: the address of guest memory, which the kernel keeps using
 * - `fd`: a descriptor
 * - `command`: the address of the struct of a KVM_MEMORY_ENCRYPT_OP command, which has links too
 */
export interface Link {
  /** The path of the field in the struct: `dirtyBitmap`, `ranges[3].bitmap`. */
  readonly field: string;
  readonly kind: "bytes" | "memory" | "fd" | "command";
  /** The direction of the bytes at the address. */
  readonly direction: Direction;
  /** The condition on other fields, in C, under which the field is an address or a descriptor; always if omitted. */
  readonly when?: string;
}

/** An ioctl of KVM; `T` is the value of its struct. */
export interface Ioctl<T = unknown> {
  readonly name: string;
  /** The whole request, an unsigned 32-bit number. The low bytes of the request alone are ambiguous. */
  readonly request: number;
  readonly fds: readonly FdKind[];
  readonly kind: IoctlKind;
  /** The meaning of a result of 0 or more. */
  readonly result: "int" | "fd";
  /** The actual direction of the argument's bytes; the bits of eight requests are wrong. */
  readonly direction: Direction;
  /** The fields of the struct with an address or a descriptor, in the order in which they are filled in. */
  readonly links?: readonly Link[];
  /** Whether the argument may be omitted, which then has its own meaning. */
  readonly nullable?: boolean;
  /** The size of the struct, or of the header before a tail, in bytes. */
  readonly size: number;
  /** The argument's layout; undefined without an argument or for a single integer. */
  readonly struct?: Layout<T>;
  /** The offset in the struct at which the kernel writes a new descriptor. */
  readonly fdOffset?: number;
  /** The section of the kernel's api.rst, if there is one. */
  readonly section: string | null;
  /** The capability to check, for each kind of descriptor; null if KVM always has the ioctl. */
  readonly capability: Readonly<Partial<Record<FdKind, CapabilityName | null>>>;
  /** The oldest of Linux 6.1, 6.12 and 7.2 that has it, for each kind of descriptor. */
  readonly since: Readonly<Partial<Record<FdKind, "6.1" | "6.12" | "7.2">>>;
}

/** The parts of an ioctl request, as `asm-generic/ioctl.h` packs them. */
export interface RequestParts {
  /** The direction that the request's bits encode: `_IO`, `_IOW`, `_IOR`, `_IOWR`. */
  readonly direction: Direction;
  /** Bytes of the argument's type, 0 to 16383. */
  readonly size: number;
  /** The "magic": 0xae is KVM's. */
  readonly type: number;
  readonly number: number;
}

const directions = ["none", "in", "out", "inout"] as const;

/**
 * Decodes an ioctl request.
 *
 * @param request an unsigned 32-bit number, e.g. from a trace
 * @throws RangeError if it is not one
 */
export function decodeRequest(request: number): RequestParts {
  if (!Number.isInteger(request) || request < 0 || request > 0xffff_ffff) {
    throw new RangeError(`an ioctl request is an unsigned 32-bit number, not ${request}`);
  }
  return {
    direction: directions[request >>> 30] ?? "none",
    size: (request >>> 16) & 0x3fff,
    type: (request >>> 8) & 0xff,
    number: request & 0xff,
  };
}

/**
 * Finds the ioctl of a request number, for one kind of descriptor if `fd` is passed.
 *
 * @returns undefined for a request that x86 KVM does not have
 */
export function ioctlByRequest(request: number, fd?: FdKind): Ioctl | undefined {
  const found = IOCTLS.find((ioctl) => ioctl.request === request);
  return found && (fd === undefined || found.fds.includes(fd)) ? found : undefined;
}
