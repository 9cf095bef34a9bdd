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
export type {
  Capability,
  EnableCapInput,
  FileCap,
  NamedCap,
  RawCap,
} from "./kvm/calls/capability.ts";
export { type CpuidEntry2Input, KVM_MAX_CPUID_ENTRIES } from "./kvm/calls/cpuid2.ts";
export type { Attribute } from "./kvm/calls/device-attr.ts";
export type { HypervEventfdInput, IoeventfdInput, IrqfdInput } from "./kvm/calls/eventfds.ts";
export type { EncRegionInput, MemoryEncryptCommand } from "./kvm/calls/memory-encrypt.ts";
export type { MsrFilterInput, MsrFilterRange } from "./kvm/calls/msr-filter.ts";
export type { XenBlobs, XenHvmFiles } from "./kvm/calls/xen.ts";
export { Device } from "./kvm/device.ts";
export type {
  IoInExit,
  IoOutExit,
  MmioReadExit,
  MmioWriteExit,
  RdmsrExit,
  WrmsrExit,
} from "./kvm/exits/access.ts";
export type {
  BareExit,
  DebugExit,
  EmulationFailure,
  ExceptionExit,
  FailEntryExit,
  HwExit,
  InternalErrorExit,
  IoapicEoiExit,
  MemoryFaultExit,
  NotifyExit,
  SetTprExit,
  SystemEventExit,
  TprAccessExit,
} from "./kvm/exits/event.ts";
export type { Exit } from "./kvm/exits/exit.ts";
export { explainExit } from "./kvm/exits/explain.ts";
export type {
  HypercallExit,
  HypervHcallExit,
  HypervSyndbgExit,
  HypervSynicExit,
  SnpReqCertsExit,
  TdxCall,
  TdxGetQuoteExit,
  TdxGetTdvmcallInfoExit,
  TdxReply,
  TdxSetupEventNotifyExit,
  TdxTdvmcallInfo,
  TdxUnknownExit,
  XenExit,
} from "./kvm/exits/hypercall.ts";
export type { UnknownExit } from "./kvm/exits/source.ts";
export { type CallContext, Handle, type IoctlArgument } from "./kvm/handle.ts";
export { kernelRelease, type VendorModule, vendorModule } from "./kvm/host.ts";
export { EventFd, SevDevice } from "./kvm/host-file.ts";
export { defaultDevice, Kvm, type OpenOptions } from "./kvm/kvm.ts";
export type { CommandLink, LinkValue, MemoryLink, OpenFile } from "./kvm/link.ts";
export { AddressSpace, type MemoryPlace, type MemorySlot } from "./kvm/memory/address-space.ts";
export type { DirtyRange } from "./kvm/memory/dirty-log.ts";
export { type DirtyGfn, DirtyRing, dirtyAddresses, dirtyPages } from "./kvm/memory/dirty-pages.ts";
export { GuestMemfd } from "./kvm/memory/guest-memfd.ts";
export {
  GuestMemory,
  type GuestMemoryAdvice,
  type GuestMemoryOptions,
  type MapFileOptions,
} from "./kvm/memory/guest-memory.ts";
export type { UserspaceMemoryRegion, UserspaceMemoryRegion2 } from "./kvm/memory/memory-slots.ts";
export type { AbortOptions } from "./kvm/run/abortable.ts";
export { CoalescedRing, type CoalescedWrite, type TakeWrite } from "./kvm/run/coalesced-ring.ts";
export type { ExitRule, MmioRule, MsrRule, PioRule } from "./kvm/run/exit-filter.ts";
export { kickVcpu } from "./kvm/run/kick.ts";
export { RunPage } from "./kvm/run/run-page.ts";
export type { RunSyncOptions } from "./kvm/run/runner.ts";
export type { RestoreStateOptions, SaveStateOptions } from "./kvm/state/vcpu-state.ts";
export { Stats, type StatsDescriptor } from "./kvm/stats.ts";
export { type SetCpuid2Options, Vcpu } from "./kvm/vcpu.ts";
export { Vm } from "./kvm/vm.ts";
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
