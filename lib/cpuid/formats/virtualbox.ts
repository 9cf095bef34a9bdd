/**
 * Reads the CPUID leaves of VirtualBox's VBox.log. For each leaf, the log has a line for the guest (`Gst:`) and a line
 * for the host (`Hst:`), which become two tables.
 */
import { CPUID_REGISTERS } from "../entry.ts";
import { TableCollector } from "./collect.ts";
import type { CpuidDump, CpuidFileTable, CpuidFormat } from "./dump.ts";
import { LONGEST_LINE } from "./limits.ts";
import { decodeText, headText, linesOf, shownLine } from "./lines.ts";
import { ProblemList } from "./problems.ts";

const NAME = "virtualbox-log";

/** The names of the two tables. */
const LABELS = { Gst: "guest", Hst: "host" } as const;
type Side = keyof typeof LABELS;

/** `Gst: 00000007/0000  00000000 219c07ab 00000000 9c000400`; the second line of a pair does not repeat the leaf. */
const LINE =
  /(?:^|\s)(Gst|Hst):\s+(?:([0-9a-f]{8})\/([0-9a-f]{4,8})\s+)?([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8})\s*(\*\*?|~~)?\s*$/i;
/** A line of a table, possibly damaged: the name and then hexadecimal digits. */
const MARK = /(?:^|\s)(?:Gst|Hst):\s+(?=[0-9a-f])/i;

function parse(bytes: Uint8Array): CpuidDump {
  const sides = { Gst: collector(), Hst: collector() };
  const problems = new ProblemList();
  let place: { readonly function: number; readonly index: number; readonly side: Side } | undefined;
  let others = 0;
  for (const { number, text } of linesOf(decodeText(bytes))) {
    if (text.length > LONGEST_LINE || !MARK.test(text)) {
      if (text.trim() !== "") others += 1;
      place = undefined;
      continue;
    }
    const [, word, leaf, subleaf, ...rest] = LINE.exec(text) ?? [];
    const side = word === "Gst" || word === "Hst" ? word : undefined;
    if (side === undefined) {
      problems.add(number, 1, `${shownLine(text)} is not a whole line of CPUID`);
      place = undefined;
      continue;
    }
    if (leaf !== undefined && subleaf !== undefined) {
      place = {
        function: Number.parseInt(leaf, 16),
        index: Number.parseInt(subleaf, 16),
        side,
      };
    } else if (place === undefined || place.side === side) {
      problems.add(number, 1, `${side}: no line with a leaf is before it`);
      continue;
    }
    const registers = CPUID_REGISTERS.map((name, i) => [name, Number.parseInt(rest[i] ?? "", 16)]);
    const { function: fn, index } = place;
    const input = { function: fn, index, ...Object.fromEntries(registers) };
    const fault = sides[side].addOnce(input, number);
    if (fault !== undefined) problems.add(number, 1, `${side}: ${fault}`);
    if (leaf === undefined) place = undefined;
  }
  const notes: string[] = [];
  const tables: CpuidFileTable[] = [];
  for (const side of ["Gst", "Hst"] as const) {
    if (sides[side].cpus === 0) continue;
    const dump = sides[side].finish();
    for (const { line, column, message } of dump.problems) problems.add(line, column, message);
    notes.push(...dump.notes.map((sentence) => `${LABELS[side]}: ${sentence}`));
    if (dump.kind !== "tables") continue;
    tables.push(...dump.tables.map((table) => ({ ...table, label: LABELS[side] })));
  }
  if (tables.length === 0) problems.add(0, 1, "the log has no CPUID entry that can be read");
  if (tables.length > 1) {
    const count = tables.length === 2 ? "two" : tables.length;
    const kinds = new Set(tables.map(({ label }) => `"${label}"`));
    const labels = [...kinds].join(" and ");
    notes.unshift(`the file has ${count} tables, ${labels}; choose one of them by its label`);
  }
  if (others > 0) notes.push(`${others} lines without CPUID are skipped`);
  return { kind: "tables", format: NAME, tables, problems: problems.toArray(), notes, msrs: [] };
}

const collector = (): TableCollector =>
  new TableCollector(NAME, { contents: "dump", canBeComplete: true });

/** The format of the log of a VirtualBox virtual machine. */
export const virtualboxLog: CpuidFormat = {
  name: NAME,
  title: "VirtualBox's VBox.log, with a guest's and a host's table",
  kind: "tables",
  isLossless: false,
  likelihood: (head) => {
    const text = headText(head);
    if (/(?:^|\s)Gst:\s+[0-9a-f]{8}\/[0-9a-f]{4}/i.test(text)) return 0.95;
    return /^(?:\d\d:\d\d:\d\d\.\d+ )?VirtualBox VM \d/m.test(text) ? 0.8 : 0;
  },
  parse,
  format: undefined,
};
