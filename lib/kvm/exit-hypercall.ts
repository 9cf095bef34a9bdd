/** Exits for a call that the guest made to its host: KVM's, Hyper-V's, Xen's, TDX's, SEV-SNP's. Decoding them is exit-hypercall-decoder.ts. */

/** One of KVM's hypercalls, enabled by KVM_CAP_EXIT_HYPERCALL: `KVM_EXIT_HYPERCALL`. */
export interface HypercallExit {
  readonly kind: "hypercall";
  /** A `KVM_HC_*`: so far KVM_HC_MAP_GPA_RANGE. */
  readonly nr: bigint;
  /** Six words, of which KVM fills those that `nr` has; the others are left over. */
  readonly args: readonly bigint[];
  /** `KVM_EXIT_HYPERCALL_LONG_MODE`. Kernels that call it `longmode` leave the upper half as it was. */
  readonly flags: bigint;
  /**
   * Gives the guest the call's result, for its RAX; 0, which is success, when nothing is given.
   *
   * @param ret - an errno is negative: `-22n`.
   * @throws {@link StateError} `ERR_ANSWERED` the second time, or once the vCPU has run on.
   * @throws RangeError when the result does not fit 64 bits.
   */
  reply(ret: bigint | number): void;
}

/** The guest wrote one of Hyper-V's MSRs for messages and events: `KVM_EXIT_HYPERV_SYNIC`. */
export interface HypervSynicExit {
  readonly kind: "hyperv";
  readonly type: "synic";
  readonly msr: number;
  readonly control: bigint;
  readonly evtPage: bigint;
  readonly msgPage: bigint;
}

/** One of Hyper-V's hypercalls that KVM leaves to user space: `KVM_EXIT_HYPERV_HCALL`. */
export interface HypervHcallExit {
  readonly kind: "hyperv";
  readonly type: "hcall";
  readonly input: bigint;
  /** Two words. */
  readonly params: readonly bigint[];
  /**
   * Gives the guest the call's result value; 0, HV_STATUS_SUCCESS, when nothing is given.
   *
   * @throws {@link StateError} `ERR_ANSWERED` the second time, or once the vCPU has run on.
   * @throws RangeError when the result does not fit 64 bits.
   */
  reply(result: bigint | number): void;
}

/** The guest wrote one of Hyper-V's MSRs for its debugger: `KVM_EXIT_HYPERV_SYNDBG`. */
export interface HypervSyndbgExit {
  readonly kind: "hyperv";
  readonly type: "syndbg";
  readonly msr: number;
  readonly control: bigint;
  readonly sendPage: bigint;
  readonly recvPage: bigint;
  readonly pendingPage: bigint;
  /**
   * Gives HV_X64_MSR_SYNDBG_STATUS its value, which the guest reads next; 0 when nothing is given.
   * KVM takes it only where `msr` is HV_X64_MSR_SYNDBG_CONTROL.
   *
   * @throws {@link StateError} `ERR_ANSWERED` the second time, or once the vCPU has run on.
   * @throws RangeError when the status does not fit 64 bits.
   */
  reply(status: bigint | number): void;
}

/** One of Xen's hypercalls, enabled by KVM_XEN_HVM_CONFIG: `KVM_EXIT_XEN`. */
export interface XenExit {
  readonly kind: "xen";
  readonly type: "hcall";
  /** 1 when the guest called from 64-bit code, else 0. */
  readonly longmode: number;
  /** The privilege level it called from. */
  readonly cpl: number;
  /** The number of the hypercall. */
  readonly input: bigint;
  /** Six words. */
  readonly params: readonly bigint[];
  /**
   * Gives the guest the call's result, for its RAX; 0, which is success, when nothing is given.
   *
   * @param result - an errno is negative: `-38n`.
   * @throws {@link StateError} `ERR_ANSWERED` the second time, or once the vCPU has run on.
   * @throws RangeError when the result does not fit 64 bits.
   */
  reply(result: bigint | number): void;
}

/** What every `KVM_EXIT_TDX` says: a TDVMCALL that KVM leaves to user space. */
export interface TdxCall {
  readonly kind: "tdx";
  /** Zero so far. */
  readonly flags: bigint;
  /** The number of the TDVMCALL. */
  readonly nr: bigint;
}

/** What a TDVMCALL of one result is answered with. */
export interface TdxReply {
  /**
   * Gives the guest the call's status: 0 is success, and what GHCI calls TDG.VP.VMCALL_* an error.
   * KVM has put one there before, "unsupported" for most calls, which stays when nothing is given.
   *
   * @throws {@link StateError} `ERR_ANSWERED` the second time, or once the vCPU has run on.
   * @throws RangeError when the status does not fit 64 bits.
   */
  reply(ret: bigint | number): void;
}

/** The TD wants the TD-Quote of the report at `gpa`, written to the same buffer. */
export interface TdxGetQuoteExit extends TdxCall, TdxReply {
  readonly type: "get_quote";
  readonly gpa: bigint;
  readonly size: bigint;
}

/** The TD wants an interrupt when a quote is there. */
export interface TdxSetupEventNotifyExit extends TdxCall, TdxReply {
  readonly type: "setup_event_notify";
  readonly vector: bigint;
}

/** What GetTdVmCallInfo is answered with; a field that is left out stays as KVM put it, which is 0. */
export interface TdxTdvmcallInfo {
  readonly ret?: bigint | number;
  readonly r11?: bigint | number;
  readonly r12?: bigint | number;
  readonly r13?: bigint | number;
  readonly r14?: bigint | number;
}

/** The TD asks which TDVMCALLs there are. */
export interface TdxGetTdvmcallInfoExit extends TdxCall {
  readonly type: "get_tdvmcall_info";
  readonly leaf: bigint;
  /**
   * Gives the guest status and registers; KVM's own stay when nothing is given.
   *
   * @throws {@link StateError} `ERR_ANSWERED` the second time, or once the vCPU has run on.
   * @throws RangeError when a value does not fit 64 bits; nothing is written then.
   */
  reply(info: TdxTdvmcallInfo): void;
}

/** A TDVMCALL that this package does not know; KVM has put valid results there (api.rst 5). */
export interface TdxUnknownExit extends TdxCall, TdxReply {
  readonly type: "unknown";
  /** Five words. */
  readonly data: readonly bigint[];
}

/** An SEV-SNP guest wants certificates with its attestation report: `KVM_EXIT_SNP_REQ_CERTS`. */
export interface SnpReqCertsExit {
  readonly kind: "snp_req_certs";
  /** Where in guest memory they are to be written. */
  readonly gpa: bigint;
  /** How many pages there are for them. */
  readonly npages: bigint;
  /**
   * Says what became of it; when nothing is said, KVM takes it that the certificates are there.
   *
   * @param ret - 0: they were written. A positive errno: ENOSPC (28), they need `npages` pages;
   *   EAGAIN (11), the guest is to ask again; EIO (5). KVM_RUN refuses any other with `EINVAL`.
   * @param npages - how many pages they need; what the guest said when left out.
   * @throws {@link StateError} `ERR_ANSWERED` the second time, or once the vCPU has run on.
   * @throws RangeError when a value does not fit 64 bits; nothing is written then.
   */
  reply(ret: bigint | number, npages?: bigint | number): void;
}
