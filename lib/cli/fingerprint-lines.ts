/** The fingerprint of a kernel's CPUID code as lines of `node-kvm info`. */
import type { Fingerprint, FingerprintRow } from "../explore/fingerprint.ts";

/** Formats a fingerprint: the stage, the differences of this kernel from Linux 7.2, and the undecided rows. */
export function fingerprintLines({ stage, reason, rows }: Fingerprint): readonly string[] {
  const withVerdict = (verdict: FingerprintRow["verdict"]): readonly FingerprintRow[] =>
    rows.filter((row) => row.verdict === verdict);
  const held = withVerdict("holds");
  const undecided = withVerdict("undecided");
  const stageLines =
    stage === undefined
      ? [`  stage undecided: ${reason ?? ""}`]
      : [
          `  stage ${stage.name}: ${stage.behaviour}`,
          `    kernels: ${stage.where}; commits: ${stage.source}`,
        ];
  const none = held.length === 0 ? ": none" : "";
  return [
    "how KVM handles CPUID tables, decided by calls and not by the version of the kernel",
    ...stageLines,
    `  differences from Linux 7.2${none}`,
    ...held.flatMap(({ row, behaviour, where, source, fix }) => [
      `    ${row}: ${behaviour}`,
      `      kernels: ${where}; source: ${source}${fix === undefined ? "" : `; fixed by ${fix}`}`,
    ]),
    ...(undecided.length === 0 ? [] : ["  undecided on this host"]),
    ...undecided.map((row) => `    ${row.row}: ${row.reason ?? ""}`),
  ];
}
