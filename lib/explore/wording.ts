/** Operations and answers of KVM as text. */
import { type CpuidEntry2, formatLeaf } from "../cpuid/index.ts";
import type { LifecycleAnswer, LifecycleOperation } from "../oracle/index.ts";

const BY = {
  sregs: "KVM_SET_SREGS",
  sregs2: "KVM_SET_SREGS2",
  syncRegs: "KVM_RUN",
  msrs: "KVM_SET_MSRS",
  guest: "KVM_RUN",
} as const;

/** Returns the name of the ioctl that executes an operation. */
export function ioctlOf(operation: LifecycleOperation): string {
  switch (operation.call) {
    case "setCpuid2":
      return "KVM_SET_CPUID2";
    case "setCpuid":
      return "KVM_SET_CPUID";
    case "getCpuid2":
      return "KVM_GET_CPUID2";
    case "run":
    case "guestCpuid":
      return "KVM_RUN";
    case "cr4":
    case "apicBase":
    case "miscEnable":
      return BY[operation.by];
    case "xcr0":
      return "KVM_SET_XCRS";
    case "xss":
      return "KVM_SET_MSRS";
    case "disableHltExits":
    case "disableMwaitQuirk":
      return "KVM_ENABLE_CAP";
    default:
      return operation satisfies never;
  }
}

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Formats an answer that stands alone. */
export function formatAnswer(answer: LifecycleAnswer): string {
  switch (answer.kind) {
    case "result":
      return answer.result;
    case "written":
      return `${answer.count} ${answer.count === 1 ? "MSR" : "MSRs"} written`;
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
