/** Explains why KVM_RUN or KVM_SET_SIGNAL_MASK was refused. exit.ts explains exits. */
import {
  KVM_SYNC_X86_EVENTS,
  KVM_SYNC_X86_REGS,
  KVM_SYNC_X86_SREGS,
} from "../abi/generated/constants.ts";
import { SignalMask } from "../abi/generated/structs.ts";
import type { BitNames } from "../oracle/bits.ts";
import {
  capability,
  type Evidence,
  known,
  type Reasons,
  type Rule,
  sentStruct,
  type VcpuEvidence,
} from "./refusal.ts";
import { claim, fault, only, open } from "./verdict.ts";
import { hex, unknownBits } from "./wording.ts";

const SYNC_NAMES: BitNames = Object.fromEntries(
  [
    ["REGS", KVM_SYNC_X86_REGS],
    ["SREGS", KVM_SYNC_X86_SREGS],
    ["EVENTS", KVM_SYNC_X86_EVENTS],
  ].map(([name, mask]) => [Math.log2(Number(mask)), `${name}`]),
);

type Run = NonNullable<ReturnType<NonNullable<VcpuEvidence["run"]>>>;

/** Judges the fields of `kvm_run` that KVM_RUN reads, if they are known. */
const run =
  (judge: (run: Run, evidence: Evidence) => ReturnType<Rule>): Rule =>
  ({ evidence }) => {
    const found = known(evidence.vcpu?.run);
    return found && judge(found, evidence);
  };

const syncFields = (name: "kvmValidRegs" | "kvmDirtyRegs"): Rule =>
  run((found, evidence) => {
    const fields = capability(evidence, "KVM_CAP_SYNC_REGS");
    if (fields === undefined) return undefined;
    return fault(unknownBits(name, found[name], fields, "KVM_CAP_SYNC_REGS allows", SYNC_NAMES));
  });

/** The causes of errors of KVM_RUN. */
export const RUN: Reasons = {
  EINVAL: {
    "valid registers": syncFields("kvmValidRegs"),
    "dirty registers": syncFields("kvmDirtyRegs"),
    // kvm_run_sync_regs_from_user clears the dirty bits of registers that KVM accepts. The dirty bits of refused
    // registers stay set.
    "special registers": run(({ kvmDirtyRegs }) =>
      claim(
        (kvmDirtyRegs & BigInt(KVM_SYNC_X86_SREGS)) !== 0n,
        "kvmDirtyRegs passes special registers that KVM_SET_SREGS would refuse",
      ),
    ),
    events: run(({ kvmDirtyRegs }) =>
      claim(
        (kvmDirtyRegs & BigInt(KVM_SYNC_X86_EVENTS)) !== 0n,
        "kvmDirtyRegs passes events that KVM_SET_VCPU_EVENTS would refuse",
      ),
    ),
    "task priority": run(({ cr8 }, { vm }) =>
      claim(
        known(vm?.irqchip) === "none" && cr8 > 15n,
        `cr8 ${hex(cr8)}: the task priority has four bits`,
      ),
    ),
  },
  EAGAIN: {
    "not started": () =>
      only(
        "arch/x86/kvm/x86.c:kvm_arch_vcpu_ioctl_run",
        "the vCPU waits for INIT and SIPI from another (KVM_MP_STATE_UNINITIALIZED)",
      ),
  },
  EFAULT: {
    "no host page": () =>
      open("memory that the guest accessed has no host page: the slot's memory was unmapped"),
    "read-only host page": () => open("the guest wrote to memory whose host page is read-only"),
  },
  EHWPOISON: {
    "broken page": () =>
      only(
        "api.rst 4.10: KVM_RUN, EHWPOISON",
        "the host page behind memory that the guest accessed is broken (a hardware error)",
      ),
  },
};

/** The causes of errors of KVM_SET_SIGNAL_MASK. */
export const SET_SIGNAL_MASK: Reasons = {
  EINVAL: {
    length: (refusal) => {
      const { len = 8 } = sentStruct(refusal, SignalMask) ?? {};
      return claim(len !== 8, `len ${len}: the kernel's signal set has 8 bytes`);
    },
  },
};
