/** Decodes calls of the guest to its hypervisor, and writes their results. The exits are exit-hypercall.ts. */
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
import type {
  HypercallExit,
  HypervHcallExit,
  HypervSyndbgExit,
  HypervSynicExit,
  SnpReqCertsExit,
  TdxGetQuoteExit,
  TdxGetTdvmcallInfoExit,
  TdxSetupEventNotifyExit,
  TdxTdvmcallInfo,
  TdxUnknownExit,
  UnknownExit,
  XenExit,
} from "./exit.ts";
import { checkU64, type ExitSource, LONG_MIN } from "./exit-source.ts";

// From Intel's Guest-Hypervisor Communication Interface. api.rst 5 names these numbers; no UAPI header defines them.
const TDVMCALL_GET_TD_VM_CALL_INFO = 0x10000n;
const TDVMCALL_GET_QUOTE = 0x10002n;
const TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT = 0x10004n;

/** A result that KVM reads: its offset in kvm_run, its name, and its smallest valid value. */
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
const TDX_RET = field("tdx.unknown.ret"); // the first word of every member of this union
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

/** Checks all results, takes the answer, and writes them. */
function answer(source: ExitSource, turn: number, results: readonly Result[]): void {
  const values = results.map(
    ([{ name, offset, least }, value]) => [offset, checkU64(value, name, least)] as const,
  );
  source.answer(turn);
  for (const [offset, value] of values) source.view.setBigUint64(offset, value, true);
}

/** Returns the `reply` of a call with one result. */
function replyWith(source: ExitSource, result: ResultField): (value: bigint | number) => void {
  const { turn } = source;
  return (value) => answer(source, turn, [[result, value]]);
}

/**
 * Returns the same, and clears a field in which KVM leaves the previous exit's value, which the guest must not read.
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
export function decodeXen(source: ExitSource): XenExit | UnknownExit {
  const { type, u } = source.read(XenExitStruct);
  if (type !== KVM_EXIT_XEN_HCALL) return source.unknown();
  const { longmode, cpl, input, params } = u.hcall;
  const reply = replyOrZero(source, XEN_RESULT);
  return { kind: "xen", type: "hcall", longmode, cpl, input, params, reply };
}

/** Decodes `KVM_EXIT_TDX`. It does not clear the results, because KVM has set its own, and 0 is success. */
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

function replyWithInfo(source: ExitSource): (info: TdxTdvmcallInfo) => void {
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
