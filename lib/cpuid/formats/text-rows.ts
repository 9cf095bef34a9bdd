/** Functions that the formats with one entry per line share: registers in hexadecimal, headers of CPUs, likelihoods. */
import { CPUID_REGISTERS, type CpuidEntry2, KVM_CPUID_FLAG_SIGNIFCANT_INDEX } from "../entry.ts";
import type { TableCollector } from "./collect.ts";
import type { CpuidFileTable } from "./dump.ts";
import { LONGEST_LINE } from "./limits.ts";
import { headText, linesOf, type TextLine } from "./lines.ts";

/** Formats a number in lower-case hexadecimal without a prefix, with at least `digits` digits. */
export function hexDigits(value: number, digits = 8): string {
  return value.toString(16).padStart(digits, "0");
}

/** Returns the four registers in hexadecimal, each with 8 digits, in the order EAX, EBX, ECX, EDX. */
export function registersOf(entry: CpuidEntry2): readonly string[] {
  return CPUID_REGISTERS.map((register) => hexDigits(entry[register]));
}

/** Whether a dump prints the sub-leaf of an entry, because it is not 0 or KVM treats the index as significant. */
export function showsIndex({ index, flags }: CpuidEntry2): boolean {
  return index !== 0 || (flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) !== 0;
}

/**
 * Returns the number of a table's CPU; if the table has no number and there are several tables, the table's position.
 */
export function cpuNumber(
  { cpu }: CpuidFileTable,
  position: number,
  count: number,
): number | undefined {
  return cpu ?? (count > 1 ? position : undefined);
}

/** The number of digits of a leaf or a register in a dump. */
const DIGITS = 8;

/** A register with leading zeros, which only a program that pads every register writes. */
const PADDED = /\be[a-d]x=["']?(?:0x)?0[0-9a-f]{7}(?![0-9a-f])/i;

/**
 * Whether the registers of a text are padded to 8 digits. The programs cpuid, kcpuid and libvirt pad every register, so
 * a shorter number has lost a digit. Text that a person wrote may have no leading zeros at all.
 */
export function isPadded(text: string): boolean {
  return PADDED.test(text);
}

const digitsFault = (name: string, count: number): string =>
  `${name} has ${count} ${count === 1 ? "digit" : "digits"} instead of ${DIGITS}`;

/** Returns the fault of a register in a padded text, or undefined if no digit is missing. */
export function shortRegister(name: string, digits: string): string | undefined {
  return digits.length < DIGITS ? digitsFault(name, digits.length) : undefined;
}

/**
 * Returns the fault of a leaf from which digits are missing, or undefined. A person may write a leaf without leading
 * zeros, but such a leaf has at most 4 digits or all 8.
 */
export function shortLeaf(name: string, digits: string): string | undefined {
  return digits.length > 4 && digits.length < DIGITS ? digitsFault(name, digits.length) : undefined;
}

/** The fault of a line, with its column. */
export interface RowFault {
  readonly column: number;
  readonly message: string;
}

/**
 * Returns the fault of the first number of a row with a missing digit.
 *
 * @param found - the match of an expression with the flag `d`.
 * @param leaf - the group that contains the leaf, or undefined.
 * @param registers - the groups that contain padded registers, with their names.
 */
export function shortNumber(
  found: RegExpExecArray,
  leaf: number | undefined,
  registers: readonly (readonly [group: number, name: string])[],
): RowFault | undefined {
  const digits = (group: number): string => found[group] ?? "";
  const faults: readonly (readonly [group: number, message: string | undefined])[] = [
    ...(leaf === undefined
      ? []
      : [[leaf, shortLeaf(`the leaf ${digits(leaf)}`, digits(leaf))] as const]),
    ...registers.map(
      ([group, name]) => [group, shortRegister(`${name}=${digits(group)}`, digits(group))] as const,
    ),
  ];
  for (const [group, message] of faults) {
    if (message !== undefined) return { column: (found.indices?.[group]?.[0] ?? 0) + 1, message };
  }
  return undefined;
}

/** Encodes the lines of a text file, each with a line break. */
export function encodeLines(lines: readonly string[], lineBreak = "\n"): Uint8Array {
  return new TextEncoder().encode(lines.map((line) => `${line}${lineBreak}`).join(""));
}

/** A line above this length is not an entry of any format. */
const LONGEST_ROW = 400;

/**
 * Returns the likelihood that a file has a format whose lines match a pattern. It is 0 without such a line, `few` for
 * one or two such lines among others, 0.7 for more, and up to 0.95 if most lines match.
 */
export function likelihoodOfRows(head: Uint8Array, row: RegExp, few = 0.6): number {
  let [lines, rows] = [0, 0];
  for (const { text } of linesOf(headText(head))) {
    if (text.trim() === "") continue;
    lines += 1;
    if (text.length <= LONGEST_ROW && row.test(text)) rows += 1;
  }
  if (rows === 0) return 0;
  const share = rows / lines;
  if (share >= 0.5) return 0.75 + share / 5;
  return rows >= 3 ? 0.7 : few;
}

/** Matches a damaged line, which begins with a number, contains a register with a value, or is the header of a CPU. */
const LIKE_ROW =
  /^\s*(?:0x|[0-9a-f]{4,8}\b|\d{1,10}:)|\be[a-d]x=0x|^\s*CPU\b(?:\s*\d+\s*:|[^:]{0,20}:\s*$)|0x[0-9a-f]{7,8}/i;
/** The beginning of a line with an entry, which is incomplete because the file was cut. */
const BEGINNING = /^\s*(?:0x?[0-9a-f]*|C|CP|CPU\s*\d*)$/i;

/**
 * Whether a line without an entry contains other text, such as a mail around a dump; if false, the line may be a
 * damaged entry.
 */
export function isProse({ text, isTerminated }: TextLine): boolean {
  if (text.length > LONGEST_LINE) return false;
  return !LIKE_ROW.test(text) && (isTerminated || !BEGINNING.test(text));
}

/** Adds a note with the number of skipped lines of other text. */
export function noteProse(into: TableCollector, count: number): void {
  if (count === 1) into.note("1 line without CPUID is skipped");
  else if (count > 1) into.note(`${count} lines without CPUID are skipped`);
}
