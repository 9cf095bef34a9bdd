/**
 * The profiles of the lint: for each kind of table, the rules that do not apply and the rules with another severity.
 */
import type { CpuidLintProfile, CpuidLintRuleId, CpuidLintSeverity } from "./rule.ts";

/** One profile. */
export interface LintProfile {
  /** The kind of table. */
  readonly title: string;
  /** The rules that are not judged, with the reason. */
  readonly off: Readonly<Record<CpuidLintRuleId, string>>;
  /** The rules whose severity the profile changes. */
  readonly severity: Readonly<Record<CpuidLintRuleId, CpuidLintSeverity>>;
}

function off(reason: string, ...ids: readonly CpuidLintRuleId[]): Record<CpuidLintRuleId, string> {
  return Object.fromEntries(ids.map((id) => [id, reason]));
}

/**
 * The reason to omit rules about leaves that Firecracker writes after it has applied the template. Source:
 * Firecracker's documentation of CPUID normalization.
 */
const NORMALISED = "Firecracker writes this part after the template";

/** The profiles by name. */
export const LINT_PROFILES: Readonly<Record<CpuidLintProfile, LintProfile>> = {
  cpu: {
    title: "a dump of a real CPU",
    off: {
      ...off("flags and the number of entries are KVM's", "S03", "S09", "S10", "S11", "S12"),
      ...off("a CPU without a VM has no KVM", "L08", "K01", "K02", "K03", "K04", "K05", "K06"),
      ...off("a CPU without a VM has no KVM", "K08", "K09", "K10", "K11", "K13", "K14", "K15"),
      ...off("a CPU without a VM has no KVM", "K16", "K19", "K20", "K21", "K22"),
    },
    // Firmware of AMD's family 0x15 changes the APIC ids, but leaf 1 still contains the initial id.
    severity: { T02: "info" },
  },
  guest: { title: "a table for a guest", off: {}, severity: {} },
  firecracker: {
    title: "the result of a Firecracker template",
    off: off(NORMALISED, "F04", "F10", "K14", "K17", "L08", "T02", "T04", "T11"),
    // All published templates leave the host's values of these fields unchanged.
    severity: { X13b: "info", K12: "info" },
  },
};
