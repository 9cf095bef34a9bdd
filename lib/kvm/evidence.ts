/** What handles can be asked after a refusal, as explain/ wants it. Judging the answers is explain/. */
import type { CapabilityName } from "../abi/generated/constants.ts";
import type { CpuidEntry2, Run, Sregs, VcpuEvents } from "../abi/generated/structs.ts";
import { KvmError } from "../errors.ts";
import type { IrqchipMode, KvmEvidence, VcpuEvidence, VmEvidence } from "../explain/index.ts";

/** What is asked of /dev/kvm. */
interface AskedKvm {
  checkExtension(capability: CapabilityName): number;
  getSupportedCpuid(): readonly CpuidEntry2[];
}

/** What is asked of a VM. */
interface AskedVm {
  checkExtension(capability: CapabilityName): number;
  getIrqchip(chipId: number): unknown;
  getPit2(): unknown;
}

/** What the VM's handle remembers of its life. */
export interface VmHistory {
  /** The process that made it. */
  readonly pid: number;
  /** The ids of all vCPUs that were made. */
  readonly vcpuIds: readonly number[];
  /** Which capabilities were switched on, with what. */
  readonly enabled: ReadonlyMap<CapabilityName, readonly bigint[]>;
}

/** What is asked of a vCPU. */
interface AskedVcpu {
  readonly id: number;
  getCpuid2(): readonly CpuidEntry2[];
  getSregs(): Sregs;
  getVcpuEvents(): VcpuEvents;
  getMpState(): number;
  getLapic(): Uint8Array;
  getMsrs(indices: readonly number[]): readonly { readonly data: bigint }[];
  getNestedState(): Uint8Array;
}

/** What a vCPU's handle remembers of its life. */
export interface VcpuHistory {
  readonly hasRun: boolean;
  readonly hasEntered: boolean;
  readonly run: Pick<Run, "cr8" | "kvmValidRegs" | "kvmDirtyRegs">;
}

/** Asks /dev/kvm. */
export function evidenceOf(kvm: AskedKvm): KvmEvidence {
  return {
    check: (capability) => kvm.checkExtension(capability),
    supportedCpuid: () => kvm.getSupportedCpuid(),
  };
}

/** Asks a VM. */
export function evidenceOfVm(
  vm: AskedVm,
  history: VmHistory,
  slots: NonNullable<VmEvidence["slots"]>,
): VmEvidence {
  return {
    isForeign: () => history.pid !== process.pid,
    isDead: () => codeOf(() => vm.checkExtension("KVM_CAP_USER_MEMORY")) === "EIO",
    check: (capability) => vm.checkExtension(capability),
    slots,
    vcpuIds: () => history.vcpuIds,
    irqchip: () => irqchipOf(vm, history),
    hasPit: () => answered(() => vm.getPit2()),
    enabled: () => history.enabled,
  };
}

function irqchipOf(vm: AskedVm, { enabled }: VmHistory): IrqchipMode | undefined {
  if (enabled.has("KVM_CAP_SPLIT_IRQCHIP")) return "split";
  return { ok: "kernel", ENXIO: "none" }[codeOf(() => vm.getIrqchip(0))] as IrqchipMode | undefined;
}

/** Asks a vCPU, when it does not run. */
export function evidenceOfVcpu(vcpu: AskedVcpu, history: () => VcpuHistory): VcpuEvidence {
  return {
    id: vcpu.id,
    hasRun: () => history().hasRun,
    hasEntered: () => history().hasEntered,
    cpuid: () => vcpu.getCpuid2(),
    sregs: () => vcpu.getSregs(),
    events: () => vcpu.getVcpuEvents(),
    mpState: () => vcpu.getMpState(),
    hasLapic: () => answered(() => vcpu.getLapic()),
    msr: (index) => vcpu.getMsrs([index])[0]?.data,
    nestedFormat: () => {
      const state = vcpu.getNestedState();
      return new DataView(state.buffer, state.byteOffset).getUint16(2, true);
    },
    run: () => history().run,
  };
}

/** The errno of a call, or "ok". */
function codeOf(call: () => unknown): string {
  try {
    call();
    return "ok";
  } catch (error) {
    if (error instanceof KvmError) return error.code;
    throw error;
  }
}

function answered(call: () => unknown): boolean {
  return codeOf(call) === "ok";
}
