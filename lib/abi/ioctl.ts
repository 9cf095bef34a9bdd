/**
 * The description of an ioctl: the fields of its request number, and the kind of its argument. generated/ioctls.ts has
 * the list of KVM's ioctls; kvm/ issues them.
 */

import { IOCTLS } from "./generated/ioctls.ts";
import type { CapabilityName } from "./generated/names.ts";
import type { Layout } from "./layout.ts";

/** A kind of descriptor that has KVM ioctls: /dev/kvm, a VM, a vCPU, or a device of KVM_CREATE_DEVICE. */
export type FdKind = "sys" | "vm" | "vcpu" | "dev";

/**
 * The kind of an ioctl's argument:
 *
 * - `none`: the ioctl has no argument
 * - `value`: an integer that the kernel does not use as an address
 * - `plain`: exactly `size` bytes
 * - `tailed`: a header of `size` bytes that contains a count, followed by as many entries as the count
 * - `sized`: at least `size` bytes; a capability or a field of the struct defines the actual size
 * - `pointing`: `size` bytes that contain the address of memory that the kernel accesses
 */
export type IoctlKind = "none" | "value" | "plain" | "tailed" | "sized" | "pointing";

/** The direction in which bytes are copied: `in` is to the kernel, `out` is from the kernel. */
export type Direction = "none" | "in" | "out" | "inout";

/**
 * A field of a struct for an address or a descriptor. JavaScript passes bytes, guest memory or a file instead, and
 * native code writes the address or the descriptor into the field.
 *
 * - `bytes`: the field gets the address of bytes
 * - `memory`: the field gets the address of guest memory; the kernel uses this memory after the call
 * - `fd`: the field gets the descriptor of a file
 * - `command`: the field gets the address of a struct for a KVM_MEMORY_ENCRYPT_OP command; this struct may contain
 *   addresses too
 */
export interface Link {
  /** The path of the field in the struct: `dirtyBitmap`, `ranges[3].bitmap`. */
  readonly field: string;
  readonly kind: "bytes" | "memory" | "fd" | "command";
  /** The direction of the bytes at the address. */
  readonly direction: Direction;
  /**
   * A C expression over other fields: the field is an address or a descriptor only if the expression is true. If
   * omitted, the field always has an address or a descriptor.
   */
  readonly when?: string;
}

/** An ioctl of KVM; `T` is the type of its struct's value. */
export interface Ioctl<T = unknown> {
  readonly name: string;
  /**
   * The whole request, an unsigned 32-bit number. Several ioctls have the same low bytes, so the low bytes do not
   * identify an ioctl.
   */
  readonly request: number;
  readonly fds: readonly FdKind[];
  readonly kind: IoctlKind;
  /** The meaning of a result that is 0 or greater: an integer, or a new descriptor. */
  readonly result: "int" | "fd";
  /** The actual direction in which the argument's bytes are copied; the direction bits of eight requests are wrong. */
  readonly direction: Direction;
  /** The fields of the struct for addresses and descriptors, in the order of `context.links`. */
  readonly links?: readonly Link[];
  /** Whether the argument may be omitted, in which case the kernel receives a null pointer. */
  readonly nullable?: boolean;
  /** The size of the struct, or of the header before a tail, in bytes. */
  readonly size: number;
  /** The argument's layout; undefined if the ioctl has no argument or if the argument is an integer. */
  readonly struct?: Layout<T>;
  /** The offset in the struct at which the kernel writes a new descriptor. */
  readonly fdOffset?: number;
  /** The section of the kernel's api.rst, if there is one. */
  readonly section: string | null;
  /** The capability to check, for each kind of descriptor; null if KVM always has the ioctl. */
  readonly capability: Readonly<Partial<Record<FdKind, CapabilityName | null>>>;
  /** The oldest of the kernels 6.1, 6.12 and 7.2 that has the ioctl, for each kind of descriptor. */
  readonly since: Readonly<Partial<Record<FdKind, "6.1" | "6.12" | "7.2">>>;
}

/** The parts of an ioctl request, as `asm-generic/ioctl.h` packs them. */
export interface RequestParts {
  /** The direction that the request's bits encode: `_IO`, `_IOW`, `_IOR`, `_IOWR`. */
  readonly direction: Direction;
  /** The size of the argument's type in bytes, 0 to 16383. */
  readonly size: number;
  /** The type byte ("magic") of the request; KVM's is 0xae. */
  readonly type: number;
  readonly number: number;
}

const directions = ["none", "in", "out", "inout"] as const;

/**
 * Decodes an ioctl request.
 *
 * @param request an unsigned 32-bit number, for example from a trace
 * @throws RangeError if `request` is not an unsigned 32-bit number
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
