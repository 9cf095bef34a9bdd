/** Writes of a guest that KVM has collected in a ring instead of leaving it for each. Which, vm.registerCoalescedMmio says. */
import { KVM_COALESCED_MMIO_PAGE_OFFSET } from "../abi/generated/constants.ts";
import { CoalescedMmio, CoalescedMmioRing } from "../abi/generated/structs.ts";
import { offsetOf, read, sizeOf } from "../abi/struct.ts";

/** A write that was collected. */
export interface CoalescedWrite {
  /** The guest physical address, or the port. */
  readonly physAddr: bigint;
  /** Whether it was to a port. */
  readonly isPio: boolean;
  /** 1 to 8 bytes. */
  readonly data: Uint8Array;
}

const PAGE = 4096;
const START = KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE;
const ENTRIES = offsetOf(CoalescedMmioRing, "coalescedMmio");
const ENTRY = sizeOf(CoalescedMmio);
const FIRST = offsetOf(CoalescedMmioRing, "first") / 4;
const LAST = offsetOf(CoalescedMmioRing, "last") / 4;

/** KVM_COALESCED_MMIO_MAX: how many fit the page. */
const MOST = Math.floor((PAGE - ENTRIES) / ENTRY);

/**
 * Takes the writes out of the ring that follows a vCPU's kvm_run, in their order. All vCPUs of a VM
 * share one ring. When it is full, a guest's write is an exit again.
 */
export function* coalescedWrites(run: Uint8Array): Generator<CoalescedWrite, void> {
  const words = new Uint32Array(run.buffer, run.byteOffset + START, PAGE / 4);
  for (;;) {
    const first = Atomics.load(words, FIRST);
    // `last` is the kernel's and `first` ours; a guest can reach neither.
    if (first === Atomics.load(words, LAST) || first >= MOST) return;
    const entry = read(CoalescedMmio, run, START + ENTRIES + first * ENTRY);
    const data = entry.data.slice(0, Math.min(entry.len, 8));
    Atomics.store(words, FIRST, (first + 1) % MOST);
    yield { physAddr: entry.physAddr, isPio: entry.pio !== 0, data };
  }
}
