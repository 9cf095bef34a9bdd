/** Decodes the exit that `kvm_run` holds, and takes its answer. What exits there are is exit.ts. */
import {
  KVM_EXIT_DEBUG,
  KVM_EXIT_EXCEPTION,
  KVM_EXIT_FAIL_ENTRY,
  KVM_EXIT_HLT,
  KVM_EXIT_HYPERCALL,
  KVM_EXIT_INTERNAL_ERROR,
  KVM_EXIT_INTR,
  KVM_EXIT_IO,
  KVM_EXIT_IO_IN,
  KVM_EXIT_IOAPIC_EOI,
  KVM_EXIT_IRQ_WINDOW_OPEN,
  KVM_EXIT_MEMORY_FAULT,
  KVM_EXIT_MMIO,
  KVM_EXIT_NMI,
  KVM_EXIT_SHUTDOWN,
  KVM_EXIT_SYSTEM_EVENT,
  KVM_EXIT_X86_RDMSR,
  KVM_EXIT_X86_WRMSR,
} from "../abi/generated/constants.ts";
import { Run } from "../abi/generated/structs.ts";
import { offsetOf } from "../abi/struct.ts";
import { StateError } from "../errors.ts";
import type {
  Exit,
  IoInExit,
  IoOutExit,
  MmioReadExit,
  MmioWriteExit,
  MsrExit,
  UnknownExit,
} from "./exit.ts";

const EXIT_REASON = offsetOf(Run, "exitReason");
const UNION = offsetOf(Run, "hw");
const UNION_BYTES = 256;
const EFAULT = 14;
const EHWPOISON = 133;

/** Whether KVM_RUN's errno comes with an exit that explains it (api.rst 5, KVM_EXIT_MEMORY_FAULT). */
export function isExitBesideErrno(run: Uint8Array, errno: number): boolean {
  const reason = viewOf(run).getUint32(EXIT_REASON, true);
  return (errno === EFAULT || errno === EHWPOISON) && reason === KVM_EXIT_MEMORY_FAULT;
}

/**
 * Decodes the exit that `kvm_run` holds, into values that stay when it changes.
 *
 * @param assertCurrent - throws when an answer would come too late.
 */
export function decodeExit(run: Uint8Array, assertCurrent: () => void): Exit {
  const view = viewOf(run);
  const reason = view.getUint32(EXIT_REASON, true);
  const decode = DECODERS[reason];
  return decode === undefined ? unknown(reason, run) : decode({ run, view, assertCurrent });
}

function unknown(reason: number, run: Uint8Array): UnknownExit {
  return { kind: "unknown", reason, bytes: run.slice(UNION, UNION + UNION_BYTES) };
}

interface Source {
  readonly run: Uint8Array;
  readonly view: DataView;
  readonly assertCurrent: () => void;
}

const at = (path: string): number => offsetOf(Run, path);
const u8 = (path: string): ((s: Source) => number) => {
  const offset = at(path);
  return ({ view }) => view.getUint8(offset);
};
const u16 = (path: string): ((s: Source) => number) => {
  const offset = at(path);
  return ({ view }) => view.getUint16(offset, true);
};
const u32 = (path: string): ((s: Source) => number) => {
  const offset = at(path);
  return ({ view }) => view.getUint32(offset, true);
};
const u64 = (path: string): ((s: Source) => bigint) => {
  const offset = at(path);
  return ({ view }) => view.getBigUint64(offset, true);
};
const u64s = (path: string): ((s: Source, count: number) => readonly bigint[]) => {
  const offset = at(path);
  return ({ view }, count) =>
    Array.from({ length: count }, (_, i) => view.getBigUint64(offset + 8 * i, true));
};

const io = {
  direction: u8("io.direction"),
  size: u8("io.size"),
  port: u16("io.port"),
  count: u32("io.count"),
  dataOffset: u64("io.dataOffset"),
};
const mmio = {
  physAddr: u64("mmio.physAddr"),
  data: at("mmio.data"),
  len: u32("mmio.len"),
  isWrite: u8("mmio.isWrite"),
};
const failEntry = {
  reason: u64("failEntry.hardwareEntryFailureReason"),
  cpu: u32("failEntry.cpu"),
};
const internal = {
  suberror: u32("internal.suberror"),
  ndata: u32("internal.ndata"),
  data: u64s("internal.data"),
};
const ex = { exception: u32("ex.exception"), errorCode: u32("ex.errorCode") };
const hypercall = { nr: u64("hypercall.nr"), args: u64s("hypercall.args") };
const debug = {
  exception: u32("debug.arch.exception"),
  pc: u64("debug.arch.pc"),
  dr6: u64("debug.arch.dr6"),
  dr7: u64("debug.arch.dr7"),
};
const systemEvent = {
  type: u32("systemEvent.type"),
  ndata: u32("systemEvent.ndata"),
  data: u64s("systemEvent.data"),
};
const msr = { reason: u32("msr.reason"), index: u32("msr.index"), data: u64("msr.data") };
const eoiVector = u8("eoi.vector");
const memoryFault = {
  flags: u64("memoryFault.flags"),
  gpa: u64("memoryFault.gpa"),
  size: u64("memoryFault.size"),
};

const DECODERS: Readonly<Record<number, (source: Source) => Exit>> = {
  [KVM_EXIT_HLT]: () => ({ kind: "hlt" }),
  [KVM_EXIT_SHUTDOWN]: () => ({ kind: "shutdown" }),
  [KVM_EXIT_INTR]: () => ({ kind: "intr" }),
  [KVM_EXIT_IRQ_WINDOW_OPEN]: () => ({ kind: "irq_window_open" }),
  [KVM_EXIT_NMI]: () => ({ kind: "nmi" }),
  [KVM_EXIT_IO]: decodeIo,
  [KVM_EXIT_MMIO]: decodeMmio,
  [KVM_EXIT_FAIL_ENTRY]: (s) => ({
    kind: "fail_entry",
    hardwareEntryFailureReason: failEntry.reason(s),
    cpu: failEntry.cpu(s),
  }),
  [KVM_EXIT_INTERNAL_ERROR]: (s) => ({
    kind: "internal_error",
    suberror: internal.suberror(s),
    data: internal.data(s, Math.min(internal.ndata(s), 16)),
  }),
  [KVM_EXIT_EXCEPTION]: (s) => ({
    kind: "exception",
    exception: ex.exception(s),
    errorCode: ex.errorCode(s),
  }),
  [KVM_EXIT_HYPERCALL]: (s) => ({
    kind: "hypercall",
    nr: hypercall.nr(s),
    args: hypercall.args(s, 6),
  }),
  [KVM_EXIT_DEBUG]: (s) => ({
    kind: "debug",
    exception: debug.exception(s),
    pc: debug.pc(s),
    dr6: debug.dr6(s),
    dr7: debug.dr7(s),
  }),
  [KVM_EXIT_SYSTEM_EVENT]: (s) => ({
    kind: "system_event",
    type: systemEvent.type(s),
    data: systemEvent.data(s, Math.min(systemEvent.ndata(s), 16)),
  }),
  [KVM_EXIT_X86_RDMSR]: (s) => decodeMsr("x86_rdmsr", s),
  [KVM_EXIT_X86_WRMSR]: (s) => decodeMsr("x86_wrmsr", s),
  [KVM_EXIT_IOAPIC_EOI]: (s) => ({ kind: "ioapic_eoi", vector: eoiVector(s) }),
  [KVM_EXIT_MEMORY_FAULT]: (s) => ({
    kind: "memory_fault",
    flags: memoryFault.flags(s),
    gpa: memoryFault.gpa(s),
    size: memoryFault.size(s),
  }),
};

function decodeMsr(kind: MsrExit["kind"], s: Source): MsrExit {
  return { kind, reason: msr.reason(s), index: msr.index(s), data: msr.data(s) };
}

function decodeIo(s: Source): IoOutExit | IoInExit | UnknownExit {
  const [port, size, count] = [io.port(s), io.size(s), io.count(s)];
  const start = Number(io.dataOffset(s));
  const isSane = size === 1 || size === 2 || size === 4;
  // No kernel says this; if one does, its bytes are shown and nothing is read beside the mapping.
  if (!isSane || start + size * count > s.run.length) return unknown(KVM_EXIT_IO, s.run);
  const data = s.run.subarray(start, start + size * count);
  if (io.direction(s) !== KVM_EXIT_IO_IN) {
    const copy = data.slice();
    return {
      kind: "io",
      direction: "out",
      port,
      size,
      count,
      data: copy,
      values: split(copy, size),
    };
  }
  data.fill(0); // else an unanswered read would show the guest the last exit's bytes
  const answer = once(s.assertCurrent);
  const reply = (values: readonly number[]): void => {
    if (values.length !== count) {
      throw new RangeError(`port ${port}: ${count} values are read, got ${values.length}`);
    }
    const bytes = join(values, size, `port ${port}`);
    answer();
    data.set(bytes);
  };
  return { kind: "io", direction: "in", port, size, count, reply };
}

function decodeMmio(s: Source): MmioWriteExit | MmioReadExit {
  const physAddr = mmio.physAddr(s);
  const len = Math.min(mmio.len(s), 8);
  const data = s.run.subarray(mmio.data, mmio.data + len);
  if (mmio.isWrite(s) !== 0) return { kind: "mmio", isWrite: true, physAddr, data: data.slice() };
  data.fill(0);
  const answer = once(s.assertCurrent);
  const reply = (bytes: Uint8Array): void => {
    if (bytes.length !== len) {
      throw new RangeError(`mmio read: ${len} bytes are read, got ${bytes.length}`);
    }
    answer();
    data.set(bytes);
  };
  return { kind: "mmio", isWrite: false, physAddr, len, reply };
}

function once(assertCurrent: () => void): () => void {
  let answered = false;
  return () => {
    assertCurrent();
    if (answered) throw new StateError("ERR_ANSWERED", "exit");
    answered = true;
  };
}

function split(data: Uint8Array, size: number): readonly number[] {
  const view = viewOf(data);
  return Array.from({ length: data.length / size }, (_, i) => {
    if (size === 1) return view.getUint8(i);
    return size === 2 ? view.getUint16(2 * i, true) : view.getUint32(4 * i, true);
  });
}

function join(values: readonly number[], size: number, where: string): Uint8Array {
  const bytes = new Uint8Array(values.length * size);
  const view = viewOf(bytes);
  for (const [i, value] of values.entries()) {
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** (8 * size)) {
      throw new RangeError(`${where}: ${value} does not fit ${8 * size} bits`);
    }
    if (size === 1) view.setUint8(i, value);
    else if (size === 2) view.setUint16(2 * i, value, true);
    else view.setUint32(4 * i, value, true);
  }
  return bytes;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
