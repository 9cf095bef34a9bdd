/**
 * The entry `node-kvm`: handles, guest memory, exits and errors, and the CPUID table that most programs need. The other
 * entries of this package are: `/abi`, `/cpuid`, `/explore`, `/guest`, `/lab`, `/machine`, `/report`, `/state`, `/trace`,
 * `/worker`.
 */
export { fromSupported } from "./cpuid/builder.ts";
export { CpuidTable } from "./cpuid/table.ts";
export {
  AddonError,
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
  FileCapInput,
  NamedCapInput,
  PlainCapInput,
  RawCapInput,
} from "./kvm/calls/capability.ts";
export type { DeviceAttrInput } from "./kvm/calls/device-attr.ts";
export type { HypervEventfdInput, IoeventfdInput, IrqfdInput } from "./kvm/calls/eventfds.ts";
export type { EncRegionInput, MemoryEncryptOpInput } from "./kvm/calls/memory-encrypt.ts";
export type { MsrFilterInput, MsrFilterRangeInput } from "./kvm/calls/msr-filter.ts";
export type { XenBlobsInput, XenHvmFilesInput } from "./kvm/calls/xen.ts";
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
  TdxTdvmcallInfoInput,
  TdxUnknownExit,
  XenHcallExit,
} from "./kvm/exits/hypercall.ts";
export type { UnknownExit } from "./kvm/exits/source.ts";
export { Handle, type IoctlArgument, type IoctlOptions } from "./kvm/handle.ts";
export { type VendorModule, vendorModule } from "./kvm/host.ts";
export { hostCpuid } from "./kvm/host-cpuid.ts";
export { EventFd, SevDevice } from "./kvm/host-file.ts";
export { defaultDevice, Kvm, type OpenOptions } from "./kvm/kvm.ts";
export type { CommandLinkInput, LinkInput, MemoryLinkInput, OpenFile } from "./kvm/link.ts";
export { AddressSpace, type MemoryPlace, type MemorySlot } from "./kvm/memory/address-space.ts";
export type { ClearDirtyLogInput } from "./kvm/memory/dirty-log.ts";
export { type DirtyPage, DirtyRing, dirtyAddresses, dirtyPages } from "./kvm/memory/dirty-pages.ts";
export { GuestMemfd } from "./kvm/memory/guest-memfd.ts";
export {
  GuestMemory,
  type GuestMemoryAdvice,
  type GuestMemoryOptions,
  type MapFileOptions,
} from "./kvm/memory/guest-memory.ts";
export type {
  UserspaceMemoryRegion2Input,
  UserspaceMemoryRegionInput,
} from "./kvm/memory/memory-slots.ts";
export type { AbortOptions } from "./kvm/run/abortable.ts";
export { CoalescedRing, type CoalescedWrite, type TakeWrite } from "./kvm/run/coalesced-ring.ts";
export type {
  ExitRuleInput,
  MmioRuleInput,
  MsrRuleInput,
  PioRuleInput,
} from "./kvm/run/exit-filter.ts";
export { kickVcpu } from "./kvm/run/kick.ts";
export { RunPage } from "./kvm/run/run-page.ts";
export type { RunSyncOptions } from "./kvm/run/runner.ts";
export type { RestoreStateOptions, SaveStateOptions } from "./kvm/state/vcpu-state.ts";
export { Stats, type StatsDescriptor } from "./kvm/stats.ts";
export { type SetCpuid2Options, Vcpu } from "./kvm/vcpu.ts";
export { Vm } from "./kvm/vm.ts";
