/** What one step of a trace is: a call of the kernel, a run, or what the program did to guest memory. */
import type { FdKind } from "../abi/ioctl.ts";

/** What a traced descriptor is: a kind that takes KVM's ioctls, one that only a call returns, or a file that KVM is handed. */
export type ObjectKind = FdKind | "stats" | "memfd" | "eventfd" | "file" | "other";

/** A descriptor as the trace knows it. Its number in this process is not told: it means nothing. */
export interface ObjectRef {
  /** Unique in this thread, from 1 on, never used again. */
  readonly id: number;
  readonly kind: ObjectKind;
  /** What errors call it: `"/dev/kvm"`, `"vm"`, `"vcpu 0"`. */
  readonly label: string;
}

/** Bytes that stand somewhere, of `kvm_run` or of guest memory. */
export interface Range {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** A range of one guest memory, which is named by the id of its {@link MapStep}. */
export interface MemoryRange extends Range {
  readonly memory: number;
}

/**
 * What fills one address or descriptor of a struct. `field` is our name of it, such as
 * `"userspaceAddr"`; in the argument's bytes it is zero.
 */
export type LinkRecord =
  | { readonly kind: "null"; readonly field: string }
  | {
      readonly kind: "bytes";
      readonly field: string;
      readonly before: Uint8Array;
      /** As the kernel left them, when it changed them. */
      readonly after: Uint8Array | undefined;
    }
  | {
      readonly kind: "memory";
      readonly field: string;
      readonly memory: number;
      readonly offset: number;
    }
  | { readonly kind: "fd"; readonly field: string; readonly fd: ObjectRef };

/** The device was opened. */
export interface OpenStep {
  readonly kind: "open";
  readonly seq: number;
  readonly path: string;
  /** 0, or `-errno`. */
  readonly result: number;
  readonly made: ObjectRef | undefined;
}

/** An ioctl other than KVM_RUN. */
export interface IoctlStep {
  readonly kind: "ioctl";
  readonly seq: number;
  readonly fd: ObjectRef;
  /** The whole request, unsigned. */
  readonly request: number;
  readonly name: string;
  /** The argument as it was sent: an integer, or a copy of the bytes. */
  readonly before: bigint | Uint8Array | undefined;
  /** How many bytes the argument had: a ring keeps fewer of them. */
  readonly byteLength: number;
  readonly links: readonly LinkRecord[];
  /** Zero or more, or `-errno`; 0 when it made an object. */
  readonly result: number;
  /** The argument's bytes as the kernel left them, when it changed them. */
  readonly after: Uint8Array | undefined;
  /** The object that the call made. */
  readonly made: ObjectRef | undefined;
}

/** KVM_RUN. */
export interface RunStep {
  readonly kind: "run";
  readonly seq: number;
  readonly fd: ObjectRef;
  /** What was written into `kvm_run` since the run before: replies, immediate_exit. */
  readonly replies: readonly Range[];
  /** Zero, or `-errno`. */
  readonly result: number;
  readonly exitReason: number;
  /** What follows the exit reason: the union of `kvm_run`, or its first bytes. */
  readonly exit: Uint8Array;
  /** For KVM_EXIT_IO: the bytes at its data_offset. */
  readonly io: Uint8Array | undefined;
  /** What the guest changed in guest memory; only a recording looks. */
  readonly guest: readonly MemoryRange[];
}

/** An eventfd was made, with EFD_CLOEXEC and EFD_NONBLOCK. */
export interface EventFdStep {
  readonly kind: "eventfd";
  readonly seq: number;
  readonly initval: number;
  /** 0, or `-errno`. */
  readonly result: number;
  readonly made: ObjectRef | undefined;
}

/** The counter of an eventfd was read, or added to. */
export interface CounterStep {
  readonly kind: "counter";
  readonly seq: number;
  readonly fd: ObjectRef;
  readonly call: "read" | "write";
  /** What was read or written; 0 for a read that was refused. */
  readonly value: bigint;
  /** 0, or `-errno`: `-EAGAIN` (-11) for a read when nothing was signalled. */
  readonly result: number;
}

/** A file that KVM is handed was opened: /dev/sev. */
export interface FileStep {
  readonly kind: "file";
  readonly seq: number;
  readonly path: string;
  /** 0, or `-errno`. */
  readonly result: number;
  readonly made: ObjectRef | undefined;
}

/** fallocate(2) of a guest_memfd. */
export interface FallocateStep {
  readonly kind: "fallocate";
  readonly seq: number;
  readonly fd: ObjectRef;
  /** `FALLOC_FL_*`. */
  readonly mode: number;
  readonly offset: bigint;
  readonly length: bigint;
  /** 0, or `-errno`. */
  readonly result: number;
}

/** Memory for a guest was mapped: all zeros, or a guest_memfd. */
export interface MapStep {
  readonly kind: "map";
  readonly seq: number;
  readonly memory: number;
  readonly byteLength: number;
  /** The guest_memfd; `undefined` for memory of no file. */
  readonly fd: ObjectRef | undefined;
}

/** The program changed guest memory, at some time before the next call. */
export interface WriteStep {
  readonly kind: "write";
  readonly seq: number;
  readonly ranges: readonly MemoryRange[];
}

/** arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM). */
export interface PermissionStep {
  readonly kind: "permission";
  readonly seq: number;
  readonly component: number;
  /** 0, or `-errno`. */
  readonly result: number;
}

/** A descriptor was closed. */
export interface CloseStep {
  readonly kind: "close";
  readonly seq: number;
  readonly fd: ObjectRef;
}

/** One step, told apart by `kind`. `seq` counts the steps of this thread. */
export type Step =
  | OpenStep
  | IoctlStep
  | RunStep
  | EventFdStep
  | CounterStep
  | FileStep
  | FallocateStep
  | MapStep
  | WriteStep
  | PermissionStep
  | CloseStep;

/** What a recording is about, for whoever reads it later. */
export interface About {
  /** The claim or test: its number if it has one, a short name, a sentence. */
  readonly number?: number | undefined;
  readonly name?: string | undefined;
  readonly sentence?: string | undefined;
  /** What came out: whether it held, and what a failure said. */
  readonly verdict?: "holds" | "fails" | undefined;
  readonly reason?: string | undefined;
  /** Where: the kernel's release, the vendor module, the CPU as /proc/cpuinfo names it. */
  readonly kernel?: string | undefined;
  readonly vendor?: string | undefined;
  readonly cpu?: string | undefined;
}

/** A recording that has ended: every step from its start on, with all bytes. */
export interface Trace {
  readonly about: About;
  readonly steps: readonly Step[];
}
