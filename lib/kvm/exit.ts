/** Why a vCPU came back: `kvm_run` decoded into values, and answered. Running it is vcpu.ts. */
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

/** The guest wrote to an I/O port: `KVM_EXIT_IO`, out. */
export interface IoOutExit {
  readonly kind: "io";
  readonly direction: "out";
  readonly port: number;
  /** Bytes of one element: 1, 2 or 4. */
  readonly size: number;
  /** How many elements: above 1 for a string instruction (`rep outsb`). */
  readonly count: number;
  /** All `size * count` bytes, in the order they were written. */
  readonly data: Uint8Array;
  /** The same as `count` unsigned numbers. */
  readonly values: readonly number[];
}

/** The guest reads from an I/O port and waits for {@link IoInExit.reply}: `KVM_EXIT_IO`, in. */
export interface IoInExit {
  readonly kind: "io";
  readonly direction: "in";
  readonly port: number;
  /** Bytes of one element: 1, 2 or 4. */
  readonly size: number;
  /** How many elements: above 1 for a string instruction (`rep insb`). */
  readonly count: number;
  /**
   * Gives the guest what it reads, one number for each element; zeros when nothing is given.
   *
   * @throws {@link StateError} `ERR_ANSWERED` the second time, or once the vCPU has run on.
   * @throws RangeError when there are not `count` values, or one does not fit `size` bytes.
   */
  reply(values: readonly number[]): void;
}

/** The guest wrote where no memory is: `KVM_EXIT_MMIO`. */
export interface MmioWriteExit {
  readonly kind: "mmio";
  readonly isWrite: true;
  readonly physAddr: bigint;
  /** 1 to 8 bytes. */
  readonly data: Uint8Array;
}

/** The guest reads where no memory is and waits for {@link MmioReadExit.reply}: `KVM_EXIT_MMIO`. */
export interface MmioReadExit {
  readonly kind: "mmio";
  readonly isWrite: false;
  readonly physAddr: bigint;
  /** How many bytes it reads: 1 to 8. */
  readonly len: number;
  /**
   * Gives the guest what it reads; zeros when nothing is given.
   *
   * @throws {@link StateError} `ERR_ANSWERED` the second time, or once the vCPU has run on.
   * @throws RangeError when there are not `len` bytes.
   */
  reply(data: Uint8Array): void;
}

/** An exit that says all by its name. */
export interface BareExit {
  /**
   * `hlt`: the guest halted, without an in-kernel APIC. `shutdown`: triple fault. `intr`: a signal
   * or `immediate_exit`; the guest may not have run. `irq_window_open`, `nmi`: as api.rst 5.
   */
  readonly kind: "hlt" | "shutdown" | "intr" | "irq_window_open" | "nmi";
}

/** The CPU refused to enter the guest: `KVM_EXIT_FAIL_ENTRY`. */
export interface FailEntryExit {
  readonly kind: "fail_entry";
  /** Intel: the VM-instruction error or exit reason; AMD: the VMCB exit code. */
  readonly hardwareEntryFailureReason: bigint;
  /** The host CPU that refused. */
  readonly cpu: number;
}

/** KVM gave up: `KVM_EXIT_INTERNAL_ERROR`. */
export interface InternalErrorExit {
  readonly kind: "internal_error";
  /** A `KVM_INTERNAL_ERROR_*`; 1 is an instruction that KVM could not emulate. */
  readonly suberror: number;
  /** What more KVM said, `ndata` of at most 16 words. */
  readonly data: readonly bigint[];
}

/** An exception that user space asked to see: `KVM_EXIT_EXCEPTION`. */
export interface ExceptionExit {
  readonly kind: "exception";
  readonly exception: number;
  readonly errorCode: number;
}

/** A hypercall for user space: `KVM_EXIT_HYPERCALL`. */
export interface HypercallExit {
  readonly kind: "hypercall";
  readonly nr: bigint;
  readonly args: readonly bigint[];
}

/** A breakpoint or single step of KVM_SET_GUEST_DEBUG: `KVM_EXIT_DEBUG`. */
export interface DebugExit {
  readonly kind: "debug";
  readonly exception: number;
  readonly pc: bigint;
  readonly dr6: bigint;
  readonly dr7: bigint;
}

/** The guest wants to be reset, shut down or has crashed: `KVM_EXIT_SYSTEM_EVENT`. */
export interface SystemEventExit {
  readonly kind: "system_event";
  /** A `KVM_SYSTEM_EVENT_*`. */
  readonly type: number;
  readonly data: readonly bigint[];
}

/** An MSR access that KVM_CAP_X86_USER_SPACE_MSR hands to user space. */
export interface MsrExit {
  readonly kind: "x86_rdmsr" | "x86_wrmsr";
  /** A `KVM_MSR_EXIT_REASON_*`. */
  readonly reason: number;
  readonly index: number;
  readonly data: bigint;
}

/** The end of a level interrupt in a split irqchip: `KVM_EXIT_IOAPIC_EOI`. */
export interface IoapicEoiExit {
  readonly kind: "ioapic_eoi";
  readonly vector: number;
}

/** A guest memory access that KVM could not resolve: `KVM_EXIT_MEMORY_FAULT`. */
export interface MemoryFaultExit {
  readonly kind: "memory_fault";
  readonly flags: bigint;
  readonly gpa: bigint;
  readonly size: bigint;
}

/** An exit that this package does not decode, or one that cannot be (an I/O of 3 bytes). */
export interface UnknownExit {
  readonly kind: "unknown";
  /** `kvm_run.exit_reason`. */
  readonly reason: number;
  /** The exit's union in `kvm_run`, 256 bytes. */
  readonly bytes: Uint8Array;
}

/** Why a vCPU came back, told apart by `kind`: the name after `KVM_EXIT_`, in lower case. */
export type Exit =
  | IoOutExit
  | IoInExit
  | MmioWriteExit
  | MmioReadExit
  | BareExit
  | FailEntryExit
  | InternalErrorExit
  | ExceptionExit
  | HypercallExit
  | DebugExit
  | SystemEventExit
  | MsrExit
  | IoapicEoiExit
  | MemoryFaultExit
  | UnknownExit;

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
