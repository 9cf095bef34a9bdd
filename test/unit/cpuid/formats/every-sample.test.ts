/** Tests that hold for the sample of each format: detection, truncation, damage, and files of garbage. */
import { describe, expect, test } from "vitest";
import { CPUID_REGISTERS } from "../../../../lib/cpuid/entry.ts";
import type { CpuidDump } from "../../../../lib/cpuid/formats/dump.ts";
import { CPUID_FORMATS, detectFormat, readCpuid } from "../../../../lib/cpuid/formats/index.ts";
import { SAMPLES, type SampleName } from "./samples.ts";

const samples = Object.entries(SAMPLES) as [SampleName, string][];
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Returns each fact that a dump states about registers and features as one line. */
function statements(dump: CpuidDump): readonly string[] {
  if (dump.kind === "tables") {
    return dump.tables.flatMap(({ table, label }) =>
      [...table].map((e) =>
        [label, e.function, e.index, e.flags, ...CPUID_REGISTERS.map((name) => e[name])].join(" "),
      ),
    );
  }
  if (dump.kind === "mask") return dump.mask.map((change) => JSON.stringify(change));
  const { on, off } = dump.features;
  return [...on.map((name) => `+${name}`), ...off.map((name) => `-${name}`)];
}

describe("the sample of the format", () => {
  test.each(samples)("%s is detected as this format and read without a fault", (name, text) => {
    const dump = readCpuid(text);
    expect(detectFormat(text)?.name).toBe(name);
    expect(dump.format).toBe(name);
    expect(dump.problems).toHaveLength(name === "git-lfs" ? 1 : 0);
  });

  test.each(samples)("%s is detected in quoted mail", (name, text) => {
    const quoted = text.replaceAll(/^/gm, "> ");
    expect(readCpuid(quoted)).toMatchObject({ format: name });
    expect(statements(readCpuid(quoted))).toEqual(statements(readCpuid(text)));
  });

  // Nothing marks the end of a -cpu option, so a truncated name is read as another name.
  const marked = samples.filter(([name]) => name !== "qemu-cpu");
  test.each(marked)(
    "%s, truncated after any byte, states only facts of the complete sample",
    (name, text) => {
      const format = CPUID_FORMATS.find((known) => known.name === name);
      const whole = bytes(text);
      const known = new Set(format && statements(format.parse(whole)));
      const others = Array.from({ length: whole.length }, (_, length) =>
        format ? statements(format.parse(whole.subarray(0, length))) : ["no format"],
      );
      expect(others.flat().filter((statement) => !known.has(statement))).toEqual([]);
    },
  );

  test.each(samples)(
    "%s, truncated after any byte, is read by every format without an exception",
    (_, text) => {
      const whole = bytes(text);
      for (let length = 0; length < whole.length; length += 1) readCpuid(whole.subarray(0, length));
      expect(readCpuid(whole).format).not.toBe("unknown");
    },
  );

  test.each(samples)(
    "every problem that is reported for %s with one changed byte has its place in the file",
    (name, text) => {
      const format = CPUID_FORMATS.find((known) => known.name === name);
      const whole = bytes(text);
      const lines = text.split("\n").length;
      const outside: string[] = [];
      for (const [i] of whole.entries()) {
        const damaged = whole.with(i, 0x00);
        for (const { line, column, message } of format?.parse(damaged).problems ?? []) {
          if (line > lines || column < 1 || line < 0) outside.push(`${line}:${column} ${message}`);
        }
      }
      expect(outside).toEqual([]);
    },
  );
});

describe("every format", () => {
  /** Files of 200 kB with long lines, deep nesting or repeated prefixes. */
  const GARBAGE: readonly (readonly [string, string])[] = [
    ["zeros", "\0".repeat(200_000)],
    ["line breaks", "\n".repeat(200_000)],
    ["spaces", " ".repeat(200_000)],
    ["quotation marks", ">".repeat(200_000)],
    ["quoted empty lines", "> \n".repeat(60_000)],
    ["brackets", "[".repeat(200_000)],
    ["braces", '{"a":'.repeat(40_000)],
    ["tags", "<cpu>".repeat(40_000)],
    ["attributes", `<cpu ${"a ".repeat(100_000)}`],
    ["entities", `<cpudata>${"&a".repeat(60_000)}`],
    ["options", " -cpu ".repeat(34_000)],
    ["a long option", `-cpu a${",+a".repeat(60_000)}`],
    ["minus signs", `-cpu a,${"-".repeat(200_000)}`],
    ["flags", `flags : ${"a ".repeat(6_000)}\n`.repeat(16)],
    ["settings", "cpuid = [\n".repeat(20_000)],
    ["quotes", `cpuid = [${'"'.repeat(200_000)}`],
    ["comments", `cpuid = [${"#\n".repeat(100_000)}`],
    ["queries", "CPUID query: ".repeat(16_000)],
    ["tables of VirtualBox", "Gst: 00000000/0000  0\n".repeat(9_000)],
    ["prompts", `a@b${"a".repeat(60)}`.repeat(600)],
    ["time stamps", "[     1.000000] ".repeat(12_000)],
  ];

  test.each(GARBAGE)("reads 200 kB of %s with at most 101 faults", (_, text) => {
    const data = bytes(text);
    detectFormat(data);
    const counts = CPUID_FORMATS.map((format) => format.parse(data).problems.length);
    expect(Math.max(...counts)).toBeLessThanOrEqual(101);
  });

  test("has a unique name and a unique title", () => {
    const names = CPUID_FORMATS.map((format) => format.name);
    expect(new Set(names).size).toBe(names.length);
    expect(new Set(CPUID_FORMATS.map((format) => format.title)).size).toBe(names.length);
  });
});
