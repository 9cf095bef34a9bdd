/** What handles can be asked after a refusal, as explain/ wants it. Judging the answers is explain/. */
import type { CapabilityName } from "../abi/generated/constants.ts";
import type { CpuidEntry2, Run, Sregs } from "../abi/generated/structs.ts";
import { KvmError } from "../errors.ts";
import type { IrqchipMode, KvmEvidence, VcpuEvidence, VmEvidence } from "../explain/index.ts";
import { irqfdPlace } from "./irqfds.ts";

/** What is asked of /dev/kvm. */
interface AskedKvm {
  checkExtension(capability: CapabilityName): number;
  getSupportedCpuid(): readonly CpuidEntry2[];
  getMsrs(indices: readonly number[]): readonly { readonly data: bigint }[];
  x86GetMceCapSupported(): bigint;
}

/** What is asked of a VM. */
interface AskedVm {
  readonly closed: boolean;
  checkExtension(capability: CapabilityName): number;
  getIrqchip(chipId: number): unknown;
  getPit2(): unknown;
}

/** What the VM's handle remembers of its life: KVM cannot be asked, or not without changing something. */
export interface VmHistory {
  /** The process that made it. */
  readonly pid: number;
  /** The ids of all vCPUs that were made. */
  readonly vcpuIds: readonly number[];
  /** Which capabilities were switched on, with what. */
  readonly enabled: ReadonlyMap<CapabilityName, readonly bigint[]>;
  /** What KVM_SET_TSS_ADDR was given. */
  readonly tssAddr: bigint | null;
  /** Where the identity map is. */
  readonly identityMapAddr: bigint;
}

/** What is asked of a vCPU. */
interface AskedVcpu {
  readonly id: number;
  getSregs(): Sregs;
  getMsrs(indices: readonly number[]): readonly { readonly data: bigint }[];
}

/** What a vCPU's handle remembers of its life. */
export interface VcpuHistory {
  readonly hasRun: boolean;
  readonly hasEntered: boolean;
  /** The table that it was last given. */
  readonly cpuid: readonly CpuidEntry2[];
  readonly run: Pick<Run, "cr8" | "kvmValidRegs" | "kvmDirtyRegs">;
}

/**
 * The ioctls that a search for a reason issues. None of them changes what the next call sees: the functions
 * of the kernel that answer them only copy. Each vCPU ioctl loads the vCPU, as the refused one did.
 *
 * Not among them, because they do change something: KVM_GET_CPUID2 (it applies pending changes of KVM's own
 * bits, cpuid.c:kvm_update_cpuid_runtime, Linux 6.14), KVM_GET_MP_STATE (kvm_apic_accept_events),
 * KVM_GET_VCPU_EVENTS (process_nmi, and the payload of a pending exception), KVM_GET_LAPIC (sync_pir_to_irr),
 * KVM_GET_NESTED_STATE (it copies the VMCS12 out of the CPU).
 */
export const EVIDENCE_IOCTLS: Readonly<Record<string, string>> = {
  KVM_CHECK_EXTENSION: "virt/kvm/kvm_main.c:kvm_vm_ioctl_check_extension_generic",
  KVM_GET_SUPPORTED_CPUID: "arch/x86/kvm/cpuid.c:kvm_dev_ioctl_get_cpuid, of no VM",
  "KVM_GET_MSRS sys": "arch/x86/kvm/msrs.c:do_get_feature_msr, of no VM",
  KVM_X86_GET_MCE_CAP_SUPPORTED: "arch/x86/kvm/x86.c:kvm_arch_dev_ioctl, of no VM",
  KVM_GET_IRQCHIP: "arch/x86/kvm/irq.c:kvm_vm_ioctl_get_irqchip, of the PIC",
  KVM_GET_PIT2: "arch/x86/kvm/i8254.c:kvm_vm_ioctl_get_pit2",
  KVM_GET_SREGS: "arch/x86/kvm/x86.c:__get_sregs, which fills the cache of registers",
  "KVM_GET_MSRS vcpu": "arch/x86/kvm/msrs.c:do_get_msr, of the MSR that was refused",
};

const supported = new WeakMap<object, readonly CpuidEntry2[]>();
let kvms: WeakRef<object>[] = [];

/** Remembers the answer of KVM_GET_SUPPORTED_CPUID, which takes 13 ms in a virtual machine. */
function supportedCpuid(kvm: AskedKvm): readonly CpuidEntry2[] {
  const known = supported.get(kvm);
  if (known !== undefined) return known;
  const table = kvm.getSupportedCpuid();
  supported.set(kvm, table);
  kvms.push(new WeakRef(kvm));
  return table;
}

/** Forgets it, for all: a permission changes what KVM supports for guests of this process. */
export function forgetSupportedCpuid(): void {
  for (const kvm of kvms) supported.delete(kvm.deref() ?? kvm);
  kvms = [];
}

/** Asks /dev/kvm. */
export function evidenceOf(kvm: AskedKvm): KvmEvidence {
  return {
    check: (capability) => kvm.checkExtension(capability),
    supportedCpuid: () => supportedCpuid(kvm),
    featureMsr: (index) => kvm.getMsrs([index])[0]?.data,
    mceCap: () => kvm.x86GetMceCapSupported(),
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
    tssAddr: () => history.tssAddr,
    identityMapAddr: () => history.identityMapAddr,
    irqfdPlace: (file) => irqfdPlace(file, vm),
  };
}

function irqchipOf(vm: AskedVm, { enabled }: VmHistory): IrqchipMode | undefined {
  if (enabled.has("KVM_CAP_SPLIT_IRQCHIP")) return "split";
  return { ok: "kernel", ENXIO: "none" }[codeOf(() => vm.getIrqchip(0))] as IrqchipMode | undefined;
}

/** Asks a vCPU, when it does not run. Its LAPIC is in the kernel when the VM has any, as irqchips come first. */
export function evidenceOfVcpu(
  vcpu: AskedVcpu,
  vm: VmEvidence | undefined,
  history: () => VcpuHistory,
): VcpuEvidence {
  return {
    id: vcpu.id,
    hasRun: () => history().hasRun,
    hasEntered: () => history().hasEntered,
    cpuid: () => history().cpuid,
    sregs: () => vcpu.getSregs(),
    hasLapic: () => {
      const mode = vm?.irqchip?.();
      return mode === undefined ? undefined : mode !== "none";
    },
    msr: (index) => vcpu.getMsrs([index])[0]?.data,
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
