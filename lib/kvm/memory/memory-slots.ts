/** Sets the memory slots of one VM, and provides the address spaces that the slots form. */
import {
  KVM_SET_USER_MEMORY_REGION,
  KVM_SET_USER_MEMORY_REGION2,
} from "../../abi/generated/ioctls.ts";
import { UserspaceMemoryRegion2 as Region } from "../../abi/generated/structs.ts";
import type { Ioctl } from "../../abi/ioctl.ts";
import { encode } from "../../abi/struct.ts";
import { type KvmError, StateError } from "../../errors.ts";
import type { NativeFd } from "../../native.ts";
import { refuseMisfit, toU32, toU64 } from "../../options.ts";
import { traceAnswer, traceCall } from "../../trace/sink.ts";
import type { Traced } from "../../trace/traced.ts";
import type { IoctlOptions } from "../handle.ts";
import { fileOf } from "../link.ts";
import { methodOf } from "../method-name.ts";
import { type AddressSpace, AddressSpaces, type MemorySlot } from "./address-space.ts";
import type { GuestMemfd } from "./guest-memfd.ts";
import { type GuestMemory, mappingOf } from "./guest-memory.ts";

const PAGE = 4096n;
const MEMBERS: readonly string[] = ["flags", "memorySize", "memory", "memoryOffset"];
const MEMBERS2: readonly string[] = [...MEMBERS, "guestMemfd", "guestMemfdOffset"];

/** `struct kvm_userspace_memory_region`, with guest memory in place of the address. */
export interface UserspaceMemoryRegionInput {
  /** The number of the slot in bits 0-15, and its address space in bits 16-31 (1 is SMM). */
  readonly slot: number;
  /** The flags `KVM_MEM_LOG_DIRTY_PAGES` and `KVM_MEM_READONLY`; none if omitted. */
  readonly flags?: number;
  /** The guest physical address; a multiple of 4096. */
  readonly guestPhysAddr: bigint | number;
  /**
   * The size of the slot in bytes, a multiple of 4096. The default is the size of the memory from `memoryOffset` to its
   * end; 0 deletes the slot.
   */
  readonly memorySize?: bigint | number;
  /** The host memory of the slot; it may be omitted only for a deletion. */
  readonly memory?: GuestMemory;
  /** The slot's offset in `memory`, in bytes; 0 if omitted. */
  readonly memoryOffset?: bigint | number;
}

/** `struct kvm_userspace_memory_region2`: the same fields, plus a guest_memfd for private memory. */
export interface UserspaceMemoryRegion2Input extends UserspaceMemoryRegionInput {
  /** The file with the guest's private memory; `flags` must contain `KVM_MEM_GUEST_MEMFD`. */
  readonly guestMemfd?: GuestMemfd;
  /** The slot's offset in `guestMemfd`, in bytes; 0 if omitted. */
  readonly guestMemfdOffset?: bigint | number;
}

/** The members of a VM that this file uses. */
export interface SlotOwner {
  /** The VM's identity in traces. */
  readonly traced: Traced;
  /** Returns the VM's descriptor; throws if it is closed. */
  readonly fd: () => NativeFd;
  /** Creates the error of a failed call. */
  readonly refusal: (call: string, errno: number, context: IoctlOptions) => KvmError;
}

/** The memory slots of one VM. */
export class MemorySlots {
  readonly #owner: SlotOwner;
  readonly #spaces = new AddressSpaces();

  /** Creates the object for a VM without slots. */
  constructor(owner: SlotOwner) {
    this.#owner = owner;
  }

  /** Returns an address space: 0, or 1 for SMM. */
  space(id: number): AddressSpace {
    return this.#spaces.space(id);
  }

  /** Lists the slots of both address spaces. */
  all(): readonly MemorySlot[] {
    return [0, 1].flatMap((id) => this.space(id).slots());
  }

  /** Returns the number of pages of a slot; 1 if the slot does not exist. */
  pagesOf(slot: number): bigint {
    const found = this.space(slot >>> 16)
      .slots()
      .find((other) => other.slot === slot);
    return (found?.memorySize ?? PAGE) / PAGE;
  }

  /** Creates, moves or deletes a slot. */
  setRegion(region: UserspaceMemoryRegionInput): void {
    this.#set(KVM_SET_USER_MEMORY_REGION, region, MEMBERS, false);
  }

  /** Creates, moves or deletes a slot that may have private memory. */
  setRegion2(region: UserspaceMemoryRegion2Input): void {
    this.#set(KVM_SET_USER_MEMORY_REGION2, region, MEMBERS2, true);
  }

  #set(
    ioctl: Ioctl,
    region: UserspaceMemoryRegion2Input,
    optional: readonly string[],
    isPrivate: boolean,
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
    // The conversion to a number is exact, because no memory has 2^53 bytes.
    const memoryOffset = Number(offset);
    const memorySize = size === undefined ? rest : toU64(`${where}: memorySize`, size);
    // kvm_userspace_memory_region and kvm_userspace_memory_region2 start with the same fields.
    const bytes = encode(
      Region,
      { slot, flags, guestPhysAddr, memorySize, guestMemfdOffset },
      where,
    ).subarray(0, ioctl.size);
    const file = guestMemfd === undefined ? null : (fileOf(guestMemfd) as NativeFd);
    if (memory !== undefined && mapping === null)
      throw new StateError("ERR_CLOSED", "guest memory");
    const fd = this.#owner.fd();
    const call = traceCall(this.#owner.traced, ioctl, bytes, [
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
      throw this.#owner.refusal(ioctl.name, -answer, { args });
    }
    if (memorySize === 0n || memory === undefined) this.#spaces.delete(slot);
    else {
      this.#spaces.set({ slot, flags, guestPhysAddr, memorySize, memory, memoryOffset });
    }
  }
}
