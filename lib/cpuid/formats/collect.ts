/**
 * Collects the tables of a file while a parser reads it. The collector applies the limits, adds flags, and removes
 * entries of ranges that the CPU does not have.
 */
import { type CpuidEntry2, type CpuidEntry2Input, entry } from "../entry.ts";
import { withIndexFlags } from "../index-flags.ts";
import { CpuidTable } from "../table.ts";
import type { CpuidDump, CpuidFileProblem, CpuidFileTable } from "./dump.ts";
import { MOST_CPUS, MOST_ENTRIES } from "./limits.ts";
import { ProblemList } from "./problems.ts";
import { hasTerminators } from "./terminators.ts";

/** The rules for completing the entries of a format. */
export interface CollectOptions {
  /**
   * "exact" if the file contains KVM's entries: the entries have the flags of the file, and no entry is omitted. "dump"
   * if the file contains only registers: the entries get the flags that KVM needs. CPUs without entries, and the first
   * leaf of a range that the CPU does not have, are omitted. Programs read the first leaf to find out whether the range
   * exists, and Intel CPUs return the data of another leaf for an absent range.
   */
  readonly contents: "exact" | "dump";
  /** Whether the file contains one CPU, so that a second leaf 0 does not begin another CPU; false by default. */
  readonly isOneCpu?: boolean;
  /** False if the format cannot contain all sub-leaves; otherwise a table is complete if it has its terminators. */
  readonly canBeComplete: boolean;
}

/** The ranges that programs probe: the first leaf, and the largest valid value of its EAX. */
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
 * Whether an entry is the first leaf of a range that the CPU does not have, because its EAX is outside of the range.
 * KVM before Linux 2.6.38 reports 0 in EAX of the leaf with KVM's signature.
 */
function isProbe({ function: fn, eax, ebx, ecx, edx }: CpuidEntry2): boolean {
  const last = LAST_OF_PROBE.get(fn);
  if (last === undefined || (fn <= eax && eax <= last)) return false;
  const isHypervisor = 0x4000_0000 <= fn && fn < 0x5000_0000;
  return !(isHypervisor && eax === 0 && (ebx | ecx | edx) !== 0);
}

/** Whether the registers of leaf 0 contain a vendor's name, which consists of printable characters. */
export function hasVendor({ ebx, ecx, edx }: CpuidEntry2Input): boolean {
  return [ebx, edx, ecx].every((word = 0) =>
    [0, 8, 16, 24].every((shift) => {
      const code = (word >>> shift) & 0xff;
      return code >= 0x20 && code < 0x7f;
    }),
  );
}

/** Returns the function and index of an entry as a key. */
const placeOf = (made: CpuidEntry2): string => `${made.function} ${made.index}`;

/** One CPU while its entries are read. */
interface Cpu {
  readonly cpu: number | undefined;
  /** The line of each entry, by its function and index as a key. */
  readonly places: Map<string, number>;
  readonly isComplete: boolean | undefined;
  readonly entries: CpuidEntry2[];
  readonly lines: number[];
}

/** Collects the tables, faults and notes of a file that is being read. */
export class TableCollector {
  readonly #format: string;
  readonly #options: CollectOptions;
  readonly #problems = new ProblemList();
  readonly #notes: string[] = [];
  readonly #cpus: Cpu[] = [];
  #skippedCpus = 0;
  /** The number of damaged lines since the last entry; each of them may have been the header of a CPU. */
  #doubts = 0;

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

  /** Begins a CPU; `isComplete` is undefined if the file does not contain whether the table has all sub-leaves. */
  startCpu(cpu: number | undefined, line: number, isComplete?: boolean): void {
    if (this.#cpus.length < MOST_CPUS) {
      this.#cpus.push({ cpu, isComplete, entries: [], lines: [], places: new Map() });
      this.#doubts = 0;
      return;
    }
    if (this.#skippedCpus === 0) {
      this.problem(line, 1, `more than ${MOST_CPUS} CPUs; the rest is skipped`);
    }
    this.#skippedCpus += 1;
  }

  /**
   * Adds an entry to the current CPU. If there is no current CPU, or if the entry must belong to another CPU, the entry
   * begins a CPU without a number. Numbers are u32.
   */
  add(input: CpuidEntry2Input, line: number): void {
    if (this.#skippedCpus > 0) return;
    const made = entry(input);
    const place = placeOf(made);
    if (this.#cpus.length === 0 || this.#startsCpu(made, place)) this.startCpu(undefined, line);
    this.#doubts = 0;
    const cpu = this.#cpus.at(-1);
    if (cpu === undefined || this.#skippedCpus > 0) return;
    if (cpu.entries.length === MOST_ENTRIES) {
      this.problem(line, 1, `more than ${MOST_ENTRIES} entries of one CPU; this one is skipped`);
      return;
    }
    cpu.entries.push(made);
    cpu.lines.push(line);
    if (!cpu.places.has(place)) cpu.places.set(place, line);
  }

  /**
   * Adds an entry as {@link TableCollector.add} does, except if the current CPU has an entry with the same leaf and
   * sub-leaf; the function then returns the fault.
   */
  addOnce(input: CpuidEntry2Input, line: number): string | undefined {
    if (this.#skippedCpus > 0) return undefined;
    const made = entry(input);
    const place = placeOf(made);
    const first = this.#cpus.at(-1)?.places.get(place);
    if (first === undefined || this.#startsCpu(made, place)) {
      this.add(input, line);
      return undefined;
    }
    const leaf = `the leaf 0x${made.function.toString(16)}, sub-leaf ${made.index}`;
    return `${leaf} occurs again; the first is in line ${first}`;
  }

  /** Records that the header line of a CPU may be damaged. An entry that occurs again then begins a CPU. */
  doubt(): void {
    this.#doubts += 1;
  }

  /**
   * Whether an entry that occurs again begins a CPU: any entry after a damaged header, and leaf 0 with a vendor's name
   * in a dump.
   */
  #startsCpu(made: CpuidEntry2, place: string): boolean {
    if (this.#cpus.at(-1)?.places.has(place) !== true) return false;
    if (this.#doubts > 0) return true;
    const { contents, isOneCpu = false } = this.#options;
    return contents === "dump" && !isOneCpu && made.function === 0 && hasVendor(made);
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

  /**
   * Returns the contents of the file. A CPU without entries is omitted, with a note; a file without entries is a fault.
   */
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
    const table = CpuidTable.from(isDump ? withIndexFlags(remaining) : remaining);
    return {
      cpu,
      table,
      isComplete: isComplete ?? (canBeComplete && hasTerminators(table)),
      lines: kept.map((i) => lines[i] ?? 0),
    };
  }
}
