/**
 * The entry `node-kvm/oracle`: rules for the values that KVM accepts, and for the values that KVM changes. Each rule
 * names the kernel function that implements it, and returns its verdict as data. The oracle makes no system call, and
 * works on any system.
 */
import type { SregsFinding } from "./control-registers.ts";
import type { MsrFinding } from "./msrs.ts";
import type { GetCpuidFinding, SetCpuidFinding } from "./set-cpuid2.ts";
import type { SetXcrsFinding, XsaveFinding } from "./xsave.ts";

export type { BitNames, ForbiddenBits, ReservedBits } from "./bits.ts";
export {
  type Contradiction,
  CR4_BITS,
  EFER_BITS,
  type SpecialRegisters,
  SREGS_RULES,
  SREGS2_RULES,
  type Sregs2Asked,
  type SregsAsked,
  type SregsFinding,
  type X2apicFinding,
} from "./control-registers.ts";
export type { ControlBit, FeatureMsrFinding } from "./feature-msrs.ts";
export {
  type BitFinding,
  type FeatureBits,
  type FeatureBitsFinding,
  type MissingFeature,
  physicalBits,
  type WideAddress,
} from "./features.ts";
export {
  type Cr4BitName,
  changesOf,
  FRESH_VCPU,
  freshVm,
  KERNEL_ROW_NAMES,
  KERNEL_ROWS,
  type KernelRowFacts,
  type KernelRowName,
  LIFECYCLE_RULES,
  LIFECYCLE_STAGE_NAMES,
  LIFECYCLE_STAGES,
  type LifecycleAnswer,
  type LifecycleCall,
  type LifecycleHost,
  LifecycleModel,
  type LifecycleOperation,
  type LifecycleRules,
  type LifecycleStageDecision,
  type LifecycleStageFacts,
  type LifecycleStageName,
  type LifecycleStep,
  type LifecycleVcpu,
  type LifecycleVm,
  type LifecycleVmOptions,
  lifecycleHost,
  lifecycleStageOf,
  NOT_MODELLED,
  type RuleChanges,
  type RunHow,
  sameAnswer,
} from "./lifecycle/index.ts";
export type { MsrAccess } from "./msr-access.ts";
export { MSR_RULES, type MsrFinding } from "./msrs.ts";
export type { PvMsrFinding } from "./pv-msrs.ts";
export { isOwned, KVM_OWNED, type KvmOwned } from "./runtime-bits.ts";
export {
  GET_CPUID_RULES,
  type GetCpuidFinding,
  SET_CPUID_RULES,
  type SetCpuidAsked,
  type SetCpuidFinding,
  VIRTUAL_ADDRESS_WIDTHS,
  XTILE_DATA,
} from "./set-cpuid2.ts";
export { TRAITS, type Trait, type TraitFacts } from "./traits.ts";
export { apply, type Rule, type Rules, type RuleVerdict } from "./verdict.ts";
export {
  GET_XSAVE_RULES,
  SET_XCRS_RULES,
  SET_XSAVE_RULES,
  type SetXcrsAsked,
  type SetXcrsFinding,
  type SetXsaveAsked,
  type Xcr0Finding,
  XFEATURES,
  XSAVE_SIZE_RULES,
  type XsaveFinding,
  type XsaveSizeAsked,
} from "./xsave.ts";

/** A finding of any rule; `kind` names its shape. */
export type Finding =
  | SregsFinding
  | SetCpuidFinding
  | GetCpuidFinding
  | SetXcrsFinding
  | XsaveFinding
  | MsrFinding;
