/**
 * Reads the CPUID lines in reports of AIDA64, EVEREST and the InstLatx64 collection. Lines about MSRs and all other
 * lines of a report are skipped.
 */
import { hasSubleaves } from "../field.ts";
import { hasVendor, TableCollector } from "./collect.ts";
import type { CpuidDump, CpuidFileTable, CpuidFormat } from "./dump.ts";
import { LONGEST_LINE } from "./limits.ts";
import { decodeText, linesOf, shownLine, type TextLine } from "./lines.ts";
import { encodeLines, hexDigits, likelihoodOfRows, registersOf, showsIndex } from "./text-rows.ts";

/** The lines at which a CPU begins, in several versions of the programs; group 1 is the CPU's number. */
const HEADERS: readonly RegExp[] = [
  /^-+\[ (?:CPUID Registers \/ )?Logical CPU #(\d{1,9})(?: Virtual)? \]-+\s*$/,
  /^CPUID Registers \(CPU #(\d{1,9})(?: Virtual)?\):?\s*$/,
  /^CPU#(\d{1,9})\s+AffMask:/,
];

/** `CPUID 00000004: 1C004121-01C0003F-0000003F-00000000 [SL 00]`; the separators differ by version. */
const ROW =
  /^\s*CPUID[ \t]+([0-9A-F]{8})(?:[ \t]*:)?[ \t]*([0-9A-F]{8})[- ]([0-9A-F]{8})[- ]([0-9A-F]{8})[- ]([0-9A-F]{8})(?:[ \t]*$|[ \t]+(\[.*)$)/i;

/** `[SL 0A]`, a sub-leaf in hexadecimal. Other notes in brackets are remarks. */
const SUBLEAF = /^\[SL ([0-9A-F]{1,8})\]/i;

/** A damaged row: a line with a leaf after CPUID, or with three registers in hexadecimal. */
const LIKE_ROW = /^\s*CPUID[ \t]+[0-9A-F]{5,}|(?:[0-9A-F]{7,8}[- ]){3}|[0-9A-F]{8}-[0-9A-F]{8}-/i;

/** The separator of libcpuid's test files; the expected values of the test follow it. */
const END = /^-{40,}\s*$/;

/** Reads the lines of one file. */
class Report {
  readonly #into = new TableCollector(aida64.name, { contents: "dump", canBeComplete: true });
  /** The number of rows of each leaf of the current CPU, and whether the rows have sub-leaves. */
  readonly #rows = new Map<number, { count: number; isNumbered: boolean }>();
  /** The number of damaged rows since the last undamaged row. */
  #damaged = 0;
  /** The lines at which a CPU begins without a header line. */
  readonly #unnamed: number[] = [];

  read(text: string): CpuidDump {
    for (const line of linesOf(text)) {
      if (END.test(line.text) && this.#into.entries > 0) {
        this.#into.note(`the values that a test expects, from line ${line.number} on, are skipped`);
        break;
      }
      const fault = this.#line(line);
      if (fault === undefined) continue;
      this.#into.problem(line.number, 1, fault);
      this.#damaged += 1;
    }
    const [first, ...others] = this.#unnamed;
    if (first !== undefined) {
      const count = others.length === 0 ? "a CPU begins" : `${others.length + 1} CPUs begin`;
      const from = others.length === 0 ? `at line ${first}` : `from line ${first} on`;
      this.#into.note(`${count} ${from} without a line that names the CPU`);
    }
    return this.#into.finish();
  }

  /** Adds the contents of a line; returns the fault of the line, or undefined. */
  #line(line: TextLine): string | undefined {
    const { text } = line;
    if (text.length > LONGEST_LINE) return `the line has more than ${LONGEST_LINE} characters`;
    for (const header of HEADERS) {
      const found = header.exec(text);
      if (found === null) continue;
      this.#startCpu(Number(found[1]), line.number);
      return undefined;
    }
    const row = ROW.exec(text);
    if (row !== null) return this.#row(line, row);
    return LIKE_ROW.test(text) ? `the line is not an entry: ${shownLine(text)}` : undefined;
  }

  #startCpu(cpu: number | undefined, line: number): void {
    this.#into.startCpu(cpu, line);
    this.#rows.clear();
    this.#damaged = 0;
  }

  #row(line: TextLine, row: RegExpExecArray): string | undefined {
    const [fn = 0, eax = 0, ebx = 0, ecx = 0, edx = 0] = row
      .slice(1, 6)
      .map((digits) => Number.parseInt(digits, 16));
    const remark = row[6] ?? "";
    const [, digits] = SUBLEAF.exec(remark) ?? [];
    if (digits === undefined && /^\[SL\b/i.test(remark)) {
      return `the sub-leaf is not a number: ${shownLine(remark)}`;
    }
    if (
      fn === 0 &&
      digits === undefined &&
      this.#rows.has(0) &&
      hasVendor({ function: 0, ebx, ecx, edx })
    ) {
      this.#unnamed.push(line.number);
      this.#startCpu(undefined, line.number);
    }
    const before = this.#rows.get(fn);
    if (!line.isTerminated && digits === undefined && (before !== undefined || remark !== "")) {
      if (!remark.endsWith("]"))
        return "the file ends in this line, and the sub-leaf may be cut off";
    }
    // If the rows above are damaged, a row without a sub-leaf number may belong to a later sub-leaf.
    const isUncertain =
      this.#damaged > 0 &&
      before === undefined &&
      digits === undefined &&
      hasSubleaves("native", fn);
    this.#damaged = 0;
    const index = digits === undefined ? (before?.count ?? 0) : Number.parseInt(digits, 16);
    this.#rows.set(fn, {
      count: (before?.count ?? 0) + 1,
      isNumbered: digits !== undefined || (before?.isNumbered ?? false),
    });
    if (digits === undefined) {
      if (isUncertain) return "the row above is damaged, so the sub-leaf of this one is not known";
      if (before !== undefined && (before.isNumbered || !hasSubleaves("native", fn))) {
        return `the leaf ${fn.toString(16)} occurs again without a sub-leaf`;
      }
    }
    return this.#into.addOnce({ function: fn, index, eax, ebx, ecx, edx }, line.number);
  }
}

function format(tables: readonly CpuidFileTable[]): Uint8Array {
  const lines = tables.flatMap(({ cpu, table }, position) => [
    `------[ CPUID Registers / Logical CPU #${cpu ?? position} ]------`,
    "",
    ...[...table].map((entry) => {
      const subleaf = showsIndex(entry) ? ` [SL ${hexDigits(entry.index, 2).toUpperCase()}]` : "";
      const registers = registersOf(entry).join("-").toUpperCase();
      return `CPUID ${hexDigits(entry.function).toUpperCase()}: ${registers}${subleaf}`;
    }),
    "",
  ]);
  return encodeLines(lines, "\r\n");
}

/**
 * The format of AIDA64's and EVEREST's reports (`CPUID 00000001: …`), including the reports in the InstLatx64
 * collection.
 */
export const aida64: CpuidFormat = {
  name: "aida64",
  title: "text of AIDA64, EVEREST or InstLatx64",
  kind: "tables",
  isLossless: false,
  likelihood: (head) => likelihoodOfRows(head, ROW),
  parse: (bytes) => new Report().read(decodeText(bytes)),
  format,
};
