/**
 * The evidence of a claim that does not hold: its last calls as text, the fields of CPUID tables that differ, and its C
 * file. reproducer.ts records the calls.
 */
import { isDeepStrictEqual } from "node:util";
import { Cpuid2, read } from "../abi/index.ts";
import { type CpuidEntry2, CpuidTable, diff, formatChange } from "../cpuid/index.ts";
import {
  type Evidence,
  LONGEST_C,
  LONGEST_CALL,
  MOST_CALLS,
  MOST_FIELDS,
  type TableDifferences,
} from "../report/evidence.ts";
import { exportC, type IoctlStep, type Step, type Trace, toLine } from "../trace/index.ts";

/** Makes the evidence of a claim from the recording of its calls. `failure` is undefined if the claim holds. */
export function evidenceOf(trace: Trace, failure: Error | undefined): Evidence {
  const { steps } = trace;
  return {
    calls: steps.slice(-MOST_CALLS).map((step) => short(toLine(step))),
    earlierCalls: Math.max(0, steps.length - MOST_CALLS),
    ...tablesOf(steps, failure),
    ...cFileOf(trace),
  };
}

function cFileOf(trace: Trace): Pick<Evidence, "c" | "withoutC"> {
  try {
    const c = exportC(trace);
    if (c.length <= LONGEST_C) return { c };
    return { withoutC: `the C file has more than ${LONGEST_C / 1024} KiB` };
  } catch (error) {
    // A claim may use a handle that another claim has created.
    return { withoutC: error instanceof Error ? error.message : String(error) };
  }
}

/**
 * Returns the differences that explain a failure: between the two tables of a failed comparison; otherwise, if the last
 * call passed a table to KVM, between the vCPU's table and the passed table.
 */
function tablesOf(
  steps: readonly Step[],
  failure: Error | undefined,
): Pick<Evidence, "tables"> | undefined {
  if (failure === undefined) return undefined;
  const { expected, actual } = failure as {
    readonly expected?: unknown;
    readonly actual?: unknown;
  };
  const [first, second] = [tableFrom(expected), tableFrom(actual)];
  if (first !== undefined && second !== undefined) {
    return { tables: differences(first, second, { before: "expected", after: "got" }) };
  }
  return passedTable(steps);
}

function passedTable(steps: readonly Step[]): Pick<Evidence, "tables"> | undefined {
  const calls = steps.filter((step) => step.kind === "ioctl");
  const last = calls.at(-1);
  if (last === undefined || steps.findLast(({ kind }) => kind !== "close") !== last)
    return undefined;
  const passed = last.name === "KVM_SET_CPUID2" ? tableIn(last.before) : undefined;
  if (passed === undefined) return undefined;
  const stored = calls.slice(0, -1).findLast((step) => isOnSame(step, last) && storedBy(step));
  const table = stored && tableFrom(storedBy(stored));
  if (table === undefined) return undefined;
  return { tables: differences(table, passed, { before: "the vCPU's table", after: "passed" }) };
}

function isOnSame(step: IoctlStep, other: IoctlStep): boolean {
  return step.fd.id === other.fd.id && step.result >= 0;
}

/** Returns the vCPU's table after a successful call, if the call shows the table. */
function storedBy(step: IoctlStep): CpuidTable | undefined {
  if (step.name === "KVM_GET_CPUID2") return tableRead(step);
  return step.name === "KVM_SET_CPUID2" ? tableIn(step.before) : undefined;
}

/**
 * Returns the entries that KVM_GET_CPUID2 has written. Linux before 6.5 does not write their count; the other entries
 * of the buffer are then as before the call.
 */
function tableRead({ before, after }: IoctlStep): CpuidTable | undefined {
  const [room, table] = [tableIn(before), tableIn(after)];
  if (room === undefined || table === undefined || table.length < room.length) return table;
  return table.filter((entry, at) => !isDeepStrictEqual(entry, room.at(at)));
}

function tableIn(bytes: bigint | Uint8Array | undefined): CpuidTable | undefined {
  if (typeof bytes !== "object") return undefined;
  const { nent, entries } = read(Cpuid2, bytes);
  return CpuidTable.from(entries.slice(0, nent));
}

/** Returns the table that a compared value contains: a table, entries, or one entry. */
function tableFrom(value: unknown): CpuidTable | undefined {
  if (value instanceof CpuidTable) return value;
  const entries: readonly unknown[] = Array.isArray(value) ? value : [value];
  return entries.every(isEntry) && entries.length > 0 ? CpuidTable.from(entries) : undefined;
}

const MEMBERS = ["function", "index", "flags", "eax", "ebx", "ecx", "edx"] as const;

function isEntry(value: unknown): value is CpuidEntry2 {
  if (typeof value !== "object" || value === null) return false;
  return MEMBERS.every((name) => {
    const member: unknown = Reflect.get(value, name);
    return (
      typeof member === "number" && Number.isInteger(member) && member >= 0 && member < 2 ** 32
    );
  });
}

function differences(
  first: CpuidTable,
  second: CpuidTable,
  names: Pick<TableDifferences, "before" | "after">,
): TableDifferences {
  const changes = diff(first, second);
  const fields = changes.slice(0, MOST_FIELDS).map((change) => {
    const [name = "", values = ""] = formatChange(change).split(": ");
    const [before = "", after = ""] = values.split(" -> ");
    return { name: short(name), before: short(before), after: short(after) };
  });
  return { ...names, fields, more: changes.length - fields.length };
}

function short(line: string): string {
  return line.length <= LONGEST_CALL ? line : `${line.slice(0, LONGEST_CALL - 1)}…`;
}
