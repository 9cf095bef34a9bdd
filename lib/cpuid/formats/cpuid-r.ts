/**
 * Reads and writes the text of `cpuid -r`, and this package's raw text, which adds the flags of each entry after the
 * registers. Other files of this folder contain the other formats with one entry per line.
 */
import { printTable } from "../print.ts";
import { TableCollector } from "./collect.ts";
import type { CpuidDump, CpuidFileTable, CpuidFormat } from "./dump.ts";
import { LONGEST_LINE } from "./limits.ts";
import { decodeText, linesOf, shownLine, type TextLine } from "./lines.ts";
import {
  cpuNumber,
  encodeLines,
  hexDigits,
  isPadded,
  isProse,
  likelihoodOfRows,
  noteProse,
  type RowFault,
  registersOf,
  shortNumber,
} from "./text-rows.ts";

const [CPUID_R, RAW] = ["cpuid-r", "raw"];

/** `   0x00000007 0x00: eax=0x00000000 …`; an old version prints no sub-leaf. Only this package's format has flags. */
const ROW =
  /^\s*(?:0x)?([0-9a-f]{1,8})(?:\s+(?:0x)?([0-9a-f]{1,8}))?\s*:\s*eax=(?:0x)?([0-9a-f]{1,8})[\s,]+ebx=(?:0x)?([0-9a-f]{1,8})[\s,]+ecx=(?:0x)?([0-9a-f]{1,8})[\s,]+edx=(?:0x)?([0-9a-f]{1,8})(?:\s+flags=(\d{1,10}|0x[0-9a-f]{1,8}))?\s*$/di;

/** The groups of {@link ROW} that contain the leaf and the registers. */
const LEAF = 1;
const REGISTERS = [
  [3, "eax"],
  [4, "ebx"],
  [5, "ecx"],
  [6, "edx"],
] as const;

/** `CPU 0:`, and `CPU:` with the option -1. */
const HEADER = /^\s*CPU(?:\s*(\d{1,9}))?\s*:\s*$/i;

/** The first half of an entry that a mail program wrapped: the line ends after a register, and EDX is missing. */
const WRAPPED =
  /^\s*(?:0x)?[0-9a-f]{1,8}(?:\s+(?:0x)?[0-9a-f]{1,8})?\s*:\s*eax=(?:0x)?[0-9a-f]{8}(?:[\s,]+e[bc]x=(?:0x)?[0-9a-f]{8}){0,2}[\s,]*$/i;

/** The second half of a wrapped entry. */
const REST = /^\s*(?:e[bc]x=(?:0x)?[0-9a-f]{8}[\s,]+){0,2}edx=(?:0x)?[0-9a-f]{8}\s*$/i;

const WRAPPED_OR_REST = new RegExp(`${WRAPPED.source}|${REST.source}`, "i");

/** Joins the two lines of each wrapped entry. */
function* unwrapped(lines: Iterable<TextLine>): Generator<TextLine> {
  let part: TextLine | undefined;
  for (const line of lines) {
    if (part !== undefined && REST.test(line.text)) {
      yield { ...line, number: part.number, text: `${part.text} ${line.text.trim()}` };
      part = undefined;
      continue;
    }
    if (part !== undefined) yield part;
    part = line.text.length <= LONGEST_LINE && WRAPPED.test(line.text) ? line : undefined;
    if (part === undefined) yield line;
  }
  if (part !== undefined) yield part;
}

/**
 * Whether the end of an entry may be missing: the file ends within the entry's line, and the last number has too few
 * digits.
 */
const isCut = (line: TextLine, edx: string, flags: string | undefined): boolean =>
  !line.isTerminated && flags === undefined && edx.length < 8;

function parse(bytes: Uint8Array, name: string): CpuidDump {
  const text = decodeText(bytes);
  const hasFlags = /edx=\w+[ \t]+flags=/i.test(text);
  // A raw text whose tables have no entries has no flags either.
  const isRaw = hasFlags || (name === RAW && !/eax=/i.test(text));
  const into = new TableCollector(isRaw ? RAW : CPUID_R, {
    contents: isRaw ? "exact" : "dump",
    canBeComplete: true,
  });
  const file: FileRules = { hasFlags, isRaw, hasPadding: isPadded(text) };
  let prose = 0;
  for (const line of unwrapped(linesOf(text))) {
    const fault = readLine(line, file, into);
    if (fault === undefined) continue;
    if (isProse(line) && !ROW.test(line.text)) prose += 1;
    else into.problem(line.number, fault.column, fault.message);
    if (fault.isRepeated !== true) into.doubt();
  }
  noteProse(into, prose);
  return into.finish();
}

/** The properties of a file that decide which lines have a fault. */
interface FileRules {
  /** Whether an entry has flags. */
  readonly hasFlags: boolean;
  /** Whether the file is this package's raw text, which may contain an entry twice. */
  readonly isRaw: boolean;
  /** Whether each register has 8 digits. */
  readonly hasPadding: boolean;
}

/** The fault of a line. A repeated entry cannot be the damaged header of a CPU. */
type LineFault = RowFault & { readonly isRepeated?: boolean };

const wholeLine = (message: string): LineFault => ({ column: 1, message });

/** Adds the contents of a line; returns the fault of the line, or undefined. */
function readLine(line: TextLine, file: FileRules, into: TableCollector): LineFault | undefined {
  if (line.text.length > LONGEST_LINE) {
    return wholeLine(`the line has more than ${LONGEST_LINE} characters`);
  }
  if (line.text.trim() === "") return undefined;
  const header = HEADER.exec(line.text);
  if (header !== null) {
    into.startCpu(header[1] === undefined ? undefined : Number(header[1]), line.number);
    return undefined;
  }
  const found = ROW.exec(line.text);
  if (found === null) return wholeLine(`the line is not an entry: ${shownLine(line.text)}`);
  const [, fn = "", index = "0", eax = "", ebx = "", ecx = "", edx = "", flags] = found;
  if (isCut(line, edx, flags)) {
    return wholeLine(`the file ends in this line, and edx=${edx} may be cut off`);
  }
  if (file.hasFlags && flags === undefined) {
    return wholeLine("the line has no flags, but others have");
  }
  const fault = shortNumber(found, LEAF, file.hasPadding ? REGISTERS : []);
  if (fault !== undefined) return fault;
  const [f = 0, i = 0, a = 0, b = 0, c = 0, d = 0] = [fn, index, eax, ebx, ecx, edx].map((digits) =>
    Number.parseInt(digits, 16),
  );
  const given = Number(flags ?? 0);
  if (given > 0xffffffff) return wholeLine(`flags=${flags} does not fit 32 bits`);
  const input = { function: f, index: i, flags: given, eax: a, ebx: b, ecx: c, edx: d };
  if (!file.isRaw) {
    const message = into.addOnce(input, line.number);
    return message === undefined ? undefined : { column: 1, message, isRepeated: true };
  }
  into.add(input, line.number);
  return undefined;
}

function header(table: CpuidFileTable, position: number, count: number): string {
  const cpu = cpuNumber(table, position, count);
  return cpu === undefined ? "CPU:" : `CPU ${cpu}:`;
}

function formatCpuidR(tables: readonly CpuidFileTable[]): Uint8Array {
  const lines = tables.flatMap((one, position) => [
    header(one, position, tables.length),
    ...[...one.table].map((entry) => {
      const [eax, ebx, ecx, edx] = registersOf(entry);
      const place = `0x${hexDigits(entry.function)} 0x${hexDigits(entry.index, 2)}`;
      return `   ${place}: eax=0x${eax} ebx=0x${ebx} ecx=0x${ecx} edx=0x${edx}`;
    }),
  ]);
  return encodeLines(lines);
}

function formatRaw(tables: readonly CpuidFileTable[]): Uint8Array {
  const lines = tables.flatMap((one, position) => {
    const rows = one.table.length === 0 ? [] : printTable(one.table).split("\n");
    const isAlone = tables.length === 1 && one.cpu === undefined && rows.length > 0;
    return isAlone ? rows : [header(one, position, tables.length), ...rows];
  });
  return encodeLines(lines);
}

/** The format of `cpuid -r` of the Debian package cpuid; `cpuid -f` reads the output of {@link CpuidFormat.format}. */
export const cpuidR: CpuidFormat = {
  name: CPUID_R,
  title: "text of cpuid -r",
  kind: "tables",
  isLossless: false,
  likelihood: (head) =>
    Math.max(likelihoodOfRows(head, ROW), likelihoodOfRows(head, WRAPPED_OR_REST)),
  parse: (bytes) => parse(bytes, CPUID_R),
  format: formatCpuidR,
};

const RAW_ROW = /^\s*0x[0-9a-f]{1,8}\s+0x[0-9a-f]{1,8}\s*:\s*eax=.{30,120}\sflags=\w{1,10}\s*$/i;

/**
 * The format of `node-kvm cpuid show --raw` and of printTable(): the format of `cpuid -r`, with flags added. The format
 * does not contain padding.
 */
export const raw: CpuidFormat = {
  name: RAW,
  title: "text of node-kvm cpuid show --raw",
  kind: "tables",
  isLossless: true,
  likelihood: (head) => likelihoodOfRows(head, RAW_ROW),
  parse: (bytes) => parse(bytes, RAW),
  format: formatRaw,
};
