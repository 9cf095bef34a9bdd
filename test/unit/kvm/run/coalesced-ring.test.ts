/** Tests of reading a coalesced ring of constructed bytes. devices.test.ts tests a ring that KVM writes. */
import { describe, expect, test } from "vitest";
import { CoalescedMmio } from "../../../../lib/abi/generated/structs.ts";
import { encode } from "../../../../lib/abi/struct.ts";
import { CoalescedRing, coalescedRing } from "../../../../lib/kvm/run/coalesced-ring.ts";

const PAGE = 4096;
const KVM_COALESCED_MMIO_MAX = 170;
type Taken = readonly [physAddr: number, low: number, high: number, len: number, isPio: boolean];

/** A coalesced ring and the producer of its writes; unused slots contain stale bytes. */
class Owner {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly ring: CoalescedRing;
  readonly #view: DataView;

  constructor(capacity: number, start = 0, space = 8 + capacity * 24) {
    this.bytes = new Uint8Array(new ArrayBuffer(64 + space), 16, space).fill(0xee);
    this.#view = new DataView(this.bytes.buffer, this.bytes.byteOffset);
    this.set({ first: start, last: start });
    this.ring = new CoalescedRing(this.bytes);
  }

  set({ first, last }: { first?: number; last?: number }): void {
    if (first !== undefined) this.#view.setUint32(0, first, true);
    if (last !== undefined) this.#view.setUint32(4, last, true);
  }

  get indices(): readonly [first: number, last: number] {
    return [this.#view.getUint32(0, true), this.#view.getUint32(4, true)];
  }

  /** Adds a write as coalesced_mmio_write() in KVM does, which copies only `data`. */
  add(physAddr: bigint, data: readonly number[], pio = 0): this {
    const last = this.indices[1];
    const header = encode(CoalescedMmio, { physAddr, len: data.length, pio }).subarray(0, 16);
    this.bytes.set(header, 8 + last * 24);
    this.bytes.set(data, 8 + last * 24 + 16);
    this.set({ last: (last + 1) % this.ring.capacity });
    return this;
  }

  /** Adds writes of one byte each, to consecutive addresses from 0x1000 on. */
  addMany(count: number): this {
    for (let i = 0; i < count; i += 1) this.add(0x1000n + BigInt(i), [i & 0xff]);
    return this;
  }

  /** Returns the writes that drain() passes to its function. */
  drained(): readonly Taken[] {
    const taken: Taken[] = [];
    const count = this.ring.drain((...write) => taken.push(write));
    expect(count).toBe(taken.length);
    return taken;
  }
}

const addresses = (taken: readonly Taken[]): readonly number[] => taken.map(([addr]) => addr);

describe("the coalesced ring", () => {
  test("has 170 slots in the page of KVM", () => {
    expect(new CoalescedRing(new Uint8Array(PAGE)).capacity).toBe(KVM_COALESCED_MMIO_MAX);
  });

  test("has as many slots as fit into its bytes, and does not use the bytes after them", () => {
    const owner = new Owner(4, 3, 8 + 4 * 24 + 23);
    expect(owner.ring.capacity).toBe(4);
    owner.add(1n, [1]).add(2n, [2]);
    expect(addresses(owner.drained())).toEqual([1, 2]);
    expect(owner.indices).toEqual([1, 1]);
  });

  test("of a vCPU is the third page of the vCPU's mapping", () => {
    const run = new Uint8Array(3 * PAGE);
    run.set(encode(CoalescedMmio, { physAddr: 0x80n, len: 1, pio: 1 }), 2 * PAGE + 8);
    run[2 * PAGE + 4] = 1;
    expect(Array.from(coalescedRing(run))).toEqual([
      { physAddr: 0x80n, isPio: true, data: Uint8Array.of(0) },
    ]);
  });

  test.each([0, 8, 8 + 24, 8 + 2 * 24 - 1])("cannot have %i bytes", (length) => {
    expect(() => new CoalescedRing(new Uint8Array(length))).toThrow(
      new RangeError(`no coalesced ring has ${length} bytes`),
    );
  });

  test("must be aligned", () => {
    expect(() => new CoalescedRing(new Uint8Array(PAGE + 2).subarray(2))).toThrow(RangeError);
  });
});

describe("drain() of a coalesced ring calls its function with", () => {
  test("no write if the ring is empty", () => {
    expect(new Owner(170).drained()).toEqual([]);
  });

  test("the address, the bytes, the length and the kind of each write, in order", () => {
    const owner = new Owner(170)
      .add(0xc000_0000n, [0x5a])
      .add(0x80n, [0x34, 0x12], 1)
      .add(0xf_ffff_ffff_fff8n, [1, 2, 3, 4, 5, 6, 7, 0x88]);
    expect(owner.drained()).toEqual([
      [0xc000_0000, 0x5a, 0, 1, false],
      [0x80, 0x1234, 0, 2, true],
      [0xf_ffff_ffff_fff8, 0x0403_0201, 0x8807_0605, 8, false],
    ]);
  });

  test.each([
    [1, 0x0000_00f1, 0],
    [2, 0x0000_f2f1, 0],
    [3, 0x00f3_f2f1, 0],
    [4, 0xf4f3_f2f1, 0],
    [5, 0xf4f3_f2f1, 0x0000_00f5],
    [6, 0xf4f3_f2f1, 0x0000_f6f5],
    [7, 0xf4f3_f2f1, 0x00f7_f6f5],
    [8, 0xf4f3_f2f1, 0xf8f7_f6f5],
  ])("only the %i bytes that the guest wrote", (len, low, high) => {
    const bytes = [0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8].slice(0, len);
    expect(new Owner(170).add(1n, bytes).drained()).toEqual([[1, low, high, len, false]]);
  });

  test("8 bytes if the length in the ring is larger", () => {
    const owner = new Owner(170).add(1n, [1, 0, 0, 0, 2, 0, 0, 0]);
    owner.bytes.set([0xff, 0xff, 0xff, 0xff], 8 + 8);
    expect(owner.drained()).toEqual([[1, 1, 2, 8, false]]);
    owner.set({ first: 0 });
    expect(Array.from(owner.ring)[0]?.data).toEqual(Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0));
  });

  test("all writes in order, even if the writes continue in the first slot after the last slot", () => {
    const owner = new Owner(5, 3).addMany(4);
    expect(owner.indices).toEqual([3, 2]);
    expect(addresses(owner.drained())).toEqual([0x1000, 0x1001, 0x1002, 0x1003]);
    expect(owner.indices).toEqual([2, 2]);
  });

  test.each([2, 170, 1000])("all writes of a full ring of %i slots, each time", (capacity) => {
    const owner = new Owner(capacity);
    const full = Array.from({ length: capacity - 1 }, (_, i) => 0x1000 + i);
    for (let i = 0; i < 5; i += 1) {
      expect(addresses(owner.addMany(capacity - 1).drained())).toEqual(full);
    }
  });

  test("a write that drain() has already removed from the ring", () => {
    const owner = new Owner(170).addMany(2);
    const firsts: number[] = [];
    owner.ring.drain(() => firsts.push(owner.indices[0]));
    expect(firsts).toEqual([1, 2]);
  });

  test("the writes that were in the ring when drain() was called, even if more writes are added", () => {
    const owner = new Owner(4).addMany(2);
    const added: number[] = [];
    const count = owner.ring.drain((physAddr) => {
      added.push(physAddr);
      owner.add(0x2000n, [1]);
    });
    expect([count, added]).toEqual([2, [0x1000, 0x1001]]);
    expect(addresses(owner.drained())).toEqual([0x2000, 0x2000]);
  });
});

describe("if the function of drain() throws, a coalesced ring", () => {
  test("loses only the write that the function received", () => {
    const owner = new Owner(170).addMany(3);
    const taken: number[] = [];
    const thrown = new Error("not this one");
    const drain = (): number =>
      owner.ring.drain((physAddr) => {
        taken.push(physAddr);
        if (physAddr === 0x1001) throw thrown;
      });
    expect(drain).toThrow(thrown);
    expect(drain()).toBe(1);
    expect(taken).toEqual([0x1000, 0x1001, 0x1002]);
  });

  test("keeps the writes that continue in the first slot", () => {
    const owner = new Owner(4, 3).addMany(3);
    const thrown = new Error("not now");
    expect(() =>
      owner.ring.drain(() => {
        throw thrown;
      }),
    ).toThrow(thrown);
    expect(owner.indices).toEqual([0, 2]);
    expect(addresses(owner.drained())).toEqual([0x1001, 0x1002]);
  });
});

test("a function that drains a coalesced ring may call drain() itself, for the remaining writes", () => {
  const owner = new Owner(170).addMany(4);
  const taken: string[] = [];
  const count = owner.ring.drain((outer) => {
    taken.push(`outer ${outer}`);
    owner.ring.drain((inner) => taken.push(`inner ${inner}`));
  });
  expect(count).toBe(1);
  expect(taken).toEqual(["outer 4096", "inner 4097", "inner 4098", "inner 4099"]);
});

describe("invalid indices in a coalesced ring", () => {
  const WRONG = [4, 5, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

  test.each(WRONG)("make the ring empty if the first index is %i", (first) => {
    const owner = new Owner(4).addMany(2);
    owner.set({ first });
    expect([owner.drained(), Array.from(owner.ring)]).toEqual([[], []]);
    expect(owner.indices).toEqual([first, 2]);
  });

  test.each(WRONG)("make the ring empty if the last index is %i", (last) => {
    const owner = new Owner(4).addMany(2);
    owner.set({ last });
    expect([owner.drained(), Array.from(owner.ring)]).toEqual([[], []]);
    expect(owner.indices).toEqual([0, last]);
  });
});

describe("a coalesced ring whose buffer is detached", () => {
  const detach = ({ bytes }: Owner): void => {
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  };

  test("is empty", () => {
    const owner = new Owner(170).addMany(2);
    detach(owner);
    expect([owner.drained(), Array.from(owner.ring)]).toEqual([[], []]);
  });

  test("passes no further write to the function of drain()", () => {
    const owner = new Owner(170).addMany(2);
    expect(owner.ring.drain(() => detach(owner))).toBe(1);
  });

  test("yields no further write in an iteration that has begun", () => {
    const owner = new Owner(170).addMany(2);
    const writes = owner.ring.writes();
    expect(writes.next().value?.physAddr).toBe(0x1000n);
    detach(owner);
    expect(writes.next().done).toBe(true);
  });
});

describe("the iterator of a coalesced ring", () => {
  test("yields copies of the writes", () => {
    const owner = new Owner(4, 3).add(0xffff_ffff_ffff_fff0n, [1, 2, 3]).add(0x80n, [7], 1);
    const expected = [
      { physAddr: 0xffff_ffff_ffff_fff0n, isPio: false, data: Uint8Array.of(1, 2, 3) },
      { physAddr: 0x80n, isPio: true, data: Uint8Array.of(7) },
    ];
    const writes = Array.from(owner.ring);
    owner.bytes.fill(0);
    expect(writes).toEqual(expected);
  });

  test("leaves the writes that it has not yielded in the ring", () => {
    const owner = new Owner(170).addMany(3);
    for (const { physAddr } of owner.ring.writes()) if (physAddr === 0x1001n) break;
    expect(addresses(owner.drained())).toEqual([0x1002]);
  });

  test("continues with writes that are added during the iteration", () => {
    const owner = new Owner(4).addMany(1);
    const writes = owner.ring.writes();
    expect(writes.next().value?.physAddr).toBe(0x1000n);
    owner.add(0x2000n, [1]);
    expect(writes.next().value?.physAddr).toBe(0x2000n);
    expect(writes.next().done).toBe(true);
  });
});
