/** The life-cycle model of `node-kvm/oracle`: it predicts KVM's answer to each of a list of operations. */
export {
  changesOf,
  KERNEL_ROW_NAMES,
  KERNEL_ROWS,
  type KernelRowFacts,
  type KernelRowName,
} from "./kernel-rows.ts";
export { LifecycleModel, type LifecycleStep } from "./model.ts";
export { NOT_MODELLED } from "./not-modelled.ts";
export {
  type Cr4BitName,
  type LifecycleAnswer,
  type LifecycleCall,
  type LifecycleOperation,
  sameAnswer,
} from "./operation.ts";
export { LIFECYCLE_RULES, type LifecycleRules, type RuleChanges, type RunHow } from "./rules.ts";
export {
  LIFECYCLE_STAGE_NAMES,
  LIFECYCLE_STAGES,
  type LifecycleStageDecision,
  type LifecycleStageFacts,
  type LifecycleStageName,
  lifecycleStageOf,
} from "./stages.ts";
export {
  FRESH_VCPU,
  freshVm,
  type LifecycleHost,
  type LifecycleVcpu,
  type LifecycleVm,
  type LifecycleVmOptions,
  lifecycleHost,
} from "./state.ts";
