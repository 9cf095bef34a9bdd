/** Tests of RAM: how it is split into regions, the calls on the VM, and the cleanup after a failure. */
import { describe, expect, onTestFinished, test } from "vitest";
import { KVM_MEM_LOG_DIRTY_PAGES } from "../../../lib/abi/generated/constants.ts";
import { KvmError } from "../../../lib/errors.ts";
import type { GuestMemory } from "../../../lib/kvm/memory/guest-memory.ts";
import type { UserspaceMemoryRegionInput } from "../../../lib/kvm/memory/memory-slots.ts";
import { mapRam, type Ram, type RamOptions, ramRegions } from "../../../lib/machine/ram.ts";
import { test as onDevice } from "../kvm/on-device.ts";

const GIB = 2 ** 30;
const FOUR_GIB = 4n * 2n ** 30n;

describe("the RAM of a VM", () => {
  test.each([
    ["nothing", 0, []],
    ["a page", 4096, [[0n, 4096]]],
    ["up to the hole", 3 * GIB, [[0n, 3 * GIB]]],
    [
      "a page more",
      3 * GIB + 4096,
      [
        [0n, 3 * GIB],
        [FOUR_GIB, 4096],
      ],
    ],
    [
      "a lot",
      64 * GIB,
      [
        [0n, 3 * GIB],
        [FOUR_GIB, 61 * GIB],
      ],
    ],
  ])("is split around the hole from 3 to 4 GiB: %s", (_, byteLength, regions) => {
    const expected = regions.map(([guestPhysAddr, size]) => ({ guestPhysAddr, byteLength: size }));
    expect(ramRegions(byteLength)).toEqual(expected);
  });

  test.each([
    ["lower", 2 * GIB, [2 * GIB, 2 * GIB]],
    ["empty", 4 * GIB, [4 * GIB]],
    ["all", 0, [4 * GIB]],
  ])("is split around a hole that is %s", (_, holeStart, sizes) => {
    const regions = ramRegions(4 * GIB, { holeStart });
    expect(regions.map(({ byteLength }) => byteLength)).toEqual(sizes);
  });

  test.each([-4096, 100, 0.5, Number.NaN, 2 ** 53])(
    "of %d bytes causes a RangeError",
    (byteLength) => {
      expect(() => ramRegions(byteLength)).toThrow(
        new RangeError(
          `ramRegions(): byteLength: ${byteLength} is not a multiple of 4096 from 0 to 9007199254740991`,
        ),
      );
    },
  );

  test.each([-4096, 100, 4 * GIB + 4096])(
    "with a hole from %d on causes a RangeError",
    (holeStart) => {
      expect(() => ramRegions(GIB, { holeStart })).toThrow(
        new RangeError(
          `ramRegions(): holeStart: ${holeStart} is not a multiple of 4096 from 0 to 4294967296`,
        ),
      );
    },
  );
});

/** A replacement for a VM, which records the calls and can reject one slot. */
class Told {
  readonly regions: UserspaceMemoryRegionInput[] = [];
  /** The memories that were already closed when a slot was deleted. */
  readonly closedBefore: boolean[] = [];
  readonly #refused: number | undefined;

  constructor(refused?: number) {
    this.#refused = refused;
  }

  get memories(): readonly GuestMemory[] {
    return this.regions.flatMap(({ memory }) => memory ?? []);
  }

  setUserMemoryRegion(region: UserspaceMemoryRegionInput): void {
    if (region.memorySize === 0n) {
      this.closedBefore.push(...this.regions.map(({ memory }) => memory?.closed ?? false));
    }
    this.regions.push(region);
    if (region.slot !== this.#refused) return;
    throw new KvmError({ call: "KVM_SET_USER_MEMORY_REGION", object: "vm", errno: 17 });
  }
}

function map(vm: Told, byteLength: number, options?: RamOptions): Ram {
  const ram = mapRam(vm, byteLength, options);
  onTestFinished(() => ram.close());
  return ram;
}

describe("mapping the RAM of a VM", () => {
  test("creates a memory object and a slot for each region", () => {
    const vm = new Told();
    const ram = map(vm, 5 * GIB);
    expect(ram.byteLength).toBe(5 * GIB);
    expect(ram.regions.map(({ memory }) => memory.byteLength)).toEqual([3 * GIB, 2 * GIB]);
    expect(vm.regions).toEqual([
      { slot: 0, flags: 0, guestPhysAddr: 0n, memory: ram.regions[0]?.memory },
      { slot: 1, flags: 0, guestPhysAddr: FOUR_GIB, memory: ram.regions[1]?.memory },
    ]);
  });

  test("uses the given first slot, flags, hole and memory options", () => {
    const [slot, flags, holeStart] = [0x1_0004, KVM_MEM_LOG_DIRTY_PAGES, 4096];
    const vm = new Told();
    const ram = map(vm, 8192, { slot, flags, holeStart, shared: true });
    expect(ram.regions.map((region) => region.slot)).toEqual([slot, slot + 1]);
    expect(vm.regions.map((region) => region.flags)).toEqual([flags, flags]);
  });

  test("returns an object that closes all its memories", () => {
    const ram = map(new Told(), 5 * GIB);
    ram.close();
    expect(ram.regions.map(({ memory }) => memory.closed)).toEqual([true, true]);
  });

  test("is undone at the end of a using block", () => {
    const kept = (() => {
      using ram = mapRam(new Told(), 4096);
      return ram;
    })();
    expect(kept.regions.map(({ memory }) => memory.closed)).toEqual([true]);
  });

  test("deletes the earlier slots and closes all memories if a slot fails", () => {
    const vm = new Told(1);
    expect(() => mapRam(vm, 5 * GIB)).toThrow(KvmError);
    expect(vm.regions.at(-1)).toEqual({ slot: 0, guestPhysAddr: 0n, memorySize: 0n });
    expect(vm.memories.map(({ closed }) => closed)).toEqual([true, true]);
  });

  test("is undone in reverse order after a failure: a slot is deleted before its memory is closed", () => {
    const vm = new Told(1);
    expect(() => mapRam(vm, 5 * GIB)).toThrow(KvmError);
    expect(vm.closedBefore).toEqual([false, true]);
  });

  test("leaves no memory and no slot if a memory cannot be allocated", () => {
    const vm = new Told();
    expect(() => mapRam(vm, 2 ** 52)).toThrow("mmap (guest memory): ENOMEM");
    expect(vm.regions.at(-1)).toEqual({ slot: 0, guestPhysAddr: 0n, memorySize: 0n });
    expect(vm.memories.map(({ closed }) => closed)).toEqual([true]);
  });
});

onDevice("a VM takes RAM of 6 GiB, and the slots are its own", ({ vm }) => {
  using ram = mapRam(vm, 6 * GIB);
  const [low, high] = ram.regions;
  const again = (slot: number, guestPhysAddr: bigint): void =>
    vm.setUserMemoryRegion({ slot, guestPhysAddr, memory: ram.regions[0]?.memory as GuestMemory });
  expect(low?.memory.byteLength).toBe(3 * GIB);
  expect(() => again(7, 0n)).toThrow("EEXIST");
  expect(() => again(7, high?.guestPhysAddr ?? 0n)).toThrow("EEXIST");
});

onDevice("a VM that refuses the second slot has no first one either", ({ vm, memory }) => {
  vm.setUserMemoryRegion({ slot: 5, guestPhysAddr: FOUR_GIB, memory });
  expect(() => mapRam(vm, 4 * GIB)).toThrow("EEXIST");
  expect(() => vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory })).not.toThrow();
});
