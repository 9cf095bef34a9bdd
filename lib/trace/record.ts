/** A step of a trace: a call of the kernel, a run, or a change of guest memory by the program. */
import type { FdKind } from "../abi/ioctl.ts";

/**
 * The kind of a traced descriptor: a descriptor with KVM ioctls, a descriptor that a call returns, or a file that is
 * passed to KVM.
 */
export type ObjectKind = FdKind | "stats" | "memfd" | "eventfd" | "file" | "other";

/**
 * A descriptor in a trace. The object does not contain the number of the descriptor, which is meaningful only in this
 * process.
 */
export interface ObjectRef {
  /** The descriptor's id in traces: unique in this thread, starting with 1, never reused. */
  readonly id: number;
  readonly kind: ObjectKind;
  /** The descriptor's name in errors: `"/dev/kvm"`, `"vm"`, `"vcpu 0"`. */
  readonly label: string;
}

/** Bytes at an offset of `kvm_run` or of guest memory. */
export interface Range {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** A range of one guest memory; the id of the {@link MapStep} identifies the memory. */
export interface MemoryRange extends Range {
  readonly memory: number;
}

/**
 * The value of one address or descriptor of a struct. `field` is the name of the field in this package, such as
 * `"userspaceAddr"`; in the argument's bytes, the field is zero.
 */
export type LinkRecord =
  | { readonly kind: "null"; readonly field: string }
  | {
      readonly kind: "bytes";
      readonly field: string;
      readonly before: Uint8Array;
      /** The bytes at the address after the call; `undefined` if the kernel did not change them. */
      readonly after: Uint8Array | undefined;
    }
  | {
      readonly kind: "memory";
      readonly field: string;
      readonly memory: number;
      readonly offset: number;
    }
  | { readonly kind: "fd"; readonly field: string; readonly fd: ObjectRef };

/** A step in which the device was opened. */
export interface OpenStep {
  readonly kind: "open";
  readonly seq: number;
  readonly path: string;
  /** 0, or `-errno`. */
  readonly result: number;
  readonly made: ObjectRef | undefined;
}

/** A step with an ioctl; KVM_RUN has a step of its own. */
export interface IoctlStep {
  readonly kind: "ioctl";
  readonly seq: number;
  readonly fd: ObjectRef;
  /** The whole request number, unsigned. */
  readonly request: number;
  readonly name: string;
  /** The argument before the call: an integer, or a copy of the bytes. */
  readonly before: bigint | Uint8Array | undefined;
  /** The size of the argument in bytes; a ring stores only the first bytes of a longer argument. */
  readonly byteLength: number;
  readonly links: readonly LinkRecord[];
  /** The result: zero or more, or `-errno`; 0 if the call created an object. */
  readonly result: number;
  /** The argument's bytes after the call; absent if the kernel did not change them. */
  readonly after: Uint8Array | undefined;
  /** The object that the call created; `undefined` if it created none. */
  readonly made: ObjectRef | undefined;
}

/** KVM_RUN. */
export interface RunStep {
  readonly kind: "run";
  readonly seq: number;
  readonly fd: ObjectRef;
  /** The writes to `kvm_run` since the previous run: replies, immediate_exit. */
  readonly replies: readonly Range[];
  /** Zero, or `-errno`. */
  readonly result: number;
  readonly exitReason: number;
  /** The bytes of kvm_run after the exit reason: the union of the exits, or the first bytes of the union. */
  readonly exit: Uint8Array;
  /** The bytes at the data_offset of a KVM_EXIT_IO. */
  readonly io: Uint8Array | undefined;
  /** The changes of guest memory by the guest; only a recording contains them. */
  readonly guest: readonly MemoryRange[];
}

/** A step in which an eventfd was created, with EFD_CLOEXEC and EFD_NONBLOCK. */
export interface EventFdStep {
  readonly kind: "eventfd";
  readonly seq: number;
  readonly initval: number;
  /** 0, or `-errno`. */
  readonly result: number;
  readonly made: ObjectRef | undefined;
}

/** A step in which the counter of an eventfd was read or increased. */
export interface CounterStep {
  readonly kind: "counter";
  readonly seq: number;
  readonly fd: ObjectRef;
  readonly call: "read" | "write";
  /** The value that was read or written; 0 for a failed read. */
  readonly value: bigint;
  /** The result of the call: 0, or `-errno`; `-EAGAIN` (-11) for a read without a signal. */
  readonly result: number;
}

/** A step in which a file that is passed to KVM was opened: /dev/sev. */
export interface FileStep {
  readonly kind: "file";
  readonly seq: number;
  readonly path: string;
  /** 0, or `-errno`. */
  readonly result: number;
  readonly made: ObjectRef | undefined;
}

/** A step with fallocate(2) of a guest_memfd. */
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

/** A step in which memory for a guest was mapped: all zeros, or a guest_memfd. */
export interface MapStep {
  readonly kind: "map";
  readonly seq: number;
  readonly memory: number;
  readonly byteLength: number;
  /** The guest_memfd; `undefined` for memory without a file. */
  readonly fd: ObjectRef | undefined;
}

/** A step in which the program changed guest memory, at some time before the next call. */
export interface WriteStep {
  readonly kind: "write";
  readonly seq: number;
  readonly ranges: readonly MemoryRange[];
}

/** A step with arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM). */
export interface PermissionStep {
  readonly kind: "permission";
  readonly seq: number;
  readonly component: number;
  /** 0, or `-errno`. */
  readonly result: number;
}

/** A step in which a descriptor was closed. */
export interface CloseStep {
  readonly kind: "close";
  readonly seq: number;
  readonly fd: ObjectRef;
}

/** One step of a trace; `kind` distinguishes the forms. `seq` counts the steps of this thread. */
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

/** The description of a recording: claim, result and host. */
export interface About {
  /** The recorded claim or test: a number (optional), a short name, and a sentence. */
  readonly number?: number | undefined;
  readonly name?: string | undefined;
  readonly sentence?: string | undefined;
  /** The result of the claim: whether it held, and the message of a failure. */
  readonly verdict?: "holds" | "fails" | undefined;
  readonly reason?: string | undefined;
  /** The host of the recording: the kernel's release, the vendor module, the CPU's name in /proc/cpuinfo. */
  readonly kernel?: string | undefined;
  readonly vendor?: string | undefined;
  readonly cpu?: string | undefined;
}

/** A recording that has ended: every step since its start, with all bytes. */
export interface Trace {
  readonly about: About;
  readonly steps: readonly Step[];
}
