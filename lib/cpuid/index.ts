/**
 * The entry `node-kvm/cpuid`: tables, fields and their differences. The entry loads no native code and works on any OS.
 */
export type { WideInteger } from "../options.ts";
export {
  aliasesOf,
  CPUID_NAME_SOURCES,
  type CpuidFieldAliases,
  type CpuidNameSource,
  findField,
  resolveField,
  suggestFields,
} from "./aliases.ts";
export { applyDiff } from "./apply.ts";
export { baseline, type CpuidBaseline, formatBaseline } from "./baseline.ts";
export {
  CpuidBuilder,
  type CpuidBuildVendor,
  type CpuidFeatureEdit,
  type CpuidFeaturesOptions,
  type CpuidSignatureInput,
  type CpuidStart,
  cpuid,
} from "./build.ts";
export { type CpuidBuildChange, formatBuildChange } from "./build-change.ts";
export { type FromSupportedOptions, fromSupported } from "./builder.ts";
export { type CpuidCache, cachesOf } from "./cache-values.ts";
export { type CpuidCacheInput, withCaches } from "./caches.ts";
export {
  type CheckCpuidOptions,
  type CpuidFinding,
  type CpuidRuleName,
  checkCpuid,
} from "./check.ts";
export {
  type CpuidComparison,
  type CpuidDifference,
  type CpuidRelation,
  compare,
  formatDifference,
} from "./compare.ts";
export {
  type CpuidDependency,
  type CpuidDependencySeverity,
  closeFeatures,
  cpuidDependencies,
  dependentFeatures,
  missingDependencies,
} from "./dependencies.ts";
export {
  type CpuidChange,
  type CpuidEntryChange,
  type CpuidFieldChange,
  type CpuidIgnore,
  type CpuidPhrase,
  type CpuidShapeChange,
  type DiffOptions,
  diff,
  formatChange,
} from "./diff.ts";
export { type ElfCode, elfCode } from "./elf.ts";
export {
  CPUID_REGISTERS,
  type CpuidEntry2,
  type CpuidEntry2Input,
  type CpuidRegister,
  entry,
  formatLeaf,
  isIndexed,
  KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
  sameEntry,
} from "./entry.ts";
export { describeValue, valuesOf } from "./enumerations.ts";
export { type ResolvedFeatures, resolveFeatures, type UnknownFeature } from "./features.ts";
export {
  CPUID_SPACES,
  type CpuidBitName,
  type CpuidBits,
  type CpuidField,
  type CpuidFieldName,
  type CpuidSpace,
  type CpuidWideName,
  field,
  fields,
  formatBits,
  formatValue,
  readField,
  writeField,
} from "./field.ts";
export type {
  CpuidDump,
  CpuidDumpBase,
  CpuidFeatureList,
  CpuidFileCapability,
  CpuidFileMsr,
  CpuidFileProblem,
  CpuidFileTable,
  CpuidFormat,
  CpuidMask,
  CpuidMaskEntry,
} from "./formats/dump.ts";
export {
  CPUID_FORMATS,
  type CpuidFormatName,
  detectFormat,
  formatCpuid,
  formatCpuidFeatures,
  formatCpuidMask,
  type ReadCpuidOptions,
  readCpuid,
} from "./formats/index.ts";
export { CPUID_FILE_HEAD, CPUID_FILE_LIMIT } from "./formats/limits.ts";
export { type CpuidHypervisor, withHypervisors } from "./hypervisor.ts";
export {
  INSTRUCTION_FEATURES,
  type InstructionFeature,
  type UnnamedBit,
  WITHOUT_SUPPORT,
  type WithoutSupport,
} from "./instruction-features.ts";
export {
  type CpuidFieldKind,
  type CpuidFieldNature,
  type CpuidFieldOrder,
  natureOf,
  PER_CPU_FIELDS,
} from "./kinds.ts";
export {
  type CpuidKvmTreatment,
  type CpuidKvmTreatmentName,
  kvmTreatmentOf,
} from "./kvm-treatment.ts";
export { fixTable } from "./lint/fix.ts";
export {
  type CpuidLintFinding,
  type CpuidLintNotJudged,
  type CpuidLintOptions,
  type CpuidLintResult,
  lint,
} from "./lint/lint.ts";
export type {
  CpuidLintEdit,
  CpuidLintNeed,
  CpuidLintProfile,
  CpuidLintRule,
  CpuidLintRuleId,
  CpuidLintSeverity,
  CpuidLintVm,
} from "./lint/rule.ts";
export { CPUID_LINT_RULES } from "./lint/rules.ts";
export { formatLintSarif } from "./lint/sarif.ts";
export { type FormatLintOptions, formatLint, formatLintAnnotations } from "./lint/text.ts";
export { type AppliedMask, type ApplyMaskOptions, applyMask } from "./mask.ts";
export { type ImportedCpuidModel, importedModelTable } from "./models/imported.ts";
export { importLibvirtModel } from "./models/libvirt.ts";
export { findModel, models, type NamedCpuidModel, namedModels } from "./models/lookup.ts";
export type {
  CpuidModel,
  CpuidModelAliases,
  CpuidModelCache,
  CpuidModelSignature,
  CpuidModelSources,
  CpuidModelVariant,
  CpuidModelVendor,
} from "./models/model.ts";
export { importQemuModel } from "./models/qemu.ts";
export { modelTable } from "./models/table.ts";
export {
  type CodeDecoder,
  type CodeNeed,
  type CodeNeeds,
  type CodePart,
  type DecodedInstruction,
  formatNeed,
  type NeedsOptions,
  needs,
} from "./needs.ts";
export {
  type CpuidPortability,
  type PortabilityReason,
  type PortabilityReasonKind,
  type PortableOptions,
  portable,
} from "./portable.ts";
export { type PrintOptions, printDiff, printTable } from "./print.ts";
export {
  type CpuidQueryOptions,
  type CpuidQueryResult,
  type CpuidQuerySource,
  type CpuidQueryWrite,
  formatQuery,
  query,
  type XenTscInput,
} from "./query.ts";
export { RUNTIME_OWNED, type RuntimeOwnedBits } from "./runtime-owned.ts";
export {
  type CpuidEntryJson,
  type CpuidFieldValuesInput,
  CpuidTable,
  type CpuidTableJson,
} from "./table.ts";
export { apicIds, type CpuidTopologyInput, forVcpu, withTopology } from "./topology.ts";
export {
  type CpuidDomain,
  type CpuidTopology,
  type CpuidTopologyLevel,
  topologyOf,
} from "./topology-values.ts";
export {
  addressSizesOf,
  brandOf,
  type CpuidAddressSizes,
  type CpuidSignature,
  signatureOf,
  vendorOf,
} from "./values.ts";
export { type CpuidReader, type CpuidRegisters, walkCpuid } from "./walk.ts";
export {
  type WithXsaveOptions,
  withXsave,
  XSAVE_COMPONENTS,
  type XsaveComponent,
  type XsaveLayout,
  type XsavePart,
  xsaveCompactedSize,
  xsaveOf,
  xsaveSize,
} from "./xsave.ts";
