/** Reads files in the tests of formats: the tables of one, as text that a failure shows well. */
import { type CpuidFormatName, readCpuid } from "../../../../lib/cpuid/index.ts";

/** The parts of a file that a test compares. */
export interface ReadFile {
  /** The numbers of the CPUs. */
  readonly cpus: readonly (number | undefined)[];
  /** The entries of each CPU, one a line: `7.0 1 0 5 0 0` for function, index, flags and registers, in hexadecimal. */
  readonly tables: readonly (readonly string[])[];
  /** The faults, as `line: message`. */
  readonly problems: readonly string[];
  readonly notes: readonly string[];
  /** Whether each table has all sub-leaves. */
  readonly complete: readonly boolean[];
}

/** Reads a file as a format. */
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
