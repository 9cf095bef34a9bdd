/** Tests of `node-kvm cpuid`: every form of a table that it reads, and its errors. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { CpuidTable, printTable } from "../../../lib/cpuid/index.ts";
import { parseRawTable } from "../../../lib/cpuid/parse.ts";
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

test("node-kvm cpuid show reports which vCPU of a saved state it shows", () => {
  expect(command(["cpuid", "show", join(folder, "state.json")]).stderr).toBe(
    "node-kvm: this is vCPU 0 of 0, 5; FILE#ID names another\n",
  );
});

test.each([
  ["notes.txt", "line 1 is not an entry: hello"],
  ["empty.txt", "it has no entry"],
  ["list.json", "line 1 is not an entry: []"],
  ["broken.json", "cpuid table: entry 0 has no number as function"],
  ["table.raw#1", "#ID is for saved states"],
  ["state.json#1", "the vCPUs of this state have the ids: 0, 5"],
])("node-kvm cpuid rejects %s with the reason and the supported formats", (name, reason) => {
  const ran = command(["cpuid", "show", join(folder, name)]);
  expect(ran.stderr).toBe(
    `node-kvm: ${join(folder, name)} contains no CPUID table: ${reason}; use the output of ` +
      "cpuid show --json or --raw, or a saved state (JSON or bytes)\n",
  );
  expect(ran).toMatchObject({ status: 2, stdout: "" });
});

test.each([
  ["table.json", "state.bin#0", 0, /^$/],
  ["table.raw", "other.raw", 1, /^0x7\.1:ebx/],
])("node-kvm cpuid diff of %s and %s ends with status %i", (before, after, status, stdout) => {
  const ran = command(["cpuid", "diff", join(folder, before), join(folder, after)]);
  expect(ran).toMatchObject({ status, stdout: expect.stringMatching(stdout), stderr: "" });
});

test("the raw output of node-kvm cpuid show has all numbers of the table", () => {
  expect(Array.from(parseRawTable(raw))).toEqual(Array.from(table));
});

test.each(["0x7 0x0: eax=0x1", raw.replace("flags=1", "flags=x"), raw.replace("0x00000007", "7")])(
  "the error about invalid raw text names the line: %j",
  (text) => {
    expect(() => parseRawTable(text)).toThrow(/^line \d is not an entry: /);
  },
);

describe("a hostile input of node-kvm cpuid", () => {
  test("a program without an end that is no ELF file is refused", () => {
    const { status, stderr } = command(["cpuid", "needs", "/dev/zero", "model:EPYC-Milan"]);
    expect(status).toBe(2);
    expect(stderr).toBe("node-kvm: elfCode(): not an ELF file: 64 bytes without its header\n");
  });

  test("the control characters of a file's name are escaped in notes and results", () => {
    const name = join(folder, "esc\u001b[31m\nred.raw");
    writeFileSync(name, `${raw}0x00000001 0x00: eax=zz\n`);
    const { stdout, stderr } = command(["cpuid", "baseline", name, join(folder, "other.raw")]);
    expect(stderr).toContain("esc\\x1b[31m\\nred.raw:3:1: ");
    expect(stdout).toContain("esc\\x1b[31m\\nred.raw");
    expect(`${stdout}${stderr}`).not.toContain("\u001b");
  });
});
