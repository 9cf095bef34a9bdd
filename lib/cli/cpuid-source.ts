/**
 * Loads the tables that the arguments of `node-kvm cpuid` name: the tables of this CPU, of this host's KVM, of models,
 * of saved states, and of files in any format. cpuid.ts implements the commands.
 */
import { closeSync, existsSync, fstatSync, openSync, readSync } from "node:fs";
import { isatty } from "node:tty";
import {
  applyMask,
  CPUID_FILE_HEAD,
  CPUID_FILE_LIMIT,
  CPUID_FORMATS,
  type CpuidDump,
  type CpuidEntry2Input,
  type CpuidFileTable,
  type CpuidFormatName,
  CpuidTable,
  detectFormat,
  modelTable,
  readCpuid,
} from "../cpuid/index.ts";
import { hostCpuid } from "../kvm/host-cpuid.ts";
import { Kvm } from "../kvm/kvm.ts";
import { printable } from "../report/printable.ts";
import { STATE_FORMAT, stateFromBytes, stateFromJson, type VmState } from "../state/index.ts";
import { featureTable, formatTitle, plainReason } from "./cpuid-features.ts";
import { CommandError, reasonOf } from "./failure.ts";

/** The names of tables that are not read from a file. */
const NAMED: Readonly<Record<string, () => CpuidTable>> = {
  host: hostCpuid,
  supported: () => ofKvm((kvm) => kvm.getSupportedCpuid()),
  emulated: () => ofKvm((kvm) => kvm.getEmulatedCpuid()),
  hyperv: () => ofKvm((kvm) => kvm.getSupportedHvCpuid()),
};

const NAMES = Object.keys(NAMED).join(", ");
const MODEL = "model:";
const STDIN = "-";

/** The names of all formats, for --help and messages. */
export const FORMAT_NAMES: string = CPUID_FORMATS.map(({ name }) => name).join(", ");

/** The names of the formats that can contain written tables. */
export const WRITTEN_NAMES: string = CPUID_FORMATS.filter(({ format }) => format !== undefined)
  .map(({ name }) => name)
  .join(", ");

/** The description of the words that name a table, for --help. */
export const TABLE_SOURCES: string =
  "host (this CPU), supported, emulated or hyperv (of this host's KVM), model:NAME, a file, " +
  "or - for standard input; a file is a CPUID dump of any format, a saved state, or a -cpu option or domain XML, of " +
  "which the table of its model with its features is made; FILE#N is its CPU N, and FILE#LABEL its table with that " +
  "label (without one, the first)";

function ofKvm(read: (kvm: Kvm) => Iterable<CpuidEntry2Input>): CpuidTable {
  using kvm = Kvm.open();
  return CpuidTable.from(read(kvm));
}

/** A table that the command line names, with its place in a file. */
export interface LoadedTable extends CpuidFileTable {
  /** The word of the command line that names the table. */
  readonly source: string;
  /** The file; undefined if the table is not from a file. */
  readonly file: string | undefined;
}

/** Whether the readable part of a damaged file is used. */
let isPartialAccepted = false;

/** Sets whether the readable part of a damaged file is used; a command calls this function before it loads tables. */
export function acceptPartial(isAccepted: boolean): void {
  isPartialAccepted = isAccepted;
}

/** Rejects a damaged input, except if the user has accepted that only its readable part is used. */
function refusePartial(what: string): void {
  if (!isPartialAccepted) throw new CommandError(`${what}; --partial uses the rest`);
}

/** Prints a fact about an input on standard error. */
export function note(text: string): void {
  process.stderr.write(`node-kvm: ${printable(text)}\n`);
}

const plain = (source: string, table: CpuidTable): LoadedTable => ({
  ...{ source, file: undefined, cpu: undefined, table },
  ...{ isComplete: true, lines: [] },
});

/** Returns the word that names a table of a file after `#`: the number of its CPU, its label, or its position. */
const keyOf = ({ cpu, label }: CpuidFileTable, position: number): string =>
  `${cpu ?? label ?? position}`;

/** Whether a table has a label but no CPU number; the tables of its file are then not the CPUs of one machine. */
const isAlternative = ({ cpu, label }: CpuidFileTable): boolean =>
  cpu === undefined && label !== undefined;

/** Reports on standard error which of the tables of a file is used. */
function noteFirst(source: string, tables: readonly LoadedTable[]): void {
  const [first, other] = tables;
  if (first === undefined || other === undefined) return;
  const key = isAlternative(other) ? other.label : "N";
  note(
    `${source} has ${tables.length} tables; this is ${first.label ?? `CPU ${first.cpu ?? 0}`}, and ${source}#${key} names another`,
  );
}

/** Returns only the first of tables with labels, and all tables of a dump of several CPUs. */
function firstOfAlternatives(
  source: string,
  tables: readonly LoadedTable[],
): readonly LoadedTable[] {
  const [first, ...others] = tables;
  if (first === undefined || others.length === 0 || !isAlternative(first)) return tables;
  noteFirst(source, tables);
  return [first];
}

/**
 * Loads the tables that a word names: the tables of all CPUs of a dump, or the table whose CPU number or label follows
 * `#`. If the tables of a file have labels, as guest and host, the function uses the first and reports this on standard
 * error.
 */
export function loadTables(source: string): readonly LoadedTable[] {
  const named = Object.hasOwn(NAMED, source) ? NAMED[source] : undefined;
  if (named !== undefined) return [plain(source, named())];
  if (source.startsWith(MODEL)) return [plain(source, modelOf(source.slice(MODEL.length)))];
  const { bytes, file, wanted } = readSource(source);
  const tables = tablesOf(source, file, bytes);
  if (wanted === undefined) return firstOfAlternatives(source, tables);
  const found = tables.filter(({ cpu, label }, i) => `${cpu ?? i}` === wanted || label === wanted);
  if (found.length > 0) return found;
  const what = tables.some(({ cpu, label }) => cpu === undefined && label !== undefined)
    ? (["table", "tables"] as const)
    : (["CPU", "CPUs"] as const);
  const keys = tables.map(keyOf).join(", ");
  throw new CommandError(`${file} has no ${what[0]} ${wanted}; its ${what[1]} are ${keys}`);
}

/**
 * Loads the table that a word names. If the file has several CPUs, the function uses the first CPU and reports this on
 * standard error.
 */
export function loadTable(source: string): LoadedTable {
  const tables = loadTables(source);
  const [first] = tables;
  if (first === undefined) throw new CommandError(`${source} contains no CPUID table`);
  noteFirst(source, tables);
  return first;
}

/**
 * Loads one table for each word. Files are read first; a missing file is then also reported on a host without KVM.
 * @throws CommandError if more than one word names standard input.
 */
export function loadEach(sources: readonly string[]): readonly LoadedTable[] {
  if (sources.filter((source) => source === STDIN).length > 1) {
    throw new CommandError('standard input contains one file: name "-" only once');
  }
  const read = sources.map((source) =>
    Object.hasOwn(NAMED, source) ? undefined : loadTable(source),
  );
  return sources.map((source, i) => read[i] ?? loadTable(source));
}

/** Loads the tables of two words as {@link loadEach} does. */
export function loadPair(first: string, second: string): readonly [CpuidTable, CpuidTable] {
  const [one, two] = loadEach([first, second]);
  if (one === undefined || two === undefined) throw new Error("two words have two tables");
  return [one.table, two.table];
}

function modelOf(name: string): CpuidTable {
  const [, model] = /^(.+)#\d+$/.exec(name) ?? [];
  if (model !== undefined) refuseNumber(`${MODEL}${model}`);
  try {
    return modelTable(name);
  } catch (cause) {
    throw new CommandError(plainReason(cause), { cause });
  }
}

/** The contents of a file, or only their beginning if the format needs no more. */
export interface SourceFile {
  readonly bytes: Uint8Array;
  /** The file's name, or `-`. */
  readonly file: string;
  /** The CPU number or the label after `#`. */
  readonly wanted: string | undefined;
}

/** Rejects a CPU number after a table that is not from a file. */
function refuseNumber(name: string): void {
  if (!Object.hasOwn(NAMED, name) && !name.startsWith(MODEL)) return;
  throw new CommandError(`${name} has no CPU number; only a file has CPUs, as FILE#N`);
}

/** Reads a file, `FILE#N`, `FILE#LABEL`, or standard input. */
export function readSource(source: string): SourceFile {
  const [, name, key] = /^(.+)#([^#/]+)$/.exec(source) ?? [];
  try {
    return { bytes: readWhole(source), file: source, wanted: undefined };
  } catch (cause) {
    const isMissing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    if (name !== undefined && key !== undefined && isMissing) {
      const isNumber = /^\d+$/.test(key);
      refuseNumber(name);
      if (isNumber || name === STDIN || existsSync(name)) {
        return { ...readSource(name), wanted: isNumber ? `${Number(key)}` : key };
      }
    }
    if (cause instanceof CommandError) throw cause;
    const words = `${source} is not one of ${NAMES} or ${MODEL}NAME`;
    throw new CommandError(`${words}, and cannot be read: ${reasonOf(cause)}`, { cause });
  }
}

/** Whether a file begins like a saved state; a saved state may be larger than any dump. */
function isState(head: Uint8Array): boolean {
  const text = new TextDecoder("latin1").decode(head.subarray(0, STATE_HEAD));
  return text.startsWith(STATE_MAGIC) || text.includes(`"${STATE_FORMAT}"`);
}

const STATE_MAGIC = "KVMSTATE";
const STATE_HEAD = 512;

/** Reads a saved state completely, a dump up to the size limit, and only the beginning of any other file. */
function readWhole(file: string): Uint8Array {
  const fd = file === STDIN ? 0 : openSync(file, "r");
  try {
    refuseDevice(fd, file);
    const head = readUpTo(fd, CPUID_FILE_HEAD);
    if (head.length < CPUID_FILE_HEAD) return head;
    const isKnown = isState(head) || detectFormat(head) !== undefined;
    if (!isKnown) return head;
    const most = isState(head) ? Infinity : CPUID_FILE_LIMIT + 1 - head.length;
    return joined([head, readUpTo(fd, most)]);
  } finally {
    if (fd !== 0) closeSync(fd);
  }
}

/**
 * Rejects a character device that is not a terminal: /dev/cpu/N/cpuid has no end, and each read of it must be a multiple
 * of 16 bytes (arch/x86/kernel/cpuid.c).
 */
function refuseDevice(fd: number, file: string): void {
  if (file === STDIN || !fstatSync(fd).isCharacterDevice() || isatty(fd)) return;
  throw new CommandError(
    `${file} is a character device, and a table is read from files only; ` +
      "`node-kvm cpuid dump host` writes the table of this CPU",
  );
}

const CHUNK = 1 << 16;

/** The maximum size of a program that is read: 1 GiB. */
const PROGRAM_LIMIT = 1 << 30;

/** The first bytes of an ELF file; a file that begins otherwise is not read further. */
const ELF_HEAD = 64;

/** Reads a program for `cpuid needs`: an ELF file completely, and only the beginning of any other file. */
export function readProgram(program: string): Uint8Array {
  try {
    const fd = program === STDIN ? 0 : openSync(program, "r");
    try {
      const head = readUpTo(fd, ELF_HEAD);
      if (new TextDecoder("latin1").decode(head.subarray(1, 4)) !== "ELF") return head;
      const rest = readUpTo(fd, PROGRAM_LIMIT);
      if (rest.length < PROGRAM_LIMIT) return joined([head, rest]);
    } finally {
      if (fd !== 0) closeSync(fd);
    }
  } catch (cause) {
    throw new CommandError(`${program} cannot be read: ${reasonOf(cause)}`, { cause });
  }
  throw new CommandError(`${program} has more than 1 GiB`);
}

/** Reads a file to its end, or up to a number of bytes. */
function readUpTo(fd: number, most: number): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let left = most; left > 0; ) {
    const part = new Uint8Array(Math.min(CHUNK, left));
    const count = fill(fd, part);
    parts.push(part.subarray(0, count));
    if (count < part.length) break;
    left -= count;
  }
  return joined(parts);
}

/**
 * Reads until an array is full or the file ends, and returns the number of bytes. A read of a pipe may return a few
 * bytes only; with a new array for each read, the arrays would need more memory than the file.
 */
function fill(fd: number, part: Uint8Array): number {
  let filled = 0;
  while (filled < part.length) {
    const count = readSome(fd, part.subarray(filled));
    if (count === 0) break;
    filled += count;
  }
  return filled;
}

/** Reads some bytes; standard input may be a terminal or a pipe that is not ready yet. */
function readSome(fd: number, part: Uint8Array): number {
  for (;;) {
    try {
      return readSync(fd, part);
    } catch (cause) {
      const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
      if (code === "EOF") return 0;
      if (code !== "EAGAIN") throw cause;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    }
  }
}

const RETRY_MS = 10;

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const [first] = parts;
  if (parts.length === 1 && first !== undefined) return first;
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** The format name of contents that fit no format. */
const UNKNOWN = "unknown";

/** Whether a note of a format is about the choice of a table; loadTables() reports the table that it chooses. */
const isAboutLabels = (text: string): boolean => text.endsWith("choose one of them by its label");

/** Reads the contents of a file about CPUID, and reports its faults and notes on standard error. */
export function readDump(file: string, bytes: Uint8Array): CpuidDump {
  if (bytes.length > CPUID_FILE_LIMIT) {
    throw new CommandError(`${file} has more than 16 MiB, which is the limit for a dump`);
  }
  const dump = readCpuid(bytes);
  const [first] = dump.problems;
  if (dump.format === UNKNOWN && first !== undefined) {
    throw new CommandError(`${file}: ${first.message}`);
  }
  for (const { line, column, message } of dump.problems) {
    note(line === 0 ? `${file}: ${message}` : `${file}:${line}:${column}: ${message}`);
  }
  for (const text of dump.notes) if (!isAboutLabels(text)) note(`${file}: ${text}`);
  return dump;
}

/** Returns a format's name. @throws CommandError for another word. */
export function toFormatName(name: string): CpuidFormatName {
  const found = CPUID_FORMATS.find((format) => format.name === name);
  if (found !== undefined) return found.name as CpuidFormatName;
  throw new CommandError(`there is no format ${name}; the formats are ${FORMAT_NAMES}`);
}

function tablesOf(source: string, file: string, bytes: Uint8Array): readonly LoadedTable[] {
  if (isState(bytes)) return stateTables(source, file, bytes);
  const dump = readDump(file, bytes);
  switch (dump.kind) {
    case "tables":
      if (dump.tables.every(({ table }) => table.length === 0)) {
        throw new CommandError(`${file} contains no CPUID table: it has no entry`);
      }
      if (dump.problems.length > 0) refusePartial(`${file} is damaged`);
      return dump.tables.map((table) => ({ ...table, source, file }));
    case "features":
      return [{ ...plain(source, featureTable(file, bytes, dump, note)), file }];
    case "mask":
      throw new CommandError(
        `${file} is a mask (${formatTitle(dump)}), which changes a table; give it with --mask`,
      );
    default:
      return dump satisfies never;
  }
}

function stateTables(source: string, file: string, bytes: Uint8Array): readonly LoadedTable[] {
  let state: VmState;
  try {
    const isBinary = bytes[0] === STATE_MAGIC.charCodeAt(0);
    state = isBinary
      ? stateFromBytes(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))
      : stateFromJson(new TextDecoder().decode(bytes));
  } catch (cause) {
    // The message for a damaged saved state has one line for each fault, and may have many lines.
    const why = reasonOf(cause).split("\n", 2).join("");
    throw new CommandError(`${file} contains no CPUID table: ${why}`, { cause });
  }
  const tables = state.vcpus.flatMap(({ id, cpuid: entries }) =>
    entries === undefined
      ? []
      : [{ ...plain(source, CpuidTable.from(entries)), file, cpu: id, label: `vCPU ${id}` }],
  );
  if (tables.length > 0) return tables;
  throw new CommandError(`${file} contains no CPUID table: its vCPUs were saved without one`);
}

/** Applies the mask of a file to a table. */
export function masked(loaded: LoadedTable, file: string): LoadedTable {
  const { bytes } = readSource(file);
  const dump = readDump(file, bytes);
  if (dump.kind !== "mask") throw new CommandError(`${file} is not a mask`);
  if (dump.problems.length > 0) throw new CommandError(`${file} has faults, so it is not applied`);
  const { table, absent } = applyMask(loaded.table, dump);
  for (const { function: fn, register, line } of absent) {
    note(`${file}:${line}: the table has no entry 0x${fn.toString(16)} (${register})`);
  }
  if (absent.length > 0) refusePartial(`${file} changes entries that ${loaded.source} lacks`);
  return { ...loaded, table, lines: [] };
}
