/** Guest memory as a file that need not be mapped (KVM_CREATE_GUEST_MEMFD): private memory's home. */
import { GUEST_MEMFD_FLAG_INIT_SHARED, GUEST_MEMFD_FLAG_MMAP } from "../abi/generated/constants.ts";
import { StateError } from "../errors.ts";
import { inspectAs } from "../inspect.ts";
import { isRefusal, type NativeFd } from "../native.ts";
import { toBigInt } from "../options.ts";
import { traceFallocate } from "../trace/sink.ts";
import { GuestMemory } from "./guest-memory.ts";
import { Handle } from "./handle.ts";

/** fallocate(2)'s flags, from linux/falloc.h. */
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/**
 * A guest_memfd of a VM. A slot that uses it keeps its file open, even when this handle is closed or
 * dropped: KVM takes the pages from the guest when the last descriptor of the file is closed
 * (`virt/kvm/guest_memfd.c`, kvm_gmem_release).
 */
export class GuestMemfd extends Handle {
  /** Its size in bytes, which never changes. */
  readonly size: bigint;
  /** `GUEST_MEMFD_FLAG_*`, as it was made with; they never change. */
  readonly flags: bigint;

  /** Takes over a descriptor; `vm.createGuestMemfd` makes one. @internal */
  constructor(fd: NativeFd, size: bigint, flags: bigint) {
    super(fd, "guest_memfd");
    this.size = size;
    this.flags = flags;
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
   * Maps all of it, where it was made with `GUEST_MEMFD_FLAG_MMAP` and `GUEST_MEMFD_FLAG_INIT_SHARED`.
   * All mappings show the same bytes, and the guest sees them too.
   *
   * With `GUEST_MEMFD_FLAG_MMAP` alone the kernel accepts mmap, but answers each access of the host to
   * the pages, which are private to the guest, with SIGBUS (api.rst 4.142; `virt/kvm/guest_memfd.c`,
   * kvm_gmem_fault_user_mapping). Such a mapping is refused here: in {@link GuestMemory} a page that
   * cannot be accessed reads as zeros, which would be neither the guest's bytes nor another mapping's.
   *
   * @throws {@link KvmError} `ENODEV`: it was made without `GUEST_MEMFD_FLAG_MMAP`.
   * @throws {@link StateError} `ERR_PRIVATE`: it was made with `GUEST_MEMFD_FLAG_MMAP`, but without
   *   `GUEST_MEMFD_FLAG_INIT_SHARED`.
   */
  map(): GuestMemory {
    const isMappable = (this.flags & BigInt(GUEST_MEMFD_FLAG_MMAP)) !== 0n;
    const isShared = (this.flags & BigInt(GUEST_MEMFD_FLAG_INIT_SHARED)) !== 0n;
    if (isMappable && !isShared && !this.closed) throw new StateError("ERR_PRIVATE", this.label);
    const mapping = this.fd.mapMemfd();
    const context = { facts: { what: "guest_memfd" } };
    if (typeof mapping === "number") throw this.refusal("mmap", -mapping, context);
    if (isRefusal(mapping)) throw this.refusal(mapping.call, mapping.errno, context);
    return GuestMemory.adopt(mapping, this.fd);
  }

  #fallocate(where: string, mode: number, start: bigint | number, bytes: bigint | number): void {
    const offset = toBigInt(`${where}: offset`, start);
    const length = toBigInt(`${where}: length`, bytes);
    const answer = this.fd.fallocate(mode, offset, length);
    traceFallocate(this.traced, { mode, offset, length }, Math.min(0, answer));
    if (answer < 0) {
      const args = { mode, offset, length };
      throw this.refusal("fallocate", -answer, { args, facts: { size: this.size } });
    }
  }

  static {
    inspectAs(GuestMemfd, (it) => ({
      size: it.size,
      flags: it.flags,
      closed: it.closed,
    }));
  }
}
