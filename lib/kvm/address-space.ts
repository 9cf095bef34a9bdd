/**
 * What a VM's memory slots show at which guest physical address. Making slots is vm.ts; the host
 * bytes behind them are guest-memory.ts.
 */
import { StateError } from "../errors.ts";
import { inspectAs } from "../inspect.ts";
import { toBigInt, toBytes } from "../options.ts";
import type { GuestMemory } from "./guest-memory.ts";

/** A memory slot as the VM has it. */
export interface MemorySlot {
  /** Bits 0-15: the slot; bits 16-31: the address space (1 is SMM). */
  readonly slot: number;
  /** `KVM_MEM_LOG_DIRTY_PAGES`, `KVM_MEM_READONLY`. */
  readonly flags: number;
  /** Where the guest sees it. */
  readonly guestPhysAddr: bigint;
  /** Bytes. */
  readonly memorySize: bigint;
  /** The host memory behind it. */
  readonly memory: GuestMemory;
  /** Where in `memory` the slot begins, in bytes. */
  readonly memoryOffset: number;
}

/** A guest physical address in a slot's memory. */
export interface MemoryPlace {
  /** The slot that shows it. */
  readonly slot: MemorySlot;
  /** Where it is in the slot's `memory`, in bytes. */
  readonly offset: number;
}

/**
 * The guest physical memory of a VM, as the host reads and writes it; one of the VM's address
 * spaces.
 *
 * It follows the VM's slots. `KVM_MEM_READONLY` binds the guest, not the host: writing here is how
 * a ROM gets its content. What the host writes here is in no dirty log.
 */
export class AddressSpace {
  /** Its number: 0, or 1 for SMM. */
  readonly id: number;
  readonly #slots: () => readonly MemorySlot[];

  /** Makes the view of slots that are in the order of their addresses. @internal */
  constructor(id: number, slots: () => readonly MemorySlot[]) {
    if (typeof slots !== "function") {
      throw new TypeError("new AddressSpace(): use vm.memory or vm.addressSpace()");
    }
    this.id = id;
    this.#slots = slots;
  }

  /** Lists the slots in the order of their addresses. */
  slots(): readonly MemorySlot[] {
    return Array.from(this.#slots());
  }

  /** Finds the slot that shows an address, and where in its memory; `undefined` when none does. */
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
   * Copies `length` bytes from a guest physical address on, across slots that touch.
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
   * Copies `data` to a guest physical address, across slots that touch, read-only ones too. Of an
   * array of wider elements it copies the bytes, as they are in memory.
   *
   * @throws RangeError that names the first address without memory; then nothing was written.
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
   * Shows `length` bytes (up to 1 GiB) at a guest physical address as a live array, like
   * {@link GuestMemory.window}; they must be in one slot. It goes on showing that memory when the
   * slot is moved or deleted.
   *
   * @throws RangeError that names the first address which is not in the first one's slot.
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

  /** The parts of a stretch, a slot each. */
  #pieces(gpa: bigint, length: number): readonly Piece[] {
    if (!Number.isSafeInteger(length) || length < 0) {
      throw new RangeError(`${length} is no number of bytes`);
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

/** A part of a stretch of guest physical memory that is in one slot. */
interface Piece {
  readonly memory: GuestMemory;
  readonly offset: number;
  /** How much of the stretch comes before it. */
  readonly done: number;
  readonly size: number;
}

/** The slots of a VM, by address space; its {@link Vm} tells it what the kernel has accepted. */
export class AddressSpaces {
  readonly #slots = new Map<number, readonly MemorySlot[]>();

  /** Enters a slot, or what has become of it: another place, other flags. */
  set(slot: MemorySlot): void {
    const others = this.#others(slot.slot);
    const after = others.findIndex((other) => other.guestPhysAddr > slot.guestPhysAddr);
    const at = after < 0 ? others.length : after;
    this.#slots.set(spaceOf(slot.slot), others.toSpliced(at, 0, slot));
  }

  /** Takes a slot away; one that there is not is none to take away. */
  delete(slot: number): void {
    this.#slots.set(spaceOf(slot), this.#others(slot));
  }

  /** The view of one address space. */
  space(id: number): AddressSpace {
    return new AddressSpace(id, () => this.#slots.get(id) ?? []);
  }

  #others(slot: number): readonly MemorySlot[] {
    return (this.#slots.get(spaceOf(slot)) ?? []).filter((other) => other.slot !== slot);
  }
}

/** The address space of a slot's number. */
const spaceOf = (slot: number): number => slot >>> 16;

const hex = (address: bigint): string =>
  address < 0n ? `-0x${(-address).toString(16)}` : `0x${address.toString(16)}`;
