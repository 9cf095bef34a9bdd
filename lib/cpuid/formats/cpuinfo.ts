/**
 * Linux's /proc/cpuinfo: the features of the first CPU, and facts of it as properties. It is not lossless: the kernel
 * hides features that it does not use, and shows some that no CPUID bit has.
 */
import { quoted } from "../../options.ts";
import type { CpuidDump, CpuidFormat } from "./dump.ts";
import { LONGEST_LINE } from "./limits.ts";
import { decodeText, headText, linesOf, shownLine } from "./lines.ts";
import { ProblemList } from "./problems.ts";

const NAME = "cpuinfo";

/** A line: a name, a colon, a value (arch/x86/kernel/cpu/proc.c). A line of flags may be longer than others. */
const LINE = /^([a-z][\w ()-]{0,40}?)[ \t]*:(?: (.*))?$/i;
const LONGEST_FLAGS = 16 * LONGEST_LINE;

/** The lines of x86 that are not properties. */
const FLAGS = "flags";
const VENDOR = "vendor_id";
/** The lines of ARM and others, which have no CPUID. */
const OTHERS = /^(?:CPU implementer|Features|isa|cpu\s+: POWER)/;

/** The name of a feature in the kernel's flags. */
const FLAG = /^[a-z0-9][a-z0-9_.]{0,40}$/i;

/** Facts that differ from CPU to CPU. */
const PER_CPU: ReadonlySet<string> = new Set([
  ...["processor", "physical id", "core id", "apicid", "initial apicid", "cpu MHz", "bogomips"],
]);

function parse(bytes: Uint8Array): CpuidDump {
  const problems = new ProblemList();
  const notes: string[] = [];
  const first = new Map<string, string>();
  const differing = new Set<string>();
  let [cpus, flagsLine, flagsColumn] = [0, 0, 0];
  for (const { number, text, isTerminated } of linesOf(decodeText(bytes))) {
    if (text.trim() === "") continue;
    if (!isTerminated && cpus <= 1) {
      problems.add(number, text.length + 1, `${shownLine(text)} has no end, so it is not read`);
      if (LINE.exec(text)?.[1] === FLAGS) flagsLine = number;
      continue;
    }
    const isLong = text.length > (text.startsWith(FLAGS) ? LONGEST_FLAGS : LONGEST_LINE);
    const match = isLong ? null : LINE.exec(text);
    const [, name, value = ""] = match ?? [];
    if (name === undefined) {
      const isOther = !isLong && OTHERS.test(text);
      problems.add(number, 1, isOther ? "the CPU is not an x86" : `${shownLine(text)} has no name`);
      continue;
    }
    if (OTHERS.test(text)) problems.add(number, 1, "the CPU is not an x86");
    if (name === "processor") cpus += 1;
    const known = first.get(name);
    if (cpus <= 1) {
      if (known !== undefined) problems.add(number, 1, `${quoted(name)} is there twice`);
      else first.set(name, value.trim());
      if (name === FLAGS) [flagsLine, flagsColumn] = [number, text.length - value.length + 1];
    } else if (known !== value.trim() && !PER_CPU.has(name)) {
      differing.add(name);
    }
  }
  const flags = (first.get(FLAGS) ?? "").split(/\s+/).filter((flag) => flag !== "");
  if (flagsLine === 0) problems.add(0, 1, "there is no line of flags");
  const on = new Set<string>();
  for (const flag of flags) {
    if (FLAG.test(flag)) on.add(flag);
    else problems.add(flagsLine, flagsColumn, `${quoted(flag)} is not a flag`);
  }
  if (cpus > 1) notes.push(`the features are those of the first of ${cpus} CPUs`);
  if (differing.size > 0) notes.push(`the CPUs differ in ${[...differing].join(", ")}`);
  notes.push("a feature that is not listed may be hidden by the kernel");
  const vendor = first.get(VENDOR);
  const facts = [...first].filter(([name]) => name !== FLAGS && name !== VENDOR);
  return {
    kind: "features",
    format: NAME,
    features: {
      model: undefined,
      vendor: vendor === "" ? undefined : vendor,
      on: [...on],
      off: [],
      properties: Object.fromEntries(facts),
    },
    problems: problems.toArray(),
    notes,
    msrs: [],
  };
}

/** The file /proc/cpuinfo of Linux. */
export const cpuinfo: CpuidFormat = {
  name: NAME,
  title: "Linux's /proc/cpuinfo",
  kind: "features",
  isLossless: false,
  likelihood: (head) => {
    const text = headText(head);
    if (!/^flags[ \t]*:/m.test(text)) return /^processor[ \t]*:/m.test(text) ? 0.5 : 0;
    return /^(?:processor|vendor_id|cpu family)[ \t]*:/m.test(text) ? 0.95 : 0.6;
  },
  parse,
  format: undefined,
};
