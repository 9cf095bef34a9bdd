/** Why time was refused: the TSC's frequency, the VM's clock, and the paravirtual clock. */
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
import { firstOf, hex, unknownBits } from "./wording.ts";

/** The reasons of KVM_SET_TSC_KHZ, on a VM and on a vCPU. */
export const SET_TSC_KHZ: Reasons = { EINVAL: explainFrequency };

function explainFrequency(refusal: Refusal): string | undefined {
  const { evidence, fd } = refusal;
  const khz = sentInteger(refusal);
  if (khz === undefined) return undefined;
  const canScale = capability(evidence, "KVM_CAP_TSC_CONTROL");
  if (fd === "vm") {
    // Since Linux 6.17; before, the only refusal is of a frequency that is too high to scale to.
    return firstOf(
      () => afterVcpu(evidence),
      () => (canScale ? `${khz} kHz is more than this host can scale its TSC to` : undefined),
    );
  }
  if (canScale === undefined) return undefined;
  return canScale === 0
    ? `${khz} kHz is less than the host's TSC has, and this host cannot scale it (KVM_CAP_TSC_CONTROL is 0)`
    : `${khz} kHz is out of reach of this host's TSC scaling`;
}

/** The reasons of KVM_KVMCLOCK_CTRL. */
export const KVMCLOCK_CTRL: Reasons = {
  // The only refusal there is (kvm_set_guest_paused).
  EINVAL: () =>
    "the guest has not switched kvmclock on: it does so by bit 0 of MSR " +
    `${hex(MSR_KVM_SYSTEM_TIME_NEW)} (or ${hex(MSR_KVM_SYSTEM_TIME)})`,
};

const CLOCK_FLAGS = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;

/** The reasons of KVM_SET_CLOCK. */
export const SET_CLOCK: Reasons = {
  EINVAL: (refusal) => {
    const clock = sentStruct(refusal, ClockData);
    const allowed = capability(refusal.evidence, "KVM_CAP_ADJUST_CLOCK");
    if (clock === undefined) return undefined;
    // The capability answered 1 before it answered the flags (5.16).
    return allowed === undefined || allowed < 2
      ? unknownBits("flags", clock.flags, CLOCK_FLAGS)
      : unknownBits("flags", clock.flags, allowed, "KVM_CAP_ADJUST_CLOCK allows");
  },
};
