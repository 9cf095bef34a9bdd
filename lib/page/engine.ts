/**
 * The engine of the page: it stores the documents, and replies to requests about their tables. The engine runs in a
 * worker and has no access to the page. protocol.ts defines the messages; comparisons.ts makes the results about faults
 * and about several tables.
 */

import { aliasesOf } from "../cpuid/aliases.ts";
import { runs } from "../cpuid/diff.ts";
import {
  CPUID_REGISTERS,
  type CpuidEntry2,
  type CpuidRegister,
  formatLeaf,
} from "../cpuid/entry.ts";
import { describeValue } from "../cpuid/enumerations.ts";
import {
  baseOf,
  fieldsOf,
  formatBits,
  formatValue,
  readField,
  spaceOf,
  writeField,
} from "../cpuid/field.ts";
import type { CpuidDump, CpuidFileTable } from "../cpuid/formats/dump.ts";
import {
  CPUID_FORMATS,
  type CpuidFormatName,
  formatCpuid,
  readCpuid,
} from "../cpuid/formats/index.ts";
import { decodeText } from "../cpuid/formats/lines.ts";
import { brandOf, signatureOf, vendorOf } from "../cpuid/values.ts";
import {
  baselineLines,
  diffLines,
  lintLines,
  PROFILES,
  portableLines,
  TSC_CHOICES,
  TSC_LABEL,
} from "./comparisons.ts";
import { underKvm } from "./kvm.ts";
import type {
  Answers,
  Ask,
  DocumentView,
  EntryView,
  Excerpt,
  FieldView,
  Offer,
  Reply,
  TableLabel,
  TableRef,
} from "./protocol.ts";

/** A document: the parsed contents, and the bytes, from which excerpts are made. */
interface Kept {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly dump: CpuidDump;
}

/** Replies to one request. The reply to a failed request contains one sentence. */
export type PageEngine = (id: number, ask: Ask) => Reply;

/** Lists the formats and profiles that the page offers. */
export function offer(): Offer {
  return {
    reads: CPUID_FORMATS.map(({ title }) => title),
    formats: CPUID_FORMATS.filter(({ format }) => format !== undefined).map(
      ({ name, title, isLossless }) => ({ name, title, isLossless }),
    ),
    profiles: PROFILES,
    tsc: TSC_CHOICES,
    tscLabel: TSC_LABEL,
  };
}

/** Creates an engine without documents. */
export function createEngine(): PageEngine {
  const documents = new Map<number, Kept>();
  let last = 0;
  let baselines = 0;

  const kept = (document: number): Kept => {
    const found = documents.get(document);
    if (found === undefined) throw new Error(`there is no document ${document}`);
    return found;
  };
  const tableOf = ({ document, table }: TableRef): CpuidFileTable => {
    const { dump, name } = kept(document);
    const found = dump.kind === "tables" ? dump.tables[table] : undefined;
    if (found === undefined) throw new Error(`${name} has no table ${table}`);
    return found;
  };
  const add = (name: string, bytes: Uint8Array): DocumentView => {
    last += 1;
    const made = { name, bytes, dump: readCpuid(bytes) };
    documents.set(last, made);
    return viewOf(last, made);
  };

  const labelOfRef = (ref: TableRef): string => {
    const { name, dump } = kept(ref.document);
    return labelOf(name, ref, tableOf(ref), dump.kind === "tables" ? dump.tables.length : 0).label;
  };

  const answers: { readonly [Op in Ask["op"]]: (ask: Ask & { op: Op }) => Answers[Op] } = {
    add: ({ name, bytes }) => add(name, bytes),
    remove: ({ document }) => {
      documents.delete(document);
      return undefined;
    },
    lines: ({ document, line }) => excerpt(kept(document).bytes, line),
    decode: ({ table }) => decode(tableOf(table)),
    convert: ({ tables, format }) => convert(tables.map(tableOf), format),
    lint: ({ table, profile }) => lintLines(tableOf(table), profile),
    diff: ({ before, after }) => diffLines(tableOf(before), tableOf(after)),
    portable: ({ from, to, tsc }) => portableLines(tableOf(from), tableOf(to), tsc),
    baseline: ({ tables }) => {
      const hosts = tables.map((ref) => ({ label: labelOfRef(ref), table: tableOf(ref).table }));
      const { table, ...lines } = baselineLines(hosts);
      if (table === undefined) return { ...lines, added: undefined };
      baselines += 1;
      return { ...lines, added: add(`baseline ${baselines}`, formatCpuid([table], "json")) };
    },
    kvm: ({ table }) => underKvm(tableOf(table)),
    link: ({ table }) => base64url(formatCpuid([tableOf(table)], "kvm")),
  };
  const answer = <Op extends Ask["op"]>(op: Op, ask: Ask & { op: Op }): Answers[Op] =>
    answers[op](ask);
  return (id, ask) => {
    try {
      return { id, answer: answer(ask.op, ask) };
    } catch (cause) {
      return { id, error: cause instanceof Error ? cause.message : String(cause) };
    }
  };
}

function viewOf(document: number, { name, dump }: Kept): DocumentView {
  const tables = dump.kind === "tables" ? dump.tables : [];
  return {
    document,
    name,
    format: CPUID_FORMATS.find((one) => one.name === dump.format)?.title ?? dump.format,
    kind: dump.kind,
    tables: tables.map((one, table) => labelOf(name, { document, table }, one, tables.length)),
    problems: dump.problems,
    notes: dump.notes,
    text: textOf(dump),
  };
}

/** Formats a mask or a list of features as lines. */
function textOf(dump: CpuidDump): readonly string[] {
  if (dump.kind === "features") {
    const { model, on, off } = dump.features;
    return [
      ...(model === undefined ? [] : [`model ${model}`]),
      ...(on.length > 0 ? [`on: ${on.join(" ")}`] : []),
      ...(off.length > 0 ? [`off: ${off.join(" ")}`] : []),
    ];
  }
  if (dump.kind === "tables") return [];
  return dump.mask.map(({ function: fn, indexes, register, mask, value }) => {
    const index = indexes?.first ?? 0;
    return `${formatLeaf(fn, index)}:${register} sets 0x${value.toString(16)}, clears 0x${((mask & ~value) >>> 0).toString(16)}`;
  });
}

function labelOf(
  name: string,
  ref: TableRef,
  { cpu, table, label }: CpuidFileTable,
  count: number,
): TableLabel {
  const which = label ?? (cpu === undefined ? `table ${ref.table}` : `CPU ${cpu}`);
  const signature = signatureOf(table);
  const parts = [
    vendorOf(table),
    signature === undefined
      ? undefined
      : `family ${signature.family}, model ${signature.model}, stepping ${signature.stepping}`,
    brandOf(table),
  ];
  return {
    ref,
    label: count === 1 ? name : `${name}, ${which}`,
    summary: parts.filter((part) => part !== undefined).join(", "),
    entries: table.length,
  };
}

const LINES_BEFORE = 20;
const LINES_AFTER = 20;
/** The maximum length of a line; a longer line is cut. */
const LONGEST_LINE = 400;

/** Returns the lines around a line. A binary document is shown as hexadecimal bytes, 16 per line. */
function excerpt(bytes: Uint8Array, line: number): Excerpt {
  const lines = linesOf(bytes);
  const first = Math.max(1, Math.min(line, lines.length) - LINES_BEFORE);
  return {
    first,
    lines: lines
      .slice(first - 1, line + LINES_AFTER)
      .map((text) => (text.length > LONGEST_LINE ? `${text.slice(0, LONGEST_LINE)} …` : text)),
    total: lines.length,
  };
}

function linesOf(bytes: Uint8Array): readonly string[] {
  const isUtf16 =
    (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
  return !isUtf16 && bytes.subarray(0, 4096).includes(0)
    ? hexLines(bytes)
    : decodeText(bytes).split(/\r\n?|\n/);
}

function hexLines(bytes: Uint8Array): readonly string[] {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const words = Array.from(bytes.subarray(at, at + 16), (byte) =>
      byte.toString(16).padStart(2, "0"),
    );
    lines.push(`${at.toString(16).padStart(8, "0")}  ${words.join(" ")}`);
  }
  return lines;
}

function decode({ table, lines }: CpuidFileTable): readonly EntryView[] {
  const entries = [...table];
  return entries.map((entry, position) => ({
    leaf: formatLeaf(entry.function, entry.index),
    flags: entry.flags,
    line: lines[position] ?? 0,
    registers: CPUID_REGISTERS.map((register) => decodeRegister(entries, entry, register)),
  }));
}

function decodeRegister(
  entries: readonly CpuidEntry2[],
  entry: CpuidEntry2,
  register: CpuidRegister,
): EntryView["registers"][number] {
  const word = entry[register];
  const space = spaceOf(entries, entry.function);
  const relative = entry.function - (baseOf(entries, space) ?? 0);
  let unnamed = word;
  const fields = fieldsOf(space, relative, entry.index, register).map((field): FieldView => {
    const { name, low, high, description } = field;
    const value = readField(word, low, high);
    unnamed = writeField(unnamed, low, high, 0);
    return {
      name,
      aliases: Object.values(aliasesOf(name)).flat(),
      bits: low === high ? `[${low}]` : `[${high}:${low}]`,
      place: formatBits({ function: entry.function, index: entry.index, register, low, high }),
      value: formatValue(value, low, high),
      meaning: describeValue(name, value) ?? "",
      description,
      isSet: value !== 0,
    };
  });
  return {
    name: register,
    value: `0x${word.toString(16).padStart(8, "0")}`,
    fields,
    unnamed: runs(unnamed)
      .map(({ low, high }) => (low === high ? `[${low}]` : `[${high}:${low}]`))
      .join(" "),
  };
}

function convert(tables: readonly CpuidFileTable[], format: string): Answers["convert"] {
  const found = CPUID_FORMATS.find(({ name }) => name === format);
  if (found === undefined) throw new Error(`there is no format ${format}`);
  const bytes = formatCpuid(tables, found.name as CpuidFormatName);
  const notes = found.isLossless ? [] : [`${found.title} cannot hold the whole table`];
  const isBinary = bytes.subarray(0, 64).includes(0);
  const text = isBinary ? hexLines(bytes).join("\n") : new TextDecoder().decode(bytes);
  return { text, isBinary, notes };
}

function base64url(bytes: Uint8Array): string {
  const letters = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return btoa(letters).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
