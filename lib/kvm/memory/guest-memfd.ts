/**
 * Guest memory as a file (KVM_CREATE_GUEST_MEMFD), which the host does not have to map. A guest_memfd can contain the
 * guest's private memory.
 */
import {
  GUEST_MEMFD_FLAG_INIT_SHARED,
  GUEST_MEMFD_FLAG_MMAP,
} from "../../abi/generated/constants.ts";
import { StateError } from "../../errors.ts";
import { inspectAs } from "../../inspect.ts";
import { isRefusal, type NativeFd } from "../../native.ts";
import { toBigInt } from "../../options.ts";
import { traceFallocate } from "../../trace/sink.ts";
import { Handle } from "../handle.ts";
import { GuestMemory } from "./guest-memory.ts";

/** The flags of fallocate(2), from linux/falloc.h. */
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/**
 * A guest_memfd of a VM. While a slot uses a guest_memfd, the file stays open even if this handle was closed or
 * collected. If the last descriptor of the file were closed, KVM would remove the pages from the guest
 * (`virt/kvm/guest_memfd.c`, kvm_gmem_release).
 */
export class GuestMemfd extends Handle {
  /** The file's size in bytes, which does not change. */
  readonly size: bigint;
  /** The file's `GUEST_MEMFD_FLAG_*`, which do not change. */
  readonly flags: bigint;

  /** Wraps a descriptor; use `vm.createGuestMemfd` to create a guest_memfd. @internal */
  constructor(fd: NativeFd, size: bigint, flags: bigint) {
    super(fd, "guest_memfd");
    this.size = size;
    this.flags = flags;
  }

  /**
   * Allocates the pages of a range before a guest accesses them.
   *
   * @param offset - an offset in the file, in bytes; `offset` and `length` are multiples of the page size.
   * @throws {@link KvmError} `EINVAL` (not page aligned, beyond the file), `ENOMEM`.
   */
  allocate(offset: bigint | number, length: bigint | number): void {
    this.#fallocate("allocate()", FALLOC_FL_KEEP_SIZE, offset, length);
  }

  /**
   * Frees the pages of a range; a guest that accesses them again reads zeros.
   *
   * @param offset - an offset in the file, in bytes; `offset` and `length` are multiples of the page size.
   * @throws {@link KvmError} `EINVAL` (not page aligned, beyond the file).
   */
  punchHole(offset: bigint | number, length: bigint | number): void {
    this.#fallocate("punchHole()", FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, length);
  }

  /**
   * Maps the whole file, which must have been created with `GUEST_MEMFD_FLAG_MMAP` and `GUEST_MEMFD_FLAG_INIT_SHARED`.
   * All mappings and the guest share the same bytes.
   *
   * With `GUEST_MEMFD_FLAG_MMAP` alone, the pages are private to the guest: the kernel allows mmap, but each access of
   * the host raises SIGBUS (api.rst 4.142; `virt/kvm/guest_memfd.c`, kvm_gmem_fault_user_mapping). This package rejects
   * such a mapping, because {@link GuestMemory} would return zeros instead of the guest's bytes.
   *
   * @throws {@link KvmError} `ENODEV`: the file was created without `GUEST_MEMFD_FLAG_MMAP`.
   * @throws {@link StateError} `ERR_PRIVATE`: the file was created with `GUEST_MEMFD_FLAG_MMAP`, but without
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
