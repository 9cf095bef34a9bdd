/** Answers of KVM as text. */
import { type CpuidEntry2, formatLeaf } from "../cpuid/index.ts";
import type { LifecycleAnswer } from "../oracle/index.ts";

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Formats an answer that stands alone. */
export function formatAnswer(answer: LifecycleAnswer): string {
  switch (answer.kind) {
    case "result":
      return answer.result;
    case "written":
      return `${answer.count} MSRs written`;
    case "exit":
      return answer.exit === "EINTR" ? "EINTR" : `exit ${answer.exit}`;
    case "registers":
      return answer.registers.map(hex).join(" ");
    case "table":
      return `${answer.entries.length} entries, nent ${answer.nent}`;
    default:
      return answer satisfies never;
  }
}

const MEMBERS = ["function", "index", "flags", "eax", "ebx", "ecx", "edx"] as const;

/** Lists the members in which an entry differs from another, with the values of the first. */
function differences(entry: CpuidEntry2, other: CpuidEntry2): string {
  const members = MEMBERS.filter((name) => entry[name] !== other[name]);
  const words = members.map((name) => `${name} ${hex(entry[name])}`);
  const isPadded = entry.padding.some((word, i) => word !== other.padding[i]);
  return [...words, ...(isPadded ? [`padding ${entry.padding.map(hex).join(" ")}`] : [])].join(
    ", ",
  );
}

/** Formats two different answers; of two tables, only the differences. */
export function formatAnswers(a: LifecycleAnswer, b: LifecycleAnswer): readonly [string, string] {
  if (a.kind !== "table" || b.kind !== "table") return [formatAnswer(a), formatAnswer(b)];
  if (a.entries.length !== b.entries.length || a.nent !== b.nent) {
    return [formatAnswer(a), formatAnswer(b)];
  }
  const texts = (x: readonly CpuidEntry2[], y: readonly CpuidEntry2[]): string =>
    x
      .flatMap((entry, i) => {
        const other = y[i];
        const text = other === undefined || other === entry ? "" : differences(entry, other);
        return text === "" ? [] : [`${formatLeaf(entry.function, entry.index)} ${text}`];
      })
      .join("; ");
  return [texts(a.entries, b.entries), texts(b.entries, a.entries)];
}
