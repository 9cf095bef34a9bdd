/** Reads files for the tests of formats, and returns their tables as text that is readable in a failure message. */
import { type CpuidFormatName, readCpuid } from "../../../../lib/cpuid/index.ts";

/** The parts of a file that a test compares. */
export interface ReadFile {
  /** The numbers of the CPUs in the file. */
  readonly cpus: readonly (number | undefined)[];
  /**
   * The entries of each CPU, one per line: `7.0 1 0 5 0 0` has the function and index, the flags and the registers, in
   * hexadecimal.
   */
  readonly tables: readonly (readonly string[])[];
  /** The faults of the file, as `line: message`. */
  readonly problems: readonly string[];
  readonly notes: readonly string[];
  /** Whether each table has all sub-leaves. */
  readonly complete: readonly boolean[];
}

/** Reads a file in the given format. */
export function readFile(data: string | Uint8Array, format?: CpuidFormatName): ReadFile {
  const dump = readCpuid(data, format === undefined ? {} : { format });
  const tables = dump.kind === "tables" ? dump.tables : [];
  const hex = (value: number): string => value.toString(16);
  return {
    cpus: tables.map(({ cpu }) => cpu),
    tables: tables.map(({ table }) =>
      [...table].map(
        (e) =>
          `${hex(e.function)}.${hex(e.index)} ${[e.flags, e.eax, e.ebx, e.ecx, e.edx].map(hex).join(" ")}`,
      ),
    ),
    problems: dump.problems.map(({ line, message }) => `${line}: ${message}`),
    notes: dump.notes,
    complete: tables.map(({ isComplete }) => isComplete),
  };
}

/** Reads a file without a fault, and returns the entries of its CPUs. @throws Error with the first fault. */
export function tablesOf(
  data: string | Uint8Array,
  format?: CpuidFormatName,
): readonly (readonly string[])[] {
  const { problems, tables } = readFile(data, format);
  if (problems.length > 0) throw new Error(problems[0]);
  return tables;
}
