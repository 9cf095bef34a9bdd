/** Tests of the pages that a guest has written, from a bitmap and a ring of constructed bytes. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StateError } from "../../../../lib/errors.ts";
import { DirtyRing, dirtyAddresses, dirtyPages } from "../../../../lib/kvm/memory/dirty-pages.ts";

const [DIRTY, RESET] = [1, 2];

describe("the pages of a dirty bitmap", () => {
  test.each([
    ["nothing", [], []],
    ["no page", [0, 0, 0, 0, 0, 0, 0, 0], []],
    ["the first page", [1], [0]],
    ["a byte's first and last", [0, 0x81], [8, 15]],
    ["a word's last", [0, 0, 0, 0x80, 1], [31, 32]],
    ["every page of a word", [0xff, 0xff, 0xff, 0xff], Array.from({ length: 32 }, (_, i) => i)],
    ["pages past many that are clean", [...new Array(4096).fill(0), 4], [4096 * 8 + 2]],
  ])("are the numbers of its set bits: %s", (_, bitmap, pages) => {
    expect(Array.from(dirtyPages(Uint8Array.from(bitmap)))).toEqual(pages);
  });

  test("are complete and sorted for any length and any offset in a buffer", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(7), (bitmap, start) => {
        const whole = new Uint8Array(start + bitmap.length + 8).fill(0xff);
        whole.set(bitmap, start);
        const expected = Array.from({ length: bitmap.length * 8 }, (_, page) => page).filter(
          (page) => ((bitmap[page >> 3] ?? 0) >> (page & 7)) & 1,
        );
        const pages = dirtyPages(whole.subarray(start, start + bitmap.length));
        expect(Array.from(pages)).toEqual(expected);
      }),
    );
  });

  test("are read when the iteration starts: the bitmap may then be reused", () => {
    const bitmap = Uint8Array.of(0b101);
    const [pages, addresses] = [dirtyPages(bitmap), dirtyAddresses(bitmap, 0n)];
    bitmap.fill(0);
    expect([Array.from(pages), Array.from(addresses)]).toEqual([
      [0, 2],
      [0n, 0x2000n],
    ]);
  });

  test("have correct guest physical addresses, even above 4 GiB", () => {
    const addresses = dirtyAddresses(Uint8Array.of(0x12, 0x80), 0x1_0000_0000n);
    expect(Array.from(addresses)).toEqual([0x1_0000_1000n, 0x1_0000_4000n, 0x1_0000_f000n]);
  });
});

/** Simulates KVM's side of a ring and its flags, as the kernel's api.rst describes. */
class Kvm {
  readonly buffer: ArrayBuffer;
  readonly #view: DataView;
  #next = 0;
  #reset = 0;

  constructor(size: number) {
    this.buffer = new ArrayBuffer(size * 16);
    this.#view = new DataView(this.buffer);
  }

  get size(): number {
    return this.buffer.byteLength / 16;
  }

  flags(at: number): number {
    return this.#view.getUint32((at % this.size) * 16, true);
  }

  /** Adds a page to the ring if the ring is not full. */
  push(slot: number, offset: bigint): boolean {
    if (this.#next - this.#reset === this.size) return false;
    const at = (this.#next % this.size) * 16;
    this.#view.setUint32(at + 4, slot, true);
    this.#view.setBigUint64(at + 8, offset, true);
    this.#view.setUint32(at, DIRTY, true);
    this.#next += 1;
    return true;
  }

  /** Does what KVM_RESET_DIRTY_RINGS does: releases the harvested entries in order, and returns their number. */
  reset(): number {
    const before = this.#reset;
    while (this.flags(this.#reset) === RESET) {
      this.#view.setUint32((this.#reset % this.size) * 16, 0, true);
      this.#reset += 1;
    }
    return this.#reset - before;
  }
}

describe("a dirty ring", () => {
  test("that is empty yields nothing", () => {
    expect(Array.from(new DirtyRing(new Kvm(4).buffer).harvest())).toEqual([]);
  });

  test("yields the slot and the page of each entry in order, and marks the entry as harvested", () => {
    const kvm = new Kvm(4);
    kvm.push(0x1_0002, 2n ** 51n - 1n);
    kvm.push(0xffff_ffff, 2n ** 64n - 1n);
    const ring = new DirtyRing(kvm.buffer);
    expect([ring.size, Array.from(ring.harvest())]).toEqual([
      4,
      [
        { slot: 0x1_0002, offset: 2n ** 51n - 1n },
        { slot: 0xffff_ffff, offset: 2n ** 64n - 1n },
      ],
    ]);
    expect([0, 1, 2].map((at) => kvm.flags(at))).toEqual([RESET, RESET, 0]);
  });

  test("yields each entry only once, before and after a reset", () => {
    const kvm = new Kvm(4);
    kvm.push(0, 1n);
    const ring = new DirtyRing(kvm.buffer);
    expect(Array.from(ring.harvest())).toHaveLength(1);
    expect(Array.from(ring.harvest())).toEqual([]);
    expect(kvm.reset()).toBe(1);
    expect(Array.from(ring.harvest())).toEqual([]);
  });

  test("that is full yields each entry once, even without a reset", () => {
    const kvm = new Kvm(4);
    for (const page of [0n, 1n, 2n, 3n]) kvm.push(0, page);
    const ring = new DirtyRing(kvm.buffer);
    expect([kvm.push(0, 4n), Array.from(ring.harvest(), ({ offset }) => offset)]).toEqual([
      false,
      [0n, 1n, 2n, 3n],
    ]);
  });

  test("continues at the first entry of the ring after the last entry", () => {
    const kvm = new Kvm(4);
    const ring = new DirtyRing(kvm.buffer);
    const harvests = [
      [0n, 1n, 2n],
      [3n, 4n, 5n],
    ].map((pages) => {
      for (const page of pages) kvm.push(0, page);
      const seen = Array.from(ring.harvest(), ({ offset }) => offset);
      kvm.reset();
      return seen;
    });
    expect(harvests).toEqual([
      [0n, 1n, 2n],
      [3n, 4n, 5n],
    ]);
  });

  test("that was iterated in part continues after the last yielded entry", () => {
    const kvm = new Kvm(4);
    for (const page of [7n, 8n, 9n]) kvm.push(0, page);
    const ring = new DirtyRing(kvm.buffer);
    for (const { offset } of ring.harvest()) if (offset === 8n) break;
    expect([kvm.flags(1), kvm.flags(2)]).toEqual([RESET, DIRTY]);
    expect(Array.from(ring.harvest())).toEqual([{ slot: 0, offset: 9n }]);
  });

  test("returns the number of entries that it yielded", () => {
    const kvm = new Kvm(4);
    kvm.push(0, 1n);
    kvm.push(0, 2n);
    const harvest = new DirtyRing(kvm.buffer).harvest();
    harvest.next();
    harvest.next();
    expect(harvest.next()).toEqual({ done: true, value: 2 });
  });

  test("yields pages that KVM adds during the iteration", () => {
    const kvm = new Kvm(4);
    kvm.push(0, 1n);
    const seen: bigint[] = [];
    for (const { offset } of new DirtyRing(kvm.buffer).harvest()) {
      seen.push(offset);
      if (offset === 1n) kvm.push(0, 2n);
    }
    expect(seen).toEqual([1n, 2n]);
  });

  test("whose vCPU was closed throws ERR_CLOSED", () => {
    const kvm = new Kvm(4);
    const ring = new DirtyRing(kvm.buffer);
    structuredClone(kvm.buffer, { transfer: [kvm.buffer] });
    expect(() => ring.harvest().next()).toThrow(new StateError("ERR_CLOSED", "dirty ring"));
  });

  test.each([0, 8, 17])("cannot have %d bytes", (byteLength) => {
    expect(() => new DirtyRing(new ArrayBuffer(byteLength))).toThrow(
      new RangeError(
        `${byteLength} bytes are not a whole number of dirty ring entries of 16 bytes`,
      ),
    );
  });

  test("yields all entries of KVM in order, for any sequence of additions, iterations and resets", () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("push" as const), page: fc.bigInt({ min: 0n, max: 99n }) }),
      fc.record({ kind: fc.constant("harvest" as const), most: fc.integer({ min: 0, max: 9 }) }),
      fc.record({ kind: fc.constant("reset" as const) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const kvm = new Kvm(8);
        const ring = new DirtyRing(kvm.buffer);
        const [entered, seen]: [bigint[], bigint[]] = [[], []];
        const take = (most: number): void => {
          const harvest = ring.harvest();
          for (let i = 0; i < most; i += 1) {
            const { done, value } = harvest.next();
            if (done === true) return;
            seen.push(value.offset);
          }
        };
        for (const one of steps) {
          if (one.kind === "reset") kvm.reset();
          else if (one.kind === "harvest") take(one.most);
          else if (kvm.push(0, one.page)) entered.push(one.page);
        }
        take(Number.POSITIVE_INFINITY);
        expect(seen).toEqual(entered);
      }),
    );
  });
});
