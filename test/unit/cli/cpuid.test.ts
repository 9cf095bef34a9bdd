/**
 * Tests of `node-kvm cpuid`: every form of table that it reads, its subcommands with their exit statuses, and its
 * errors.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { CPUID_FILE_LIMIT, CpuidTable, printTable, readCpuid } from "../../../lib/cpuid/index.ts";
import {
  STATE_FORMAT,
  STATE_VERSION,
  stateToBytes,
  stateToJson,
  type VmState,
} from "../../../lib/state/index.ts";
import { command } from "./command.ts";

vi.setConfig({ testTimeout: 60_000 });

const ENTRY = { function: 7, index: 1, flags: 1, eax: 0x8000_0010, ebx: 2, ecx: 3, edx: 4 };
const table = CpuidTable.from([{ function: 0, eax: 7 }, ENTRY]);
const other = table.withEntry({ ...ENTRY, ebx: 3 });
const state: VmState = {
  format: STATE_FORMAT,
  version: STATE_VERSION,
  source: { kernel: "6.12" },
  vcpus: [
    { id: 0, cpuid: [...table] },
    { id: 5, cpuid: [...other] },
  ],
};
const raw = `${printTable(table)}\n`;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "cpuid-"));
  const files = {
    "table.json": JSON.stringify(table),
    "table.raw": raw,
    "state.json": stateToJson(state),
    "state.bin": stateToBytes(state),
    "other.raw": printTable(other),
    "notes.txt": "hello\n",
    "empty.txt": "",
    "list.json": "[]",
    "broken.json": '{"entries": [{"function": "x"}]}',
    "mask.json":
      '{"cpuid_modifiers":[{"leaf":"0x7","subleaf":"0x0","flags":1,"modifiers":' +
      '[{"register":"ebx","bitmap":"0bxxxxxxxxxxxxxxxxxxxxxxxxxx0xxxxx"}]}]}',
    "flags.txt": "flags\t\t: fpu sse sse2\n",
    "numbered.txt": ["3", "7"]
      .map(
        (cpu) =>
          `CPU ${cpu}:\n   0x00000000 0x00: eax=0x00000001 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n` +
          "   0x00000001 0x00: eax=0x000306a9 ebx=0x00100800 ecx=0x00000000 edx=0x00000000\n",
      )
      .join(""),
    "large.raw": raw + " ".repeat(CPUID_FILE_LIMIT),
    "null-base.raw": printTable(CpuidTable.from([{ function: 1 }])),
  };
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("node-kvm cpuid show prints the CPUID table of", () => {
  test.each(["table.json", "table.raw", "state.json", "state.bin", "state.json#0", "state.bin#0"])(
    "%s",
    (name) => {
      expect(command(["cpuid", "show", "--raw", join(folder, name)])).toMatchObject({
        status: 0,
        stdout: raw,
      });
    },
  );

  test.each(["state.json#5", "state.bin#5"])("another vCPU in a saved state: %s", (name) => {
    const ran = command(["cpuid", "show", "--raw", join(folder, name)]);
    expect(ran).toMatchObject({ status: 0, stdout: `${printTable(other)}\n`, stderr: "" });
  });

  test("the text on standard input, in each supported format", () => {
    for (const form of ["--raw", "--json"]) {
      const { stdout } = command(["cpuid", "show", form, join(folder, "table.json")]);
      const again = command(["cpuid", "show", "--raw", "-"], { input: stdout });
      expect(again).toEqual({ status: 0, stdout: raw, stderr: "" });
    }
  });
});

/** Replaces each name of a file in the folder by the file's path, and keeps all other words. */
const paths = (words: readonly string[]): readonly string[] =>
  words.map((word) => (/\.(json|raw|bin|txt)(#\d+)?$/.test(word) ? join(folder, word) : word));

test("node-kvm cpuid show reports which vCPU of a saved state it shows", () => {
  const file = join(folder, "state.json");
  expect(command(["cpuid", "show", file]).stderr).toBe(
    `node-kvm: ${file} has 2 tables; this is vCPU 0, and ${file}#N names another\n`,
  );
});

describe("node-kvm cpuid ends with status 2 and prints one line about", () => {
  test.each<readonly [input: string, args: readonly string[], line: RegExp]>([
    [
      "text of no format",
      ["show", "notes.txt"],
      /notes\.txt: the file has none of the formats json, /,
    ],
    ["an empty file", ["lint", "empty.txt"], /empty\.txt: the file is empty$/],
    [
      "an uncertain format",
      ["show", "list.json"],
      /list\.json: the format is uncertain; it may be json/,
    ],
    [
      "a file over the limit",
      ["show", "large.raw"],
      /large\.raw has more than 16 MiB, which is the lim/,
    ],
    ["a missing file", ["lint", "nosuch"], /nosuch is not one of host, .* cannot be read: ENOENT/],
    ["a missing file beside KVM", ["diff", "supported", "nosuch"], /: nosuch is not one of host/],
    [
      "a CPU that a dump lacks",
      ["show", "table.raw#1"],
      /table\.raw has no CPU 1; its CPUs are 0$/,
    ],
    ["a vCPU that a state lacks", ["show", "state.json#1"], /has no CPU 1; its CPUs are 0, 5$/],
    ["a mask as a table", ["lint", "mask.json"], /mask\.json is a mask \(.* give it with --mask$/],
    [
      "a table as a mask",
      ["show", "table.raw", "--mask", "table.raw"],
      /table\.raw is not a mask$/,
    ],
    [
      "standard input twice",
      ["compare", "-", "-"],
      /standard input contains one file: name "-" only once$/,
    ],
    [
      "standard input as table and as supported table",
      ["lint", "-", "--supported", "-"],
      /standard input contains one file: name "-" only once$/,
    ],
    [
      "standard input as supported table and as mask",
      ["lint", "table.raw", "--supported", "-", "--mask", "-"],
      /standard input contains one file: name "-" only once$/,
    ],
    [
      "standard input as table and as mask",
      ["show", "-", "--mask", "-"],
      /standard input contains one file: name "-" only once$/,
    ],
    [
      "standard input as converted table and as mask",
      ["convert", "-", "--to", "raw", "--mask", "-"],
      /standard input contains one file: name "-" only once$/,
    ],
    [
      "standard input as program and as table",
      ["needs", "-", "-"],
      /standard input contains one file: name "-" only once$/,
    ],
    [
      "two forms of show",
      ["show", "table.raw", "--json", "--raw"],
      /--json and --raw exclude each other$/,
    ],
    ...["sarif", "github", "text"].map(
      (form) =>
        [
          `--json and --form ${form}`,
          ["lint", "table.raw", "--json", "--form", form],
          /--json and --form exclude each other$/,
        ] as const,
    ),
    [
      "two forms of a baseline",
      ["baseline", "table.raw", "--json", "--to", "raw"],
      /--json and --to exclude each other$/,
    ],
    ...[
      ["--to", "raw", "--output", "never.raw"],
      ["--to", "raw"],
      ["--output", "never.raw"],
    ].map(
      (options) =>
        [
          `${options.join(" ")} without a model`,
          ["model", ...options],
          /--to and --output need the NAME of a model$/,
        ] as const,
    ),
    [
      "an unknown model",
      ["show", "model:Nehalm"],
      /unknown CPU model "Nehalm"; did you mean Nehalem/,
    ],
    ["an inherited name as a model", ["model", "constructor"], /unknown CPU model "constructor"/],
    [
      "an unknown format",
      ["convert", "table.raw", "--to", "toString"],
      /no format toString; the f/,
    ],
    [
      "a format that is only read",
      ["convert", "table.raw", "--to", "quoted-mail"],
      /is only read$/,
    ],
    ["an unknown rule", ["lint", "table.raw", "--ignore", "S999"], /ignore: unknown rule "S999"/],
    ["an unknown name to ignore", ["diff", "table.raw", "table.raw", "--ignore", "avx9"], /"avx9"/],
    [
      "a leaf that is no number",
      ["query", "table.raw", "seven"],
      /leaf: expected a 32-bit number such as 7 or 0x80000008, got seven/,
    ],
    [
      "a sub-leaf over 32 bits",
      ["query", "table.raw", "7", "4294967296"],
      /index: expected a 32-bit number such as 7 or 0x80000008, got 4294967296/,
    ],
    [
      "a CR4 that is no number",
      ["query", "table.raw", "1", "--cr4", "x"],
      /--cr4: expected a 64-bit number such as 0x40000, got x/,
    ],
    ["a vendor of three letters", ["query", "table.raw", "1", "--vendor", "abc"], /12 characters/],
    [
      "a program that is no ELF file",
      ["needs", "notes.txt", "table.raw"],
      /notes\.txt: the file does not begin with an ELF header$/,
    ],
    ["a missing program", ["needs", "nosuch", "table.raw"], /nosuch cannot be read: ENOENT/],
    [
      "a section that a program lacks",
      ["needs", process.execPath, "table.raw", "--section", ".nosuch"],
      /has no executable section \.nosuch; it has .*\.text/,
    ],
    [
      "an output in a missing folder",
      ["dump", "table.raw", "--output", "/nowhere/x"],
      /--output: \/nowhere\/x cannot be written: ENOENT/,
    ],
    [
      "hosts without a baseline to write",
      ["baseline", "model:Nehalem", "model:EPYC", "--to", "json"],
      /there is no baseline: the tables have different vendors: GenuineIntel, AuthenticAMD$/,
    ],
  ])("%s", (_, args, line) => {
    const ran = command(["cpuid", ...paths(args)]);
    expect(ran.stderr.trimEnd()).toMatch(line);
    expect(ran.stderr).toMatch(/^node-kvm: [^\n]*\n$/);
    expect(ran).toMatchObject({ status: 2, stdout: "" });
  });
});

test("node-kvm cpuid rejects a file whose only entry is damaged, and prints the entry's line number", () => {
  const file = join(folder, "broken.json");
  expect(command(["cpuid", "show", file])).toEqual({
    status: 2,
    stdout: "",
    stderr:
      `node-kvm: ${file}:1:27: function: expected an integer, got "x"\n` +
      `node-kvm: ${file} contains no CPUID table: it has no entry\n`,
  });
});

test("node-kvm cpuid rejects a list of features without a model, and suggests the intended command", () => {
  const { status, stdout, stderr } = command(["cpuid", "show", join(folder, "flags.txt")]);
  expect(stderr).toMatch(
    /flags\.txt is a list of features without a model \(.*cpuinfo\), and a table needs one: .*"EPYC,\+avx2,-rtm".*resolveFeatures\(\)/,
  );
  expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
});

describe("node-kvm cpuid", () => {
  test.each<readonly [args: readonly string[], status: number, stdout: RegExp]>([
    [["dump", "table.raw"], 0, /^\{\n[\s\S]*"function"/],
    [["dump", "model:Nehalem", "--to", "cpuid-r"], 0, /^CPU:\n {3}0x00000000 0x00: eax=0x0000000b/],
    [["convert", "table.raw", "--to", "raw"], 0, /^0x00000000/],
    [["show", "model:Haswell", "--mask", "mask.json"], 0, / bmi1 hle smep /],
    [["show", "model:Haswell"], 0, / bmi1 hle avx2 smep /],
    [["diff", "table.json", "state.bin#0"], 0, /^$/],
    [["diff", "table.raw", "other.raw"], 1, /^0x7\.1:ebx/],
    [["diff", "table.raw", "other.raw", "--json"], 1, /^\[\n[\s\S]*"kind": "field"/],
    [["compare", "table.raw", "table.json"], 0, /^identical\n$/],
    [["compare", "model:Nehalem", "model:Haswell"], 0, /^subset\n[\s\S]* avx2: 0 and 1, /],
    [["compare", "model:Haswell", "model:Nehalem"], 1, /^superset\n/],
    [["portable", "model:Nehalem", "model:Nehalem"], 0, /^portable\n/],
    [
      ["portable", "model:Haswell", "model:Nehalem"],
      1,
      /^not portable: \d+ reasons\n[\s\S]* avx2: /,
    ],
    [["baseline", "model:Nehalem", "model:Haswell"], 0, /^host 1 is [\s\S]*host 1 loses nothing\n/],
    [["baseline", "model:Nehalem", "model:Haswell", "--to", "json"], 0, /^\{\n/],
    [["baseline", "model:Nehalem", "model:EPYC"], 1, /different vendors: GenuineIntel, Authentic/],
    [["lint", "model:Nehalem"], 0, /^0 errors, 0 warnings, /],
    [["lint", "null-base.raw"], 1, /error S01 /],
    [["lint", "null-base.raw", "--form", "github"], 1, /^::error file=.*title=S01::/],
    [["lint", "null-base.raw", "--form", "sarif"], 1, /"version": "2\.1\.0"[\s\S]*"ruleId": "S01"/],
    [["lint", "null-base.raw", "--form", "json"], 1, /"rule": "S01"/],
    [["lint", "null-base.raw", "--form", "json", "--json"], 1, /"rule": "S01"/],
    [["lint", "numbered.txt"], 1, /\(CPU 3, 7\)\n[\s\S]*APIC id of CPU 3 \(CPU 7\)\n/],
    [["lint", "numbered.txt", "--json"], 1, /"cpus": \[\s*3,\s*7\s*\]/],
    [
      ["query", "model:Nehalem", "1", "--cr4", "0x40000"],
      0,
      /^eax=0x000106a3 .*\n[\s\S]*CR4\.OSXSAVE/,
    ],
    [["query", "model:Nehalem", "1", "--json"], 0, /^\{\n[\s\S]*"eax": /],
    [["model"], 0, /^[\s\S]*\nNehalem: GenuineIntel 6\/26\/3/],
    [["model", "Nehalem"], 0, /^Nehalem: GenuineIntel family 6, model 26, stepping 3\n/],
    [["model", "Nehalem", "--to", "raw"], 0, /^0x00000000/],
    [["needs", process.execPath, "model:x86-64-v1", "--section", ".init"], 0, / 0 missing /],
  ])("%j ends with status %i", (args, status, stdout) => {
    const ran = command(["cpuid", ...paths(args)]);
    expect(ran.stdout).toMatch(stdout);
    expect(ran.status).toBe(status);
  });

  test("dump writes the file that --output names, from which the same table is read", () => {
    const output = join(folder, "dumped.json");
    const ran = command(["cpuid", "dump", join(folder, "table.raw"), "--output", output]);
    expect(ran).toEqual({ status: 0, stdout: "", stderr: "" });
    const { stdout } = command(["cpuid", "show", "--raw", output]);
    expect(stdout).toBe(raw);
  });

  test("page writes an HTML page", () => {
    const output = join(folder, "page.html");
    expect(command(["cpuid", "page", "--output", output])).toMatchObject({ status: 0, stdout: "" });
    expect(readFileSync(output, "utf8")).toMatch(/^<!doctype html>/i);
  });
});

test("the raw output of node-kvm cpuid show contains all numbers of the table", () => {
  const read = readCpuid(raw, { format: "raw" });
  expect(read).toMatchObject({ kind: "tables", tables: [{ table: { length: table.length } }] });
  expect(read.kind === "tables" && Array.from(read.tables[0]?.table ?? [])).toEqual(
    Array.from(table),
  );
});

describe("a hostile input of node-kvm cpuid", () => {
  test("an endless file that is not an ELF file is refused", () => {
    const { status, stderr } = command(["cpuid", "needs", "/dev/zero", "model:EPYC-Milan"]);
    expect(status).toBe(2);
    expect(stderr).toBe("node-kvm: /dev/zero: the file does not begin with an ELF header\n");
  });

  test("the control characters in a file's name are escaped in notes and results", () => {
    const name = join(folder, "esc\u001b[31m\nred.raw");
    writeFileSync(name, `${raw}0x00000001 0x00: eax=zz\n`);
    const { stdout, stderr } = command([
      ...["cpuid", "baseline", "--partial", name, join(folder, "other.raw")],
    ]);
    expect(stderr).toContain("esc\\x1b[31m\\nred.raw:3:1: ");
    expect(stdout).toContain("esc\\x1b[31m\\nred.raw");
    expect(`${stdout}${stderr}`).not.toContain("\u001b");
  });
});
