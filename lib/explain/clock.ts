/** Explains why KVM refused to change the TSC's frequency, the VM's clock or the paravirtual clock. */
import {
  KVM_CLOCK_HOST_TSC,
  KVM_CLOCK_REALTIME,
  KVM_CLOCK_TSC_STABLE,
  MSR_KVM_SYSTEM_TIME,
  MSR_KVM_SYSTEM_TIME_NEW,
} from "../abi/generated/constants.ts";
import { ClockData } from "../abi/generated/structs.ts";
import { afterVcpu } from "./creation.ts";
import { capability, type Reasons, type Refusal, sentInteger, sentStruct } from "./refusal.ts";
import { claim, fault, only } from "./verdict.ts";
import { hex, unknownBits } from "./wording.ts";

/** The causes of errors of KVM_SET_TSC_KHZ, on a VM and on a vCPU. */
export const SET_TSC_KHZ: Reasons = {
  EINVAL: {
    // KVM has this check since Linux 6.17. On older kernels, only an invalid frequency on a host with TSC scaling
    // causes EINVAL.
    "after the first vCPU": ({ evidence, fd }) => {
      const late = fd === "vm" ? afterVcpu(evidence) : undefined;
      const isProven = capability(evidence, "KVM_CAP_TSC_CONTROL") === 0 || undefined;
      return late === undefined ? undefined : claim(isProven, late);
    },
    "too high for a VM": (refusal) => {
      const khz = sentInteger(refusal);
      const scales = capability(refusal.evidence, "KVM_CAP_TSC_CONTROL");
      if (refusal.fd !== "vm" || khz === undefined || !scales) return undefined;
      const isEarly = afterVcpu(refusal.evidence) === undefined;
      return claim(
        isEarly || undefined,
        `${khz} kHz is higher than the frequencies to which this host can scale its TSC`,
      );
    },
    "too low to catch up": (refusal) => {
      const khz = sentInteger(refusal);
      const scales = capability(refusal.evidence, "KVM_CAP_TSC_CONTROL");
      return claim(
        refusal.fd === "vcpu" && khz !== undefined && scales === 0,
        `${khz} kHz is lower than the frequency of the host's TSC, which this host cannot scale (KVM_CAP_TSC_CONTROL is 0)`,
      );
    },
    "out of reach": (refusal) => {
      const khz = sentInteger(refusal);
      const scales = capability(refusal.evidence, "KVM_CAP_TSC_CONTROL");
      return claim(
        refusal.fd === "vcpu" && khz !== undefined && scales !== undefined && scales !== 0,
        `${khz} kHz is out of reach of this host's TSC scaling`,
      );
    },
  },
};

/** The causes of errors of KVM_KVMCLOCK_CTRL. */
export const KVMCLOCK_CTRL: Reasons = {
  EINVAL: {
    "no kvmclock": () =>
      only(
        "arch/x86/kvm/x86.c:kvm_set_guest_paused",
        "the guest has not enabled kvmclock, by bit 0 of MSR " +
          `${hex(MSR_KVM_SYSTEM_TIME_NEW)} (or ${hex(MSR_KVM_SYSTEM_TIME)})`,
      ),
  },
};

const CLOCK_FLAGS = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;

/** The causes of errors of KVM_SET_CLOCK. */
export const SET_CLOCK: Reasons = {
  EINVAL: { flags: (refusal) => fault(explainClockFlags(refusal)) },
};

function explainClockFlags(refusal: Refusal): string | undefined {
  const clock = sentStruct(refusal, ClockData);
  const allowed = capability(refusal.evidence, "KVM_CAP_ADJUST_CLOCK");
  if (clock === undefined) return undefined;
  // Before Linux 5.16, the value of KVM_CAP_ADJUST_CLOCK is 1 instead of the allowed flags.
  return allowed === undefined || allowed < 2
    ? unknownBits("flags", clock.flags, CLOCK_FLAGS)
    : unknownBits("flags", clock.flags, allowed, "KVM_CAP_ADJUST_CLOCK allows");
}
