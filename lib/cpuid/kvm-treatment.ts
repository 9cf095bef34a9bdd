/**
 * The treatment of a CPUID field by KVM: whether KVM reports the field, and whether KVM writes the field.
 * gen/facts/cpuid-kvm.csv contains the data.
 */
import { field } from "./field.ts";
import type { CpuidFieldName } from "./generated/fields.ts";
import { CPUID_KVM } from "./generated/kvm.ts";
import { RUNTIME_OWNED, type RuntimeOwnedBits } from "./runtime-owned.ts";

/** The rule by which KVM decides whether KVM_GET_SUPPORTED_CPUID reports a feature. */
export type CpuidKvmTreatmentName =
  | "host"
  | "vendor"
  | "scattered"
  | "64-bit"
  | "emulated"
  | "synthesized"
  | "passthrough"
  | "aliased"
  | "runtime";

/** The treatment of one field by KVM. */
export interface CpuidKvmTreatment {
  /** The macro of kvm_initialize_cpu_caps() that declares the field; "runtime" also for the sizes of the XSAVE area. */
  readonly treatment: CpuidKvmTreatmentName;
  /** The treatment as a sentence. */
  readonly sentence: string;
  /** Whether KVM writes the bits of a vCPU's table itself when the vCPU's state changes (RUNTIME_OWNED). */
  readonly isOwned: boolean;
}

const SENTENCES: { readonly [name in CpuidKvmTreatmentName]: string } = {
  host: "KVM reports it if the host's CPU has it and, where the host kernel tracks it, that kernel uses it (F).",
  vendor: "KVM reports it only if its vendor module, kvm_intel or kvm_amd, enables it (VENDOR_F).",
  scattered:
    "KVM reports it if the host kernel has it among its scattered features and the CPU has it (SCATTERED_F).",
  "64-bit": "KVM reports it on 64-bit hosts that have it (X86_64_F).",
  emulated: "KVM emulates it and reports it on every host (EMULATED_F).",
  synthesized:
    "KVM reports it if the host kernel has it, even if the CPU's CPUID does not (SYNTHESIZED_F).",
  passthrough:
    "KVM reports it if the host's CPU has it, even if the host kernel does not use it (PASSTHROUGH_F).",
  aliased: "It repeats the bit of leaf 1's EDX, as on AMD's CPUs (ALIASED_1_EDX_F).",
  runtime: "KVM sets it from the vCPU's state and never reports it as supported (RUNTIME_F).",
};

/** The conditions under which KVM owns bits on all kernels and for all guests. */
const OWNED_ON_ALL: ReadonlySet<RuntimeOwnedBits["when"]> = new Set(["leaf", "quirk", "compacted"]);

let rows: ReadonlyMap<CpuidFieldName, CpuidKvmTreatment> | undefined;

/** Builds the map at first use, to keep importing fast. */
function open(): ReadonlyMap<CpuidFieldName, CpuidKvmTreatment> {
  if (rows) return rows;
  const made = new Map<CpuidFieldName, CpuidKvmTreatment>();
  const owned = new Set(
    RUNTIME_OWNED.flatMap(({ space, when, field: name }) => {
      return space === "native" && OWNED_ON_ALL.has(when) && name !== undefined ? [name] : [];
    }),
  );
  const sizes = [...owned].map((name) => [name, "runtime"] as const);
  for (const [name, treatment] of [...sizes, ...CPUID_KVM]) {
    const isOwned = owned.has(name);
    made.set(name, Object.freeze({ treatment, sentence: SENTENCES[treatment], isOwned }));
  }
  rows = made;
  return made;
}

/**
 * Returns the treatment of a field by KVM of Linux 7.2.
 *
 * @returns undefined if the field is not a feature in KVM. KVM_GET_SUPPORTED_CPUID then reports 0, or a value that KVM
 *   computes for the whole register, such as a size or a count. Hypervisor leaves are not included.
 * @throws TypeError for an unknown field.
 *
 * @example
 * ```ts run
 * import { kvmTreatmentOf } from "node-kvm/cpuid";
 *
 * console.log(kvmTreatmentOf("x2apic")?.treatment, kvmTreatmentOf("osxsave")?.isOwned);
 * ```
 *
 * ```text output
 * emulated true
 * ```
 */
export function kvmTreatmentOf(name: CpuidFieldName): CpuidKvmTreatment | undefined {
  return open().get(field(name).name);
}
