/**
 * Reads logs of the CPUID queries of a guest: the D script of Propolis (`CPUID query: leaf/subleaf ... returns rax =
 * ...`), and KVM's tracepoint kvm_cpuid. A log contains the leaves that the guest queried, often several times. The
 * table contains each leaf once, and two different results for a leaf are a fault.
 */
import { CPUID_REGISTERS, type CpuidEntry2Input, formatLeaf, isIndexed } from "../entry.ts";
import { TableCollector } from "./collect.ts";
import type { CpuidDump, CpuidFormat } from "./dump.ts";
import { LONGEST_LINE } from "./limits.ts";
import { decodeText, headText, linesOf, shownLine } from "./lines.ts";

const NAME = "cpuid-queries";

/** `leaf/subleaf 0x00000007/0x00000000, returns rax = 0x00000000, rbx = ..., rcx = ..., rdx = ...`, all with 8 digits. */
const PROPOLIS =
  /CPUID query: leaf\/subleaf 0x([0-9a-f]{8})\/0x([0-9a-f]{8}), returns rax = 0x([0-9a-f]{8}), rbx = 0x([0-9a-f]{8}), rcx = 0x([0-9a-f]{8}), rdx = 0x([0-9a-f]{8})\s*$/i;
/** `kvm_cpuid: func 7 idx 0 rax 0 rbx 0 rcx 0 rdx 0, cpuid entry found` (arch/x86/kvm/trace.h) */
const TRACEPOINT =
  /kvm_cpuid: func ([0-9a-f]{1,16}) idx ([0-9a-f]{1,16}) rax ([0-9a-f]{1,16}) rbx ([0-9a-f]{1,16}) rcx ([0-9a-f]{1,16}) rdx ([0-9a-f]{1,16}), cpuid entry (found|not found)/i;
/** A line that begins as a query does, even if the rest of the line is damaged. */
const QUERY = /CPUID query:|kvm_cpuid:/;

interface Query {
  readonly entry: CpuidEntry2Input & { readonly function: number; readonly index: number };
  /** The registers as text; equal values give equal texts. */
  readonly answer: string;
  readonly line: number;
}

/** Parses the query of a line; returns a fault as text. */
function queryOf(text: string, line: number): Query | string | undefined {
  const traced = TRACEPOINT.exec(text);
  const words = (PROPOLIS.exec(text) ?? traced)?.slice(1, 7);
  if (!words) return `${shownLine(text)} is not a whole query`;
  // KVM found no entry, so the result contains the data of another leaf, or zeros.
  if (traced?.[7]?.toLowerCase() === "not found") return undefined;
  const numbers = words.map((word) => Number.parseInt(word, 16));
  if (numbers.some((number) => number > 0xffffffff)) return "a number does not fit 32 bits";
  const [fn = 0, index = 0, eax = 0, ebx = 0, ecx = 0, edx = 0] = numbers;
  const answer = [eax, ebx, ecx, edx].join(" ");
  return { entry: { function: fn, index, eax, ebx, ecx, edx }, answer, line };
}

/** Names the registers that differ. */
function difference(a: Query, b: Query): string {
  return CPUID_REGISTERS.filter((name) => a.entry[name] !== b.entry[name]).join(", ");
}

function parse(bytes: Uint8Array): CpuidDump {
  const into = new TableCollector(NAME, { contents: "dump", canBeComplete: false });
  /** The first query of each place, by leaf and then sub-leaf. */
  const leaves = new Map<number, Map<number, Query>>();
  let [repeats, absent, others] = [0, 0, 0];
  for (const { number, text } of linesOf(decodeText(bytes))) {
    if (text.length > LONGEST_LINE || !QUERY.test(text)) {
      if (text.trim() !== "") others += 1;
      continue;
    }
    const query = queryOf(text, number);
    if (typeof query === "string") {
      into.problem(number, 1, query);
    } else if (query === undefined) {
      absent += 1;
    } else {
      const { function: fn, index } = query.entry;
      const known = leaves.get(fn) ?? new Map<number, Query>();
      leaves.set(fn, known);
      const first = known.get(index);
      if (first === undefined) {
        known.set(index, query);
      } else if (first.answer === query.answer) {
        repeats += 1;
      } else {
        const what = `${formatLeaf(fn, index)}: ${difference(first, query)}`;
        into.problem(number, 1, `${what} is not the same as in line ${first.line}`);
      }
    }
  }
  for (const [fn, queries] of leaves)
    for (const query of asked(fn, queries)) into.add(query.entry, query.line);
  into.note("the log has only the leaves that the guest asked for");
  if (repeats > 0) into.note(`${repeats} repeated queries with the same answer are read once`);
  if (absent > 0) into.note(`${absent} queries for which KVM found no entry are left out`);
  if (others > 0) into.note(`${others} lines without a query are skipped`);
  return into.finish();
}

/**
 * Returns the queries of a leaf that become entries. A guest may leave any value in ECX if a leaf has no sub-leaves. If
 * all results are equal and KVM does not treat the leaf as indexed, the queries become one entry.
 */
function asked(fn: number, queries: ReadonlyMap<number, Query>): readonly Query[] {
  const all = [...queries.values()];
  const [first] = all;
  if (first === undefined || isIndexed(fn)) return all;
  if (all.some(({ answer }) => answer !== first.answer)) return all;
  return [{ ...first, entry: { ...first.entry, index: 0 } }];
}

/** The format of logs of a guest's CPUID queries. */
export const cpuidQueries: CpuidFormat = {
  name: NAME,
  title: "a log of CPUID queries (Propolis' D script, KVM's tracepoint)",
  kind: "tables",
  isLossless: false,
  likelihood: (head) => {
    const text = headText(head);
    return /CPUID query: leaf\/subleaf 0x|kvm_cpuid: func [0-9a-f]/i.test(text) ? 0.95 : 0;
  },
  parse,
  format: undefined,
};
