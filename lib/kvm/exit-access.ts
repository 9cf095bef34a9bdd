/** Exits for an access that user space carries out: ports, memory that is not there, MSRs. Decoding them is exit-access-decoder.ts. */

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
   * Gives the guest what it reads, one number for each element; a number alone where `count` is 1. It
   * reads zeros when nothing is given.
   *
   * @throws {@link StateError} `ERR_ANSWERED` the second time, or once the vCPU has run on.
   * @throws RangeError when there are not `count` values, or one does not fit `size` bytes.
   */
  reply(values: number | readonly number[]): void;
}

/** The guest wrote where no memory is: `KVM_EXIT_MMIO`. */
export interface MmioWriteExit {
  readonly kind: "mmio";
  readonly isWrite: true;
  readonly physAddr: bigint;
  /** 1 to 8 bytes; a longer access comes in several exits. */
  readonly data: Uint8Array;
}

/** The guest reads where no memory is and waits for {@link MmioReadExit.reply}: `KVM_EXIT_MMIO`. */
export interface MmioReadExit {
  readonly kind: "mmio";
  readonly isWrite: false;
  readonly physAddr: bigint;
  /** How many bytes it reads: 1 to 8; a longer access comes in several exits. */
  readonly len: number;
  /**
   * Gives the guest what it reads: `len` bytes, or an integer, whose low byte comes first. It reads
   * zeros when nothing is given.
   *
   * @throws {@link StateError} `ERR_ANSWERED` the second time, or once the vCPU has run on.
   * @throws RangeError when there are not `len` bytes, or the integer does not fit them.
   */
  reply(data: ArrayBufferView | bigint | number): void;
}

/** The guest reads an MSR that KVM_CAP_X86_USER_SPACE_MSR left to user space: `KVM_EXIT_X86_RDMSR`. */
export interface RdmsrExit {
  readonly kind: "x86_rdmsr";
  /** Why KVM did not read it itself: a `KVM_MSR_EXIT_REASON_*`. */
  readonly reason: number;
  readonly index: number;
  /**
   * Gives the guest the MSR's value; it reads 0 when nothing is given.
   *
   * @throws {@link StateError} `ERR_ANSWERED` the second time, or once the vCPU has run on.
   * @throws RangeError when the value does not fit 64 bits.
   */
  reply(data: bigint | number): void;
  /**
   * Raises #GP in the guest instead.
   *
   * @throws {@link StateError} `ERR_ANSWERED` as {@link RdmsrExit.reply}.
   */
  fail(): void;
}

/** The guest writes an MSR that KVM_CAP_X86_USER_SPACE_MSR left to user space: `KVM_EXIT_X86_WRMSR`. */
export interface WrmsrExit {
  readonly kind: "x86_wrmsr";
  /** Why KVM did not write it itself: a `KVM_MSR_EXIT_REASON_*`. */
  readonly reason: number;
  readonly index: number;
  readonly data: bigint;
  /**
   * Says that the MSR was written; the guest believes so too when nothing is said.
   *
   * @throws {@link StateError} `ERR_ANSWERED` the second time, or once the vCPU has run on.
   */
  reply(): void;
  /**
   * Raises #GP in the guest instead.
   *
   * @throws {@link StateError} `ERR_ANSWERED` as {@link WrmsrExit.reply}.
   */
  fail(): void;
}
