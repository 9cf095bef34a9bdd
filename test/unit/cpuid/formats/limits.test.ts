/** Tests of the limits of files, and of wrong arguments to the functions that read and write files. */
import { describe, expect, test } from "vitest";
import {
  CPUID_FILE_LIMIT,
  CPUID_FORMATS,
  type CpuidFormatName,
  CpuidTable,
  detectFormat,
  formatCpuid,
  readCpuid,
} from "../../../../lib/cpuid/index.ts";
import { readFile } from "./read-table.ts";
import { fileTable, oneCpu } from "./sample-tables.ts";

/** The text formats for several CPUs that this package writes. */
const SEVERAL = ["json", "raw", "cpuid-r", "aida64", "libcpuid", "c"] as const;
/** The formats for one table that this package writes. */
const WRITTEN = [...SEVERAL, "kcpuid", "kvm"] as const;
/** The formats that this package reads line by line. */
const LINES = ["raw", "cpuid-r", "aida64", "kcpuid", "libcpuid"] as const;

const cpus = (count: number) =>
  Array.from({ length: count }, (_, cpu) => fileTable([{ function: 0, eax: 1, ebx: 2 }], cpu));
const entries = (count: number) =>
  CpuidTable.from(Array.from({ length: count }, (_, index) => ({ function: 4, index, flags: 1 })));

describe("a file of the format", () => {
  test.each(SEVERAL)("%s has at most 4,096 CPUs", (format) => {
    const most = readFile(formatCpuid(cpus(4096), format), format);
    expect(most.problems).toEqual([]);
    expect(most.cpus).toHaveLength(4096);
    const more = readFile(formatCpuid(cpus(4099), format), format);
    expect(more.cpus).toHaveLength(4096);
    expect(more.cpus.at(-1)).toBe(4095);
    expect(more.problems).toEqual([
      expect.stringMatching(/^\d+: more than 4096 CPUs; the rest is skipped$/),
    ]);
  });

  test.each(WRITTEN.filter((format) => format !== "libcpuid" && format !== "kvm"))(
    "%s has at most 1,024 entries of one CPU",
    (format) => {
      const most = readFile(formatCpuid(entries(1024), format), format);
      expect(most.problems).toEqual([]);
      expect(most.tables[0]).toHaveLength(1024);
      const more = readFile(formatCpuid(entries(1026), format), format);
      expect(more.tables[0]).toHaveLength(1024);
      expect(more.problems).toEqual(
        Array.from({ length: 2 }, () =>
          expect.stringMatching(/^\d+: more than 1024 entries of one CPU; this one is skipped$/),
        ),
      );
    },
  );

  test("kvm is read with 1,024 entries, and rejected with a larger count", () => {
    expect(readFile(formatCpuid(entries(1024), "kvm")).tables[0]).toHaveLength(1024);
    expect(readFile(formatCpuid(entries(1025), "kvm"), "kvm")).toMatchObject({
      tables: [],
      problems: ["0: nent is 1025, and at most 1024 entries are read", expect.any(String)],
    });
  });

  test.each(LINES)("%s has a fault at a line of more than 4,096 characters", (format) => {
    const text = new TextDecoder().decode(formatCpuid(oneCpu, format)).trimEnd();
    const whole = readFile(text, format);
    const last = text.split("\n").length;
    const long = readFile(`${text}\n${"x".repeat(4097)}\n`, format);
    expect(long.tables).toEqual(whole.tables);
    expect(long.problems).toEqual([`${last + 1}: the line has more than 4096 characters`]);
  });

  test.each(LINES)("%s has an entry in a line of 4,096 characters", (format) => {
    const text = new TextDecoder().decode(formatCpuid(oneCpu, format)).trimEnd();
    const lines = text.split(/\r?\n/);
    const padded = lines.map((line) => line.padEnd(4096)).join("\n");
    expect(readFile(`${padded}\n`, format)).toEqual(readFile(text, format));
  });
});

describe("readCpuid", () => {
  test("reads a file of 16 MiB, and rejects a file that is one byte longer", () => {
    const bytes = new Uint8Array(CPUID_FILE_LIMIT + 1).fill(0x20);
    bytes.set(new TextEncoder().encode('{"entries":[{"function":1}]}'));
    expect(CPUID_FILE_LIMIT).toBe(16 * 1024 * 1024);
    expect(readFile(bytes.subarray(0, CPUID_FILE_LIMIT), "json")).toMatchObject({
      problems: [],
      tables: [["1.0 0 0 0 0 0"]],
    });
    expect(readFile(bytes, "json")).toMatchObject({
      problems: ["0: the file has 16777217 bytes, and at most 16777216 (16 MiB) are read"],
      tables: [],
    });
  });

  test("lists 100 faults, and counts the remaining faults", () => {
    const { problems } = readFile(`CPU 0:\n${"0x\n".repeat(500)}`, "cpuid-r");
    expect(problems).toHaveLength(101);
    expect(problems.at(-1)).toBe("0: and 401 more faults");
  });

  test.each([
    ["", "the file is empty"],
    ["hello\n", "the file has none of the formats json, raw, kcpuid,"],
    ["{}", "the format is uncertain; it may be json (JSON of node-kvm: tables, or a saved state)"],
  ])(`returns the format "unknown" and a fault for %j`, (text, message) => {
    const dump = readCpuid(text);
    expect(dump).toMatchObject({ format: "unknown", tables: [], problems: [{ line: 0 }] });
    expect(dump.problems[0]?.message).toContain(message);
  });

  test("reads only the given part of a buffer", () => {
    const written = formatCpuid(oneCpu, "kvm");
    const larger = new Uint8Array(written.length + 64).fill(0xff);
    larger.set(written, 32);
    const part = larger.subarray(32, 32 + written.length);
    expect(readFile(part)).toEqual(readFile(written));
  });

  test.each<[string, unknown, unknown, string]>([
    ["a number", 5, {}, "readCpuid(): expected"],
    ["null", null, {}, "readCpuid(): expected"],
    ["an array", [1], {}, "readCpuid(): expected"],
    ["an unknown option", "", { formt: "json" }, 'unknown option "formt"; did you mean "format"?'],
    ["an unknown format", "", { format: "jsn" }, 'unknown format "jsn"; did you mean "json"?'],
    ["a format that is a number", "", { format: 1 }, "format: expected a name, got 1"],
    ["options that are null", "", null, "readCpuid()"],
  ])("refuses %s", (_, data, options, message) => {
    expect(() => readCpuid(data as string, options as object)).toThrow(TypeError);
    expect(() => readCpuid(data as string, options as object)).toThrow(message);
  });

  test("accepts the name of each format", () => {
    for (const { name } of CPUID_FORMATS) {
      expect(() => readCpuid("", { format: name as CpuidFormatName })).not.toThrow();
    }
  });
});

describe("detectFormat", () => {
  test.each([
    ["an empty file", ""],
    ["a text", "hello\n"],
    ["a JSON object of something else", "{}"],
  ])("returns undefined for %s", (_, text) => {
    expect(detectFormat(text)).toBeUndefined();
  });

  test.each([5, null, undefined, [1]])("refuses %j", (data) => {
    expect(() => detectFormat(data as unknown as string)).toThrow(/^detectFormat\(\): expected/);
  });
});

describe("formatCpuid", () => {
  test("writes the tables of an iterable, with their positions as CPU numbers", () => {
    const table = CpuidTable.from([{ function: 0, eax: 1 }]);
    const written = formatCpuid(new Set([table, CpuidTable.from([{ function: 1 }])]), "cpuid-r");
    expect(readFile(written)).toMatchObject({
      cpus: [0, 1],
      tables: [["0.0 0 1 0 0 0"], ["1.0 0 0 0 0 0"]],
    });
  });

  test.each<[string, unknown, unknown, string]>([
    ["an unknown format", oneCpu, "jsn", 'unknown format "jsn"; did you mean "json"?'],
    ["no format", oneCpu, undefined, "format: expected a name, got undefined"],
    ["a format that is only read", oneCpu, "cpuinfo", 'the format "cpuinfo" is only read'],
    [
      "a format of features",
      oneCpu,
      "qemu-cpu",
      'the format "qemu-cpu" is a list of features, not a table; formatCpuidFeatures() writes it',
    ],
    [
      "a format of masks",
      oneCpu,
      "xen-cpuid",
      'the format "xen-cpuid" is a mask, not a table; formatCpuidMask() writes it',
    ],
    ["a number", 5, "json", "formatCpuid(): expected an array or another iterable, got 5"],
    ["an entry", [{ function: 1 }], "json", "[0]: expected a CpuidTable or an object with one"],
    [
      "null in a list",
      [null],
      "json",
      "[0]: expected a CpuidTable or an object with one, got null",
    ],
    ["a list of entries as table", [{ table: [] }], "json", "[0]: expected a CpuidTable"],
  ])("refuses %s", (_, tables, format, message) => {
    const write = () => formatCpuid(tables as CpuidTable, format as CpuidFormatName);
    expect(write).toThrow(TypeError);
    expect(write).toThrow(message);
  });
});
