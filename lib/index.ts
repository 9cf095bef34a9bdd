/** The public face: the handles, exits and errors. Tables are `node-kvm/cpuid`, guest code `node-kvm/guest`. */
export { type CpuidFieldName, CpuidTable, fromSupported } from "./cpuid/index.ts";
export {
  errnoName,
  KvmError,
  type KvmErrorInit,
  STATE_ERRORS,
  StateError,
  type StateErrorCode,
} from "./errors.ts";
export type { Capability, EnableCapInput } from "./kvm/capability.ts";
export { type CpuidEntry2Input, KVM_MAX_CPUID_ENTRIES } from "./kvm/cpuid2.ts";
export type * from "./kvm/exit.ts";
export { GuestMemory } from "./kvm/guest-memory.ts";
export { type CallContext, Handle, type IoctlArgument } from "./kvm/handle.ts";
export { kernelRelease, type VendorModule, vendorModule } from "./kvm/host.ts";
export { defaultDevice, Kvm } from "./kvm/kvm.ts";
export { type SetCpuid2Options, Vcpu } from "./kvm/vcpu.ts";
export type { SaveStateOptions } from "./kvm/vcpu-state.ts";
export { type UserspaceMemoryRegion, Vm } from "./kvm/vm.ts";
export * from "./state/index.ts";
export { Sandbox, type SandboxOptions } from "./vmm/sandbox.ts";
