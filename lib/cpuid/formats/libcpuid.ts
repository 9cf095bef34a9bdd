/** Reads the raw data of libcpuid (`cpuid_tool --save`, and the first part of its `.test` files). */
import type { CpuidEntry2Input } from "../entry.ts";
import { TableCollector } from "./collect.ts";
import type { CpuidDump, CpuidFileTable, CpuidFormat } from "./dump.ts";
import { LONGEST_LINE } from "./limits.ts";
import { decodeText, linesOf, shownLine, type TextLine } from "./lines.ts";
import { encodeLines, likelihoodOfRows, registersOf } from "./text-rows.ts";

/**
 * The arrays of a file; the index of an element is the leaf's offset from `first`, or the sub-leaf of the leaf `of`.
 */
const ARRAYS: Readonly<Record<string, { readonly first: number } | { readonly of: number }>> = {
  basic_cpuid: { first: 0 },
  ext_cpuid: { first: 0x8000_0000 },
  intel_fn4: { of: 0x4 },
  intel_fn11: { of: 0xb },
  intel_fn12h: { of: 0x12 },
  intel_fn14h: { of: 0x14 },
  amd_fn8000001dh: { of: 0x8000_001d },
  amd_fn80000026h: { of: 0x8000_0026 },
};

/** The number of elements of the arrays of leaves; the program executes CPUID for each, even above the highest leaf. */
const LEAVES = 32;

const ROW =
  /^\s*(\w{1,40})\[(\d{1,3})\]=([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8})\s*$/i;
const HEADER = /^_+ Logical CPU #(\d{1,9}) _+\s*$/;
/** Lines without CPUID: the version, and the registers of ARM. */
const OTHER = /^\s*(?:version=|build_date=|arm_\w+=)/;
const END = /^-{40,}\s*$/;

/** The entries of one CPU, before the entries above its highest leaf are removed. */
interface Cpu {
  readonly cpu: number | undefined;
  readonly line: number;
  readonly rows: {
    readonly input: Required<Omit<CpuidEntry2Input, "flags" | "padding">>;
    readonly line: number;
  }[];
}

type Row = Cpu["rows"][number];

/** Reads the lines of one file. */
class RawData {
  readonly #into = new TableCollector(libcpuid.name, { contents: "dump", canBeComplete: false });
  readonly #rows: Row[] = [];
  /** The line of each element of the arrays of the current CPU. */
  readonly #elements = new Map<string, number>();
  #armRows = 0;
  #rowsAbove = 0;

  read(text: string): CpuidDump {
    for (const line of linesOf(text)) {
      if (END.test(line.text) && this.#rows.length + this.#into.cpus > 0) {
        this.#into.note(`the values that a test expects, from line ${line.number} on, are skipped`);
        break;
      }
      const fault = this.#line(line);
      if (fault !== undefined) this.#into.problem(line.number, 1, fault);
    }
    this.#flush();
    if (this.#armRows > 0)
      this.#into.note("the file has registers of an ARM CPU, which has no CPUID");
    if (this.#rowsAbove > 0) {
      this.#into.note(
        "leaves above the highest one of the CPU are left out: they repeat another leaf",
      );
    }
    return this.#into.finish();
  }

  #line({ text, number }: TextLine): string | undefined {
    if (text.length > LONGEST_LINE) return `the line has more than ${LONGEST_LINE} characters`;
    if (text.trim() === "") return undefined;
    const header = HEADER.exec(text);
    if (header !== null) {
      this.#flush();
      this.#into.startCpu(Number(header[1]), number);
      return undefined;
    }
    if (OTHER.test(text)) {
      if (text.trimStart().startsWith("arm_")) this.#armRows += 1;
      return undefined;
    }
    const [, name = "", element = "", ...digits] = ROW.exec(text) ?? [];
    const array = Object.hasOwn(ARRAYS, name) ? ARRAYS[name] : undefined;
    if (array === undefined) {
      if (name !== "") return `the array ${name} is not known`;
      // The header of the next CPU may be damaged; the lines of the next CPU must not be added to the current CPU.
      if (!/[=[]/.test(text)) {
        this.#flush();
        this.#into.startCpu(undefined, number);
      }
      return `the line is not an entry: ${shownLine(text)}`;
    }
    const at = Number(element);
    if (at >= LEAVES) return `${name} has at most ${LEAVES} elements, and this is number ${at}`;
    const first = this.#elements.get(`${name}[${at}]`);
    if (first !== undefined) return `${name}[${at}] occurs again; the first is in line ${first}`;
    this.#elements.set(`${name}[${at}]`, number);
    const isLeaf = "first" in array;
    const [fn, index] = isLeaf ? [array.first + at, 0] : [array.of, at];
    const [eax = 0, ebx = 0, ecx = 0, edx = 0] = digits.map((one) => Number.parseInt(one, 16));
    const input = { function: fn, index, eax, ebx, ecx, edx };
    this.#rows.push({ input, line: number });
    return undefined;
  }

  /**
   * Adds the entries of a CPU, ordered by leaf and sub-leaf as in other dumps. Entries above the highest leaf are
   * omitted, and a sub-leaf 0 that is in two arrays is added once. In the file, the sub-leaves follow all leaves.
   */
  #flush(): void {
    this.#elements.clear();
    const rows = this.#rows
      .splice(0)
      .sort((a, b) => a.input.function - b.input.function || a.input.index - b.input.index);
    const seen = new Set<string>();
    const [basic, extended] = [highestOf(rows, 0), highestOf(rows, 0x8000_0000)];
    for (const { input, line } of rows) {
      const key = `${input.function} ${input.index}`;
      const last = input.function < 0x8000_0000 ? basic : extended;
      if (last !== undefined && input.function > last) this.#rowsAbove += 1;
      else if (!seen.has(key)) this.#into.add(input, line);
      seen.add(key);
    }
  }
}

/** Returns the highest leaf of a range, from EAX of its first leaf; undefined if the file lacks the first leaf. */
function highestOf(rows: readonly Row[], first: number): number | undefined {
  const eax = rows.find(({ input }) => input.function === first)?.input.eax;
  if (eax === undefined) return undefined;
  // If the range does not exist, the CPU returns the data of another leaf.
  return eax >= first && eax <= first + 0xffff ? eax : first - 1;
}

function format(tables: readonly CpuidFileTable[]): Uint8Array {
  const lines = tables.flatMap(({ cpu, table }, position) => {
    const rows = Object.entries(ARRAYS).flatMap(([name, array]) =>
      [...table].flatMap((entry) => {
        const at = "first" in array ? entry.function - array.first : entry.index;
        const isOwn = "first" in array ? entry.index === 0 : entry.function === array.of;
        if (!isOwn || at < 0 || at >= LEAVES) return [];
        return [`${name}[${at}]=${registersOf(entry).join(" ")}`];
      }),
    );
    return [`_________________ Logical CPU #${cpu ?? position} _________________`, ...rows];
  });
  return encodeLines(["version=0.7.0", ...lines]);
}

/**
 * The format of libcpuid's raw data. The raw data contains the leaves 0 to 0x1f and 0x80000000 to 0x8000001f, and the
 * sub-leaves of eight leaves. The raw data contains only sub-leaf 0 of the leaves 7 and 0xd, and no hypervisor leaves,
 * so the tables of this format are never complete.
 */
export const libcpuid: CpuidFormat = {
  name: "libcpuid",
  title: "raw data of libcpuid",
  kind: "tables",
  isLossless: false,
  likelihood: (head) => likelihoodOfRows(head, LIBCPUID_LINE),
  parse: (bytes) => new RawData().read(decodeText(bytes)),
  format,
};

const LIBCPUID_LINE =
  /^\s*(?:basic_cpuid|ext_cpuid|intel_fn\w{1,4}|amd_fn\w{1,10})\[\d{1,3}\]=|^arm_\w{1,30}=[0-9a-f]{8}/;
