/**
 * Describes KVM's treatment of a table: the faults for which KVM rejects it, the bits that KVM sets, and KVM's fixed
 * rules.
 */
import { baseOf, formatBits } from "../cpuid/field.ts";
import type { CpuidFileTable } from "../cpuid/formats/dump.ts";
import { apply, KVM_OWNED, SET_CPUID_RULES } from "../oracle/index.ts";
import type { Lines, ResultLine } from "./protocol.ts";

/** Predicts the result of KVM_SET_CPUID2, and the changes that KVM makes to the table while the guest runs. */
export function underKvm({ table, lines: fileLines }: CpuidFileTable): Lines {
  const entries = [...table];
  const asked = {
    nent: entries.length,
    entries,
    hasEntered: false,
    hasRun: false,
    given: undefined,
  };
  const refusals = Object.entries(SET_CPUID_RULES).flatMap(([errno, rules]) =>
    Object.entries(rules).flatMap(([name, rule]): readonly ResultLine[] => {
      const verdict = apply(rule, asked);
      if (verdict === undefined) return [];
      const { finding } = verdict;
      // The rule about E2BIG assumes that KVM rejected the count, so this rule is omitted for a count that KVM accepts.
      if (finding.kind === "too-many-entries" && finding.nent <= finding.most) return [];
      const isPermission = finding.kind === "no-amx-permission";
      return [
        {
          kind: isPermission ? `${errno}, without a permission` : errno,
          tone: isPermission ? "known" : "bad",
          where: "KVM_SET_CPUID2",
          text: `refuses the table: ${name}`,
          more: `${rule.source}`,
          line: 0,
        },
      ];
    }),
  );
  const owned = KVM_OWNED.flatMap((item): readonly ResultLine[] => {
    const base = baseOf(entries, item.space);
    if (base === undefined) return [];
    const fn = base + item.function;
    const position = entries.findIndex((e) => e.function === fn && e.index === item.index);
    if (position < 0) return [];
    return [
      {
        kind: "KVM sets",
        tone: item.when === "leaf" ? "known" : "quiet",
        where: `${formatBits({ ...item, function: fn })} ${item.field ?? ""}`.trim(),
        text: `becomes ${item.becomes}`,
        more: item.condition,
        line: fileLines[position] ?? 0,
      },
    ];
  });
  const frozen: ResultLine = {
    kind: "fixed",
    tone: "quiet",
    where: "KVM_SET_CPUID2",
    text: "after the vCPU has run, a changed table is refused with EINVAL; the same table is accepted",
    more: "Bits that KVM sets itself may differ in the vCPU's table, and the table that was set is still accepted. Source: kvm_cpuid_check_equal.",
    line: 0,
  };
  const title =
    refusals.length === 0
      ? "No rule of KVM_SET_CPUID2 refuses this table. Rules that depend on the host are not judged here."
      : `Rules of KVM_SET_CPUID2 that refuse this table: ${refusals.length}.`;
  return { title, lines: [...refusals, ...owned, frozen] };
}
