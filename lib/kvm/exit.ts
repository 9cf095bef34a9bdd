/** Why a vCPU came back, as values told apart by `kind`. Decoding them from kvm_run is exit-decoder.ts. */

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
