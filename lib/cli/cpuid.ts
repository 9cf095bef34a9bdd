/** `node-kvm cpuid`: prints a CPUID table, or the differences between two tables. */
import { readFileSync } from "node:fs";
import { CpuidTable, diff, printDiff, printTable } from "../cpuid/index.ts";
import { parseRawTable } from "../cpuid/parse.ts";
import { Kvm } from "../kvm/kvm.ts";
import { wrap } from "../report/lines.ts";
import { STATE_FORMAT, stateFromBytes, stateFromJson, type VmState } from "../state/index.ts";
import { STATUS } from "./exit-status.ts";
import { CommandError, reasonOf } from "./failure.ts";
import { lineWidth } from "./terminal.ts";

/** The form in which a table is printed. */
export type TableForm = "fields" | "raw" | "json";

const HOST_TABLES = {
  supported: (kvm: Kvm) => kvm.getSupportedCpuid(),
  emulated: (kvm: Kvm) => kvm.getEmulatedCpuid(),
  hyperv: (kvm: Kvm) => kvm.getSupportedHvCpuid(),
} as const;

const NAMES = Object.keys(HOST_TABLES).join(", ");
const FORMATS = "the output of cpuid show --json or --raw, or a saved state (JSON or bytes)";

/** The sources of a table, for --help. */
export const TABLE_SOURCES: string =
  `${NAMES} (of this host's KVM), a file, or - for standard input; a file contains ${FORMATS}, ` +
  "of which FILE#ID is the vCPU with this id";

/** Prints the CPUID table that `source` names. */
export function cpuidShow(source: string, form: TableForm): void {
  const table = load(source);
  const text =
    form === "json" ? JSON.stringify(table, null, 2) : printTable(table, { format: form });
  // The continuation lines of a register start below its fields.
  const fitting = form === "fields" ? wrapLines(text, " ".repeat(18)) : text;
  process.stdout.write(`${fitting.trimEnd()}\n`);
}

/** Wraps the lines of a text to the terminal's width. */
function wrapLines(text: string, rest: string): string {
  const width = lineWidth(process.stdout);
  return text
    .split("\n")
    .flatMap((line) => wrap(line, width, { rest }))
    .join("\n");
}

/** Prints the fields in which two tables differ; returns 1 if there are any. */
export function cpuidDiff(before: string, after: string): number {
  if (before === STDIN && after === STDIN) {
    throw new CommandError("standard input contains only one table: name - only once");
  }
  const changes = diff(load(before), load(after));
  if (changes.length > 0)
    process.stdout.write(`${wrapLines(printDiff(changes), "    ").trimEnd()}\n`);
  return changes.length === 0 ? STATUS.ok : STATUS.finding;
}

const STDIN = "-";

function load(source: string): CpuidTable {
  if (Object.hasOwn(HOST_TABLES, source)) {
    using kvm = Kvm.open();
    return CpuidTable.from(HOST_TABLES[source as keyof typeof HOST_TABLES](kvm));
  }
  const { bytes, vcpu } = read(source);
  try {
    return parse(bytes, vcpu);
  } catch (cause) {
    // A saved state may have many faults, which are printed one per line.
    const why = reasonOf(cause).split("\n", 2).join("");
    throw new CommandError(`${source} contains no CPUID table: ${why}; use ${FORMATS}`, { cause });
  }
}

/** Reads a file, `FILE#ID`, or standard input. */
function read(source: string): { readonly bytes: Buffer; readonly vcpu: number | undefined } {
  const [, file, id] = /^(.+)#(\d+)$/.exec(source) ?? [];
  try {
    return { bytes: readFileSync(source === STDIN ? 0 : source), vcpu: undefined };
  } catch (cause) {
    const isMissing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    if (file !== undefined && isMissing) {
      return { bytes: read(file).bytes, vcpu: Number(id) };
    }
    const sentence = `${source} is not one of ${NAMES}, and cannot be read: ${reasonOf(cause)}`;
    throw new CommandError(`${sentence}; a file contains ${FORMATS}`, { cause });
  }
}

const STATE_MAGIC = "KVMSTATE";

function parse(bytes: Buffer, vcpu: number | undefined): CpuidTable {
  if (bytes.toString("latin1", 0, STATE_MAGIC.length) === STATE_MAGIC) {
    return tableOf(stateFromBytes(bytes), vcpu);
  }
  const text = bytes.toString("utf8");
  const json = text.trimStart().startsWith("{") ? asJson(text) : undefined;
  if (json !== undefined && "format" in json && json.format === STATE_FORMAT) {
    return tableOf(stateFromJson(text), vcpu);
  }
  if (vcpu !== undefined) throw new SyntaxError("#ID is for saved states");
  return json === undefined ? parseRawTable(text) : CpuidTable.fromJSON(json);
}

function asJson(text: string): object {
  const value: unknown = JSON.parse(text);
  return value as object;
}

function tableOf({ vcpus }: VmState, wanted: number | undefined): CpuidTable {
  const ids = vcpus.map(({ id }) => id).join(", ");
  const found = wanted === undefined ? vcpus[0] : vcpus.find(({ id }) => id === wanted);
  if (found === undefined)
    throw new RangeError(`the vCPUs of this state have the ids: ${ids || "none"}`);
  if (found.cpuid === undefined) throw new RangeError(`vCPU ${found.id} was saved without a table`);
  if (wanted === undefined && vcpus.length > 1) {
    process.stderr.write(`node-kvm: this is vCPU ${found.id} of ${ids}; FILE#ID names another\n`);
  }
  return CpuidTable.from(found.cpuid);
}
