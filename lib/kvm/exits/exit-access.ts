/**
 * Exits for accesses that user space carries out: ports, addresses without memory, MSRs. Decoding is
 * exit-access-decoder.ts.
 */

/** The guest wrote to an I/O port: `KVM_EXIT_IO`, out. */
export interface IoOutExit {
  readonly kind: "io";
  readonly direction: "out";
  readonly port: number;
  /** The size of one element in bytes: 1, 2 or 4. */
  readonly size: number;
  /** The number of elements: above 1 for a string instruction (`rep outsb`). */
  readonly count: number;
  /** All `size * count` bytes, in the order of the writes. */
  readonly data: Uint8Array;
  /** The same data as `count` unsigned numbers. */
  readonly values: readonly number[];
}

/** The guest reads from an I/O port and waits for {@link IoInExit.reply}: `KVM_EXIT_IO`, in. */
export interface IoInExit {
  readonly kind: "io";
  readonly direction: "in";
  readonly port: number;
  /** The size of one element in bytes: 1, 2 or 4. */
  readonly size: number;
  /** The number of elements: above 1 for a string instruction (`rep insb`). */
  readonly count: number;
  /**
   * Sets the values that the guest reads, one number per element; a single number if `count` is 1. Without a reply the
   * guest reads zeros.
   *
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   * @throws RangeError if the number of values is not `count`, or one does not fit `size` bytes.
   */
  reply(values: number | readonly number[]): void;
}

/** The guest wrote to an address without memory: `KVM_EXIT_MMIO`. */
export interface MmioWriteExit {
  readonly kind: "mmio";
  readonly isWrite: true;
  readonly physAddr: bigint;
  /** 1 to 8 bytes; a longer access causes several exits. */
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
   * Sets the value that the guest reads: `len` bytes, or an integer in little-endian order. Without a reply the guest
   * reads zeros.
   *
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   * @throws RangeError if the number of bytes is not `len`, or the integer does not fit them.
   */
  reply(data: ArrayBufferView | bigint | number): void;
}

/** The guest reads an MSR that KVM_CAP_X86_USER_SPACE_MSR passes to user space: `KVM_EXIT_X86_RDMSR`. */
export interface RdmsrExit {
  readonly kind: "x86_rdmsr";
  /** The reason for the exit: a `KVM_MSR_EXIT_REASON_*`. */
  readonly reason: number;
  readonly index: number;
  /**
   * Sets the value that the guest reads. Without a reply it reads 0.
   *
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   * @throws RangeError if the value does not fit 64 bits.
   */
  reply(data: bigint | number): void;
  /**
   * Raises #GP in the guest instead.
   *
   * @throws {@link StateError} `ERR_ANSWERED` as {@link RdmsrExit.reply}.
   */
  fail(): void;
}

/** The guest writes an MSR that KVM_CAP_X86_USER_SPACE_MSR passes to user space: `KVM_EXIT_X86_WRMSR`. */
export interface WrmsrExit {
  readonly kind: "x86_wrmsr";
  /** The reason for the exit: a `KVM_MSR_EXIT_REASON_*`. */
  readonly reason: number;
  readonly index: number;
  readonly data: bigint;
  /**
   * Reports success to the guest, which is also the result without a reply.
   *
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   */
  reply(): void;
  /**
   * Raises #GP in the guest instead.
   *
   * @throws {@link StateError} `ERR_ANSWERED` as {@link WrmsrExit.reply}.
   */
  fail(): void;
}
