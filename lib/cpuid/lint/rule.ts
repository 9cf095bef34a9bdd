/**
 * The types of a lint rule, its input and its findings. The other files of this folder contain the rules; rules.ts
 * lists them.
 */
import type { CpuidEntry2, CpuidRegister } from "../entry.ts";
import type { CpuidFieldName } from "../field.ts";
import type { LintTable } from "./table.ts";

/** The severity of a finding: the guest or KVM fails ("error"), may fail ("warning"), or works ("info"). */
export type CpuidLintSeverity = "error" | "warning" | "info";

/** The kind of table: a real CPU's table, a table for a guest, or the result of a Firecracker template. */
export type CpuidLintProfile = "cpu" | "guest" | "firecracker";

/** The id of a rule. Ids are stable: the id of a removed rule is not used again. */
export type CpuidLintRuleId =
  `${"S" | "D" | "L" | "X" | "F" | "T" | "A" | "P" | "K" | "H"}${string}`;

/** Facts about the VM that no table contains. A rule is not judged if its fact is missing. */
export interface CpuidLintVm {
  /** Whether KVM emulates the local APIC: KVM_CREATE_IRQCHIP or KVM_CAP_SPLIT_IRQCHIP. */
  readonly hasKernelApic?: boolean;
  /** Whether interrupts reach 15-bit APIC ids: KVM_CAP_X2APIC_API with 32-bit ids and a split irqchip. */
  readonly hasExtendedDestinations?: boolean;
  /** Whether the VMM handles the hypercall KVM_HC_MAP_GPA_RANGE, which KVM_CAP_EXIT_HYPERCALL forwards to the VMM. */
  readonly handlesMapGpaRange?: boolean;
  /** Whether the VMM implements MSR_KVM_MIGRATION_CONTROL. */
  readonly hasMigrationControl?: boolean;
  /** The exits that KVM_CAP_X86_DISABLE_EXITS disables. */
  readonly disabledExits?: readonly ("mwait" | "hlt" | "pause" | "cstate")[];
  /** Whether KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS is on; MWAIT is then a no-op and causes no #UD. */
  readonly hasMwaitQuirk?: boolean;
  /** The XSAVE components of ARCH_GET_XCOMP_GUEST_PERM, as a mask. */
  readonly xcompPermission?: bigint;
  /** Whether the VMM sets the frequency of the TSC with KVM_SET_TSC_KHZ. */
  readonly hasFixedTsc?: boolean;
  /** The frequency of the guest's TSC in kHz. */
  readonly tscKhz?: number;
}

/** An input without which a rule cannot be judged. */
export type CpuidLintNeed =
  | "complete"
  | "supported"
  | "emulated"
  | "host"
  | "before"
  | "apicIds"
  | "several"
  | `vm.${keyof CpuidLintVm}`;

/** The further inputs of the rules; the table is a separate argument. */
export interface LintInput {
  /** All tables of the VM, one per vCPU. */
  readonly tables: readonly LintTable[];
  readonly isComplete: boolean;
  readonly supported: LintTable | undefined;
  readonly emulated: LintTable | undefined;
  readonly host: LintTable | undefined;
  readonly before: LintTable | undefined;
  readonly apicIds: readonly number[] | undefined;
  /** The number of each table's CPU. */
  readonly cpus: readonly number[];
  readonly vm: CpuidLintVm;
}

/** One change of a table. Positions refer to the table that was linted. */
export type CpuidLintEdit =
  | {
      /** Sets bits of one register: `new = (old & ~mask) | value`. */
      readonly kind: "bits";
      readonly position: number;
      readonly register: CpuidRegister;
      readonly mask: number;
      readonly value: number;
    }
  | {
      /** Sets bits of the flags: `new = (old & ~mask) | value`. */
      readonly kind: "flags";
      readonly position: number;
      readonly mask: number;
      readonly value: number;
    }
  | {
      /** Clears the padding. */
      readonly kind: "padding";
      readonly position: number;
    }
  | { readonly kind: "remove"; readonly position: number }
  | {
      /** Inserts an entry behind the last entry with a lower function, or with the same function and a lower index. */
      readonly kind: "insert";
      readonly entry: CpuidEntry2;
    };

/** A place of bits in an entry. */
export interface LintBits {
  readonly register: CpuidRegister;
  readonly low: number;
  readonly high: number;
  /** The field; undefined for bits that no field covers exactly. */
  readonly name: CpuidFieldName | undefined;
}

/** A place in a table: an entry, or some bits of an entry. The table may lack the entry. */
export interface LintPlace {
  readonly function: number;
  readonly index: number;
  /** The position of the entry; -1 if the table lacks it. */
  readonly position: number;
  readonly bits?: LintBits | undefined;
}

/** A fault that a rule found. */
export interface LintFault {
  readonly place: LintPlace;
  /** The message that follows the place. */
  readonly words: string;
  /** The severity of the fault, if it differs from the rule's severity. */
  readonly severity?: CpuidLintSeverity | undefined;
  /** The edits that remove the fault. */
  readonly fix?: readonly CpuidLintEdit[] | undefined;
}

/** A rule's facts. */
export interface CpuidLintRule {
  readonly id: CpuidLintRuleId;
  readonly severity: CpuidLintSeverity;
  /** The condition that a correct table fulfils, as a sentence without a full stop. */
  readonly title: string;
  /** The source of the rule: a manual, a header or a kernel function. */
  readonly source: string;
  /** A sentence without a full stop that describes how to remove the fault. */
  readonly remedy: string;
  /** The inputs without which the rule cannot be judged. */
  readonly needs?: readonly CpuidLintNeed[];
  /** A list of inputs; the rule needs at least one of them. */
  readonly needsOneOf?: readonly CpuidLintNeed[];
}

/** One rule: its facts and its check. */
export interface LintRule extends CpuidLintRule {
  /** Finds every fault of one table. */
  readonly check: (table: LintTable, input: LintInput) => readonly LintFault[];
}
