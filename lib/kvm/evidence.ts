/**
 * Gathers evidence from handles after a failed call, in the form that explain/ needs. The rules in explain/ judge the
 * evidence.
 */
import type { CapabilityName } from "../abi/generated/names.ts";
import type { CpuidEntry2, Run, Sregs } from "../abi/generated/structs.ts";
import { KvmError } from "../errors.ts";
import type { IrqchipMode, KvmEvidence, VcpuEvidence, VmEvidence } from "../explain/index.ts";
import type { VmHistory } from "./history.ts";
import { irqfdPlace } from "./irqfds.ts";

/** The ioctls of /dev/kvm that provide evidence. */
interface KvmSource {
  checkExtension(capability: CapabilityName): number;
  getSupportedCpuid(): readonly CpuidEntry2[];
  getMsrs(indices: readonly number[]): readonly { readonly data: bigint }[];
  x86GetMceCapSupported(): bigint;
}

/** The ioctls of a VM that provide evidence. */
interface VmSource {
  readonly closed: boolean;
  checkExtension(capability: CapabilityName): number;
  getIrqchip(chipId: number): unknown;
  getPit2(): unknown;
}

/** The ioctls of a vCPU that provide evidence. */
interface VcpuSource {
  readonly id: number;
  getSregs(): Sregs;
  getMsrs(indices: readonly number[]): readonly { readonly data: bigint }[];
}

/** The history of a vCPU, as recorded by the vCPU's handle. */
export interface VcpuHistory {
  readonly hasRun: boolean;
  readonly hasEntered: boolean;
  /** The last CPUID table that KVM has accepted or returned. */
  readonly cpuid: readonly CpuidEntry2[];
  readonly run: Pick<Run, "cr8" | "kvmValidRegs" | "kvmDirtyRegs">;
}

/**
 * The ioctls that are issued to find a reason. These ioctls do not change the result of a later call, because their
 * functions in the kernel only copy data. Each of the vCPU ioctls loads the vCPU, as the failed call did.
 *
 * The following ioctls are not used, because they have side effects:
 *
 * - KVM_GET_CPUID2 applies pending changes of KVM's own bits (cpuid.c:kvm_update_cpuid_runtime, Linux 6.14)
 * - KVM_GET_MP_STATE processes pending INITs and SIPIs (kvm_apic_accept_events)
 * - KVM_GET_VCPU_EVENTS processes pending NMIs (process_nmi), and delivers the payload of a pending exception
 * - KVM_GET_LAPIC moves posted interrupts into the IRR (sync_pir_to_irr)
 * - KVM_GET_NESTED_STATE copies the VMCS12 out of the CPU
 */
export const EVIDENCE_IOCTLS: Readonly<Record<string, string>> = {
  KVM_CHECK_EXTENSION: "virt/kvm/kvm_main.c:kvm_vm_ioctl_check_extension_generic",
  KVM_GET_SUPPORTED_CPUID: "arch/x86/kvm/cpuid.c:kvm_dev_ioctl_get_cpuid, of no VM",
  "KVM_GET_MSRS sys": "arch/x86/kvm/msrs.c:do_get_feature_msr, of no VM",
  KVM_X86_GET_MCE_CAP_SUPPORTED: "arch/x86/kvm/x86.c:kvm_arch_dev_ioctl, of no VM",
  KVM_GET_IRQCHIP: "arch/x86/kvm/irq.c:kvm_vm_ioctl_get_irqchip, of the PIC",
  KVM_GET_PIT2: "arch/x86/kvm/i8254.c:kvm_vm_ioctl_get_pit2",
  KVM_GET_SREGS: "arch/x86/kvm/x86.c:__get_sregs, which fills the cache of registers",
  "KVM_GET_MSRS vcpu": "arch/x86/kvm/msrs.c:do_get_msr, for the MSR that was refused",
};

const supported = new WeakMap<object, readonly CpuidEntry2[]>();
let kvms: WeakRef<object>[] = [];

/** Caches the result of KVM_GET_SUPPORTED_CPUID, which takes 13 ms in a virtual machine. */
function supportedCpuid(kvm: KvmSource): readonly CpuidEntry2[] {
  const known = supported.get(kvm);
  if (known !== undefined) return known;
  const table = kvm.getSupportedCpuid();
  supported.set(kvm, table);
  kvms.push(new WeakRef(kvm));
  return table;
}

/**
 * Clears all cached results, because a permission changes the features that KVM supports for guests of this process.
 */
export function clearSupportedCpuid(): void {
  for (const kvm of kvms) supported.delete(kvm.deref() ?? kvm);
  kvms = [];
}

/** Gathers evidence from /dev/kvm. */
export function evidenceOf(kvm: KvmSource): KvmEvidence {
  return {
    check: (capability) => kvm.checkExtension(capability),
    supportedCpuid: () => supportedCpuid(kvm),
    featureMsr: (index) => kvm.getMsrs([index])[0]?.data,
    mceCap: () => kvm.x86GetMceCapSupported(),
  };
}

/** Gathers evidence from a VM. */
export function evidenceOfVm(
  vm: VmSource,
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

function irqchipOf(vm: VmSource, { enabled }: VmHistory): IrqchipMode | undefined {
  if (enabled.has("KVM_CAP_SPLIT_IRQCHIP")) return "split";
  return { ok: "kernel", ENXIO: "none" }[codeOf(() => vm.getIrqchip(0))] as IrqchipMode | undefined;
}

/**
 * Gathers evidence from a vCPU that does not run. If the VM has a LAPIC in the kernel, so has each vCPU, because the
 * irqchip must be created before vCPUs.
 */
export function evidenceOfVcpu(
  vcpu: VcpuSource,
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

/** Returns the errno of a call, or "ok". */
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
