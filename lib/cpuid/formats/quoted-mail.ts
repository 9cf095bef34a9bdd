/**
 * Removes the prefixes from lines of pasted text. A prefix is `> ` of quoted mail, the time in a kernel's log (`[
 * 1.234567] `) or in a journal (`Jan 02 03:04:05 host kernel: `), or the prompt of a command. The remaining text is
 * read as another format, and lines and columns refer to the original file.
 */
import type { CpuidDump, CpuidFileProblem, CpuidFormat } from "./dump.ts";
import { CPUID_FILE_HEAD, LONGEST_LINE } from "./limits.ts";
import { decodeText, linesOf } from "./lines.ts";
import { TextPlaces } from "./problems.ts";

/** A kind of prefix. */
interface Prefix {
  readonly pattern: RegExp;
  /** Whether lines without the prefix stay in the text; of a mail, only the quoted lines stay. */
  readonly keepsOthers: boolean;
  /** The minimum share of lines with the prefix; below it, the prefix is not removed. */
  readonly least: number;
  readonly note: string;
}

const PREFIXES: readonly Prefix[] = [
  {
    pattern: /^[ \t]{0,8}>(?:[ \t]?>){0,15} ?/,
    keepsOthers: false,
    least: 0.25,
    note: 'the lines are quoted with ">", and lines without it are skipped',
  },
  {
    pattern: /^(?:<\d{1,3}>)?\[ {0,6}\d{1,7}\.\d{6}\](?:\[ {0,6}[TC]\d{1,7}\])? /,
    keepsOthers: true,
    least: 0.5,
    note: "the time stamps of the kernel's log are removed",
  },
  {
    pattern: /^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d [\w.-]{1,64} [\w./-]{1,64}(?:\[\d{1,9}\])?: /,
    keepsOthers: true,
    least: 0.5,
    note: "the time stamps of the journal are removed",
  },
];

/** A prompt with a command; such a line begins a text that was pasted from a terminal. */
const PROMPT =
  /^(?:\[?[\w.-]{1,64}@[\w.-]{1,64}[^$#%>]{0,200}|sh-[\d.]{1,8}|)[$#%] (?=[^\n]*(?:cpuid|cpuinfo|virsh|cat ))/;
const PROMPT_NOTE = "the lines with a prompt and a command are skipped";

/** A text without the prefixes of its lines. */
interface Stripped {
  readonly bytes: Uint8Array;
  /** For each line, the number of characters that were removed. */
  readonly columns: readonly number[];
  readonly note: string;
}

/** Removes one kind of prefix; undefined if the text has none. */
function strip(text: string): Stripped | undefined {
  const lines = [...linesOf(text)].map((line) => line.text);
  const short = lines.map((line) => line.slice(0, LONGEST_LINE));
  const full = short.filter((line) => line.trim() !== "").length;
  const done = (kept: readonly string[], columns: readonly number[], note: string): Stripped => ({
    bytes: new TextEncoder().encode(`${kept.join("\n")}${/[\r\n]$/.test(text) ? "\n" : ""}`),
    columns,
    note,
  });
  for (const { pattern, keepsOthers, least, note } of PREFIXES) {
    const lengths = short.map((line) => pattern.exec(line)?.[0].length ?? 0);
    const count = lengths.filter((length) => length > 0).length;
    if (count === 0 || count < least * full) continue;
    const kept = lines.map((line, i) => {
      const length = lengths[i] ?? 0;
      return length === 0 && !keepsOthers ? "" : line.slice(length);
    });
    return done(kept, lengths, note);
  }
  if (!short.some((line) => PROMPT.test(line))) return undefined;
  const kept = lines.map((line, i) => (PROMPT.test(short[i] ?? "") ? "" : line));
  return done(
    kept,
    lines.map(() => 0),
    PROMPT_NOTE,
  );
}

/** The maximum number of prefixes on one line. */
const DEEPEST = 4;

/** Removes all kinds of prefix, the outer one first. */
function stripAll(bytes: Uint8Array): readonly Stripped[] {
  const layers: Stripped[] = [];
  let text = decodeText(bytes);
  while (layers.length < DEEPEST) {
    const layer = strip(text);
    if (!layer) break;
    layers.push(layer);
    text = new TextDecoder().decode(layer.bytes);
  }
  return layers;
}

/** Converts the column of a fault to the column in the original file. */
function moved(problem: CpuidFileProblem, layers: readonly Stripped[]): CpuidFileProblem {
  const removed = layers.reduce((sum, { columns }) => sum + (columns[problem.line - 1] ?? 0), 0);
  return removed === 0 ? problem : { ...problem, column: problem.column + removed };
}

interface Best {
  readonly format: CpuidFormat | undefined;
  readonly likelihood: number;
}

/** Returns the fault of the first NUL, which damages the line that contains it; undefined if the text has none. */
function nulFault(text: string): CpuidFileProblem | undefined {
  const offset = text.indexOf("\0");
  if (offset < 0) return undefined;
  const message = "the text has a NUL character, which a mail or a log does not have";
  return { ...new TextPlaces(text).at(offset), message };
}

/** Returns the format that fits best. */
function bestOf(formats: readonly CpuidFormat[], head: Uint8Array): Best {
  let best: Best = { format: undefined, likelihood: 0 };
  for (const format of formats) {
    const likelihood = format.likelihood(head);
    if (likelihood > best.likelihood) best = { format, likelihood };
  }
  return best;
}

const NAME = "quoted-mail";

/** Returns a format for text with prefixes; without the prefixes, the text has one of the formats in `formats`. */
export function quotedMail(formats: readonly CpuidFormat[]): CpuidFormat {
  const parse = (bytes: Uint8Array): CpuidDump => {
    const layers = stripAll(bytes);
    const inner = layers.at(-1)?.bytes;
    const best = inner && bestOf(formats, inner.subarray(0, CPUID_FILE_HEAD));
    if (!inner || !best?.format) {
      const message = "the quoted text has none of the known formats";
      const problems = [{ line: 0, column: 1, message }];
      return { kind: "tables", format: NAME, tables: [], problems, notes: [], msrs: [] };
    }
    const dump = best.format.parse(inner);
    const nul = nulFault(decodeText(bytes));
    const inside = dump.problems.map((problem) => moved(problem, layers));
    const problems = nul === undefined ? inside : [nul, ...inside];
    return { ...dump, problems, notes: [...layers.map(({ note }) => note), ...dump.notes] };
  };
  return {
    name: NAME,
    title: "quoted mail, or a log with time stamps, that contains another format",
    kind: "tables",
    isLossless: false,
    likelihood: (head) => {
      const inner = stripAll(head).at(-1)?.bytes;
      // A format that fits the unchanged text is preferred.
      return inner ? bestOf(formats, inner).likelihood * 0.98 : 0;
    },
    parse,
    format: undefined,
  };
}
