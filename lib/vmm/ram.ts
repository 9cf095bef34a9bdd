/** A VM's RAM around the hole below 4 GiB that devices use: how it is split, and mapping it. */
import { inspectAs } from "../inspect.ts";
import { GuestMemory, type GuestMemoryOptions } from "../kvm/guest-memory.ts";
import type { Vm } from "../kvm/vm.ts";
import type { UserspaceMemoryRegion } from "../kvm/vm-memory.ts";
import { refuseUnknown } from "../options.ts";

const GIB = 2 ** 30;
const HOLE_END = 4 * GIB;
const PAGE_BYTES = 4096;

const OPTIONS: readonly string[] = [
  "holeStart",
  "slot",
  "flags",
  "hugePages",
  "shared",
  "reserve",
  "populate",
  "dump",
  "mergeable",
];

/** Where a PC's hole begins when nothing else is said. */
const HOLE_START = 3 * GIB;

/** Some of the RAM. */
export interface RamRegion {
  /** Where the guest sees it. */
  readonly guestPhysAddr: bigint;
  /** Bytes. */
  readonly byteLength: number;
}

/** Where devices are. */
export interface RamLayout {
  /**
   * The first guest physical address of the hole, which ends at 4 GiB: a multiple of 4096; 3 GiB
   * when left out.
   */
  readonly holeStart?: number;
}

/** How RAM is mapped. */
export interface RamOptions extends RamLayout, GuestMemoryOptions {
  /** The slot of the first region, with the address space in bits 16-31; 0 when left out. */
  readonly slot?: number;
  /** The slots' flags, such as `KVM_MEM_LOG_DIRTY_PAGES`; none when left out. */
  readonly flags?: number;
}

/** A region of RAM in its slot. */
export interface MappedRamRegion extends RamRegion {
  /** Its slot. */
  readonly slot: number;
  /** Its host memory. */
  readonly memory: GuestMemory;
}

/** Says where so much RAM is: from address 0 up to the hole, and the rest from 4 GiB on. */
export function ramRegions(byteLength: number, layout: RamLayout = {}): readonly RamRegion[] {
  refuseUnknown("ramRegions()", layout, ["holeStart"]);
  const { holeStart = HOLE_START } = layout;
  checkPages("byteLength", byteLength, 0, Number.MAX_SAFE_INTEGER);
  checkPages("holeStart", holeStart, 0, HOLE_END);
  const low = Math.min(byteLength, holeStart);
  return [
    { guestPhysAddr: 0n, byteLength: low },
    { guestPhysAddr: BigInt(HOLE_END), byteLength: byteLength - low },
  ].filter((region) => region.byteLength > 0);
}

/** The RAM of a VM. */
export class Ram {
  /** Its regions, in the order of their addresses. */
  readonly regions: readonly MappedRamRegion[];

  /** Takes over regions that a VM has; {@link mapRam} makes them. */
  constructor(regions: readonly MappedRamRegion[]) {
    if (!Array.isArray(regions))
      throw new TypeError("new Ram(): use mapRam(), or a list of regions");
    this.regions = regions;
  }

  /** All of it in bytes. */
  get byteLength(): number {
    return this.regions.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /**
   * Closes its memories, the last first. Guests that run keep theirs, as
   * {@link GuestMemory.close} says.
   */
  close(): void {
    for (const { memory } of this.regions.toReversed()) memory.close();
  }

  /** Closes it at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  static {
    inspectAs(Ram, (it) => ({ byteLength: it.byteLength, regions: it.regions }));
  }
}

/**
 * Gives a VM its RAM: a memory and a slot for each of {@link ramRegions}, from the slot in the
 * options on.
 *
 * @throws {@link KvmError} when the kernel refuses a memory or a slot; the VM then has no slot of
 *   them, and no memory is left open.
 */
export function mapRam(
  vm: Pick<Vm, "setUserMemoryRegion">,
  byteLength: number,
  options: RamOptions = {},
): Ram {
  refuseUnknown("mapRam()", options, OPTIONS);
  const { holeStart = HOLE_START, slot: first = 0, flags = 0, ...memoryOptions } = options;
  const undo: (() => void)[] = [];
  const set = (region: UserspaceMemoryRegion): void => vm.setUserMemoryRegion(region);
  try {
    const regions = ramRegions(byteLength, { holeStart }).map((region, at) => {
      const { guestPhysAddr } = region;
      const slot = first + at;
      const memory = GuestMemory.allocate(region.byteLength, memoryOptions);
      undo.unshift(() => memory.close());
      set({ slot, flags, guestPhysAddr, memory });
      undo.unshift(() => set({ slot, guestPhysAddr, memorySize: 0n }));
      return { ...region, slot, memory };
    });
    return new Ram(regions);
  } catch (error) {
    // Nobody else can: the caller gets none of it.
    for (const step of undo) step();
    throw error;
  }
}

function checkPages(name: string, bytes: number, least: number, most: number): void {
  if (Number.isSafeInteger(bytes) && bytes % PAGE_BYTES === 0 && bytes >= least && bytes <= most) {
    return;
  }
  throw new RangeError(`${name}: ${bytes} is not a multiple of 4096 from ${least} to ${most}`);
}
