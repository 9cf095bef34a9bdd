/**
 * Reads Linux's /proc/cpuinfo: the features of the first CPU, and its other facts as properties. The format is not
 * lossless: the kernel hides features that it does not use, and shows features that have no CPUID bit.
 */
import { quoted } from "../../options.ts";
import { findField } from "../aliases.ts";
import type { CpuidDump, CpuidFormat } from "./dump.ts";
import { LONGEST_LINE } from "./limits.ts";
import { decodeText, headText, linesOf, shownLine, type TextLine } from "./lines.ts";
import { ProblemList } from "./problems.ts";

const NAME = "cpuinfo";

/**
 * A line: a name, a colon, a value (arch/x86/kernel/cpu/proc.c). The limit for a line of flags is higher than that for
 * other lines.
 */
const LINE = /^([a-z][\w ()-]{0,40}?)[ \t]*:(?: (.*))?$/i;
const LONGEST_FLAGS = 16 * LONGEST_LINE;

/** The lines of x86 CPUs that do not become properties. */
const FLAGS = "flags";
const VENDOR = "vendor_id";
/** The lines of architectures without CPUID, such as ARM. */
const OTHERS = /^(?:CPU implementer|Features|isa|cpu\s+: POWER)/;

/** The name of a feature in the kernel's flags. */
const FLAG = /^[a-z0-9][a-z0-9_.]{0,40}$/i;

/** The continuation of a line of flags that a mail program or a terminal wrapped: only names. */
const MORE_FLAGS = /^[ \t]*[a-z0-9][a-z0-9_.]*(?:[ \t]+[a-z0-9][a-z0-9_.]*)*[ \t]*$/;

/** Whether a line continues a wrapped line of flags: it contains only names, and at least one of them is known. */
function hasMoreFlags({ text, isTerminated }: TextLine): boolean {
  if (!isTerminated || text.length > LONGEST_LINE || !MORE_FLAGS.test(text)) return false;
  return text
    .trim()
    .split(/\s+/)
    .some((name) => findField(name) !== undefined);
}

/** The lines whose values differ between the CPUs. */
const PER_CPU: ReadonlySet<string> = new Set([
  ...["processor", "physical id", "core id", "apicid", "initial apicid", "cpu MHz", "bogomips"],
]);

/** Joins the lines of flags that were wrapped; `count` is their number. */
function* unwrapped(lines: Iterable<TextLine>): Generator<TextLine & { readonly count: number }> {
  let flags: (TextLine & { readonly count: number }) | undefined;
  for (const line of lines) {
    const { text } = line;
    if (flags === undefined && text === "") continue;
    if (flags !== undefined && hasMoreFlags(line)) {
      // A later check rejects the joined line if it is too long.
      const joined =
        flags.text.length > LONGEST_FLAGS ? flags.text : `${flags.text.trimEnd()} ${text.trim()}`;
      flags = { ...flags, text: joined, count: flags.count + 1 };
      continue;
    }
    if (flags !== undefined) yield flags;
    const isFlags = text.startsWith(FLAGS) && LINE.exec(text)?.[1] === FLAGS;
    flags = isFlags ? { ...line, count: 1 } : undefined;
    if (flags === undefined) yield { ...line, count: 1 };
  }
  if (flags !== undefined) yield flags;
}

function parse(bytes: Uint8Array): CpuidDump {
  const problems = new ProblemList();
  const notes: string[] = [];
  const first = new Map<string, string>();
  const differing = new Set<string>();
  let [cpus, flagsLine, flagsColumn] = [0, 0, 0];
  let [flagsLines, isCut] = [1, false];
  for (const { number, text, isTerminated, count } of unwrapped(linesOf(decodeText(bytes)))) {
    if (text.trim() === "") continue;
    if (!isTerminated && cpus <= 1) {
      isCut = LINE.exec(text)?.[1] === FLAGS;
      const missing = isCut ? "its last name is not read" : "it is not read";
      problems.add(number, text.length + 1, `${shownLine(text)} has no end, so ${missing}`);
      if (!isCut) continue;
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
      if (name === FLAGS) {
        [flagsLine, flagsColumn] = [number, text.length - value.length + 1];
        flagsLines = count;
      }
    } else if (known !== value.trim() && !PER_CPU.has(name)) {
      differing.add(name);
    }
  }
  const flags = (first.get(FLAGS) ?? "").split(/\s+/).filter((flag) => flag !== "");
  if (flagsLine === 0) problems.add(0, 1, "there is no line of flags");
  // If the file was cut, the last name may be the beginning of a longer name.
  if (isCut) flags.pop();
  if (flagsLines > 1) {
    notes.push(
      `the flags have ${flagsLines} lines; a name that was cut at the end of one is read as two`,
    );
  }
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

/** The format of Linux's /proc/cpuinfo. */
export const cpuinfo: CpuidFormat = {
  name: NAME,
  title: "Linux's /proc/cpuinfo",
  kind: "features",
  isLossless: false,
  likelihood: (head) => {
    const text = headText(head);
    if (!/^flags[ \t]*:/m.test(text)) return /^processor[ \t]*:/m.test(text) ? 0.5 : 0;
    // If a mail contains tables and cpuinfo, the tables are used.
    if (/^(?:.*\beax=0x[0-9a-f]{8}[\s\S]*?){3}/im.test(text)) return 0.6;
    if (/^(?:processor|vendor_id|cpu family)[ \t]*:/m.test(text)) return 0.95;
    // A file that consists of one line of flags is a cpuinfo file; a program's source that contains such a line is not.
    const lines = [...linesOf(text)].map((line) => line.text.slice(0, LONGEST_LINE));
    const full = lines.filter((line) => line.trim() !== "");
    const fitting = full.filter((line) => LINE.test(line) || MORE_FLAGS.test(line));
    return fitting.length * 2 >= full.length ? 0.6 : 0.4;
  },
  parse,
  format: undefined,
};
