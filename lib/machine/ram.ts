/** Splits and maps a VM's RAM, which has a hole for devices below 4 GiB. */
import { inspectAs } from "../inspect.ts";
import { GuestMemory, type GuestMemoryOptions } from "../kvm/memory/guest-memory.ts";
import type { UserspaceMemoryRegionInput } from "../kvm/memory/memory-slots.ts";
import type { Vm } from "../kvm/vm.ts";
import { describe, refuseUnknown, toBigInt, toU32 } from "../options.ts";

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

/** The default start of the hole, as on a PC. */
const HOLE_START = 3 * GIB;

/** A contiguous part of the RAM. */
export interface RamRegion {
  /** The guest physical address of the part. */
  readonly guestPhysAddr: bigint;
  /** The size of the part in bytes. */
  readonly byteLength: number;
}

/** The location of the hole for devices. */
export interface RamLayoutOptions {
  /** The first guest physical address of the hole, which ends at 4 GiB: a multiple of 4096; 3 GiB if omitted. */
  readonly holeStart?: bigint | number;
}

/** The options of {@link mapRam}. */
export interface RamOptions extends RamLayoutOptions, GuestMemoryOptions {
  /** The slot of the first region, with the address space in bits 16-31; 0 if omitted. */
  readonly slot?: bigint | number;
  /** The slots' flags, such as `KVM_MEM_LOG_DIRTY_PAGES`; none if omitted. */
  readonly flags?: number;
}

/** A region of RAM with its memory slot and its host memory. */
export interface MappedRamRegion extends RamRegion {
  /** The number of the memory slot. */
  readonly slot: number;
  /** The host memory of the region. */
  readonly memory: GuestMemory;
}

/**
 * Splits RAM of this size into at most two regions: one from address 0 up to the hole, and one with the rest from 4
 * GiB.
 */
export function ramRegions(
  byteLength: bigint | number,
  layout: RamLayoutOptions = {},
): readonly RamRegion[] {
  refuseUnknown("ramRegions()", layout, ["holeStart"]);
  return regionsOf("ramRegions()", byteLength, layout.holeStart);
}

function regionsOf(
  where: string,
  byteLength: bigint | number,
  holeStart: bigint | number = HOLE_START,
): readonly RamRegion[] {
  const total = toPages(`${where}: byteLength`, byteLength, Number.MAX_SAFE_INTEGER);
  const low = Math.min(total, toPages(`${where}: holeStart`, holeStart, HOLE_END));
  return [
    { guestPhysAddr: 0n, byteLength: low },
    { guestPhysAddr: BigInt(HOLE_END), byteLength: total - low },
  ].filter((region) => region.byteLength > 0);
}

/** The RAM of a VM. */
export class Ram {
  /** The regions of the RAM, in the order of their addresses. */
  readonly regions: readonly MappedRamRegion[];

  /** Creates an object for regions that are already mapped in a VM; use {@link mapRam} to map regions. */
  constructor(regions: readonly MappedRamRegion[]) {
    if (!Array.isArray(regions))
      throw new TypeError("new Ram(): use mapRam(), or a list of regions");
    this.regions = regions;
  }

  /** The total size in bytes. */
  get byteLength(): number {
    return this.regions.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /**
   * Closes the memories of all regions in reverse order. A running guest keeps its memory mapped, see
   * {@link GuestMemory.close}.
   */
  close(): void {
    for (const { memory } of this.regions.toReversed()) memory.close();
  }

  /** Closes the memories at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  static {
    inspectAs(Ram, (it) => ({ byteLength: it.byteLength, regions: it.regions }));
  }
}

/**
 * Creates the RAM of a VM: a memory and a slot for each region of {@link ramRegions}. The slot numbers are consecutive
 * from `slot`.
 *
 * @throws {@link KvmError} if the kernel fails a mapping or a slot; then the VM has none of these slots, and no memory
 *   is left open.
 */
export function mapRam(
  vm: Pick<Vm, "setUserMemoryRegion">,
  byteLength: bigint | number,
  options: RamOptions = {},
): Ram {
  refuseUnknown("mapRam()", options, OPTIONS);
  const { holeStart, slot = 0, flags = 0, ...memoryOptions } = options;
  const first = toU32("mapRam(): slot", slot);
  if (typeof (vm as Partial<Vm> | null | undefined)?.setUserMemoryRegion !== "function") {
    throw new TypeError(`mapRam(): vm: expected a Vm, got ${describe(vm)}`);
  }
  const undo: (() => void)[] = [];
  const set = (region: UserspaceMemoryRegionInput): void => vm.setUserMemoryRegion(region);
  try {
    const regions = regionsOf("mapRam()", byteLength, holeStart).map((region, at) => {
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
    // The memories and slots are removed here, because the caller does not receive them.
    for (const step of undo) step();
    throw error;
  }
}

/** Checks that a size in bytes is a whole number of pages, and returns it. */
function toPages(where: string, value: bigint | number, most: number): number {
  const bytes = typeof value === "number" ? value : Number(toBigInt(where, value));
  const isWhole = Number.isSafeInteger(bytes) && bytes % PAGE_BYTES === 0;
  if (isWhole && bytes >= 0 && bytes <= most) return bytes;
  throw new RangeError(`${where}: ${value} is not a multiple of 4096 from 0 to ${most}`);
}
