/** Exits for accesses that user space handles: I/O ports, addresses without memory, MSRs. */
import { KVM_EXIT_IO_IN } from "../../abi/generated/constants.ts";
import { Run } from "../../abi/generated/structs.ts";
import { offsetOf } from "../../abi/struct.ts";
import { describe, toBigInt, toBytes } from "../../options.ts";
import { checkU64, type ExitSource, type UnknownExit } from "./source.ts";

/** The guest wrote to an I/O port: `KVM_EXIT_IO` with the direction KVM_EXIT_IO_OUT. */
export interface IoOutExit {
  readonly kind: "io";
  readonly direction: "out";
  readonly port: number;
  /** The size of one element in bytes: 1, 2 or 4. */
  readonly size: number;
  /** The number of elements, which is greater than 1 for a string instruction (`rep outsb`). */
  readonly count: number;
  /** The data of all elements, `size * count` bytes, in the order of the writes. */
  readonly data: Uint8Array;
  /** The same data as `count` unsigned numbers. */
  readonly values: readonly number[];
}

/**
 * The guest reads from an I/O port and waits for {@link IoInExit.reply}: `KVM_EXIT_IO` with the direction
 * KVM_EXIT_IO_IN.
 */
export interface IoInExit {
  readonly kind: "io";
  readonly direction: "in";
  readonly port: number;
  /** The size of one element in bytes: 1, 2 or 4. */
  readonly size: number;
  /** The number of elements, which is greater than 1 for a string instruction (`rep insb`). */
  readonly count: number;
  /**
   * Sets the values that the guest reads: one number per element, or a single number if `count` is 1. Without a reply
   * the guest reads zeros.
   *
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   * @throws RangeError if the number of values is not `count`, or if a value does not fit `size` bytes.
   */
  reply(values: number | readonly number[]): void;
}

/** The guest wrote to an address without memory: `KVM_EXIT_MMIO`. */
export interface MmioWriteExit {
  readonly kind: "mmio";
  readonly isWrite: true;
  readonly physAddr: bigint;
  /** The written bytes, 1 to 8; a longer access causes several exits. */
  readonly data: Uint8Array;
}

/** The guest reads from an address without memory and waits for {@link MmioReadExit.reply}: `KVM_EXIT_MMIO`. */
export interface MmioReadExit {
  readonly kind: "mmio";
  readonly isWrite: false;
  readonly physAddr: bigint;
  /** The size of the read in bytes, 1 to 8; a longer access causes several exits. */
  readonly len: number;
  /**
   * Sets the value that the guest reads: `len` bytes, or an integer that is stored in little-endian order. Without a
   * reply the guest reads zeros.
   *
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   * @throws RangeError if the number of bytes is not `len`, or if the integer does not fit `len` bytes.
   */
  reply(data: ArrayBufferView | bigint | number): void;
}

/** The guest reads an MSR that KVM_CAP_X86_USER_SPACE_MSR passes to user space: `KVM_EXIT_X86_RDMSR`. */
export interface RdmsrExit {
  readonly kind: "x86_rdmsr";
  /** The reason for the exit, a `KVM_MSR_EXIT_REASON_*`. */
  readonly reason: number;
  readonly index: number;
  /**
   * Sets the value that the guest reads. Without a reply, the guest reads 0.
   *
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   * @throws RangeError if the value does not fit 64 bits.
   */
  reply(data: bigint | number): void;
  /**
   * Raises #GP in the guest instead of returning a value.
   *
   * @throws {@link StateError} `ERR_ANSWERED` as {@link RdmsrExit.reply}.
   */
  fail(): void;
}

/** The guest writes an MSR that KVM_CAP_X86_USER_SPACE_MSR passes to user space: `KVM_EXIT_X86_WRMSR`. */
export interface WrmsrExit {
  readonly kind: "x86_wrmsr";
  /** The reason for the exit, a `KVM_MSR_EXIT_REASON_*`. */
  readonly reason: number;
  readonly index: number;
  readonly data: bigint;
  /**
   * Completes the guest's write without an exception. Without a reply, the write also completes without an exception.
   *
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   */
  reply(): void;
  /**
   * Raises #GP in the guest.
   *
   * @throws {@link StateError} `ERR_ANSWERED` as {@link WrmsrExit.reply}.
   */
  fail(): void;
}

// Most exits are accesses to ports and MMIO, so the decoders read the fields in kvm_run without an intermediate object.
const at = (path: string): number => offsetOf(Run, path);
const [DIRECTION, SIZE, PORT] = [at("io.direction"), at("io.size"), at("io.port")];
const [COUNT, DATA_OFFSET] = [at("io.count"), at("io.dataOffset")];
const [PHYS_ADDR, MMIO_DATA, LEN] = [at("mmio.physAddr"), at("mmio.data"), at("mmio.len")];
const IS_WRITE = at("mmio.isWrite");
const [MSR_ERROR, MSR_REASON] = [at("msr.error"), at("msr.reason")];
const [MSR_INDEX, MSR_DATA] = [at("msr.index"), at("msr.data")];

/** Decodes `KVM_EXIT_IO`. If the fields are invalid, returns the exit undecoded and does not write to kvm_run. */
export function decodeIo(source: ExitSource): IoOutExit | IoInExit | UnknownExit {
  const { bytes, view } = source;
  const size = view.getUint8(SIZE);
  const count = view.getUint32(COUNT, true);
  // The offset is read as two 32-bit halves, because reading a u64 allocates a bigint.
  // No kernel sets an offset whose high half is not 0.
  const start = view.getUint32(DATA_OFFSET, true) + 2 ** 32 * view.getUint32(DATA_OFFSET + 4, true);
  const end = start + size * count;
  if ((size !== 1 && size !== 2 && size !== 4) || end > bytes.length) return source.unknown();
  const port = view.getUint16(PORT, true);
  if (view.getUint8(DIRECTION) !== KVM_EXIT_IO_IN) {
    const data = bytes.slice(start, end);
    const values = readElements(view, start, size, count);
    return { kind: "io", direction: "out", port, size, count, data, values };
  }
  // The bytes are cleared, because a guest without a reply would otherwise read the bytes of the previous exit.
  bytes.fill(0, start, end);
  const { turn } = source;
  const reply = (given: number | readonly number[]): void => {
    const values = listOf(given, count, port);
    checkElements(values, size, port);
    source.answer(turn);
    writeElements(view, start, size, values);
  };
  return { kind: "io", direction: "in", port, size, count, reply };
}

/** Converts the reply to a port read to a list; a single number is the reply for a single element. */
function listOf(given: unknown, count: number, port: number): readonly number[] {
  if (typeof given === "number" && count === 1) return [given];
  const isList = Array.isArray(given) || ArrayBuffer.isView(given);
  if (!isList) {
    const wanted =
      count === 1 ? "a number, or an array of one number" : `an array of ${count} numbers`;
    throw new TypeError(`port ${port}: expected ${wanted}, got ${describe(given)}`);
  }
  const values = given as readonly number[];
  if (values.length === count) return values;
  throw new RangeError(`port ${port}: ${count} values are read, got ${values.length}`);
}

function readElements(view: DataView, start: number, size: number, count: number): number[] {
  const values: number[] = [];
  for (let at = start; values.length < count; at += size) {
    if (size === 1) values.push(view.getUint8(at));
    else values.push(size === 2 ? view.getUint16(at, true) : view.getUint32(at, true));
  }
  return values;
}

function checkElements(values: readonly number[], size: number, port: number): void {
  const largest = size === 4 ? 0xffff_ffff : (1 << (8 * size)) - 1;
  for (const value of values) {
    if (typeof value !== "number") {
      throw new TypeError(`port ${port}: expected numbers, got ${describe(value)}`);
    }
    if (!Number.isInteger(value) || value < 0 || value > largest) {
      throw new RangeError(`port ${port}: ${value} does not fit ${8 * size} bits`);
    }
  }
}

function writeElements(view: DataView, start: number, size: number, values: readonly number[]) {
  let at = start;
  for (const value of values) {
    if (size === 1) view.setUint8(at, value);
    else if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
}

/** Decodes `KVM_EXIT_MMIO`. */
export function decodeMmio(source: ExitSource): MmioWriteExit | MmioReadExit {
  const { bytes, view } = source;
  const physAddr = view.getBigUint64(PHYS_ADDR, true);
  const len = Math.min(view.getUint32(LEN, true), 8);
  if (view.getUint8(IS_WRITE) !== 0) {
    const data = bytes.slice(MMIO_DATA, MMIO_DATA + len);
    return { kind: "mmio", isWrite: true, physAddr, data };
  }
  bytes.fill(0, MMIO_DATA, MMIO_DATA + len);
  const { turn } = source;
  const reply = (given: ArrayBufferView | bigint | number): void => {
    const data = bytesOf(given, len);
    source.answer(turn);
    bytes.set(data, MMIO_DATA);
  };
  return { kind: "mmio", isWrite: false, physAddr, len, reply };
}

/** Converts the reply to an MMIO read to bytes; an integer is stored in little-endian order. */
function bytesOf(given: unknown, len: number): Uint8Array {
  if (typeof given === "bigint" || typeof given === "number") {
    const value = toBigInt("mmio read", given);
    if (value !== BigInt.asUintN(8 * len, value)) {
      throw new RangeError(`mmio read: ${value} does not fit ${len} bytes`);
    }
    return new Uint8Array(BigUint64Array.of(value).buffer, 0, len);
  }
  const data = toBytes("mmio read", given);
  if (data.length === len) return data;
  throw new RangeError(`mmio read: ${len} bytes are read, got ${data.length}`);
}

/** Decodes `KVM_EXIT_X86_RDMSR`. */
export function decodeRdmsr(source: ExitSource): RdmsrExit {
  const { view } = source;
  view.setUint8(MSR_ERROR, 0);
  view.setBigUint64(MSR_DATA, 0n, true);
  const { turn } = source;
  return {
    kind: "x86_rdmsr",
    reason: view.getUint32(MSR_REASON, true),
    index: view.getUint32(MSR_INDEX, true),
    reply: (data) => {
      const value = checkU64(data, "msr.data");
      source.answer(turn);
      view.setBigUint64(MSR_DATA, value, true);
    },
    fail: failMsr(source),
  };
}

/** Decodes `KVM_EXIT_X86_WRMSR`. */
export function decodeWrmsr(source: ExitSource): WrmsrExit {
  const { view } = source;
  view.setUint8(MSR_ERROR, 0);
  const { turn } = source;
  return {
    kind: "x86_wrmsr",
    reason: view.getUint32(MSR_REASON, true),
    index: view.getUint32(MSR_INDEX, true),
    data: view.getBigUint64(MSR_DATA, true),
    reply: () => source.answer(turn),
    fail: failMsr(source),
  };
}

/** Writes the `error` field: KVM raises #GP for any value but 0. */
function failMsr(source: ExitSource): () => void {
  const { turn, view } = source;
  return () => {
    source.answer(turn);
    view.setUint8(MSR_ERROR, 1);
  };
}
