/** Explains why a vCPU's pending events, mp_state, debug registers or machine checks were refused. */
import { isBytes } from "../abi/bytes.ts";
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
import {
  Debugregs,
  MpState,
  TprAccessCtl,
  VapicAddr,
  VcpuEvents,
  X86Mce,
} from "../abi/generated/structs.ts";
import { withoutLapic } from "./irq.ts";
import { slotAt } from "./kernel-pages.ts";
import {
  capability,
  type Evidence,
  known,
  type Reasons,
  type Refusal,
  type Rule,
  sentStruct,
} from "./refusal.ts";
import { claim, fault, only, open } from "./verdict.ts";
import { hex, unknownBits } from "./wording.ts";

const EVENT_FLAGS =
  KVM_VCPUEVENT_VALID_NMI_PENDING |
  KVM_VCPUEVENT_VALID_SIPI_VECTOR |
  KVM_VCPUEVENT_VALID_SHADOW |
  KVM_VCPUEVENT_VALID_SMM |
  KVM_VCPUEVENT_VALID_PAYLOAD |
  KVM_VCPUEVENT_VALID_TRIPLE_FAULT;

const NMI_VECTOR = 2;
const LAST_EXCEPTION = 31;

/** Judges the events that were passed, if they are known. */
const events =
  (judge: (events: VcpuEvents, evidence: Evidence) => ReturnType<Rule>): Rule =>
  (refusal) => {
    const sent = sentStruct(refusal, VcpuEvents);
    return sent && judge(sent, refusal.evidence);
  };

/** The causes of errors of KVM_SET_VCPU_EVENTS. */
export const SET_VCPU_EVENTS: Reasons = {
  EINVAL: {
    flags: events(({ flags }) => fault(unknownBits("flags", flags, EVENT_FLAGS))),
    "payload not enabled": events((sent, evidence) =>
      fault(notEnabled(sent, KVM_VCPUEVENT_VALID_PAYLOAD, "KVM_CAP_EXCEPTION_PAYLOAD", evidence)),
    ),
    exception: events((sent) => fault(explainException(sent))),
    "no SMM": events((sent, evidence) =>
      claim(
        isSmi(sent) && capability(evidence, "KVM_CAP_X86_SMM") === 0,
        "smi: this VM has no System Management Mode (KVM_CAP_X86_SMM is 0)",
      ),
    ),
    "triple fault not enabled": events((sent, evidence) =>
      fault(
        notEnabled(
          sent,
          KVM_VCPUEVENT_VALID_TRIPLE_FAULT,
          "KVM_CAP_X86_TRIPLE_FAULT_EVENT",
          evidence,
        ),
      ),
    ),
    // KVM_GET_MP_STATE would prove this cause, but would make the vCPU accept INIT and SIPI.
    "SMI after INIT": events((sent) =>
      open(
        isSmi(sent)
          ? "smi: the vCPU has received INIT (KVM_MP_STATE_INIT_RECEIVED), which SMM would block"
          : undefined,
      ),
    ),
  },
};

const isSmi = ({ flags, smi }: VcpuEvents): boolean =>
  (flags & KVM_VCPUEVENT_VALID_SMM) !== 0 && (smi.smm !== 0 || smi.pending !== 0);

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
    ? `flags ${hex(flags)} has ${hex(flag)}, which requires ${name} to be enabled on the VM`
    : undefined;
}

function explainException({ flags, exception }: VcpuEvents): string | undefined {
  const isPending = exception.pending !== 0 && (flags & KVM_VCPUEVENT_VALID_PAYLOAD) !== 0;
  if (exception.injected === 0 && !isPending) return undefined;
  if (exception.nr > LAST_EXCEPTION) {
    return `exception.nr ${exception.nr}: exceptions are 0 to ${LAST_EXCEPTION}`;
  }
  return exception.nr === NMI_VECTOR
    ? "exception.nr 2 is the NMI, which is not an exception: use nmi.injected or nmi.pending"
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

/** The causes of errors of KVM_SET_MP_STATE. */
export const SET_MP_STATE: Reasons = {
  EINVAL: {
    "unknown state": (refusal) => {
      const state = stateOf(refusal);
      const isUnknown = state !== undefined && MP_STATES[state] === undefined;
      return claim(isUnknown, `mpState ${state} is not a state of x86`);
    },
    "no LAPIC": (refusal) => {
      const state = stateOf(refusal) ?? KVM_MP_STATE_RUNNABLE;
      const name = MP_STATES[state];
      if (name === undefined || state === KVM_MP_STATE_RUNNABLE) return undefined;
      const alone = withoutLapic(refusal.evidence);
      return fault(alone && `mpState ${state} ${name}: ${alone}`);
    },
    // KVM_GET_VCPU_EVENTS would prove this cause, but would process pending NMIs and SMIs.
    "INIT and SIPI blocked": (refusal) => {
      const state = stateOf(refusal);
      const isHeld = state === KVM_MP_STATE_INIT_RECEIVED || state === KVM_MP_STATE_SIPI_RECEIVED;
      return open(
        isHeld
          ? `mpState ${state} ${MP_STATES[state]}: SMM, a pending SMI or nested virtualisation blocks INIT and SIPI`
          : undefined,
      );
    },
  },
};

const stateOf = (refusal: Refusal): number | undefined => sentStruct(refusal, MpState)?.mpState;

/** The causes of errors of KVM_SET_DEBUGREGS. */
export const SET_DEBUGREGS: Reasons = {
  EINVAL: {
    flags: (refusal) => fault(unknownBits("flags", sentStruct(refusal, Debugregs)?.flags ?? 0n, 0)),
    "reserved bits": (refusal) => {
      const regs = sentStruct(refusal, Debugregs);
      const name = (["dr6", "dr7"] as const).find((key) => (regs?.[key] ?? 0n) >> 32n !== 0n);
      return fault(name && regs && `${name} ${hex(regs[name])}: bits 32-63 are reserved`);
    },
  },
};

/** The causes of errors of KVM_SET_GUEST_DEBUG. */
export const SET_GUEST_DEBUG: Reasons = {
  EBUSY: {
    "pending exception": () =>
      only(
        "arch/x86/kvm/x86.c:kvm_arch_vcpu_ioctl_set_guest_debug",
        "control asks for an exception (KVM_GUESTDBG_INJECT_DB or _BP), and one is pending on the vCPU",
      ),
  },
};

/** The causes of errors of KVM_TPR_ACCESS_REPORTING. */
export const TPR_ACCESS_REPORTING: Reasons = {
  EINVAL: {
    flags: (refusal) =>
      fault(unknownBits("flags", sentStruct(refusal, TprAccessCtl)?.flags ?? 0, 0)),
  },
};

/** The causes of errors of KVM_SET_VAPIC_ADDR (arch/x86/kvm/lapic.c:kvm_lapic_set_vapic_addr). */
export const SET_VAPIC_ADDR: Reasons = {
  EINVAL: {
    "no LAPIC": ({ evidence }) => fault(withoutLapic(evidence)),
    "no memory there": (refusal) => {
      const address = sentStruct(refusal, VapicAddr)?.vapicAddr ?? 0n;
      const slots = known(refusal.evidence.vm?.slots);
      if (address === 0n) return undefined;
      return claim(
        slots && slotAt(slots, address, 1n) === undefined,
        `vapicAddr ${hex(address)} is in no memory slot`,
      );
    },
  },
};

const MCG_COUNT = 0xffn;
const MCG_EXT_COUNT = 0xff_0000n;

function mcgCapOf({ argument, sent }: Refusal): bigint | undefined {
  if (isBytes(argument)) {
    return argument.length < 8
      ? undefined
      : new DataView(argument.buffer, argument.byteOffset).getBigUint64(0, true);
  }
  return typeof sent["mcgCap"] === "bigint" ? sent["mcgCap"] : undefined;
}

/** The causes of errors of KVM_X86_SETUP_MCE (arch/x86/kvm/x86.c:kvm_vcpu_ioctl_x86_setup_mce). */
export const X86_SETUP_MCE: Reasons = {
  EINVAL: {
    "number of banks": (refusal) => {
      const cap = mcgCapOf(refusal);
      const most = capability(refusal.evidence, "KVM_CAP_MCE");
      if (cap === undefined || most === undefined || most === 0) return undefined;
      const banks = cap & MCG_COUNT;
      return claim(
        banks === 0n || banks > BigInt(most),
        `mcgCap ${hex(cap)} asks for ${banks} banks, and KVM has 1 to ${most} (KVM_CAP_MCE)`,
      );
    },
    "unsupported bits": (refusal) => {
      const cap = mcgCapOf(refusal) ?? 0n;
      const supported = known(refusal.evidence.kvm?.mceCap);
      const others = cap & ~(MCG_COUNT | MCG_EXT_COUNT);
      if (others === 0n) return undefined;
      if (supported === undefined) {
        return open(
          `mcgCap ${hex(cap)} has the bits ${hex(others)}, which this KVM may not support`,
        );
      }
      const allowedBy = "KVM_X86_GET_MCE_CAP_SUPPORTED returns";
      return fault(unknownBits("mcgCap", others, supported, allowedBy));
    },
  },
};

/** The causes of errors of KVM_X86_SET_MCE (arch/x86/kvm/x86.c:kvm_vcpu_ioctl_x86_set_mce). */
export const X86_SET_MCE: Reasons = {
  EINVAL: {
    "not valid": (refusal) => {
      const status = sentStruct(refusal, X86Mce)?.status;
      return claim(
        status !== undefined && status >> 63n === 0n,
        `status ${hex(status ?? 0n)} lacks bit 63 VAL`,
      );
    },
    "no such bank": (refusal) => {
      const mce = sentStruct(refusal, X86Mce);
      return open(mce && `bank ${mce.bank}: KVM_X86_SETUP_MCE gave this vCPU no such bank`);
    },
    "error refused": (refusal) => {
      const mce = sentStruct(refusal, X86Mce);
      return open(mce && `bank ${mce.bank} does not accept this error`);
    },
  },
};
