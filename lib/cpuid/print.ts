/** Formats tables and differences as text. formats/ reads and writes the other formats. */
import { refuseUnknown, describe as shown, toList } from "../options.ts";
import { type CpuidChange, type CpuidPhrase, checkPhrase, formatChange, runs } from "./diff.ts";
import {
  CPUID_REGISTERS,
  type CpuidEntry2,
  type CpuidRegister,
  formatLeaf,
  toEntries,
} from "./entry.ts";
import { describeValue } from "./enumerations.ts";
import { baseOf, fieldsOf, formatValue, readField, spaceOf, writeField } from "./field.ts";

/** The options of {@link printTable}. */
export interface PrintOptions {
  /** "raw", the default, for one line of hexadecimal numbers per entry, or "fields" for names and values. */
  readonly format?: "raw" | "fields";
}

function word(value: number, digits = 8): string {
  return `0x${value.toString(16).padStart(digits, "0")}`;
}

/** Formats entries as `cpuid -r` does, with the flags appended. */
function printRaw(entries: readonly CpuidEntry2[]): string {
  const digits = entries.reduce((most, e) => Math.max(most, e.index.toString(16).length), 2);
  const line = (e: CpuidEntry2): string => {
    const registers = CPUID_REGISTERS.map((register) => `${register}=${word(e[register])}`);
    return `${word(e.function)} ${word(e.index, digits)}: ${registers.join(" ")} flags=${e.flags}`;
  };
  return entries.map(line).join("\n");
}

/** Describes one register: features that are 1, then fields of several bits, then unnamed bits that are 1. */
function describe(
  entries: readonly CpuidEntry2[],
  e: CpuidEntry2,
  register: CpuidRegister,
): string {
  const value = e[register];
  const space = spaceOf(entries, e.function);
  const relative = e.function - (baseOf(entries, space) ?? 0);
  const features: string[] = [];
  const wide: string[] = [];
  let unnamed = value;
  for (const { name, low, high } of fieldsOf(space, relative, e.index, register)) {
    const bits = readField(value, low, high);
    unnamed = writeField(unnamed, low, high, 0);
    const meaning = bits === 0 ? undefined : describeValue(name, bits);
    const shownMeaning = meaning === undefined ? "" : ` (${meaning})`;
    if (low !== high) wide.push(`${name} = ${formatValue(bits, low, high)}${shownMeaning}`);
    else if (bits === 1) features.push(name);
  }
  const rest = runs(unnamed).map(({ low, high }) =>
    low === high ? `[${low}]` : `[${high}:${low}]`,
  );
  const reserved = rest.length > 0 ? [`reserved ${rest.join(" ")}`] : [];
  const named = features.length > 0 ? [features.join(" ")] : [];
  return [...named, ...wide, ...reserved].join(", ");
}

function printFields(entries: readonly CpuidEntry2[]): string {
  return entries
    .map((e) => {
      const lines = CPUID_REGISTERS.filter((register) => e[register] !== 0).map((register) =>
        `  ${register} ${word(e[register])}  ${describe(entries, e, register)}`.trimEnd(),
      );
      return [`${formatLeaf(e.function, e.index)} flags=${e.flags}`, ...lines].join("\n");
    })
    .join("\n");
}

/**
 * Formats a table. "raw" prints one aligned line per entry, in order. "fields" prints each register that is not 0: the
 * names of its features, its fields of several bits as `name = value`, and its reserved bits that are 1. Values of 16
 * or more bits are hexadecimal; a value that is not 0 is followed by its name, if it has one.
 *
 * @throws TypeError for an unknown option or format.
 */
export function printTable(table: Iterable<CpuidEntry2>, options: PrintOptions = {}): string {
  refuseUnknown("printTable()", options, ["format"]);
  const { format = "raw" } = options;
  const print = format === "raw" ? printRaw : format === "fields" ? printFields : undefined;
  if (print !== undefined) return print(toEntries("printTable()", table));
  throw new TypeError(`printTable(): format is "raw" or "fields", not ${shown(format)}`);
}

/** Formats changes with formatChange(), one line each. */
export function printDiff(changes: Iterable<CpuidChange>, phrase?: CpuidPhrase): string {
  if (phrase) checkPhrase("printDiff()", phrase);
  return toList("printDiff()", changes)
    .map((change) => formatChange(change, phrase))
    .join("\n");
}
