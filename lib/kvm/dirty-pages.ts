/**
 * Pages that a guest has written: read from KVM_GET_DIRTY_LOG's bitmap, or from a vCPU's dirty
 * ring. Asking KVM for them, and giving them back to it, is vm.ts.
 */
import { types } from "node:util";
import { KVM_DIRTY_GFN_F_DIRTY, KVM_DIRTY_GFN_F_RESET } from "../abi/generated/constants.ts";
import { DirtyGfn as Entry } from "../abi/generated/structs.ts";
import { offsetOf, sizeOf } from "../abi/struct.ts";
import { StateError } from "../errors.ts";
import { inspectAs } from "../inspect.ts";
import { toBigInt } from "../options.ts";

const PAGE_BYTES = 4096n;

/**
 * Walks a dirty bitmap, of KVM_GET_DIRTY_LOG say: the numbers of the pages whose bits are set,
 * counted from the slot's first page, in order. The bitmap may change meanwhile; it was copied.
 */
export function dirtyPages(bitmap: Uint8Array): Generator<number, void> {
  const words = new Uint32Array(Math.ceil(bitmap.length / 4));
  new Uint8Array(words.buffer).set(bitmap);
  return bitsOf(words);
}

/** Walks a dirty bitmap like {@link dirtyPages}: the guest physical addresses of the pages. */
export function dirtyAddresses(
  bitmap: Uint8Array,
  guestPhysAddr: bigint | number,
): Generator<bigint, void> {
  const start = toBigInt("dirtyAddresses(): guestPhysAddr", guestPhysAddr);
  return addressesOf(dirtyPages(bitmap), start);
}

function* addressesOf(pages: Iterable<number>, start: bigint): Generator<bigint, void> {
  for (const page of pages) yield start + BigInt(page) * PAGE_BYTES;
}

function* bitsOf(words: Uint32Array): Generator<number, void> {
  // By index, for most words are 0 and entries() would make an array for each.
  for (let at = 0; at < words.length; at += 1) {
    for (let rest = words[at] ?? 0; rest !== 0; rest &= rest - 1) {
      yield at * 32 + (31 - Math.clz32(rest & -rest));
    }
  }
}

/** A page that a guest has written: `struct kvm_dirty_gfn`. */
export interface DirtyGfn {
  /** Bits 0-15: the slot; bits 16-31: the address space. */
  readonly slot: number;
  /** The page, counted from the slot's first. */
  readonly offset: bigint;
}

const WORDS = sizeOf(Entry) / 4;
const FLAGS = offsetOf(Entry, "flags") / 4;
const SLOT = offsetOf(Entry, "slot") / 4;
const OFFSET = offsetOf(Entry, "offset") / 4;

/**
 * The dirty ring of a vCPU (KVM_CAP_DIRTY_LOG_RING): KVM enters the pages that the vCPU writes,
 * {@link harvest} takes them out.
 *
 * A ring that fills up ends KVM_RUN with the exit `dirty_ring_full`. What was harvested takes room
 * until KVM_RESET_DIRTY_RINGS, which also makes KVM enter the next write to the same page.
 */
export class DirtyRing {
  readonly #words: Uint32Array;
  #next = 0;

  /**
   * Takes over a ring that nothing was taken out of yet.
   *
   * @throws RangeError when the buffer is not a whole number of entries of 16 bytes.
   */
  constructor(buffer: ArrayBuffer) {
    if (!types.isArrayBuffer(buffer)) {
      throw new TypeError("new DirtyRing(): use an ArrayBuffer, or vcpu.dirtyRing()");
    }
    if (buffer.byteLength === 0 || buffer.byteLength % sizeOf(Entry) !== 0) {
      throw new RangeError(`${buffer.byteLength} bytes are no ring of entries of ${sizeOf(Entry)}`);
    }
    this.#words = new Uint32Array(buffer);
  }

  /** How many entries it has room for. */
  get size(): number {
    return this.#words.length / WORDS;
  }

  /**
   * Takes out what there is, in the order in which KVM entered it, and marks each entry as
   * harvested when it is given. A walk that is broken off goes on with the next harvest. It ends
   * at the first entry that KVM has not filled; so, when the vCPU runs meanwhile on another
   * thread, perhaps late, but after {@link size} entries unless the rings are reset.
   *
   * @returns how many it took; KVM_RESET_DIRTY_RINGS should then be called if that is not 0.
   * @throws {@link StateError} `ERR_CLOSED` when the vCPU was closed.
   */
  *harvest(): Generator<DirtyGfn, number> {
    for (let taken = 0; ; taken += 1) {
      const entry = this.#take();
      if (entry === undefined) return taken;
      yield entry;
    }
  }

  #take(): DirtyGfn | undefined {
    const words = this.#words;
    if (words.length === 0) throw new StateError("ERR_CLOSED", "dirty ring");
    const at = this.#next * WORDS;
    // The flags are read first and written last: KVM fills an entry, then says so, and may fill it
    // again once they say that it was harvested.
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
