/**
 * The package's main entry: handles, exits and errors. CPUID tables are `node-kvm/cpuid`, guest code `node-kvm/guest`.
 */
export {
  type CheckCpuidOptions,
  type CpuidFieldName,
  type CpuidFinding,
  type CpuidRuleName,
  CpuidTable,
  checkCpuid,
  fromSupported,
} from "./cpuid/index.ts";
export {
  errnoName,
  KvmError,
  type KvmErrorInput,
  STATE_ERRORS,
  StateError,
  type StateErrorCode,
} from "./errors.ts";
export { inspectable } from "./inspect.ts";
export type { Capability, EnableCapInput, FileCap, NamedCap, RawCap } from "./kvm/capability.ts";
export { type CpuidEntry2Input, KVM_MAX_CPUID_ENTRIES } from "./kvm/cpuid2.ts";
export { Device } from "./kvm/device.ts";
export type { Attribute } from "./kvm/device-attr.ts";
export type * from "./kvm/exits/exit.ts";
export { explainExit } from "./kvm/exits/explain-exit.ts";
export { type CallContext, Handle, type IoctlArgument } from "./kvm/handle.ts";
export { kernelRelease, type VendorModule, vendorModule } from "./kvm/host.ts";
export { EventFd, SevDevice } from "./kvm/host-file.ts";
export { defaultDevice, Kvm, type OpenOptions } from "./kvm/kvm.ts";
export type { CommandLink, LinkValue, MemoryLink, OpenFile } from "./kvm/link.ts";
export { AddressSpace, type MemoryPlace, type MemorySlot } from "./kvm/memory/address-space.ts";
export { type DirtyGfn, DirtyRing, dirtyAddresses, dirtyPages } from "./kvm/memory/dirty-pages.ts";
export { GuestMemfd } from "./kvm/memory/guest-memfd.ts";
export {
  GuestMemory,
  type GuestMemoryAdvice,
  type GuestMemoryOptions,
  type MapFileOptions,
} from "./kvm/memory/guest-memory.ts";
export type { MemoryEncryptCommand } from "./kvm/memory-encrypt.ts";
export type { AbortOptions } from "./kvm/run/abortable.ts";
export { CoalescedRing, type CoalescedWrite, type TakeWrite } from "./kvm/run/coalesced-ring.ts";
export type { ExitRule, MmioRule, MsrRule, PioRule } from "./kvm/run/exit-filter.ts";
export { RunPage } from "./kvm/run/run-page.ts";
export type { RestoreStateOptions, SaveStateOptions } from "./kvm/state/vcpu-state.ts";
export { Stats, type StatsDescriptor } from "./kvm/stats.ts";
export { type SetCpuid2Options, Vcpu } from "./kvm/vcpu.ts";
export { kickVcpu, type RunSyncOptions } from "./kvm/vcpu-runs.ts";
export { type MsrFilterInput, type MsrFilterRange, Vm } from "./kvm/vm.ts";
export type { EncRegionInput, IoeventfdInput, IrqfdInput } from "./kvm/vm-devices.ts";
export type {
  DirtyRange,
  UserspaceMemoryRegion,
  UserspaceMemoryRegion2,
} from "./kvm/vm-memory.ts";
export * from "./state/index.ts";
export {
  type MappedRamRegion,
  mapRam,
  Ram,
  type RamLayout,
  type RamOptions,
  type RamRegion,
  ramRegions,
} from "./vmm/ram.ts";
export { Sandbox, type SandboxOptions } from "./vmm/sandbox.ts";
