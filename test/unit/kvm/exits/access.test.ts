/** Tests of exits for ports, addresses without memory, and MSRs: their fields, and the values that a reply writes. */
import { describe, expect, test } from "vitest";
import * as kvm from "../../../../lib/abi/generated/constants.ts";
import { Run } from "../../../../lib/abi/generated/structs.ts";
import { offsetOf, type StructInput } from "../../../../lib/abi/struct.ts";
import type {
  IoInExit,
  IoOutExit,
  MmioReadExit,
  RdmsrExit,
  WrmsrExit,
} from "../../../../lib/kvm/exits/access.ts";
import { decode, decoded, MAPPED, mapped, UNION, wordAt } from "../kvm-run.ts";

const PORT_DATA = 4096;
const MMIO_DATA = offsetOf(Run, "mmio.data");
const MSR_ERROR = offsetOf(Run, "msr.error");
const OLD = 0xee;

/** Creates a port exit whose data page begins with these bytes. */
function port(io: StructInput<Run["io"]>, data: readonly number[] = []): Uint8Array {
  const run = mapped({ exitReason: kvm.KVM_EXIT_IO, io: { dataOffset: 4096n, ...io } });
  run.set(data, PORT_DATA);
  return run;
}

function mmioRead(len: number): Uint8Array {
  const run = mapped({ exitReason: kvm.KVM_EXIT_MMIO, mmio: { physAddr: 0xd000_0000n, len } });
  run.fill(OLD, MMIO_DATA, MMIO_DATA + 8);
  return run;
}

describe("the exit of a guest's write to a port", () => {
  const writes: readonly (readonly [number, readonly number[], readonly number[]])[] = [
    [1, [0xab], [0xab]],
    [1, [1, 2, 0xff], [1, 2, 0xff]],
    [2, [0xcd, 0xab], [0xabcd]],
    [2, [1, 0, 0xff, 0xff], [1, 0xffff]],
    [4, [0, 0, 0, 0x80], [0x8000_0000]],
    [4, [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0], [1, 0xffff_ffff, 2]],
  ];

  test.each(writes)(
    "of size %i contains every element of %j as an unsigned number",
    (size, bytes, values) => {
      const io = { direction: kvm.KVM_EXIT_IO_OUT, size, port: 0x3f8, count: values.length };
      expect(decoded(port(io, bytes))).toStrictEqual({
        kind: "io",
        direction: "out",
        port: 0x3f8,
        size,
        count: values.length,
        data: Uint8Array.from(bytes),
        values,
      });
    },
  );

  test("contains a copy of the data, which later exits do not change", () => {
    const run = port({ direction: kvm.KVM_EXIT_IO_OUT, size: 1, count: 2 }, [1, 2]);
    const exit = decoded(run) as IoOutExit;
    run.fill(0);
    expect(exit.data).toEqual(Uint8Array.of(1, 2));
  });

  test("may contain a whole page of data", () => {
    const io = { direction: kvm.KVM_EXIT_IO_OUT, size: 4, count: 1024 };
    expect((decoded(port(io)) as IoOutExit).values).toHaveLength(1024);
  });
});

describe("the exit of a guest's read of a port", () => {
  const asked = (size: number, count: number): { run: Uint8Array; exit: IoInExit } => {
    const old = Array.from({ length: size * count + 1 }, () => OLD);
    const run = port({ direction: kvm.KVM_EXIT_IO_IN, size, port: 0x60, count }, old);
    return { run, exit: decoded(run) as IoInExit };
  };
  const answer = (run: Uint8Array, length: number): readonly number[] =>
    Array.from(run.subarray(PORT_DATA, PORT_DATA + length));

  test("contains the port, the size and the count that the guest requested", () => {
    const { reply, ...rest } = asked(2, 3).exit;
    expect(rest).toEqual({ kind: "io", direction: "in", port: 0x60, size: 2, count: 3 });
    expect(reply).toBeTypeOf("function");
  });

  test("returns zeros if there is no reply, and no data of the previous exit", () => {
    expect(answer(asked(2, 2).run, 5)).toEqual([0, 0, 0, 0, OLD]);
  });

  test.each([
    [1, [0xab], [0xab, OLD]],
    [1, [1, 255], [1, 255, OLD]],
    [2, [0xabcd, 1], [0xcd, 0xab, 1, 0, OLD]],
    [2, [0xffff], [255, 255, OLD]],
    [4, [0xffff_ffff, 0x8000_0000], [255, 255, 255, 255, 0, 0, 0, 0x80, OLD]],
  ])("of size %i accepts the reply %j", (size, values, bytes) => {
    const { run, exit } = asked(size, values.length);
    exit.reply(values);
    expect(answer(run, bytes.length)).toEqual(bytes);
  });

  test.each([
    [1, [], "port 96: 2 values are read, got 0"],
    [1, [1, 2, 3], "port 96: 2 values are read, got 3"],
    [1, [0, 256], "port 96: 256 does not fit 8 bits"],
    [2, [0x1_0000, 0], "port 96: 65536 does not fit 16 bits"],
    [4, [0, 2 ** 32], "port 96: 4294967296 does not fit 32 bits"],
    [4, [-1, 0], "port 96: -1 does not fit 32 bits"],
    [4, [0.5, 0], "port 96: 0.5 does not fit 32 bits"],
    [1, [Number.NaN, 0], "port 96: NaN does not fit 8 bits"],
  ])("of size %i rejects the reply %j, and then accepts another reply", (size, values, message) => {
    const { run, exit } = asked(size, 2);
    expect(() => exit.reply(values)).toThrow(new RangeError(message));
    expect(answer(run, 2 * size)).toEqual(Array(2 * size).fill(0));
    exit.reply([1, 1]);
    expect(run[PORT_DATA]).toBe(1);
  });
});

describe("the reply to a read of one element", () => {
  const asked = (size: number, count = 1): { run: Uint8Array; exit: IoInExit } => {
    const run = port({ direction: kvm.KVM_EXIT_IO_IN, size, port: 0x60, count }, [0, 0, 0, 0]);
    return { run, exit: decoded(run) as IoInExit };
  };

  test("may be a plain number", () => {
    const { run, exit } = asked(2);
    exit.reply(0xabcd);
    expect(Array.from(run.subarray(PORT_DATA, PORT_DATA + 2))).toEqual([0xcd, 0xab]);
  });

  test.each<[value: unknown, message: string]>([
    ["5", 'port 96: expected a number, or an array of one number, got "5"'],
    [null, "port 96: expected a number, or an array of one number, got null"],
    [5n, "port 96: expected a number, or an array of one number, got 5n"],
    [{ length: 1 }, "port 96: expected a number, or an array of one number, got an object"],
    [["5"], 'port 96: expected numbers, got "5"'],
  ])("cannot be a value of another type (%#)", (value, message) => {
    expect(() => asked(1).exit.reply(value as number)).toThrow(new TypeError(message));
  });

  test("cannot be a plain number if the guest reads two elements", () => {
    expect(() => asked(1, 2).exit.reply(5)).toThrow(
      new TypeError("port 96: expected an array of 2 numbers, got 5"),
    );
  });
});

describe("a kvm_run that no correct kernel writes", () => {
  test.each([
    ["no size", { size: 0 }],
    ["a size of 3", { size: 3, count: 2 }],
    ["a size of 8", { size: 8 }],
    ["a count beyond the mapping", { count: MAPPED - PORT_DATA + 1 }],
    ["the largest count", { size: 4, count: 0xffff_ffff }],
    ["an offset beyond the mapping", { dataOffset: BigInt(MAPPED) }],
    ["an offset beyond 32 bits", { dataOffset: 2n ** 32n }],
    ["the largest offset", { dataOffset: 2n ** 64n - 1n }],
  ])('with an I/O of %s becomes an "unknown" exit', (_, wrong) => {
    for (const direction of [kvm.KVM_EXIT_IO_IN, kvm.KVM_EXIT_IO_OUT]) {
      const run = port({ direction, size: 1, count: 1, ...wrong }, [OLD]);
      const bytes = run.slice(UNION, UNION + 256);
      expect(decoded(run)).toEqual({ kind: "unknown", reason: 2, bytes });
      expect(run[PORT_DATA]).toBe(OLD);
    }
  });

  test.each([9, 0xffff_ffff])(
    "with an MMIO access of %i bytes becomes an exit with at most 8 bytes",
    (len) => {
      const mmio = { len, isWrite: 1 };
      expect(decode({ exitReason: kvm.KVM_EXIT_MMIO, mmio })).toMatchObject({
        data: { length: 8 },
      });
      expect(decoded(mmioRead(len))).toMatchObject({ len: 8 });
    },
  );
});

test("the exit of an MMIO write contains as many bytes as the guest wrote", () => {
  const data = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  const mmio = { physAddr: 0xffff_ffff_ffff_f000n, data, len: 3, isWrite: 1 };
  expect(decode({ exitReason: kvm.KVM_EXIT_MMIO, mmio })).toStrictEqual({
    kind: "mmio",
    isWrite: true,
    physAddr: 0xffff_ffff_ffff_f000n,
    data: Uint8Array.of(1, 2, 3),
  });
});

describe("the exit of a guest's MMIO read", () => {
  const asked = (len: number): { run: Uint8Array; exit: MmioReadExit } => {
    const run = mmioRead(len);
    return { run, exit: decoded(run) as MmioReadExit };
  };
  const answer = (run: Uint8Array): readonly number[] =>
    Array.from(run.subarray(MMIO_DATA, MMIO_DATA + 8));

  test("contains the guest's request, and returns zeros to the guest if there is no reply", () => {
    const { run, exit } = asked(4);
    expect(exit).toMatchObject({ isWrite: false, physAddr: 0xd000_0000n, len: 4 });
    expect(answer(run)).toEqual([0, 0, 0, 0, OLD, OLD, OLD, OLD]);
  });

  test("returns the reply to the guest", () => {
    const { run, exit } = asked(2);
    exit.reply(Uint8Array.of(1, 2));
    expect(answer(run)).toEqual([1, 2, OLD, OLD, OLD, OLD, OLD, OLD]);
  });

  test.each<[value: bigint | number | ArrayBufferView]>([
    [0x0403_0201],
    [0x0403_0201n],
    [Uint16Array.of(0x0201, 0x0403)],
    [new DataView(Uint8Array.of(1, 2, 3, 4).buffer)],
  ])("of 4 bytes accepts an integer and any typed array (%#)", (value) => {
    const { run, exit } = asked(4);
    exit.reply(value);
    expect(answer(run)).toEqual([1, 2, 3, 4, OLD, OLD, OLD, OLD]);
  });

  test.each([-1, 2 ** 32, 2n ** 32n])("of 4 bytes rejects the integer %d", (value) => {
    expect(() => asked(4).exit.reply(value)).toThrow(
      new RangeError(`mmio read: ${value} does not fit 4 bytes`),
    );
  });

  test.each([0, 3, 5])("of 4 bytes rejects %i bytes, and then accepts another reply", (length) => {
    const { run, exit } = asked(4);
    const error = new RangeError(`mmio read: 4 bytes are read, got ${length}`);
    expect(() => exit.reply(new Uint8Array(length).fill(1))).toThrow(error);
    expect(answer(run)).toEqual([0, 0, 0, 0, OLD, OLD, OLD, OLD]);
    exit.reply(Uint8Array.of(1, 1, 1, 1));
    expect(answer(run)).toEqual([1, 1, 1, 1, OLD, OLD, OLD, OLD]);
  });
});

/** Creates an MSR exit in a `kvm_run` that still contains the previous result. */
function msr(exitReason: number, fields: StructInput<Run["msr"]>): Uint8Array {
  return mapped({ exitReason, msr: { error: OLD, reason: 2, ...fields } });
}

describe("the exit of a guest's read of an MSR", () => {
  const asked = (): { run: Uint8Array; exit: RdmsrExit } => {
    const run = msr(kvm.KVM_EXIT_X86_RDMSR, { index: 0xc000_0080, data: 0xdeadn });
    return { run, exit: decoded(run) as RdmsrExit };
  };

  test("contains the guest's request, and no data of the previous exit", () => {
    const { reply, fail, ...rest } = asked().exit;
    expect(rest).toStrictEqual({ kind: "x86_rdmsr", reason: 2, index: 0xc000_0080 });
    expect([typeof reply, typeof fail]).toEqual(["function", "function"]);
  });

  test("returns 0 to the guest without an exception if there is no reply", () => {
    const { run } = asked();
    expect([run[MSR_ERROR], wordAt(run, "msr.data")]).toEqual([0, 0n]);
  });

  test.each([0n, 1n, 2n ** 63n, 2n ** 64n - 1n])("accepts the reply %d", (data) => {
    const { run, exit } = asked();
    exit.reply(data);
    expect([run[MSR_ERROR], wordAt(run, "msr.data")]).toEqual([0, data]);
  });

  test("raises #GP in the guest after fail()", () => {
    const { run, exit } = asked();
    exit.fail();
    expect([run[MSR_ERROR], wordAt(run, "msr.data")]).toEqual([1, 0n]);
  });

  test.each([-1n, 2n ** 64n])("rejects the reply %d, and then accepts another reply", (data) => {
    const { run, exit } = asked();
    const error = new RangeError(`msr.data: ${data} does not fit 64 bits`);
    expect(() => exit.reply(data)).toThrow(error);
    exit.reply(7n);
    expect(wordAt(run, "msr.data")).toBe(7n);
  });

  test("accepts a number that is a safe integer", () => {
    const { run, exit } = asked();
    exit.reply(5);
    expect(wordAt(run, "msr.data")).toBe(5n);
  });

  test("rejects a string, and a number that is not a safe integer", () => {
    const { exit } = asked();
    expect(() => exit.reply(2 ** 53)).toThrow(
      new RangeError(
        "msr.data: 9007199254740992 is above 2^53 and may have lost bits; write it as a bigint",
      ),
    );
    expect(() => exit.reply("5" as unknown as bigint)).toThrow(
      new TypeError('msr.data: expected a bigint or an integer, got "5"'),
    );
  });
});

describe("the exit of a guest's write of an MSR", () => {
  const asked = (): { run: Uint8Array; exit: WrmsrExit } => {
    const run = msr(kvm.KVM_EXIT_X86_WRMSR, { index: 0x10, data: 2n ** 64n - 1n });
    return { run, exit: decoded(run) as WrmsrExit };
  };

  test("contains the value that the guest wrote", () => {
    const { reply, fail, ...rest } = asked().exit;
    const data = 2n ** 64n - 1n;
    expect(rest).toStrictEqual({ kind: "x86_wrmsr", reason: 2, index: 0x10, data });
    expect([typeof reply, typeof fail]).toEqual(["function", "function"]);
  });

  test("raises no exception in the guest if there is no reply", () => {
    expect(asked().run[MSR_ERROR]).toBe(0);
  });

  test("raises no exception in the guest after complete()", () => {
    const { run, exit } = asked();
    exit.reply();
    expect(run[MSR_ERROR]).toBe(0);
  });

  test("raises #GP in the guest after fail()", () => {
    const { run, exit } = asked();
    exit.fail();
    expect(run[MSR_ERROR]).toBe(1);
  });
});
