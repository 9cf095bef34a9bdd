/** Exits for calls of the guest to its hypervisor, in the interfaces of KVM, Hyper-V, Xen, TDX and SEV-SNP. */
import {
  KVM_EXIT_HYPERV_HCALL,
  KVM_EXIT_HYPERV_SYNDBG,
  KVM_EXIT_HYPERV_SYNIC,
  KVM_EXIT_XEN_HCALL,
} from "../../abi/generated/constants.ts";
import {
  ExitSnpReqCerts,
  HypervExit,
  Run,
  RunHypercall,
  RunTdx,
  XenExit as XenExitStruct,
} from "../../abi/generated/structs.ts";
import { offsetOf } from "../../abi/struct.ts";
import { refuseUnknown } from "../../options.ts";
import { checkU64, type ExitSource, LONG_MIN, type UnknownExit } from "./source.ts";

/** The guest made one of KVM's hypercalls that KVM_CAP_EXIT_HYPERCALL passes to user space: `KVM_EXIT_HYPERCALL`. */
export interface HypercallExit {
  readonly kind: "hypercall";
  /** The number of the hypercall, a `KVM_HC_*`; Linux 7.2 exits only for KVM_HC_MAP_GPA_RANGE. */
  readonly nr: bigint;
  /**
   * Six arguments. The arguments of the hypercall. KVM sets only the arguments that the hypercall uses; all others have
   * values of earlier exits.
   */
  readonly args: readonly bigint[];
  /**
   * `KVM_EXIT_HYPERCALL_LONG_MODE`. On kernels that name this field `longmode`, the upper half has the value of an
   * earlier exit.
   */
  readonly flags: bigint;
  /**
   * Sets the call's result, which the guest reads from RAX. Without a reply, the result is 0, which means success.
   *
   * @param ret - the result; an errno is a negative number, such as `-22n`.
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   * @throws RangeError if the result does not fit 64 bits.
   */
  reply(ret: bigint | number): void;
}

/** The guest wrote a SynIC MSR of Hyper-V (messages and events): `KVM_EXIT_HYPERV_SYNIC`. */
export interface HypervSynicExit {
  readonly kind: "hyperv";
  readonly type: "synic";
  readonly msr: number;
  readonly control: bigint;
  readonly evtPage: bigint;
  readonly msgPage: bigint;
}

/** The guest made a Hyper-V hypercall that KVM passes to user space: `KVM_EXIT_HYPERV_HCALL`. */
export interface HypervHcallExit {
  readonly kind: "hyperv";
  readonly type: "hcall";
  readonly input: bigint;
  /** Two arguments. */
  readonly params: readonly bigint[];
  /**
   * Sets the call's result value. Without a reply, the result is 0, HV_STATUS_SUCCESS.
   *
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   * @throws RangeError if the result does not fit 64 bits.
   */
  reply(result: bigint | number): void;
}

/** The guest wrote an MSR of Hyper-V's debugger: `KVM_EXIT_HYPERV_SYNDBG`. */
export interface HypervSyndbgExit {
  readonly kind: "hyperv";
  readonly type: "syndbg";
  readonly msr: number;
  readonly control: bigint;
  readonly sendPage: bigint;
  readonly recvPage: bigint;
  readonly pendingPage: bigint;
  /**
   * Sets HV_X64_MSR_SYNDBG_STATUS, which the guest reads next. Without a reply, the status is 0. KVM uses the value
   * only if `msr` is HV_X64_MSR_SYNDBG_CONTROL.
   *
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   * @throws RangeError if the status does not fit 64 bits.
   */
  reply(status: bigint | number): void;
}

/** The guest made a Xen hypercall that KVM_XEN_HVM_CONFIG passes to user space: `KVM_EXIT_XEN`. */
export interface XenHcallExit {
  readonly kind: "xen";
  readonly type: "hcall";
  /** Whether the guest called from 64-bit code: 1 or 0. */
  readonly longmode: number;
  /** The guest's privilege level at the call. */
  readonly cpl: number;
  /** The number of the hypercall. */
  readonly input: bigint;
  /** Six arguments. */
  readonly params: readonly bigint[];
  /**
   * Sets the call's result, which the guest reads from RAX. Without a reply, the result is 0, which means success.
   *
   * @param result - the result; an errno is a negative number, such as `-38n`.
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   * @throws RangeError if the result does not fit 64 bits.
   */
  reply(result: bigint | number): void;
}

/** The members of every `KVM_EXIT_TDX`: a TDVMCALL that KVM passes to user space. */
export interface TdxCall {
  readonly kind: "tdx";
  /** 0 in Linux 7.2. */
  readonly flags: bigint;
  /** The number of the TDVMCALL. */
  readonly nr: bigint;
}

/** The `reply` of a TDVMCALL with one result. */
export interface TdxReply {
  /**
   * Sets the call's status, a TDG.VP.VMCALL_* code of the GHCI: 0 is success, 1 is "retry", and others are errors.
   * Without a reply, KVM's own status remains, which is "unsupported" for most calls.
   *
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   * @throws RangeError if the status does not fit 64 bits.
   */
  reply(ret: bigint | number): void;
}

/** The TD requests the TD-Quote of the report at `gpa`; write the quote to the same buffer. */
export interface TdxGetQuoteExit extends TdxCall, TdxReply {
  readonly type: "get_quote";
  readonly gpa: bigint;
  readonly size: bigint;
}

/** The TD requests an interrupt that user space must send when a quote is available. */
export interface TdxSetupEventNotifyExit extends TdxCall, TdxReply {
  readonly type: "setup_event_notify";
  readonly vector: bigint;
}

/** The registers and the status of a reply to GetTdVmCallInfo. An omitted field keeps KVM's value, which is 0. */
export interface TdxTdvmcallInfoInput {
  readonly ret?: bigint | number;
  readonly r11?: bigint | number;
  readonly r12?: bigint | number;
  readonly r13?: bigint | number;
  readonly r14?: bigint | number;
}

/** The TD requests the list of supported TDVMCALLs. */
export interface TdxGetTdvmcallInfoExit extends TdxCall {
  readonly type: "get_tdvmcall_info";
  readonly leaf: bigint;
  /**
   * Sets the status and the registers of the result. Without a reply, KVM's own values remain.
   *
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   * @throws RangeError if a value does not fit 64 bits; nothing is written in this case.
   */
  reply(info: TdxTdvmcallInfoInput): void;
}

/** A TDVMCALL that this package does not know; KVM has set valid results (api.rst 5). */
export interface TdxUnknownExit extends TdxCall, TdxReply {
  readonly type: "unknown";
  /** Five words. */
  readonly data: readonly bigint[];
}

/** An SEV-SNP guest requests certificates with its attestation report: `KVM_EXIT_SNP_REQ_CERTS`. */
export interface SnpReqCertsExit {
  readonly kind: "snp_req_certs";
  /** The guest physical address of the buffer for the certificates. */
  readonly gpa: bigint;
  /** The size of the buffer for the certificates, in pages. */
  readonly npages: bigint;
  /**
   * Sets the result of the request. Without a reply, KVM assumes that the certificates were written.
   *
   * @param ret - 0 if the certificates were written, or a positive errno: ENOSPC (28) if the certificates need `npages`
   *   pages, EAGAIN (11) if the guest must retry, EIO (5) for an error. With any other value, KVM_RUN fails with
   *   `EINVAL`.
   * @param npages - the number of pages that the certificates need; the guest's value if omitted.
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   * @throws RangeError if a value does not fit 64 bits; nothing is written in this case.
   */
  reply(ret: bigint | number, npages?: bigint | number): void;
}

// These numbers are from Intel's Guest-Hypervisor Communication Interface.
// No UAPI header defines the numbers, but api.rst 5 names them.
const TDVMCALL_GET_TD_VM_CALL_INFO = 0x10000n;
const TDVMCALL_GET_QUOTE = 0x10002n;
const TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT = 0x10004n;

/** A result that KVM reads from kvm_run: its offset, its name, and its smallest valid value. */
interface ResultField {
  readonly offset: number;
  readonly name: string;
  readonly least: bigint;
}

function field(name: string, least = 0n): ResultField {
  return { offset: offsetOf(Run, name), name, least };
}

const HYPERCALL_RET = field("hypercall.ret", LONG_MIN);
const HYPERV_RESULT = field("hyperv.u.hcall.result");
const SYNDBG_STATUS = field("hyperv.u.syndbg.status");
const XEN_RESULT = field("xen.u.hcall.result", LONG_MIN);
const TDX_RET = field("tdx.unknown.ret"); // the status is the first word of every member of the union
const TDX_INFO = {
  ret: TDX_RET,
  r11: field("tdx.getTdvmcallInfo.r11"),
  r12: field("tdx.getTdvmcallInfo.r12"),
  r13: field("tdx.getTdvmcallInfo.r13"),
  r14: field("tdx.getTdvmcallInfo.r14"),
} as const;
const SNP_NPAGES = field("snpReqCerts.npages");
const SNP_RET = field("snpReqCerts.ret");

type Result = readonly [field: ResultField, value: bigint | number];

/** Checks all results, marks the exit as answered, and writes the results. */
function answer(source: ExitSource, turn: number, results: readonly Result[]): void {
  const values = results.map(
    ([{ name, offset, least }, value]) => [offset, checkU64(value, name, least)] as const,
  );
  source.answer(turn);
  for (const [offset, value] of values) source.view.setBigUint64(offset, value, true);
}

/** Makes the `reply` of an exit with one result. */
function replyWith(source: ExitSource, result: ResultField): (value: bigint | number) => void {
  const { turn } = source;
  return (value) => answer(source, turn, [[result, value]]);
}

/**
 * Makes the `reply` of an exit with one result, and clears the result field. KVM does not clear this field, and without
 * a reply the guest would read the value of the previous exit.
 */
function replyOrZero(source: ExitSource, result: ResultField): (value: bigint | number) => void {
  source.view.setBigUint64(result.offset, 0n, true);
  return replyWith(source, result);
}

/** Decodes `KVM_EXIT_HYPERCALL`. */
export function decodeHypercall(source: ExitSource): HypercallExit {
  const { nr, args, flags } = source.read(RunHypercall);
  return { kind: "hypercall", nr, args, flags, reply: replyOrZero(source, HYPERCALL_RET) };
}

/** Decodes `KVM_EXIT_HYPERV`. */
export function decodeHyperv(
  source: ExitSource,
): HypervSynicExit | HypervHcallExit | HypervSyndbgExit | UnknownExit {
  const { type, u } = source.read(HypervExit);
  if (type === KVM_EXIT_HYPERV_SYNIC) {
    const { msr, control, evtPage, msgPage } = u.synic;
    return { kind: "hyperv", type: "synic", msr, control, evtPage, msgPage };
  }
  if (type === KVM_EXIT_HYPERV_HCALL) {
    const { input, params } = u.hcall;
    const reply = replyOrZero(source, HYPERV_RESULT);
    return { kind: "hyperv", type: "hcall", input, params, reply };
  }
  if (type === KVM_EXIT_HYPERV_SYNDBG) {
    const { msr, control, sendPage, recvPage, pendingPage } = u.syndbg;
    const pages = { sendPage, recvPage, pendingPage };
    const reply = replyOrZero(source, SYNDBG_STATUS);
    return { kind: "hyperv", type: "syndbg", msr, control, ...pages, reply };
  }
  return source.unknown();
}

/** Decodes `KVM_EXIT_XEN`. */
export function decodeXen(source: ExitSource): XenHcallExit | UnknownExit {
  const { type, u } = source.read(XenExitStruct);
  if (type !== KVM_EXIT_XEN_HCALL) return source.unknown();
  const { longmode, cpl, input, params } = u.hcall;
  const reply = replyOrZero(source, XEN_RESULT);
  return { kind: "xen", type: "hcall", longmode, cpl, input, params, reply };
}

/**
 * Decodes `KVM_EXIT_TDX`. The result fields are not cleared, because KVM has already set valid results, and 0 would
 * mean success.
 */
export function decodeTdx(
  source: ExitSource,
): TdxGetQuoteExit | TdxGetTdvmcallInfoExit | TdxSetupEventNotifyExit | TdxUnknownExit {
  const { flags, nr, getQuote, getTdvmcallInfo, setupEventNotify, unknown } = source.read(RunTdx);
  const call = { kind: "tdx", flags, nr } as const;
  const reply = replyWith(source, TDX_RET);
  if (nr === TDVMCALL_GET_QUOTE) {
    const { gpa, size } = getQuote;
    return { ...call, type: "get_quote", gpa, size, reply };
  }
  if (nr === TDVMCALL_GET_TD_VM_CALL_INFO) {
    const { leaf } = getTdvmcallInfo;
    return { ...call, type: "get_tdvmcall_info", leaf, reply: replyWithInfo(source) };
  }
  if (nr === TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT) {
    return { ...call, type: "setup_event_notify", vector: setupEventNotify.vector, reply };
  }
  return { ...call, type: "unknown", data: unknown.data, reply };
}

function replyWithInfo(source: ExitSource): (info: TdxTdvmcallInfoInput) => void {
  const { turn } = source;
  const names = Object.keys(TDX_INFO) as (keyof typeof TDX_INFO)[];
  return (info) => {
    refuseUnknown("reply()", info, names, "member");
    const results = names.flatMap((name): readonly Result[] => {
      const value = info[name];
      return value === undefined ? [] : [[TDX_INFO[name], value]];
    });
    answer(source, turn, results);
  };
}

/** Decodes `KVM_EXIT_SNP_REQ_CERTS`. */
export function decodeSnpReqCerts(source: ExitSource): SnpReqCertsExit {
  const { gpa, npages } = source.read(ExitSnpReqCerts);
  source.view.setBigUint64(SNP_RET.offset, 0n, true);
  const { turn } = source;
  const reply = (ret: bigint | number, needed: bigint | number = npages): void =>
    answer(source, turn, [
      [SNP_RET, ret],
      [SNP_NPAGES, needed],
    ]);
  return { kind: "snp_req_certs", gpa, npages, reply };
}
