/** Why a vCPU's pending events, its mp_state, its debug registers or its machine checks were refused. */
import {
  KVM_MP_STATE_AP_RESET_HOLD,
  KVM_MP_STATE_HALTED,
  KVM_MP_STATE_INIT_RECEIVED,
  KVM_MP_STATE_RUNNABLE,
  KVM_MP_STATE_SIPI_RECEIVED,
  KVM_MP_STATE_UNINITIALIZED,
  KVM_VCPUEVENT_VALID_NMI_PENDING,
  KVM_VCPUEVENT_VALID_PAYLOAD,
  KVM_VCPUEVENT_VALID_SHADOW,
  KVM_VCPUEVENT_VALID_SIPI_VECTOR,
  KVM_VCPUEVENT_VALID_SMM,
  KVM_VCPUEVENT_VALID_TRIPLE_FAULT,
} from "../abi/generated/constants.ts";
import { Debugregs, MpState, TprAccessCtl, VcpuEvents, X86Mce } from "../abi/generated/structs.ts";
import { withoutLapic } from "./irq.ts";
import {
  capability,
  type Evidence,
  known,
  type Reasons,
  type Refusal,
  sentStruct,
} from "./refusal.ts";
import { firstOf, hex, unknownBits } from "./wording.ts";

const EVENT_FLAGS =
  KVM_VCPUEVENT_VALID_NMI_PENDING |
  KVM_VCPUEVENT_VALID_SIPI_VECTOR |
  KVM_VCPUEVENT_VALID_SHADOW |
  KVM_VCPUEVENT_VALID_SMM |
  KVM_VCPUEVENT_VALID_PAYLOAD |
  KVM_VCPUEVENT_VALID_TRIPLE_FAULT;

const NMI_VECTOR = 2;
const LAST_EXCEPTION = 31;

/** The reasons of KVM_SET_VCPU_EVENTS. */
export const SET_VCPU_EVENTS: Reasons = {
  EINVAL: (refusal) => {
    const events = sentStruct(refusal, VcpuEvents);
    if (events === undefined) return undefined;
    const { evidence } = refusal;
    return firstOf(
      () => unknownBits("flags", events.flags, EVENT_FLAGS),
      () => notEnabled(events, KVM_VCPUEVENT_VALID_PAYLOAD, "KVM_CAP_EXCEPTION_PAYLOAD", evidence),
      () => explainException(events),
      () => explainSmm(events, evidence),
      () =>
        notEnabled(
          events,
          KVM_VCPUEVENT_VALID_TRIPLE_FAULT,
          "KVM_CAP_X86_TRIPLE_FAULT_EVENT",
          evidence,
        ),
    );
  },
};

function notEnabled(
  { flags }: VcpuEvents,
  flag: number,
  name: "KVM_CAP_EXCEPTION_PAYLOAD" | "KVM_CAP_X86_TRIPLE_FAULT_EVENT",
  { vm }: Evidence,
): string | undefined {
  const enabled = known(vm?.enabled);
  if ((flags & flag) === 0 || enabled === undefined) return undefined;
  const [value = 0n] = enabled.get(name) ?? [];
  return value === 0n
    ? `flags ${hex(flags)} has ${hex(flag)}, which needs ${name} switched on for the VM`
    : undefined;
}

function explainException({ flags, exception }: VcpuEvents): string | undefined {
  const isPending = exception.pending !== 0 && (flags & KVM_VCPUEVENT_VALID_PAYLOAD) !== 0;
  if (exception.injected === 0 && !isPending) return undefined;
  if (exception.nr > LAST_EXCEPTION) {
    return `exception.nr ${exception.nr}: exceptions are 0 to ${LAST_EXCEPTION}`;
  }
  return exception.nr === NMI_VECTOR
    ? "exception.nr 2 is the NMI, which is no exception: it goes into nmi.injected or nmi.pending"
    : undefined;
}

function explainSmm({ flags, smi }: VcpuEvents, evidence: Evidence): string | undefined {
  if ((flags & KVM_VCPUEVENT_VALID_SMM) === 0 || (smi.smm === 0 && smi.pending === 0)) {
    return undefined;
  }
  if (capability(evidence, "KVM_CAP_X86_SMM") === 0) {
    return "smi: this VM has no System Management Mode (KVM_CAP_X86_SMM is 0)";
  }
  return known(evidence.vcpu?.mpState) === KVM_MP_STATE_INIT_RECEIVED
    ? "smi: the vCPU has received INIT (KVM_MP_STATE_INIT_RECEIVED), which SMM would hold back"
    : undefined;
}

const MP_STATES: Readonly<Record<number, string>> = {
  [KVM_MP_STATE_RUNNABLE]: "RUNNABLE",
  [KVM_MP_STATE_UNINITIALIZED]: "UNINITIALIZED",
  [KVM_MP_STATE_INIT_RECEIVED]: "INIT_RECEIVED",
  [KVM_MP_STATE_HALTED]: "HALTED",
  [KVM_MP_STATE_SIPI_RECEIVED]: "SIPI_RECEIVED",
  [KVM_MP_STATE_AP_RESET_HOLD]: "AP_RESET_HOLD",
};

/** The reasons of KVM_SET_MP_STATE. */
export const SET_MP_STATE: Reasons = { EINVAL: explainMpState };

function explainMpState(refusal: Refusal): string | undefined {
  const state = sentStruct(refusal, MpState)?.mpState;
  if (state === undefined) return undefined;
  const name = MP_STATES[state];
  if (name === undefined) return `mpState ${state} is not one of x86's`;
  if (state === KVM_MP_STATE_RUNNABLE) return undefined;
  const { evidence } = refusal;
  const alone = withoutLapic(evidence);
  if (alone !== undefined) return `mpState ${state} ${name}: ${alone}`;
  if (state !== KVM_MP_STATE_INIT_RECEIVED && state !== KVM_MP_STATE_SIPI_RECEIVED)
    return undefined;
  const smi = known(evidence.vcpu?.events)?.smi;
  if (smi === undefined || (smi.smm === 0 && smi.pending === 0)) return undefined;
  const what = smi.smm === 0 ? "has an SMI pending" : "is in System Management Mode";
  return `mpState ${state} ${name}: the vCPU ${what}, which holds INIT and SIPI back`;
}

/** The reasons of KVM_SET_DEBUGREGS. */
export const SET_DEBUGREGS: Reasons = {
  EINVAL: (refusal) => {
    const regs = sentStruct(refusal, Debugregs);
    if (regs === undefined) return undefined;
    if (regs.flags !== 0n) return unknownBits("flags", regs.flags, 0);
    const name = (["dr6", "dr7"] as const).find((key) => regs[key] >> 32n !== 0n);
    return name && `${name} ${hex(regs[name])}: bits 32-63 are reserved`;
  },
};

/** The reasons of KVM_SET_GUEST_DEBUG. */
export const SET_GUEST_DEBUG: Reasons = {
  EBUSY: () =>
    "control asks for an exception (KVM_GUESTDBG_INJECT_DB or _BP), and one is pending on the vCPU",
};

/** The reasons of KVM_TPR_ACCESS_REPORTING. */
export const TPR_ACCESS_REPORTING: Reasons = {
  EINVAL: (refusal) => {
    const tpr = sentStruct(refusal, TprAccessCtl);
    return tpr && unknownBits("flags", tpr.flags, 0);
  },
};

/** The reasons of KVM_SET_VAPIC_ADDR. */
export const SET_VAPIC_ADDR: Reasons = { EINVAL: ({ evidence }) => withoutLapic(evidence) };

const MCG_COUNT = 0xffn;
const MCG_EXT_COUNT = 0xff_0000n;

/** The reasons of KVM_X86_SETUP_MCE. */
export const X86_SETUP_MCE: Reasons = {
  EINVAL: (refusal) => {
    const { argument, sent, evidence } = refusal;
    const cap =
      argument instanceof Uint8Array
        ? new DataView(argument.buffer, argument.byteOffset).getBigUint64(0, true)
        : sent["mcgCap"];
    const most = capability(evidence, "KVM_CAP_MCE");
    if (typeof cap !== "bigint" || most === undefined || most === 0) return undefined;
    const banks = cap & MCG_COUNT;
    if (banks === 0n || banks > BigInt(most)) {
      return `mcgCap ${hex(cap)} asks for ${banks} banks, and KVM has 1 to ${most} (KVM_CAP_MCE)`;
    }
    const others = cap & ~(MCG_COUNT | MCG_EXT_COUNT);
    return others === 0n
      ? undefined
      : `mcgCap ${hex(cap)} has ${hex(others)}: compare KVM_X86_GET_MCE_CAP_SUPPORTED`;
  },
};

/** The reasons of KVM_X86_SET_MCE. */
export const X86_SET_MCE: Reasons = {
  EINVAL: (refusal) => {
    const mce = sentStruct(refusal, X86Mce);
    if (mce === undefined) return undefined;
    return mce.status >> 63n === 0n
      ? `status ${hex(mce.status)} has not bit 63 VAL`
      : `bank ${mce.bank}: KVM_X86_SETUP_MCE gave the vCPU no such bank, or it refuses this error there`;
  },
};
