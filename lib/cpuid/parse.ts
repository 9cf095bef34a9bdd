/** Reads a table from its raw text. print.ts prints tables; table.ts reads and writes JSON. */
import { CPUID_REGISTERS, type CpuidEntry2Input } from "./entry.ts";
import { CpuidTable } from "./table.ts";

const NUMBER = "(0x[0-9a-fA-F]{1,8})";

/** `0x00000007 0x00: eax=0x00000002 ebx=… ecx=… edx=… flags=1` */
const LINE = new RegExp(
  `^${NUMBER} ${NUMBER}: ${CPUID_REGISTERS.map((name) => `${name}=${NUMBER}`).join(" ")} flags=(\\d+)$`,
);

/**
 * Reads the output of `printTable(table, { format: "raw" })`; padding, which it does not contain, is 0. Empty lines are
 * skipped.
 *
 * @throws SyntaxError that names the line for a line of another form, and if there is no entry.
 */
export function parseRawTable(text: string): CpuidTable {
  const entries = text.split("\n").flatMap((line, i) => {
    const words = line.trim();
    return words === "" ? [] : [entryFrom(words, i + 1)];
  });
  if (entries.length === 0) throw new SyntaxError("it has no entry");
  return CpuidTable.from(entries);
}

function entryFrom(line: string, number: number): CpuidEntry2Input {
  const [, ...words] = LINE.exec(line) ?? [];
  if (words.length === 0)
    throw new SyntaxError(`line ${number} is not an entry: ${line.slice(0, 60)}`);
  const [fn = 0, index = 0, eax = 0, ebx = 0, ecx = 0, edx = 0, flags = 0] = words.map(Number);
  return { function: fn, index, eax, ebx, ecx, edx, flags };
}
