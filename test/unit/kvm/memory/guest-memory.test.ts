/** Tests of guest memory: its bytes, its limits, and closing it. The tests need the addon, but no KVM. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, onTestFinished, test } from "vitest";
import { KvmError, StateError } from "../../../../lib/errors.ts";
import { GuestMemory } from "../../../../lib/kvm/memory/guest-memory.ts";

const GIB = 2 ** 30;

function allocate(byteLength: number): GuestMemory {
  const memory = GuestMemory.allocate(byteLength);
  onTestFinished(() => memory.close());
  return memory;
}

/**
 * Transfers a buffer with ArrayBuffer.prototype.transfer. Node 20 has this function only with a flag of V8, in a new
 * context.
 */
function move(buffer: ArrayBuffer): void {
  setFlagsFromString("--harmony-rab-gsab-transfer");
  const transfer: unknown = runInNewContext("ArrayBuffer.prototype.transfer");
  Reflect.apply(transfer as () => void, buffer, []);
}

describe("allocated guest memory", () => {
  test("is filled with zeros", () => {
    const memory = allocate(8192);
    expect(memory.byteLength).toBe(8192);
    expect(memory.bytes).toEqual(new Uint8Array(8192));
  });

  test("of 0 bytes is rejected with the errno of mmap", () => {
    expect(() => GuestMemory.allocate(0)).toThrow(
      new KvmError({
        call: "mmap",
        object: "guest memory",
        errno: 22,
        args: { byteLength: 0 },
        reason: "length 0: guest memory has at least a page",
      }),
    );
  });

  test("larger than the address space is rejected with the errno of mmap", () => {
    expect(() => GuestMemory.allocate(2 ** 52)).toThrow("mmap (guest memory): ENOMEM");
  });

  test.each([-1, 0.5, Number.NaN, 2 ** 53, Number.POSITIVE_INFINITY])(
    "of %d bytes causes a TypeError",
    (byteLength) => {
      expect(() => GuestMemory.allocate(byteLength)).toThrow(TypeError);
    },
  );
});

describe("the window over all of a guest memory", () => {
  test("shows later changes, and is the same object in each call", () => {
    const memory = allocate(4096);
    memory.bytes[7] = 0x5a;
    expect(memory.read(7, 1)).toEqual(Uint8Array.of(0x5a));
    expect(memory.bytes).toBe(memory.bytes);
  });

  test("does not exist above 1 GiB, where read() and write() still work", () => {
    const memory = allocate(GIB + 4096);
    expect(() => memory.bytes).toThrow(
      new RangeError("1073745920 bytes do not fit one array; use window(), read() and write()"),
    );
    memory.write(GIB + 4095, Uint8Array.of(9));
    expect(memory.read(GIB + 4095, 1)).toEqual(Uint8Array.of(9));
  });
});

describe("a window over a part of guest memory", () => {
  test("shows later changes", () => {
    const memory = allocate(8192);
    const window = memory.window(4000, 200);
    memory.write(4100, Uint8Array.of(7));
    window[0] = 9;
    expect([window.length, window[100], memory.bytes[4000]]).toEqual([200, 7, 9]);
  });

  test("shows memory above 4 GiB", () => {
    const memory = allocate(6 * GIB);
    const window = memory.window(5 * GIB + 12, 8);
    memory.write(5 * GIB + 12, Uint8Array.of(1, 2, 3));
    expect(window).toEqual(Uint8Array.of(1, 2, 3, 0, 0, 0, 0, 0));
  });

  test("shows later changes across a multiple of 1 GiB", () => {
    const memory = allocate(6 * GIB);
    const window = memory.window(5 * GIB - 2, 4);
    memory.write(5 * GIB - 2, Uint8Array.of(1, 2, 3, 4));
    window[3] = 9;
    expect([window, memory.read(5 * GIB + 1, 1)]).toEqual([
      Uint8Array.of(1, 2, 3, 9),
      Uint8Array.of(9),
    ]);
  });

  test("may have up to 1 GiB", () => {
    const memory = allocate(6 * GIB);
    expect(memory.window(4 * GIB + 4096, GIB)).toHaveLength(GIB);
    expect(() => memory.window(0, GIB + 1)).toThrow(
      new RangeError("1073741825 bytes do not fit one array; a window shows up to 1 GiB"),
    );
  });

  test("may be empty, even at the end of the memory", () => {
    expect(allocate(4096).window(4096, 0)).toHaveLength(0);
  });

  test.each([
    [-1, 1],
    [0, 4097],
    [4096, 1],
    [0.5, 1],
    [0, Number.NaN],
  ])("at offset %d with %d bytes causes a RangeError", (offset, length) => {
    expect(() => allocate(4096).window(offset, length)).toThrow(
      new RangeError(`${length} bytes at ${offset} are not inside guest memory of 4096 bytes`),
    );
  });
});

describe("guest memory whose ArrayBuffer was transferred", () => {
  test("is still read, written and shown", () => {
    const memory = allocate(8192);
    memory.write(4096, Uint8Array.of(1));
    const { bytes } = memory;
    move(bytes.buffer as ArrayBuffer);
    expect(bytes).toHaveLength(0);
    memory.write(4097, Uint8Array.of(2));
    expect(memory.read(4096, 2)).toEqual(Uint8Array.of(1, 2));
    expect(memory.bytes).toHaveLength(8192);
  });
});

describe("read() and write() of guest memory", () => {
  test("copy the bytes", () => {
    const memory = allocate(4096);
    const bytes = Uint8Array.of(1, 2, 3);
    memory.write(4093, bytes);
    const copy = memory.read(4092, 4);
    memory.write(4093, new Uint8Array(3));
    expect([bytes, copy]).toEqual([Uint8Array.of(1, 2, 3), Uint8Array.of(0, 1, 2, 3)]);
  });

  test("continue across a multiple of 1 GiB", () => {
    const memory = allocate(2 * GIB + 4096);
    const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    memory.write(GIB - 3, bytes);
    memory.write(2 * GIB - 5, bytes);
    expect([memory.read(GIB - 3, 8), memory.read(2 * GIB - 5, 8)]).toEqual([bytes, bytes]);
  });

  test("may have a length of 0, even at the end of the memory", () => {
    const memory = allocate(4096);
    memory.write(4096, new Uint8Array(0));
    expect(memory.read(4096, 0)).toEqual(new Uint8Array(0));
  });

  test.each([
    [-1, 1],
    [0, 4097],
    [4096, 1],
    [0.5, 1],
    [0, Number.NaN],
    [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  ])("at offset %d with %d bytes throw a RangeError", (offset, length) => {
    const memory = allocate(4096);
    expect(() => memory.read(offset, length)).toThrow(
      new RangeError(`${length} bytes at ${offset} are not inside guest memory of 4096 bytes`),
    );
  });

  test("change nothing if a part is outside of the memory", () => {
    const memory = allocate(4096);
    expect(() => memory.write(4094, Uint8Array.of(1, 2, 3))).toThrow(RangeError);
    expect(memory.read(4094, 2)).toEqual(Uint8Array.of(0, 0));
  });
});

describe("close() of guest memory", () => {
  test("detaches its windows", () => {
    const memory = allocate(4096);
    const { bytes } = memory;
    memory.close();
    expect([bytes.length, memory.closed]).toEqual([0, true]);
  });

  test("may be called twice", () => {
    const memory = allocate(4096);
    memory.close();
    expect(() => memory.close()).not.toThrow();
  });

  test("is called at the end of a using block", () => {
    const kept = (() => {
      using memory = GuestMemory.allocate(4096);
      return memory;
    })();
    expect(kept.closed).toBe(true);
  });

  test.each([
    ["bytes", (memory: GuestMemory) => memory.bytes],
    ["read", (memory: GuestMemory) => memory.read(0, 1)],
    ["write", (memory: GuestMemory) => memory.write(0, Uint8Array.of(1))],
    ["window", (memory: GuestMemory) => memory.window(0, 1)],
    ["isDamaged", (memory: GuestMemory) => memory.isDamaged],
  ])("makes %s throw ERR_CLOSED", (_, use) => {
    const memory = allocate(4096);
    memory.close();
    expect(() => use(memory)).toThrow(new StateError("ERR_CLOSED", "guest memory"));
  });
});
