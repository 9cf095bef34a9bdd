/** A VM's memory: slots, dirty logs, guest_memfd. Interrupts are vm-devices.ts, the rest vm.ts. */
import {
  KVM_CLEAR_DIRTY_LOG,
  KVM_CREATE_GUEST_MEMFD,
  KVM_GET_DIRTY_LOG,
  KVM_SET_USER_MEMORY_REGION,
  KVM_SET_USER_MEMORY_REGION2,
} from "../abi/generated/ioctls.ts";
import {
  ClearDirtyLog,
  CreateGuestMemfd,
  DirtyLog,
  UserspaceMemoryRegion2 as Region,
} from "../abi/generated/structs.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import { encode } from "../abi/struct.ts";
import type { StructWith } from "../abi/whole.ts";
import { StateError } from "../errors.ts";
import type { NativeFd } from "../native.ts";
import { refuseMisfit, refuseMissing, toU32, toU64 } from "../options.ts";
import { traceAnswer, traceCall } from "../trace/sink.ts";
import { VmIoctls } from "./generated/vm-ioctls.ts";
import { fileOf } from "./link.ts";
import { type AddressSpace, AddressSpaces } from "./memory/address-space.ts";
import { dirtyPages } from "./memory/dirty-pages.ts";
import { GuestMemfd } from "./memory/guest-memfd.ts";
import { type GuestMemory, mappingOf } from "./memory/guest-memory.ts";
import { methodOf } from "./method-name.ts";

const PAGE = 4096n;
const MEMBERS: readonly string[] = ["flags", "memorySize", "memory", "memoryOffset"];
const MEMBERS2: readonly string[] = [...MEMBERS, "guestMemfd", "guestMemfdOffset"];

/** `struct kvm_userspace_memory_region`, with guest memory in place of the address. */
export interface UserspaceMemoryRegion {
  /** Bits 0-15: the slot; bits 16-31: the address space (1 is SMM). */
  readonly slot: number;
  /** `KVM_MEM_LOG_DIRTY_PAGES`, `KVM_MEM_READONLY`; none if omitted. */
  readonly flags?: number;
  /** The guest physical address; a multiple of 4096. */
  readonly guestPhysAddr: bigint | number;
  /** In bytes, a multiple of 4096. The default is all of the memory from `memoryOffset`; 0 deletes the slot. */
  readonly memorySize?: bigint | number;
  /** The host memory of the slot; required except for a deletion. */
  readonly memory?: GuestMemory;
  /** The slot's offset in `memory`, in bytes; 0 if omitted. */
  readonly memoryOffset?: bigint | number;
}

/** `struct kvm_userspace_memory_region2`: the same, plus a guest_memfd for private memory. */
export interface UserspaceMemoryRegion2 extends UserspaceMemoryRegion {
  /** The guest's private memory, with `KVM_MEM_GUEST_MEMFD` in `flags`. */
  readonly guestMemfd?: GuestMemfd;
  /** The slot's offset in `guestMemfd`, in bytes; 0 if omitted. */
  readonly guestMemfdOffset?: bigint | number;
}

/** Pages of a slot that a guest has written and that KVM shall track again. */
export interface DirtyRange {
  /** As in {@link UserspaceMemoryRegion}. */
  readonly slot: number;
  /** The first page, relative to the slot's start; a multiple of 64. */
  readonly firstPage: bigint | number;
  /** The number of pages; a multiple of 64, or up to the slot's end. */
  readonly numPages: number;
  /** One bit per page, from `firstPage`. */
  readonly dirtyBitmap: Uint8Array;
}

/** Adds a VM's memory. */
export abstract class VmMemory extends VmIoctls {
  readonly #spaces = new AddressSpaces();

  /** The guest physical memory for reading and writing by the host. */
  get memory(): AddressSpace {
    return this.addressSpace(0);
  }

  /** Returns one of the guest's address spaces: 0, or 1 for SMM. */
  addressSpace(id: number): AddressSpace {
    return this.#spaces.space(id);
  }

  /**
   * Creates, moves or deletes a memory slot. A slot keeps its host memory mapped while a guest can access it, even
   * after the {@link GuestMemory} was closed.
   *
   * @ioctl KVM_SET_USER_MEMORY_REGION (api.rst 4.35; vm; KVM_CAP_USER_MEMORY)
   * @throws {@link KvmError} `EINVAL` (not page aligned, too large, too many slots), `EEXIST` (overlaps another slot).
   * @throws RangeError if the slot would exceed its memory.
   */
  setUserMemoryRegion(region: UserspaceMemoryRegion): void {
    this.#setRegion(KVM_SET_USER_MEMORY_REGION, region, MEMBERS);
  }

  /**
   * Creates, moves or deletes a memory slot that may have private memory in a guest_memfd.
   *
   * @ioctl KVM_SET_USER_MEMORY_REGION2 (api.rst 4.140; vm; KVM_CAP_USER_MEMORY2; Linux 6.12)
   * @throws {@link KvmError} `EINVAL` (as {@link setUserMemoryRegion}; or a guest_memfd of another VM, too small, or in
   *   a VM without private memory), `EEXIST` (overlaps another slot), `EBADF` (the flags require a guest_memfd, and
   *   none was given).
   * @throws RangeError if the slot would exceed its memory.
   */
  setUserMemoryRegion2(region: UserspaceMemoryRegion2): void {
    this.#setRegion(KVM_SET_USER_MEMORY_REGION2, region, MEMBERS2, true);
  }

  /**
   * Reads a bitmap of the pages of a slot that the guest has written since the last call, one bit per page, and tracks
   * them again (unless KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 leaves that to {@link clearDirtyLog}).
   *
   * @param pages - the number of pages of the slot, if it was not set with this object.
   * @ioctl KVM_GET_DIRTY_LOG (api.rst 4.8; vm)
   * @throws {@link KvmError} `ENOENT`: the slot does not exist, or dirty logging is off for it; `EINVAL`: the slot
   *   number is too large; `ENXIO`: the VM has dirty rings instead.
   */
  getDirtyLog(slot: number, pages?: bigint | number): Uint8Array {
    const where = "getDirtyLog()";
    const number = toU32(`${where}: slot`, slot);
    const count = toU64(`${where}: pages`, pages === undefined ? this.#pages(number) : pages);
    const bitmap = new Uint8Array(8 * Number((count + 63n) / 64n));
    const bytes = encode(DirtyLog, { slot: number }, where);
    this.ioctl(KVM_GET_DIRTY_LOG, bytes, { args: { slot: number }, links: [bitmap] });
    return bitmap;
  }

  /**
   * Iterates over the numbers of the pages of a slot that the guest has written since the last call, relative to the
   * slot's first page and in ascending order. The log is read when this method is called.
   *
   * @throws {@link KvmError} as {@link getDirtyLog}.
   */
  dirtyPages(slot: number): Generator<number, void> {
    return dirtyPages(this.getDirtyLog(slot));
  }

  /**
   * Tracks written pages again.
   *
   * @ioctl KVM_CLEAR_DIRTY_LOG (api.rst 4.117; vm; KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)
   * @throws {@link KvmError} `EINVAL`: the range is not a multiple of 64 pages, or beyond the slot; `ENOENT`: the slot
   *   does not exist, or dirty logging is off for it; `ENXIO`: the VM has dirty rings.
   */
  clearDirtyLog(range: DirtyRange): void {
    const where = "clearDirtyLog()";
    refuseMisfit(where, range, ["slot", "firstPage", "numPages", "dirtyBitmap"]);
    const { slot, firstPage, numPages, dirtyBitmap } = range;
    const args = { slot, firstPage, numPages };
    const bytes = encode(ClearDirtyLog, args, where);
    this.ioctl(KVM_CLEAR_DIRTY_LOG, bytes, { args, links: [dirtyBitmap] });
  }

  /**
   * Creates a file of guest memory: private to the guest or, with `GUEST_MEMFD_FLAG_MMAP` and
   * `GUEST_MEMFD_FLAG_INIT_SHARED`, also mappable by the host ({@link GuestMemfd.map}). No child process inherits the
   * file.
   *
   * @param options - `size` in bytes, a multiple of the page size; `flags`: `GUEST_MEMFD_FLAG_*`, which
   *   `KVM_CAP_GUEST_MEMFD_FLAGS` lists.
   * @ioctl KVM_CREATE_GUEST_MEMFD (api.rst 4.142; vm; KVM_CAP_GUEST_MEMFD; Linux 6.12)
   * @throws {@link KvmError} `EINVAL`: the size is 0 or not page aligned, or this VM does not support a flag.
   */
  createGuestMemfd(options: StructWith<CreateGuestMemfd, "size">): GuestMemfd {
    const where = "createGuestMemfd()";
    refuseMissing(where, options, ["size"]);
    const size = toU64(`${where}: size`, options.size);
    const args = { ...options, size };
    const bytes = encode(CreateGuestMemfd, args, where);
    const fd = this.openFd(KVM_CREATE_GUEST_MEMFD, bytes, { args });
    return new GuestMemfd(fd, size, toU64(`${where}: flags`, options.flags ?? 0n));
  }

  #setRegion(
    ioctl: Ioctl,
    region: UserspaceMemoryRegion2,
    optional: readonly string[],
    isPrivate = false,
  ): void {
    const where = methodOf(ioctl.name);
    refuseMisfit(where, region, ["slot", "guestPhysAddr"], optional);
    const { flags: bits = 0, guestPhysAddr: gpa, memory, memorySize: size } = region;
    const { guestMemfd, guestMemfdOffset: fileOffset = 0n, memoryOffset: start = 0 } = region;
    const slot = toU32(`${where}: slot`, region.slot);
    const flags = toU32(`${where}: flags`, bits);
    const guestPhysAddr = toU64(`${where}: guestPhysAddr`, gpa);
    const guestMemfdOffset = toU64(`${where}: guestMemfdOffset`, fileOffset);
    const offset = toU64(`${where}: memoryOffset`, start);
    const mapping = memory === undefined ? null : mappingOf(memory);
    const rest = BigInt(memory?.byteLength ?? 0) - offset;
    if (rest < 0n) {
      const there = `${memory?.byteLength ?? 0} bytes`;
      throw new RangeError(`${where}: memoryOffset ${offset} is beyond ${there}`);
    }
    // No memory has 2^53 bytes: the number is exact.
    const memoryOffset = Number(offset);
    const memorySize = size === undefined ? rest : toU64(`${where}: memorySize`, size);
    // Both structs start with the same fields.
    const bytes = encode(
      Region,
      { slot, flags, guestPhysAddr, memorySize, guestMemfdOffset },
      where,
    ).subarray(0, ioctl.size);
    const file = guestMemfd === undefined ? null : (fileOf(guestMemfd) as NativeFd);
    if (memory !== undefined && mapping === null)
      throw new StateError("ERR_CLOSED", "guest memory");
    const { fd } = this;
    const call = traceCall(this.traced, ioctl, bytes, [
      { field: "userspaceAddr", ...(memory && { memory, offset: memoryOffset }) },
    ]);
    const answer = fd.setUserMemoryRegion(
      slot,
      flags,
      guestPhysAddr,
      memorySize,
      mapping,
      offset,
      isPrivate ? file : undefined,
      isPrivate ? guestMemfdOffset : undefined,
    );
    traceAnswer(call, answer);
    if (answer < 0) {
      const args = { slot, flags, guestPhysAddr, memorySize, memoryOffset };
      throw this.refusal(ioctl.name, -answer, { args });
    }
    if (memorySize === 0n || memory === undefined) this.#spaces.delete(slot);
    else {
      this.#spaces.set({ slot, flags, guestPhysAddr, memorySize, memory, memoryOffset });
    }
  }

  #pages(slot: number): bigint {
    const found = this.addressSpace(slot >>> 16)
      .slots()
      .find((other) => other.slot === slot);
    return (found?.memorySize ?? PAGE) / PAGE;
  }
}
