/**
 * Iterates over the pages that a guest has written, from a bitmap of KVM_GET_DIRTY_LOG or from the dirty ring of a
 * vCPU. dirty-log.ts and vm.ts have the ioctls.
 */
import { types } from "node:util";
import { KVM_DIRTY_GFN_F_DIRTY, KVM_DIRTY_GFN_F_RESET } from "../../abi/generated/constants.ts";
import { DirtyGfn as Entry } from "../../abi/generated/structs.ts";
import { offsetOf, sizeOf } from "../../abi/struct.ts";
import { StateError } from "../../errors.ts";
import { inspectAs } from "../../inspect.ts";
import { toBigInt, toBytes } from "../../options.ts";

const PAGE_BYTES = 4096n;

/**
 * Iterates over the page numbers of the set bits in a dirty bitmap, in ascending order. KVM_GET_DIRTY_LOG returns such
 * a bitmap. Page 0 is the slot's first page. The bitmap is copied, so later changes of the bitmap have no effect.
 */
export function dirtyPages(bitmap: Uint8Array): Generator<number, void> {
  return bitsOf(wordsOf("dirtyPages()", bitmap));
}

/** Iterates over a dirty bitmap like {@link dirtyPages}, but yields guest physical addresses. */
export function dirtyAddresses(
  bitmap: Uint8Array,
  guestPhysAddr: bigint | number,
): Generator<bigint, void> {
  const start = toBigInt("dirtyAddresses(): guestPhysAddr", guestPhysAddr);
  return addressesOf(bitsOf(wordsOf("dirtyAddresses()", bitmap)), start);
}

function wordsOf(where: string, bitmap: Uint8Array): Uint32Array {
  const bytes = toBytes(`${where}: bitmap`, bitmap);
  const words = new Uint32Array(Math.ceil(bytes.length / 4));
  new Uint8Array(words.buffer).set(bytes);
  return words;
}

function* addressesOf(pages: Iterable<number>, start: bigint): Generator<bigint, void> {
  for (const page of pages) yield start + BigInt(page) * PAGE_BYTES;
}

function* bitsOf(words: Uint32Array): Generator<number, void> {
  // This loop uses an index, because most words are 0, and entries() would allocate an array for each word.
  for (let at = 0; at < words.length; at += 1) {
    for (let rest = words[at] ?? 0; rest !== 0; rest &= rest - 1) {
      yield at * 32 + (31 - Math.clz32(rest & -rest));
    }
  }
}

/** A page that a guest has written: `struct kvm_dirty_gfn`. */
export interface DirtyPage {
  /** The number of the slot in bits 0-15, and its address space in bits 16-31. */
  readonly slot: number;
  /** The page number, relative to the slot's first page. */
  readonly offset: bigint;
}

const WORDS = sizeOf(Entry) / 4;
const FLAGS = offsetOf(Entry, "flags") / 4;
const SLOT = offsetOf(Entry, "slot") / 4;
const OFFSET = offsetOf(Entry, "offset") / 4;

/**
 * Reads the dirty ring of a vCPU (KVM_CAP_DIRTY_LOG_RING). KVM adds an entry for each page that the vCPU writes, and
 * {@link harvest} reads the entries.
 *
 * When the ring is full, KVM_RUN returns the exit `dirty_ring_full`. Harvested entries occupy the ring until
 * KVM_RESET_DIRTY_RINGS. After KVM_RESET_DIRTY_RINGS, KVM also reports the next write to the same page.
 */
export class DirtyRing {
  readonly #words: Uint32Array;
  #next = 0;

  /**
   * Wraps a ring from which no entry has been harvested.
   *
   * @throws RangeError if the buffer's size is not a multiple of 16 bytes, the size of an entry.
   */
  constructor(buffer: ArrayBuffer) {
    if (!types.isArrayBuffer(buffer)) {
      throw new TypeError("new DirtyRing(): use an ArrayBuffer, or vcpu.dirtyRing()");
    }
    if (buffer.byteLength === 0 || buffer.byteLength % sizeOf(Entry) !== 0) {
      throw new RangeError(
        `${buffer.byteLength} bytes are not a whole number of dirty ring entries of ${sizeOf(Entry)} bytes`,
      );
    }
    this.#words = new Uint32Array(buffer);
  }

  /** The maximum number of entries in the ring. */
  get size(): number {
    return this.#words.length / WORDS;
  }

  /**
   * Iterates over the available entries in KVM's order, and marks each as harvested when it is yielded. If the loop
   * ends early, the next harvest continues after the last yielded entry. The iteration ends at the first entry that KVM
   * has not filled. If the vCPU runs on another thread, the iteration may continue with new entries. The iteration ends
   * after at most {@link size} entries if the rings are not reset.
   *
   * @returns the number of harvested entries; if it is not 0, call KVM_RESET_DIRTY_RINGS.
   * @throws {@link StateError} `ERR_CLOSED` if the vCPU was closed.
   */
  *harvest(): Generator<DirtyPage, number> {
    for (let taken = 0; ; taken += 1) {
      const entry = this.#take();
      if (entry === undefined) return taken;
      yield entry;
    }
  }

  #take(): DirtyPage | undefined {
    const words = this.#words;
    if (words.length === 0) throw new StateError("ERR_CLOSED", "dirty ring");
    const at = this.#next * WORDS;
    // The flags are read first, because KVM sets the flag after it has filled an entry.
    // The flags are written last, because KVM may fill the entry again after its flag is set to harvested.
    if ((Atomics.load(words, at + FLAGS) & KVM_DIRTY_GFN_F_DIRTY) === 0) return undefined;
    const entry = {
      slot: words[at + SLOT] ?? 0,
      offset: (BigInt(words[at + OFFSET + 1] ?? 0) << 32n) | BigInt(words[at + OFFSET] ?? 0),
    };
    Atomics.store(words, at + FLAGS, KVM_DIRTY_GFN_F_RESET);
    this.#next = (this.#next + 1) % this.size;
    return entry;
  }

  static {
    inspectAs(DirtyRing, (it) => ({ size: it.size, closed: it.size === 0 }));
  }
}
