/** Collects the tables of a file while a parser reads it: limits, flags, and probes outside of every range. */
import {
  type CpuidEntry2,
  type CpuidEntry2Input,
  entry,
  isIndexed,
  KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
} from "../entry.ts";
import { CpuidTable } from "../table.ts";
import type { CpuidDump, CpuidFileProblem, CpuidFileTable } from "./dump.ts";
import { MOST_CPUS, MOST_ENTRIES } from "./limits.ts";
import { ProblemList } from "./problems.ts";
import { hasTerminators } from "./terminators.ts";

/** How the entries of a format are completed. */
export interface CollectOptions {
  /**
   * "exact" if the file has each entry as KVM has it: the flags are those of the file, and nothing is left out.
   * "dump" if it has registers only: an entry is flagged as indexed if KVM treats its function so or the file has a
   * sub-leaf of it other than 0; CPUs without entries are left out, and so is the first leaf of a range that the CPU
   * does not have. Programs read that leaf to find the range, and Intel CPUs answer with the data of another leaf.
   */
  readonly contents: "exact" | "dump";
  /** False if the format cannot have all sub-leaves; else tables are complete if they have their terminators. */
  readonly canBeComplete: boolean;
}

/** The ranges that programs probe: the first leaf, and the last one that its EAX may name. */
const PROBES: readonly { readonly first: number; readonly last: number }[] = [
  { first: 0x2000_0000, last: 0x2000_ffff },
  ...Array.from({ length: 256 }, (_, i) => {
    const first = 0x4000_0000 + i * 0x100;
    return { first, last: first + 0xff };
  }),
  { first: 0x8086_0000, last: 0x8086_ffff },
  { first: 0xc000_0000, last: 0xc000_ffff },
];

const LAST_OF_PROBE: ReadonlyMap<number, number> = new Map(
  PROBES.map(({ first, last }) => [first, last]),
);

/**
 * Whether an entry is the first leaf of a range that the CPU does not have: its EAX is outside of the range. KVM before
 * 2.6.38 has a signature with 0 in EAX.
 */
function isProbe({ function: fn, eax, ebx, ecx, edx }: CpuidEntry2): boolean {
  const last = LAST_OF_PROBE.get(fn);
  if (last === undefined || (fn <= eax && eax <= last)) return false;
  return !(eax === 0 && (ebx | ecx | edx) !== 0);
}

/** One CPU while it is read. */
interface Cpu {
  readonly cpu: number | undefined;
  readonly isComplete: boolean | undefined;
  readonly entries: CpuidEntry2[];
  readonly lines: number[];
}

/** The tables, faults and notes of a file that is being read. */
export class TableCollector {
  readonly #format: string;
  readonly #options: CollectOptions;
  readonly #problems = new ProblemList();
  readonly #notes: string[] = [];
  readonly #cpus: Cpu[] = [];
  #skippedCpus = 0;

  /** Creates a collector without tables for a format. */
  constructor(format: string, options: CollectOptions) {
    this.#format = format;
    this.#options = options;
  }

  /** The number of CPUs so far. */
  get cpus(): number {
    return this.#cpus.length;
  }

  /** The number of entries of the current CPU so far. */
  get entries(): number {
    return this.#cpus.at(-1)?.entries.length ?? 0;
  }

  /** Begins a CPU; `isComplete` is undefined if the file does not state whether the table has all sub-leaves. */
  startCpu(cpu: number | undefined, line: number, isComplete?: boolean): void {
    if (this.#cpus.length < MOST_CPUS) {
      this.#cpus.push({ cpu, isComplete, entries: [], lines: [] });
      return;
    }
    if (this.#skippedCpus === 0) {
      this.problem(line, 1, `more than ${MOST_CPUS} CPUs; the rest is skipped`);
    }
    this.#skippedCpus += 1;
  }

  /** Adds an entry to the current CPU, and begins one without a number if there is none. Numbers are u32. */
  add(input: CpuidEntry2Input, line: number): void {
    if (this.#skippedCpus > 0) return;
    if (this.#cpus.length === 0) this.startCpu(undefined, line);
    const cpu = this.#cpus.at(-1);
    if (cpu === undefined) return;
    if (cpu.entries.length < MOST_ENTRIES) {
      cpu.entries.push(entry(input));
      cpu.lines.push(line);
      return;
    }
    this.problem(line, 1, `more than ${MOST_ENTRIES} entries of one CPU; this one is skipped`);
  }

  /** Adds a fault. */
  problem(line: number, column: number, message: string): void {
    this.#problems.add(line, column, message);
  }

  /** The number of faults so far. */
  get problems(): number {
    return this.#problems.length;
  }

  /** Adds a note. */
  note(sentence: string): void {
    this.#notes.push(sentence);
  }

  /** Returns the contents. A CPU without entries is left out, with a note; a file without entries has a fault. */
  finish(): CpuidDump {
    const dropped = new Set<number>();
    const isExact = this.#options.contents === "exact";
    const tables = this.#cpus
      .filter(({ entries }) => isExact || entries.length > 0)
      .map((cpu) => this.#table(cpu, dropped));
    const empty = this.#cpus.length - tables.length;
    if (tables.length === 0) {
      this.problem(0, 1, "the file has no CPUID entry that can be read");
    } else if (empty > 0) {
      this.note(`${empty} ${empty === 1 ? "CPU has" : "CPUs have"} no entries and are left out`);
    }
    if (dropped.size > 0) {
      const leaves = [...dropped].map((fn) => `0x${fn.toString(16)}`).join(", ");
      this.note(`the leaves ${leaves} are left out: they are outside of the CPU's ranges`);
    }
    const problems: readonly CpuidFileProblem[] = this.#problems.toArray();
    return { kind: "tables", format: this.#format, tables, problems, notes: this.#notes, msrs: [] };
  }

  #table({ cpu, isComplete, entries, lines }: Cpu, dropped: Set<number>): CpuidFileTable {
    const { contents, canBeComplete } = this.#options;
    const isDump = contents === "dump";
    const kept: number[] = [];
    for (const [i, e] of entries.entries()) {
      if (isDump && isProbe(e)) dropped.add(e.function);
      else kept.push(i);
    }
    const remaining = kept.flatMap((i) => entries[i] ?? []);
    const table = CpuidTable.from(isDump ? withFlags(remaining) : remaining);
    return {
      cpu,
      table,
      isComplete: isComplete ?? (canBeComplete && hasTerminators(table)),
      lines: kept.map((i) => lines[i] ?? 0),
    };
  }
}

/** Flags the entries of functions that KVM treats as indexed, and of those that have a sub-leaf other than 0. */
function withFlags(entries: readonly CpuidEntry2[]): readonly CpuidEntry2Input[] {
  const indexed = new Set(entries.filter((e) => e.index !== 0).map((e) => e.function));
  return entries.map((e) => {
    const isFlagged = isIndexed(e.function) || indexed.has(e.function);
    return isFlagged ? { ...e, flags: e.flags | KVM_CPUID_FLAG_SIGNIFCANT_INDEX } : e;
  });
}
