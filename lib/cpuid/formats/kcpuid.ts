/**
 * Reads and writes the text of `kcpuid -r` (Linux, tools/arch/x86/kcpuid). The program omits entries of zeros, but this
 * package writes such entries.
 */
import type { CpuidEntry2 } from "../entry.ts";
import { TableCollector } from "./collect.ts";
import type { CpuidDump, CpuidFileTable, CpuidFormat } from "./dump.ts";
import { LONGEST_LINE } from "./limits.ts";
import { decodeText, linesOf, shownLine, type TextLine } from "./lines.ts";
import {
  encodeLines,
  hexDigits,
  isPadded,
  isProse,
  likelihoodOfRows,
  noteProse,
  type RowFault,
  registersOf,
  shortNumber,
  showsIndex,
} from "./text-rows.ts";

const REGISTERS =
  "EAX=0x([0-9a-f]{1,8}),? +EBX=0x([0-9a-f]{1,8}),? +ECX=0x([0-9a-f]{1,8}),? +EDX=0x([0-9a-f]{1,8}),?";

/** `0x00000001: EAX=0x000906ea, EBX=…` */
const LEAF = new RegExp(`^\\s*0x([0-9a-f]{1,8}): +${REGISTERS}\\s*$`, "di");
/** `0x00000004: subleafs:` */
const SUBLEAVES = /^\s*0x([0-9a-f]{1,8}): +sub-?lea(?:f|ve)s:?\s*$/di;
/** `  0: EAX=0x1c004121, EBX=…` */
const SUBLEAF = new RegExp(`^\\s*(\\d{1,10}): +${REGISTERS}\\s*$`, "di");
/** The section header `Basic Leafs :` and the line below it. */
const TITLE = /^\s*(?:[\w ]{1,40} lea(?:f|ve)s\s*:|=+)\s*$/i;

/** The state of the parser: the leaf whose sub-leaves follow, and the last sub-leaf that was read. */
interface Place {
  readonly leaf: number | undefined;
  readonly last: number;
}

const NO_LEAF: Place = { leaf: undefined, last: -1 };

/** The result of a line: its fault, and the state of the parser after it. */
interface LineResult {
  readonly fault?: RowFault;
  readonly place: Place;
}

/** Returns the fault of a whole line. Sub-leaves that follow the line may belong to another leaf. */
const damaged = (message: string): LineResult => ({
  fault: { column: 1, message },
  place: NO_LEAF,
});

/** The groups of {@link LEAF} and {@link SUBLEAVES} with the leaf, and of a row with the registers. */
const LEAF_GROUP = 1;
const REGISTER_GROUPS = [
  [2, "EAX"],
  [3, "EBX"],
  [4, "ECX"],
  [5, "EDX"],
] as const;

function parse(bytes: Uint8Array): CpuidDump {
  const into = new TableCollector(kcpuid.name, { contents: "dump", canBeComplete: true });
  const text = decodeText(bytes);
  const hasPadding = isPadded(text);
  let place = NO_LEAF;
  let prose = 0;
  for (const line of linesOf(text)) {
    const { fault, place: next } = readLine(line, place, hasPadding, into);
    if (fault !== undefined && isProse(line)) prose += 1;
    else if (fault !== undefined) into.problem(line.number, fault.column, fault.message);
    place = next;
  }
  noteProse(into, prose);
  return into.finish();
}

/** Adds the contents of a line. */
function readLine(
  line: TextLine,
  place: Place,
  hasPadding: boolean,
  into: TableCollector,
): LineResult {
  const { text } = line;
  if (text.length > LONGEST_LINE) {
    return damaged(`the line has more than ${LONGEST_LINE} characters`);
  }
  if (text.trim() === "") return { place };
  const title = SUBLEAVES.exec(text);
  if (title !== null) {
    const fault = shortNumber(title, LEAF_GROUP, []);
    if (fault !== undefined) return { fault, place: NO_LEAF };
    return { place: { leaf: Number.parseInt(title[1] ?? "", 16), last: -1 } };
  }
  if (TITLE.test(text)) return { place: NO_LEAF };
  const whole = LEAF.exec(text);
  const found = whole ?? SUBLEAF.exec(text);
  if (found === null) return damaged(`the line is not an entry: ${shownLine(text)}`);
  const [, at = "", ...digits] = found;
  const index = whole === null ? Number(at) : 0;
  const fn = whole === null ? place.leaf : Number.parseInt(at, 16);
  if (fn === undefined) return damaged(`sub-leaf ${index} follows no line that names its leaf`);
  if (whole === null && index <= place.last) {
    return damaged(
      `sub-leaf ${index} follows sub-leaf ${place.last}, so a line that names its leaf is missing`,
    );
  }
  if (index > 0xffffffff) return damaged(`sub-leaf ${index} does not fit 32 bits`);
  if (!line.isTerminated && (digits.at(-1)?.length ?? 0) < 8) {
    return damaged("the file ends in this line, and EDX may be cut off");
  }
  const next = whole === null ? { leaf: fn, last: index } : NO_LEAF;
  const leaf = whole === null ? undefined : LEAF_GROUP;
  const fault = shortNumber(found, leaf, hasPadding ? REGISTER_GROUPS : []);
  if (fault !== undefined) return { fault, place: next };
  const [eax = 0, ebx = 0, ecx = 0, edx = 0] = digits.map((one) => Number.parseInt(one, 16));
  const message = into.addOnce({ function: fn, index, eax, ebx, ecx, edx }, line.number);
  return message === undefined ? { place: next } : { fault: { column: 1, message }, place: next };
}

/** The sections, in the order of the program. */
const SECTIONS: readonly (readonly [title: string, holds: (fn: number) => boolean])[] = [
  ["Basic Leafs :", (fn) => fn < 0x8000_0000],
  ["Extended Leafs :", (fn) => fn >= 0x8000_0000],
];

function format(tables: readonly CpuidFileTable[]): Uint8Array {
  if (tables.length > 1) {
    throw new RangeError(`formatCpuid(): kcpuid is for one CPU, and there are ${tables.length}`);
  }
  // The sub-leaves of a leaf follow its line, so the text contains each leaf once.
  // Of duplicate entries, only the first is written.
  const firsts = new Map<string, CpuidEntry2>();
  for (const entry of tables.flatMap(({ table }) => [...table])) {
    const place = `${entry.function} ${entry.index}`;
    if (!firsts.has(place)) firsts.set(place, entry);
  }
  const entries = [...firsts.values()].sort((a, b) => a.function - b.function || a.index - b.index);
  const lines = SECTIONS.flatMap(([title, holds]) => {
    const rows = rowsOf(entries.filter((entry) => holds(entry.function)));
    return rows.length === 0 ? [] : [title, "=".repeat(16), ...rows];
  });
  return encodeLines(lines);
}

function rowsOf(entries: readonly CpuidEntry2[]): readonly string[] {
  const rows: string[] = [];
  let leaf: number | undefined;
  for (const entry of entries) {
    const [eax, ebx, ecx, edx] = registersOf(entry);
    const registers = `EAX=0x${eax}, EBX=0x${ebx}, ECX=0x${ecx}, EDX=0x${edx}`;
    const fn = hexDigits(entry.function);
    if (!showsIndex(entry)) {
      rows.push(`0x${fn}: ${registers}`);
      leaf = undefined;
      continue;
    }
    if (leaf !== entry.function) rows.push(`0x${fn}: subleafs:`);
    leaf = entry.function;
    rows.push(` ${String(entry.index).padStart(2)}: ${registers}`);
  }
  return rows;
}

/** The format of `kcpuid -r` of the Linux source, for one CPU. */
export const kcpuid: CpuidFormat = {
  name: "kcpuid",
  title: "text of kcpuid -r",
  kind: "tables",
  isLossless: false,
  likelihood: (head) => likelihoodOfRows(head, KCPUID_LINE),
  parse,
  format,
};

const KCPUID_LINE = /^\s*(?:0x[0-9a-f]{1,8}: +sub-?lea|(?:0x[0-9a-f]{1,8}|\d{1,3}): +EAX=0x)/;
