/** Claims about exits: every kind of kvm_run is decoded into values, and a read is answered once. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as kvm from "../../../lib/abi/generated/constants.ts";
import { Run } from "../../../lib/abi/generated/structs.ts";
import { offsetOf, type StructInput, write } from "../../../lib/abi/struct.ts";
import { StateError } from "../../../lib/errors.ts";
import type { Exit, IoInExit, IoOutExit, MmioReadExit } from "../../../lib/kvm/exit.ts";
import { decodeExit, isExitBesideErrno } from "../../../lib/kvm/exit-decoder.ts";

/** As x86 maps it: kvm_run, the page of port data, the ring of coalesced MMIO. */
const MAPPED = 3 * 4096;
const PORT_DATA = 4096;
const UNION = offsetOf(Run, "hw");
const MMIO_DATA = offsetOf(Run, "mmio.data");
const OLD = 0xee;

const isCurrent = (): void => undefined;
const isLate = (): never => {
  throw new StateError("ERR_ANSWERED", "vcpu 0");
};

function mapped(fields: StructInput<Run>): Uint8Array {
  const bytes = new Uint8Array(MAPPED);
  write(Run, fields, bytes);
  return bytes;
}

const decode = (fields: StructInput<Run>): Exit => decodeExit(mapped(fields), isCurrent);

/** A port exit whose data page begins with these bytes. */
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

const data16 = Array.from({ length: 16 }, (_, i) => BigInt(i + 1));

const kinds: readonly (readonly [string, StructInput<Run>, Exit])[] = [
  ["hlt", { exitReason: kvm.KVM_EXIT_HLT }, { kind: "hlt" }],
  ["shutdown", { exitReason: kvm.KVM_EXIT_SHUTDOWN }, { kind: "shutdown" }],
  ["intr", { exitReason: kvm.KVM_EXIT_INTR }, { kind: "intr" }],
  ["irq_window_open", { exitReason: kvm.KVM_EXIT_IRQ_WINDOW_OPEN }, { kind: "irq_window_open" }],
  ["nmi", { exitReason: kvm.KVM_EXIT_NMI }, { kind: "nmi" }],
  [
    "mmio write",
    {
      exitReason: kvm.KVM_EXIT_MMIO,
      mmio: {
        physAddr: 0xffff_ffff_ffff_f000n,
        data: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8),
        len: 3,
        isWrite: 1,
      },
    },
    {
      kind: "mmio",
      isWrite: true,
      physAddr: 0xffff_ffff_ffff_f000n,
      data: Uint8Array.of(1, 2, 3),
    },
  ],
  [
    "fail_entry",
    {
      exitReason: kvm.KVM_EXIT_FAIL_ENTRY,
      failEntry: { hardwareEntryFailureReason: 0x8000_0021n, cpu: 3 },
    },
    { kind: "fail_entry", hardwareEntryFailureReason: 0x8000_0021n, cpu: 3 },
  ],
  [
    "internal_error",
    {
      exitReason: kvm.KVM_EXIT_INTERNAL_ERROR,
      internal: { suberror: kvm.KVM_INTERNAL_ERROR_EMULATION, ndata: 2, data: data16 },
    },
    { kind: "internal_error", suberror: 1, data: [1n, 2n] },
  ],
  [
    "exception",
    { exitReason: kvm.KVM_EXIT_EXCEPTION, ex: { exception: 13, errorCode: 0xffff_ffff } },
    { kind: "exception", exception: 13, errorCode: 0xffff_ffff },
  ],
  [
    "hypercall",
    { exitReason: kvm.KVM_EXIT_HYPERCALL, hypercall: { nr: 12n, args: [1n, 2n, 3n, 4n, 5n, 6n] } },
    { kind: "hypercall", nr: 12n, args: [1n, 2n, 3n, 4n, 5n, 6n] },
  ],
  [
    "debug",
    {
      exitReason: kvm.KVM_EXIT_DEBUG,
      debug: { arch: { exception: 1, pc: 0x1_0000n, dr6: 0xffff_4ff0n, dr7: 0x400n } },
    },
    { kind: "debug", exception: 1, pc: 0x1_0000n, dr6: 0xffff_4ff0n, dr7: 0x400n },
  ],
  [
    "system_event",
    {
      exitReason: kvm.KVM_EXIT_SYSTEM_EVENT,
      systemEvent: { type: kvm.KVM_SYSTEM_EVENT_CRASH, ndata: 1, data: [7n] },
    },
    { kind: "system_event", type: 3, data: [7n] },
  ],
  [
    "x86_rdmsr",
    { exitReason: kvm.KVM_EXIT_X86_RDMSR, msr: { reason: 2, index: 0xc000_0080, data: 5n } },
    { kind: "x86_rdmsr", reason: 2, index: 0xc000_0080, data: 5n },
  ],
  [
    "x86_wrmsr",
    { exitReason: kvm.KVM_EXIT_X86_WRMSR, msr: { reason: 1, index: 0x10, data: 2n ** 64n - 1n } },
    { kind: "x86_wrmsr", reason: 1, index: 0x10, data: 2n ** 64n - 1n },
  ],
  [
    "ioapic_eoi",
    { exitReason: kvm.KVM_EXIT_IOAPIC_EOI, eoi: { vector: 0xff } },
    { kind: "ioapic_eoi", vector: 0xff },
  ],
  [
    "memory_fault",
    {
      exitReason: kvm.KVM_EXIT_MEMORY_FAULT,
      memoryFault: { flags: 8n, gpa: 0x1000n, size: 0x1000n },
    },
    { kind: "memory_fault", flags: 8n, gpa: 0x1000n, size: 0x1000n },
  ],
];

test.each(kinds)("%s is decoded into its values", (_, fields, exit) => {
  expect(decode(fields)).toEqual(exit);
});

describe("a write to a port", () => {
  const writes: readonly (readonly [number, readonly number[], readonly number[]])[] = [
    [1, [0xab], [0xab]],
    [1, [1, 2, 0xff], [1, 2, 0xff]],
    [2, [0xcd, 0xab], [0xabcd]],
    [2, [1, 0, 0xff, 0xff], [1, 0xffff]],
    [4, [0, 0, 0, 0x80], [0x8000_0000]],
    [4, [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0], [1, 0xffff_ffff, 2]],
  ];

  test.each(writes)("of size %i gives every element of %j, unsigned", (size, bytes, values) => {
    const io = { direction: kvm.KVM_EXIT_IO_OUT, size, port: 0x3f8, count: values.length };
    expect(decodeExit(port(io, bytes), isCurrent)).toEqual({
      kind: "io",
      direction: "out",
      port: 0x3f8,
      size,
      count: values.length,
      data: Uint8Array.from(bytes),
      values,
    });
  });

  test("is a copy that later exits do not change", () => {
    const run = port({ direction: kvm.KVM_EXIT_IO_OUT, size: 1, count: 2 }, [1, 2]);
    const exit = decodeExit(run, isCurrent) as IoOutExit;
    run.fill(0);
    expect(exit.data).toEqual(Uint8Array.of(1, 2));
  });

  test("may fill the whole page of port data", () => {
    const io = { direction: kvm.KVM_EXIT_IO_OUT, size: 4, count: 1024 };
    expect((decodeExit(port(io), isCurrent) as IoOutExit).values).toHaveLength(1024);
  });
});

describe("a read of a port", () => {
  const asked = (size: number, count: number): { run: Uint8Array; exit: IoInExit } => {
    const old = Array.from({ length: size * count + 1 }, () => OLD);
    const run = port({ direction: kvm.KVM_EXIT_IO_IN, size, port: 0x60, count }, old);
    return { run, exit: decodeExit(run, isCurrent) as IoInExit };
  };
  const answer = (run: Uint8Array, length: number): readonly number[] =>
    Array.from(run.subarray(PORT_DATA, PORT_DATA + length));

  test("tells what is asked", () => {
    const { reply, ...rest } = asked(2, 3).exit;
    expect(rest).toEqual({ kind: "io", direction: "in", port: 0x60, size: 2, count: 3 });
    expect(reply).toBeTypeOf("function");
  });

  test("shows the guest zeros, and nothing of the last exit, when it is not answered", () => {
    expect(answer(asked(2, 2).run, 5)).toEqual([0, 0, 0, 0, OLD]);
  });

  test.each([
    [1, [0xab], [0xab, OLD]],
    [1, [1, 255], [1, 255, OLD]],
    [2, [0xabcd, 1], [0xcd, 0xab, 1, 0, OLD]],
    [4, [0xffff_ffff, 0x8000_0000], [255, 255, 255, 255, 0, 0, 0, 0x80, OLD]],
  ])("of size %i is answered with %j", (size, values, bytes) => {
    const { run, exit } = asked(size, values.length);
    exit.reply(values);
    expect(answer(run, bytes.length)).toEqual(bytes);
  });

  test("is answered once", () => {
    const { run, exit } = asked(1, 1);
    exit.reply([1]);
    expect(() => exit.reply([2])).toThrow(new StateError("ERR_ANSWERED", "exit"));
    expect(answer(run, 1)).toEqual([1]);
  });

  test("is not answered once its vCPU has run on", () => {
    const run = port({ direction: kvm.KVM_EXIT_IO_IN, size: 1, count: 1 });
    const exit = decodeExit(run, isLate) as IoInExit;
    expect(() => exit.reply([1])).toThrow(new StateError("ERR_ANSWERED", "vcpu 0"));
    expect(answer(run, 1)).toEqual([0]);
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
  ])("of size %i refuses %j and may still be answered", (size, values, message) => {
    const { run, exit } = asked(size, 2);
    expect(() => exit.reply(values)).toThrow(new RangeError(message));
    expect(answer(run, 2 * size)).toEqual(Array(2 * size).fill(0));
    exit.reply([1, 1]);
    expect(run[PORT_DATA]).toBe(1);
  });
});

describe("a read where no memory is", () => {
  const asked = (len: number): { run: Uint8Array; exit: MmioReadExit } => {
    const run = mmioRead(len);
    return { run, exit: decodeExit(run, isCurrent) as MmioReadExit };
  };
  const answer = (run: Uint8Array): readonly number[] =>
    Array.from(run.subarray(MMIO_DATA, MMIO_DATA + 8));

  test("tells what is asked and shows the guest zeros when it is not answered", () => {
    const { run, exit } = asked(4);
    expect(exit).toMatchObject({ isWrite: false, physAddr: 0xd000_0000n, len: 4 });
    expect(answer(run)).toEqual([0, 0, 0, 0, OLD, OLD, OLD, OLD]);
  });

  test("is answered once", () => {
    const { run, exit } = asked(2);
    exit.reply(Uint8Array.of(1, 2));
    expect(() => exit.reply(Uint8Array.of(3, 4))).toThrow(new StateError("ERR_ANSWERED", "exit"));
    expect(answer(run)).toEqual([1, 2, OLD, OLD, OLD, OLD, OLD, OLD]);
  });

  test("is not answered once its vCPU has run on", () => {
    const exit = decodeExit(mmioRead(1), isLate) as MmioReadExit;
    expect(() => exit.reply(Uint8Array.of(1))).toThrow(new StateError("ERR_ANSWERED", "vcpu 0"));
  });

  test.each([0, 3, 5])("of 4 bytes refuses %i bytes", (length) => {
    const { run, exit } = asked(4);
    const error = new RangeError(`mmio read: 4 bytes are read, got ${length}`);
    expect(() => exit.reply(new Uint8Array(length).fill(1))).toThrow(error);
    expect(answer(run)).toEqual([0, 0, 0, 0, OLD, OLD, OLD, OLD]);
  });
});

describe("an exit that is not known", () => {
  test.each([0, 34, 43, 0xffff_ffff])("%i comes with the bytes of its union", (reason) => {
    const padding = Uint8Array.from({ length: 256 }, (_, i) => i);
    const run = mapped({ exitReason: reason, padding });
    const exit = decodeExit(run, isCurrent);
    run.fill(0);
    expect(exit).toEqual({ kind: "unknown", reason, bytes: padding });
  });
});

describe("a kernel gone wrong", () => {
  test("gives no more than the 16 words that there are, whatever ndata says", () => {
    const [internal, systemEvent] = [{ ndata: 17 }, { ndata: 0xffff_ffff }];
    expect(decode({ exitReason: kvm.KVM_EXIT_INTERNAL_ERROR, internal })).toMatchObject({
      data: Array(16).fill(0n),
    });
    expect(decode({ exitReason: kvm.KVM_EXIT_SYSTEM_EVENT, systemEvent })).toMatchObject({
      data: { length: 16 },
    });
  });

  test.each([9, 0xffff_ffff])("gives no more than 8 bytes of an MMIO of %i", (len) => {
    const mmio = { len, isWrite: 1 };
    expect(decode({ exitReason: kvm.KVM_EXIT_MMIO, mmio })).toMatchObject({ data: { length: 8 } });
    expect(decodeExit(mmioRead(len), isCurrent)).toMatchObject({ len: 8 });
  });

  test.each([
    ["no size", { size: 0 }],
    ["a size of 3", { size: 3, count: 2 }],
    ["a size of 8", { size: 8 }],
    ["a count beyond the mapping", { count: MAPPED - PORT_DATA + 1 }],
    ["the largest count", { size: 4, count: 0xffff_ffff }],
    ["an offset beyond the mapping", { dataOffset: BigInt(MAPPED) }],
    ["the largest offset", { dataOffset: 2n ** 64n - 1n }],
  ])("has an I/O of %s shown as it came", (_, wrong) => {
    for (const direction of [kvm.KVM_EXIT_IO_IN, kvm.KVM_EXIT_IO_OUT]) {
      const run = port({ direction, size: 1, count: 1, ...wrong }, [OLD]);
      const bytes = run.slice(UNION, UNION + 256);
      expect(decodeExit(run, isCurrent)).toEqual({ kind: "unknown", reason: 2, bytes });
      expect(run[PORT_DATA]).toBe(OLD);
    }
  });

  test("never makes decoding throw", () => {
    const union = fc.uint8Array({ minLength: 256, maxLength: 256 });
    const reason = fc.oneof(fc.integer({ min: 0, max: 64 }), fc.nat(0xffff_ffff));
    fc.assert(
      fc.property(reason, union, (exitReason, padding) => {
        expect(decode({ exitReason, padding }).kind).toBeTypeOf("string");
      }),
    );
  });
});

describe("an errno that comes with an exit", () => {
  const fault = mapped({ exitReason: kvm.KVM_EXIT_MEMORY_FAULT });

  test.each([14, 133])("is %i beside memory_fault", (errno) => {
    expect(isExitBesideErrno(fault, errno)).toBe(true);
  });

  test("is no other errno, and no other exit", () => {
    expect(isExitBesideErrno(fault, 22)).toBe(false);
    expect(isExitBesideErrno(mapped({ exitReason: kvm.KVM_EXIT_IO }), 14)).toBe(false);
  });
});
