/**
 * The guest physical address space of a VM's memory slots. memory-slots.ts sets the slots, and guest-memory.ts has the
 * host memory.
 */
import { StateError } from "../../errors.ts";
import { inspectAs } from "../../inspect.ts";
import { describe, toBigInt, toBytes } from "../../options.ts";
import type { GuestMemory } from "./guest-memory.ts";

/** A memory slot of a VM. */
export interface MemorySlot {
  /** The number of the slot in bits 0-15, and its address space in bits 16-31 (1 is SMM). */
  readonly slot: number;
  /** `KVM_MEM_LOG_DIRTY_PAGES`, `KVM_MEM_READONLY`. */
  readonly flags: number;
  /** The guest physical address of the slot. */
  readonly guestPhysAddr: bigint;
  /** In bytes. */
  readonly memorySize: bigint;
  /** The host memory of the slot. */
  readonly memory: GuestMemory;
  /** The slot's offset in `memory`, in bytes. */
  readonly memoryOffset: number;
}

/** The position of a guest physical address: the slot that contains it, and the offset. */
export interface MemoryPlace {
  /** The slot that contains the address. */
  readonly slot: MemorySlot;
  /** The offset in the slot's `memory`, in bytes. */
  readonly offset: number;
}

/**
 * Reads and writes guest physical memory in one address space of a VM.
 *
 * Changes of the VM's slots apply immediately to existing objects of this class. `KVM_MEM_READONLY` restricts only the
 * guest, so the host can write a ROM with this object. Dirty logs do not contain writes of the host.
 */
export class AddressSpace {
  /** The number of the address space: 0, or 1 for SMM. */
  readonly id: number;
  readonly #slots: () => readonly MemorySlot[];

  /** Wraps slots that are sorted by address. @internal */
  constructor(id: number, slots: () => readonly MemorySlot[]) {
    if (typeof slots !== "function") {
      throw new TypeError("new AddressSpace(): use vm.memory or vm.addressSpace()");
    }
    this.id = id;
    this.#slots = slots;
  }

  /** Lists the slots, sorted by address. */
  slots(): readonly MemorySlot[] {
    return Array.from(this.#slots());
  }

  /**
   * Finds the slot that contains an address, and the offset in its memory; `undefined` if no slot contains the address.
   */
  at(gpa: bigint | number): MemoryPlace | undefined {
    return this.#at(toBigInt("at(): gpa", gpa));
  }

  #at(gpa: bigint): MemoryPlace | undefined {
    const slots = this.#slots();
    let [low, high] = [0, slots.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((slots[middle]?.guestPhysAddr ?? gpa) <= gpa) low = middle + 1;
      else high = middle;
    }
    const slot = slots[low - 1];
    if (slot === undefined || gpa >= slot.guestPhysAddr + slot.memorySize) return undefined;
    return { slot, offset: slot.memoryOffset + Number(gpa - slot.guestPhysAddr) };
  }

  /**
   * Copies `length` bytes from a guest physical address, across adjacent slots.
   *
   * @throws RangeError that names the first address without memory.
   */
  read(gpa: bigint | number, length: number): Uint8Array {
    const pieces = this.#pieces(toBigInt("read(): gpa", gpa), length);
    const copy = new Uint8Array(length);
    for (const { memory, offset, done, size } of pieces) {
      copy.set(memory.read(offset, size), done);
    }
    return copy;
  }

  /**
   * Copies `data` to a guest physical address, across adjacent slots, including read-only slots. If the elements of an
   * array are wider than a byte, the bytes of the elements are copied.
   *
   * @throws RangeError that names the first address without memory; nothing is written in this case.
   */
  write(gpa: bigint | number, data: ArrayBufferView): void {
    const bytes = toBytes("write()", data);
    const pieces = this.#pieces(toBigInt("write(): gpa", gpa), bytes.length);
    if (pieces.some(({ memory }) => memory.closed)) {
      throw new StateError("ERR_CLOSED", "guest memory");
    }
    for (const { memory, offset, done, size } of pieces) {
      memory.write(offset, bytes.subarray(done, done + size));
    }
  }

  /**
   * Returns `length` bytes (up to 1 GiB) at a guest physical address as an array over the shared memory, as
   * {@link GuestMemory.window} does; all bytes must be in one slot. After the slot was moved or deleted, the array
   * still refers to the same memory.
   *
   * @throws RangeError that names the first address that is not in the same slot as the start of the range.
   */
  window(gpa: bigint | number, length: number): Uint8Array {
    const start = toBigInt("window(): gpa", gpa);
    const [piece, next] = this.#pieces(start, length);
    if (next !== undefined) {
      const address = hex(start + BigInt(next.done));
      throw new RangeError(`${length} bytes at ${hex(start)}: another slot begins at ${address}`);
    }
    return piece?.memory.window(piece.offset, piece.size) ?? new Uint8Array(0);
  }

  /** Splits a range into parts, each of which is in a single slot. */
  #pieces(gpa: bigint, length: number): readonly Piece[] {
    if (!Number.isSafeInteger(length) || length < 0) {
      throw new RangeError(`${describe(length)} is not a number of bytes`);
    }
    const pieces: Piece[] = [];
    for (let done = 0; done < length; ) {
      const address = gpa + BigInt(done);
      const place = this.#at(address);
      if (place === undefined) throw new RangeError(this.#nothingAt(address));
      const { slot, offset } = place;
      const left = slot.guestPhysAddr + slot.memorySize - address;
      const size = left < length - done ? Number(left) : length - done;
      pieces.push({ memory: slot.memory, offset, done, size });
      done += size;
    }
    return pieces;
  }

  #nothingAt(address: bigint): string {
    const space = this.id === 0 ? "" : ` in address space ${this.id}`;
    return `no memory at guest physical address ${hex(address)}${space}`;
  }

  static {
    inspectAs(AddressSpace, (it) => ({ id: it.id, slots: it.slots() }));
  }
}

/** The part of a range that is in one slot. */
interface Piece {
  readonly memory: GuestMemory;
  readonly offset: number;
  /** The offset of this part in the range. */
  readonly done: number;
  readonly size: number;
}

/** The slots of a VM, by address space. The {@link Vm} calls the methods after the kernel has accepted a change. */
export class AddressSpaces {
  readonly #slots = new Map<number, readonly MemorySlot[]>();

  /** Adds a slot, or changes its address or flags. */
  set(slot: MemorySlot): void {
    const others = this.#others(slot.slot);
    const after = others.findIndex((other) => other.guestPhysAddr > slot.guestPhysAddr);
    const at = after < 0 ? others.length : after;
    this.#slots.set(spaceOf(slot.slot), others.toSpliced(at, 0, slot));
  }

  /** Removes a slot; removing an unknown slot is a no-op. */
  delete(slot: number): void {
    this.#slots.set(spaceOf(slot), this.#others(slot));
  }

  /** Returns one address space. */
  space(id: number): AddressSpace {
    return new AddressSpace(id, () => this.#slots.get(id) ?? []);
  }

  #others(slot: number): readonly MemorySlot[] {
    return (this.#slots.get(spaceOf(slot)) ?? []).filter((other) => other.slot !== slot);
  }
}

/** Returns the address space of a slot number. */
const spaceOf = (slot: number): number => slot >>> 16;

const hex = (address: bigint): string =>
  address < 0n ? `-0x${(-address).toString(16)}` : `0x${address.toString(16)}`;
