/** The entry `node-kvm/lab`: the kernels that the lab can boot, and runs of the suite on them in emulated machines. */
export {
  type CampaignOptions,
  defaultParallel,
  type Lane,
  type LaneStart,
  type LaneStep,
  runCampaign,
} from "./campaign.ts";
export { LAB_ERRORS, LabError, type LabErrorCode } from "./error.ts";
export type { FetchProgress } from "./kernels/kernel-entry.ts";
export {
  type FetchOptions,
  fetchKernel,
  type Kernel,
  type KernelOptions,
  type KernelRow,
  listKernels,
  ownKernel,
} from "./kernels/kernels.ts";
export { type ModuleParam, parseModuleParams } from "./kernels/module-params.ts";
export type { EmulatorName, MachineStart } from "./machine/machine.ts";
