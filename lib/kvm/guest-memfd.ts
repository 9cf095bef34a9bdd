/** Guest memory as a file that need not be mapped (KVM_CREATE_GUEST_MEMFD): private memory's home. */
import { KvmError } from "../errors.ts";
import type { NativeFd } from "../native.ts";
import { toBigInt } from "../options.ts";
import { GuestMemory } from "./guest-memory.ts";
import { Handle } from "./handle.ts";

/** fallocate(2)'s flags, from linux/falloc.h. */
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/** A guest_memfd of a VM. A slot that uses it keeps it, even when this handle is closed. */
export class GuestMemfd extends Handle {
  /** Its size in bytes, which never changes. */
  readonly size: bigint;

  /** Takes over a descriptor; `vm.createGuestMemfd` makes one. @internal */
  constructor(fd: NativeFd, size: bigint) {
    super(fd, "guest_memfd");
    this.size = size;
  }

  /**
   * Takes the pages of a range before a guest touches them.
   *
   * @param offset - bytes; with `length` a whole number of pages.
   * @throws {@link KvmError} `EINVAL` (not page aligned, beyond the file), `ENOMEM`.
   */
  allocate(offset: bigint | number, length: bigint | number): void {
    this.#fallocate("allocate()", FALLOC_FL_KEEP_SIZE, offset, length);
  }

  /**
   * Gives the pages of a range back; a guest that touches them again finds zeros.
   *
   * @param offset - bytes; with `length` a whole number of pages.
   * @throws {@link KvmError} `EINVAL` (not page aligned, beyond the file).
   */
  punchHole(offset: bigint | number, length: bigint | number): void {
    this.#fallocate("punchHole()", FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, length);
  }

  /**
   * Maps all of it, where it was made with `GUEST_MEMFD_FLAG_MMAP`.
   *
   * @throws {@link KvmError} `ENODEV` when it cannot be mapped.
   */
  map(): GuestMemory {
    const mapping = this.fd.mapMemfd();
    if (typeof mapping !== "number") return GuestMemory.adopt(mapping);
    throw new KvmError({ ioctl: "mmap", fd: this.label, errno: -mapping });
  }

  #fallocate(where: string, mode: number, start: bigint | number, bytes: bigint | number): void {
    const offset = toBigInt(`${where}: offset`, start);
    const length = toBigInt(`${where}: length`, bytes);
    const answer = this.fd.fallocate(mode, offset, length);
    if (answer < 0) {
      const args = { mode, offset, length };
      throw new KvmError({ ioctl: "fallocate", fd: this.label, errno: -answer, args });
    }
  }
}
