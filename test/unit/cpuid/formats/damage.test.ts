/** Tests of damaged files: the reader neither throws nor hangs, and changes no entry outside of the damaged place. */
import { describe, expect, test } from "vitest";
import { CPUID_FORMATS, type CpuidDump, type CpuidEntry2 } from "../../../../lib/cpuid/index.ts";
import { fewEntries } from "./sample-tables.ts";
import { SAMPLES } from "./samples.ts";

/** The formats of dumps and tables; other test files cover the remaining formats. */
const OWN = ["json", "raw", "cpuid-r", "aida64", "kcpuid", "kvm", "libcpuid", "c"];

/** The formats that contain one CPU. */
const SINGLE = ["kcpuid"];

/**
 * The number of lines that a damaged line can change. In kcpuid, a leaf's line also changes the lines of its
 * sub-leaves.
 */
const REACH: Readonly<Record<string, number>> = { kcpuid: 3 };

const written = CPUID_FORMATS.flatMap(({ name, parse, format }) =>
  OWN.includes(name) && format !== undefined
    ? [{ name, parse, bytes: format(fewEntries.slice(0, SINGLE.includes(name) ? 1 : 2)) }]
    : [],
);

interface Placed {
  readonly cpu: number;
  readonly line: number;
  readonly text: string;
}

const textOf = (e: CpuidEntry2): string =>
  `${e.function}.${e.index} eax ${e.eax} ${e.ebx} ${e.ecx} ${e.edx} flags ${e.flags} ${e.padding.join()}`;

/** Returns each entry of a file as text, with its line and the position of its table. */
function entriesIn(dump: CpuidDump): readonly Placed[] {
  if (dump.kind !== "tables") return [];
  return dump.tables.flatMap(({ table, lines }, cpu) =>
    [...table].map((e, i) => ({ cpu, line: lines[i] ?? 0, text: textOf(e) })),
  );
}

/** Returns whether a table has two entries with the same function and index. */
function isMixed(found: readonly Placed[]): boolean {
  const places = found.map(({ cpu, text }) => `${cpu} ${text.slice(0, text.indexOf(" eax"))}`);
  return new Set(places).size < places.length;
}

/** Returns the number of a byte's line, from 1. */
function lineAt(bytes: Uint8Array, offset: number): number {
  return bytes.subarray(0, offset).filter((byte) => byte === 0x0a).length + 1;
}

describe.each(written)("a damaged file of the format $name", ({ name, parse, bytes }) => {
  const whole = entriesIn(parse(bytes));
  const texts = new Set(whole.map(({ text }) => text));
  const known = new Set(whole.map(({ cpu, text }) => `${cpu} ${text}`));

  const cuts = Array.from(bytes.keys(), (end) => ({ end, dump: parse(bytes.subarray(0, end)) }));

  test("has only entries of the complete file, wherever the file is cut", () => {
    const wrong = cuts.flatMap(({ end, dump }) =>
      entriesIn(dump)
        .filter(({ cpu, text }) => !known.has(`${cpu} ${text}`))
        .map(({ text }) => `${end}: ${text}`),
    );
    expect(wrong).toEqual([]);
  });

  test("has a table or a fault, wherever the file is cut", () => {
    const silent = cuts.filter(
      ({ dump }) =>
        dump.problems.length === 0 && dump.kind === "tables" && dump.tables.length === 0,
    );
    expect(silent.map(({ end }) => end)).toEqual([]);
  });

  test("differs only in the line in which a bit is flipped", () => {
    const reach = REACH[name] ?? 1;
    const isText = whole.every(({ line }) => line > 0);
    const wrong: string[] = [];
    for (let offset = 0; offset < bytes.length; offset += 1) {
      const copy = bytes.slice();
      copy[offset] = (copy[offset] ?? 0) ^ (1 << (offset % 8));
      const at = isText ? lineAt(bytes, offset) : 0;
      const found = entriesIn(parse(copy));
      const others = found.filter(({ text }) => !texts.has(text));
      const isNear = others.every(({ line }) => at <= line && line <= at + reach);
      const isUnmixed = !isMixed(found.filter(({ text }) => texts.has(text)));
      if (isNear && isUnmixed && others.length <= reach) continue;
      wrong.push(`byte ${offset}: ${others.map(({ text }) => text).join("; ")}`);
    }
    expect(wrong).toEqual([]);
  });
});

/** Files of the formats that dump programs write, in which an entry cannot occur again. */
const DUMPS = [
  ...written.map(({ name, bytes }) => ({ name, text: new TextDecoder("latin1").decode(bytes) })),
  { name: "libvirt-cpudata", text: SAMPLES["libvirt-cpudata"] },
  { name: "virtualbox-log", text: SAMPLES["virtualbox-log"] },
].filter(({ name }) => !["json", "raw", "kvm", "c"].includes(name));

describe.each(DUMPS)("a repeated entry in a dump of the format $name", ({ name, text }) => {
  const parse = CPUID_FORMATS.find((format) => format.name === name)?.parse;
  const read = (lines: readonly string[]): CpuidDump | undefined =>
    parse?.(new TextEncoder().encode(lines.join("\n")));

  test("has a fault in its line if its registers differ, and adds no entry", () => {
    const lines = text.split("\n");
    const whole = read(lines);
    const tables = whole?.kind === "tables" ? whole.tables : [];
    // A second leaf 0 begins another CPU.
    const places = tables.flatMap(({ table, lines: at }) =>
      [...table].flatMap((e, i) => (e.function === 0 ? [] : [at[i] ?? 0])),
    );
    const texts = new Set(whole === undefined ? [] : entriesIn(whole).map((e) => e.text));
    expect(places.length).toBeGreaterThan(0);
    const silent = [...new Set(places)].filter((place) => {
      const line = lines[place - 1] ?? "";
      // A host's line in a VBox.log does not repeat the leaf of the guest's line.
      const pair = line.includes("Hst:") ? [lines[place - 2] ?? "", line] : [line];
      const changed = pair.map((one) =>
        one.replace(/([0-9a-f])(\W*|\W+\[SL[\s\S]*)$/i, (_, digit: string, rest: string) =>
          digit === "1" ? `2${rest}` : `1${rest}`,
        ),
      );
      const dump = read([...lines.slice(0, place), ...changed, ...lines.slice(place)]);
      const isFound = dump?.problems.some(
        (problem) => place < problem.line && problem.line <= place + pair.length,
      );
      const added = dump === undefined ? [] : entriesIn(dump).filter((e) => !texts.has(e.text));
      return isFound !== true || added.length > 0;
    });
    expect(silent.map((place) => lines[place - 1])).toEqual([]);
  });
});

describe.each([
  ...written.map(({ name, bytes }) => ({
    name: `${name}`,
    text: new TextDecoder("latin1").decode(bytes),
  })),
  ...Object.entries(SAMPLES).map(([name, text]) => ({ name, text })),
])("a file of the format $name with characters that cannot be printed", ({ name, text }) => {
  const parse = CPUID_FORMATS.find((format) => format.name === name)?.parse;
  /** DEL, the C1 control that begins an escape sequence, a line separator, and the start of text from right to left. */
  const odd = "\u007f\u009b\u2028\u202e";

  test("has faults and notes without such characters", () => {
    const shown: string[] = [];
    for (let at = 0; at < text.length; at += 7) {
      const damaged = `${text.slice(0, at)}${odd}${text.slice(at)}`;
      const dump = parse?.(new TextEncoder().encode(damaged));
      shown.push(...(dump?.problems ?? []).map(({ message }) => message), ...(dump?.notes ?? []));
    }
    expect(shown.filter((message) => /[\p{C}\p{Zl}\p{Zp}]/u.test(message))).toEqual([]);
  });
});
