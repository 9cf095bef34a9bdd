/**
 * What an ioctl is: its number taken apart, and the shape of its argument. The list of KVM's is
 * generated/ioctls.ts; sending one is kvm/.
 */

import type { CapabilityName } from "./generated/constants.ts";
import { IOCTLS } from "./generated/ioctls.ts";
import type { Layout } from "./layout.ts";

/** A kind of fd that takes KVM's ioctls: /dev/kvm, a VM, a vCPU, or a KVM_CREATE_DEVICE device. */
export type FdKind = "sys" | "vm" | "vcpu" | "dev";

/**
 * What the argument is:
 *
 * - `none`: nothing
 * - `value`: an integer that the kernel never follows
 * - `plain`: exactly `size` bytes
 * - `tailed`: a header of `size` bytes with a count, then that many entries
 * - `sized`: at least `size` bytes; how many is told elsewhere
 * - `pointing`: `size` bytes that hold an address, which the kernel follows
 */
export type IoctlKind = "none" | "value" | "plain" | "tailed" | "sized" | "pointing";

/** Which way bytes go: `in` is to the kernel, `out` is from it. */
export type Direction = "none" | "in" | "out" | "inout";

/**
 * A field that holds an address or a descriptor. Neither is ever a JavaScript value: what is written
 * there is replaced by where the bytes, the guest memory or the file really is.
 *
 * - `bytes`: the address of bytes
 * - `memory`: the address of guest memory, which the kernel goes on using
 * - `fd`: a descriptor
 * - `command`: the address of the struct of a KVM_MEMORY_ENCRYPT_OP command, which has links too
 */
export interface Link {
  /** Its path in the struct: `dirtyBitmap`, `ranges[3].bitmap`. */
  readonly field: string;
  readonly kind: "bytes" | "memory" | "fd" | "command";
  /** Where the bytes at the address go. */
  readonly direction: Direction;
  /** On which values of other fields it is one, in C; always when left out. */
  readonly when?: string;
}

/** An ioctl of KVM; `T` is the value of its struct. */
export interface Ioctl<T = unknown> {
  readonly name: string;
  /** The whole request, an unsigned 32-bit number. Its low bytes alone are ambiguous. */
  readonly request: number;
  readonly fds: readonly FdKind[];
  readonly kind: IoctlKind;
  /** What an answer of 0 or more is. */
  readonly result: "int" | "fd";
  /** Where the argument's own bytes really go; the bits of eight requests tell it wrong. */
  readonly direction: Direction;
  /** Its fields that hold an address or a descriptor, in the order in which they are filled in. */
  readonly links?: readonly Link[];
  /** Whether it may be sent without its argument, which then means something of its own. */
  readonly nullable?: boolean;
  /** Bytes of the struct, or of the header before a tail. */
  readonly size: number;
  /** The argument's layout, unless it has none or is a single integer. */
  readonly struct?: Layout<T>;
  /** Where in the struct the kernel writes a new fd. */
  readonly fdOffset?: number;
  /** The section of the kernel's api.rst, where it has one. */
  readonly section: string | null;
  /** The capability to ask for, on each kind of fd; null where KVM always has it. */
  readonly capability: Readonly<Partial<Record<FdKind, CapabilityName | null>>>;
  /** The oldest of Linux 6.1, 6.12 and 7.2 that has it, on each kind of fd. */
  readonly since: Readonly<Partial<Record<FdKind, "6.1" | "6.12" | "7.2">>>;
}

/** The parts of an ioctl request, as `asm-generic/ioctl.h` packs them. */
export interface RequestParts {
  /** What the request's bits claim: `_IO`, `_IOW`, `_IOR`, `_IOWR`. */
  readonly direction: Direction;
  /** Bytes of the argument's type, 0 to 16383. */
  readonly size: number;
  /** The "magic": 0xae is KVM's. */
  readonly type: number;
  readonly number: number;
}

const directions = ["none", "in", "out", "inout"] as const;

/**
 * Takes an ioctl request apart.
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
 * Finds the ioctl of a request; given a kind of fd, only if that kind takes it.
 *
 * @returns undefined for a request that x86's KVM does not have
 */
export function ioctlByRequest(request: number, fd?: FdKind): Ioctl | undefined {
  const found = IOCTLS.find((ioctl) => ioctl.request === request);
  return found && (fd === undefined || found.fds.includes(fd)) ? found : undefined;
}
