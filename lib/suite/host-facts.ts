/** The facts of this host on which the results of claims depend; reports contain them. */
import { readdirSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { type Capability, Kvm, KvmError, vendorModule } from "../index.ts";
import type { HostFacts } from "../report/evidence.ts";

/** The capabilities that claims require, or on which their expectations depend. */
const CAPABILITIES: readonly Capability[] = [
  "KVM_CAP_DISABLE_QUIRKS2",
  "KVM_CAP_ENFORCE_PV_FEATURE_CPUID",
  "KVM_CAP_EXT_EMUL_CPUID",
  "KVM_CAP_GET_MSR_FEATURES",
  "KVM_CAP_HYPERV_CPUID",
  "KVM_CAP_HYPERV_ENFORCE_CPUID",
  "KVM_CAP_HYPERV_ENLIGHTENED_VMCS",
  "KVM_CAP_IRQCHIP",
  "KVM_CAP_MAX_VCPUS",
  "KVM_CAP_MSR_PLATFORM_INFO",
  "KVM_CAP_NESTED_STATE",
  "KVM_CAP_ONE_REG",
  "KVM_CAP_SMALLER_MAXPHYADDR",
  "KVM_CAP_SPLIT_IRQCHIP",
  "KVM_CAP_SYS_HYPERV_CPUID",
  "KVM_CAP_TSC_CONTROL",
  "KVM_CAP_X86_DISABLE_EXITS",
  "KVM_CAP_X86_TRIPLE_FAULT_EVENT",
  "KVM_CAP_XCRS",
  "KVM_CAP_XEN_HVM",
  "KVM_CAP_XSAVE2",
];

/** Reads the facts. Without a usable device, there are no capabilities. */
export function hostFacts(): HostFacts {
  const vendor = vendorModule();
  const modules = ["kvm", ...(vendor === undefined ? [] : [vendor])];
  return {
    cpu: cpus()[0]?.model.trim() ?? "",
    parameters: Object.fromEntries(modules.flatMap(parametersOf)),
    capabilities: capabilities(),
  };
}

/** Reads the parameters of a loaded module, as far as this process may read them. */
function parametersOf(module: string): readonly (readonly [name: string, value: string])[] {
  const folder = join("/sys/module", module, "parameters");
  return namesIn(folder).flatMap((name) => {
    try {
      return [[`${module}.${name}`, readFileSync(join(folder, name), "utf8").trim()] as const];
    } catch {
      // The modes of some parameters allow only root to read them.
      return [];
    }
  });
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    // The module has no parameters, or sysfs is not mounted.
    return [];
  }
}

function capabilities(): Readonly<Record<string, number>> {
  try {
    using kvm = Kvm.open();
    return Object.fromEntries(CAPABILITIES.map((name) => [name, kvm.checkExtension(name)]));
  } catch (error) {
    if (!(error instanceof KvmError)) throw error;
    return {};
  }
}
