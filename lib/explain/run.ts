/** Why KVM_RUN did not run, and KVM_SET_SIGNAL_MASK was refused. What an exit says is kvm/exit.ts. */
import {
  KVM_MP_STATE_UNINITIALIZED,
  KVM_SYNC_X86_EVENTS,
  KVM_SYNC_X86_REGS,
  KVM_SYNC_X86_SREGS,
} from "../abi/generated/constants.ts";
import { SignalMask } from "../abi/generated/structs.ts";
import { capability, known, type Reasons, type Refusal, sentStruct } from "./refusal.ts";
import { type BitNames, firstOf, hex, unknownBits } from "./wording.ts";

const SYNC_NAMES: BitNames = Object.fromEntries(
  [
    ["REGS", KVM_SYNC_X86_REGS],
    ["SREGS", KVM_SYNC_X86_SREGS],
    ["EVENTS", KVM_SYNC_X86_EVENTS],
  ].map(([name, mask]) => [Math.log2(Number(mask)), `${name}`]),
);

/** The reasons of KVM_RUN. */
export const RUN: Reasons = {
  EINVAL: explainInvalid,
  EAGAIN: ({ evidence: { vcpu } }) =>
    known(vcpu?.mpState) === KVM_MP_STATE_UNINITIALIZED
      ? "the vCPU waits for INIT and SIPI from another (KVM_MP_STATE_UNINITIALIZED)"
      : undefined,
  EFAULT: () =>
    "KVM says so when there is no host page behind memory that the guest used: a slot's memory is " +
    "gone, or read-only on the host",
  EHWPOISON: () => "the host page behind memory that the guest used is broken (a hardware error)",
};

function explainInvalid(refusal: Refusal): string | undefined {
  const { vcpu, vm } = refusal.evidence;
  const run = known(vcpu?.run);
  if (run === undefined) return undefined;
  const fields = capability(refusal.evidence, "KVM_CAP_SYNC_REGS");
  const says = "KVM_CAP_SYNC_REGS allows";
  return firstOf(
    () =>
      fields === undefined
        ? undefined
        : firstOf(
            () => unknownBits("kvmValidRegs", run.kvmValidRegs, fields, says, SYNC_NAMES),
            () => unknownBits("kvmDirtyRegs", run.kvmDirtyRegs, fields, says, SYNC_NAMES),
          ),
    // What was refused stays dirty; what was taken does not (kvm_run_sync_regs_from_user).
    () =>
      (run.kvmDirtyRegs & BigInt(KVM_SYNC_X86_SREGS)) === 0n
        ? undefined
        : "kvmDirtyRegs hands over special registers that cannot be, as KVM_SET_SREGS would refuse them",
    () =>
      (run.kvmDirtyRegs & BigInt(KVM_SYNC_X86_EVENTS)) === 0n
        ? undefined
        : "kvmDirtyRegs hands over events that cannot be, as KVM_SET_VCPU_EVENTS would refuse them",
    () =>
      known(vm?.irqchip) === "none" && run.cr8 > 15n
        ? `cr8 ${hex(run.cr8)}: the task priority has four bits`
        : undefined,
  );
}

/** The reasons of KVM_SET_SIGNAL_MASK. */
export const SET_SIGNAL_MASK: Reasons = {
  EINVAL: (refusal) => {
    const mask = sentStruct(refusal, SignalMask);
    return mask && mask.len !== 8
      ? `len ${mask.len}: the kernel's signal set has 8 bytes`
      : undefined;
  },
};
