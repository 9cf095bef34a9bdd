/** Tests of guest physical memory that the host reads and writes. The tests need the addon, but no KVM. */
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { KVM_MEM_READONLY } from "../../../../lib/abi/generated/constants.ts";
import { StateError } from "../../../../lib/errors.ts";
import {
  type AddressSpace,
  AddressSpaces,
  type MemorySlot,
} from "../../../../lib/kvm/memory/address-space.ts";
import { GuestMemory } from "../../../../lib/kvm/memory/guest-memory.ts";

const PAGE = 4096;
const GIB = 2 ** 30;
const SMM = 1 << 16;

function allocate(byteLength: number): GuestMemory {
  const memory = GuestMemory.allocate(byteLength);
  onTestFinished(() => memory.close());
  return memory;
}

/** Creates a slot, with separate memory by default. */
function slot(number: number, guestPhysAddr: bigint, given: Partial<MemorySlot> = {}): MemorySlot {
  const memory = given.memory ?? allocate(PAGE);
  const memorySize = BigInt(memory.byteLength - (given.memoryOffset ?? 0));
  return { slot: number, flags: 0, guestPhysAddr, memorySize, memoryOffset: 0, ...given, memory };
}

/** Creates address space 0 of a VM with these slots. */
function spaceWith(...slots: readonly MemorySlot[]): AddressSpace {
  const spaces = new AddressSpaces();
  for (const one of slots) spaces.set(one);
  return spaces.space(0);
}

const bytes = (...values: readonly number[]): Uint8Array => Uint8Array.from(values);
const nothingAt = (address: string): RangeError =>
  new RangeError(`no memory at guest physical address ${address}`);

describe("guest physical memory is read and written", () => {
  test("at the address of a slot", () => {
    const memory = allocate(2 * PAGE);
    const space = spaceWith(slot(3, 0x8000n, { memory }));
    space.write(0x9001n, bytes(7, 8));
    expect([memory.read(PAGE + 1, 2), space.read(0x9000n, 4)]).toEqual([
      bytes(7, 8),
      bytes(0, 7, 8, 0),
    ]);
  });

  test("beginning at the memoryOffset of the slot", () => {
    const memory = allocate(3 * PAGE);
    const space = spaceWith(slot(0, 0n, { memory, memoryOffset: PAGE }));
    space.write(0x1000n, bytes(5));
    expect(memory.read(2 * PAGE, 1)).toEqual(bytes(5));
  });

  test("across adjacent slots, in any order of their creation", () => {
    const slots = [slot(1, 0x2000n), slot(9, 0x0n), slot(4, 0x1000n)];
    const space = spaceWith(...slots);
    const data = Uint8Array.from({ length: PAGE + 4 }, (_, at) => 1 + (at % 251));
    space.write(0xffen, data);
    expect(space.read(0xffen, data.length)).toEqual(data);
    const written = slots.map(({ memory }) => memory.bytes.filter((byte) => byte !== 0).length);
    expect(written).toEqual([2, 2, PAGE]);
  });

  test("above 4 GiB", () => {
    const memory = allocate(6 * GIB);
    const space = spaceWith(slot(0, 4n * 2n ** 30n, { memory }));
    space.write(9n * 2n ** 30n - 2n, bytes(1, 2, 3, 4));
    expect(memory.read(5 * GIB - 2, 4)).toEqual(bytes(1, 2, 3, 4));
  });

  test("anywhere if the length is 0", () => {
    const space = spaceWith();
    space.write(0x5000n, bytes());
    expect(space.read(0x5000n, 0)).toEqual(bytes());
  });

  test("without sharing the returned bytes", () => {
    const space = spaceWith(slot(0, 0n));
    const copy = space.read(0n, 2);
    space.write(0n, bytes(1, 1));
    expect(copy).toEqual(bytes(0, 0));
  });

  test("even if it is read-only for the guest", () => {
    const space = spaceWith(slot(0, 0n, { flags: KVM_MEM_READONLY }));
    space.write(8n, bytes(9));
    expect(space.read(8n, 1)).toEqual(bytes(9));
  });
});

describe("an access to a guest physical address without memory", () => {
  test.each([
    ["below", 0xfffn, 2, "0xfff"],
    ["behind", 0x2000n, 1, "0x2000"],
    ["over the end", 0x1ffen, 4, "0x2000"],
    ["before address 0", -1n, 1, "-0x1"],
    ["far away", 2n ** 64n - 1n, 1, "0xffffffffffffffff"],
  ])("is rejected with the first address without memory: %s", (_, gpa, length, address) => {
    const space = spaceWith(slot(0, 0x1000n));
    expect(() => space.read(gpa, length)).toThrow(nothingAt(address));
    expect(() => space.write(gpa, new Uint8Array(length))).toThrow(nothingAt(address));
    expect(() => space.window(gpa, length)).toThrow(nothingAt(address));
  });

  test("writes nothing, not even below the address without memory", () => {
    const space = spaceWith(slot(0, 0n), slot(1, 0x1000n), slot(2, 0x3000n));
    expect(() => space.write(0xffen, new Uint8Array(0x3000).fill(1))).toThrow(nothingAt("0x2000"));
    expect(space.read(0xffen, 4)).toEqual(bytes(0, 0, 0, 0));
  });

  test.each([-1, 0.5, Number.NaN, 2 ** 53])("is rejected if its length is %d", (length) => {
    const wrong = new RangeError(`${length} is not a number of bytes`);
    const space = spaceWith(slot(0, 0n));
    expect(() => space.read(0n, length)).toThrow(wrong);
    expect(() => space.window(0n, length)).toThrow(wrong);
  });

  test("is rejected before a buffer of its length is allocated", () => {
    expect(() => spaceWith(slot(0, 0n)).read(0n, 2 ** 53 - 1)).toThrow(nothingAt("0x1000"));
  });
});

describe("a window of guest physical memory", () => {
  test("shows later changes of the memory", () => {
    const memory = allocate(2 * PAGE);
    const space = spaceWith(slot(0, 0x8000n, { memory }));
    const window = space.window(0x9000n, 16);
    memory.write(PAGE + 3, bytes(5));
    window[0] = 6;
    expect(space.read(0x9000n, 4)).toEqual(bytes(6, 0, 0, 5));
  });

  test("must be inside one slot", () => {
    const space = spaceWith(slot(0, 0n), slot(1, 0x1000n));
    expect(() => space.window(0xff0n, 32)).toThrow(
      new RangeError("32 bytes at 0xff0: another slot begins at 0x1000"),
    );
  });

  test("may be empty", () => {
    expect(spaceWith().window(0n, 0)).toHaveLength(0);
  });
});

describe("the slots of a VM", () => {
  test("are listed in the order of their addresses", () => {
    const slots = [slot(0, 0x3000n), slot(1, 0x1000n), slot(2, 0x2000n)] as const;
    expect(spaceWith(...slots).slots()).toEqual([slots[1], slots[2], slots[0]]);
  });

  test("are replaced by a slot with the same number and another address or other flags", () => {
    const before = slot(0, 0x1000n);
    const after = { ...before, guestPhysAddr: 0x5000n, flags: 1 };
    const space = spaceWith(before, after);
    expect([space.slots(), space.at(0x1000n)]).toEqual([[after], undefined]);
  });

  test("that were deleted have no memory", () => {
    const spaces = new AddressSpaces();
    const space = spaces.space(0);
    spaces.set(slot(0, 0n));
    spaces.delete(0);
    spaces.delete(7);
    expect(space.slots()).toEqual([]);
    expect(() => space.read(0n, 1)).toThrow(nothingAt("0x0"));
  });

  test("are not visible in another address space", () => {
    const spaces = new AddressSpaces();
    const [normal, smm] = [slot(2, 0n), slot(SMM | 2, 0n)];
    spaces.set(normal);
    spaces.set(smm);
    spaces.space(1).write(0n, bytes(7));
    expect(normal.memory.read(0, 1)).toEqual(bytes(0));
    expect(smm.memory.read(0, 1)).toEqual(bytes(7));
    spaces.delete(2);
    expect([spaces.space(0).slots(), spaces.space(1).slots()]).toEqual([[], [smm]]);
    expect(() => spaces.space(1).read(0x1000n, 1)).toThrow(
      new RangeError("no memory at guest physical address 0x1000 in address space 1"),
    );
  });

  test("are found by any address in them, and by no other address", () => {
    const [one, two] = [slot(0, 0x1000n), slot(1, 0x4000n)];
    const space = spaceWith(one, two);
    const numbers = [0xfffn, 0x1000n, 0x1fffn, 0x2000n, 0x4fffn, 0x5000n].map(
      (gpa) => space.at(gpa)?.slot.slot,
    );
    expect(numbers).toEqual([undefined, 0, 0, undefined, 1, undefined]);
    expect(space.at(0x4321n)).toEqual({ slot: two, offset: 0x321 });
  });

  test("whose memory was closed throw an error, and nothing is written", () => {
    const [open, closed] = [slot(0, 0n), slot(1, 0x1000n)];
    const space = spaceWith(open, closed);
    closed.memory.close();
    const error = new StateError("ERR_CLOSED", "guest memory");
    expect(() => space.read(0xfffn, 2)).toThrow(error);
    expect(() => space.write(0xfffn, bytes(1, 1))).toThrow(error);
    expect(open.memory.read(0xfff, 1)).toEqual(bytes(0));
  });
});

/**
 * Arbitrary ranges of pages that do not overlap: each is the number of pages without memory, then the number of pages
 * with memory.
 */
const stretches = fc.array(
  fc.tuple(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 1, max: 2 })),
  {
    maxLength: 5,
  },
);

test("random writes to guest physical memory have the same effect as writes to one array, and an address without memory causes a RangeError", () => {
  fc.assert(
    fc.property(
      stretches,
      fc.bigInt({ min: 0n, max: 20n * 4096n }),
      fc.uint8Array({ minLength: 1, maxLength: 3 * PAGE }),
      (parts, gpa, data) => {
        const spaces = new AddressSpaces();
        const there = new Uint8Array(40);
        let page = 0;
        const memories = parts.map(([gap, pages], number) => {
          page += gap;
          const memory = GuestMemory.allocate(pages * PAGE);
          spaces.set(slot(number, BigInt(page * PAGE), { memory }));
          there.fill(1, page, page + pages);
          page += pages;
          return memory;
        });
        const space = spaces.space(0);
        const [first, last] = [gpa, gpa + BigInt(data.length) - 1n].map((a) => Number(a / 4096n));
        const isThere = there.subarray(first, (last ?? 0) + 1).every((one) => one === 1);
        const seen = attempt(() => {
          space.write(gpa, data);
          return space.read(gpa, data.length);
        });
        for (const memory of memories) memory.close();
        expect(seen).toEqual(isThere ? data : RangeError);
      },
    ),
  );
});

/** Returns the result of a call, or the class of the error that the call throws. */
function attempt(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    return (error as Error).constructor;
  }
}
