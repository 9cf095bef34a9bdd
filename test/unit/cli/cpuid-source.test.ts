/** Tests of the tables that `node-kvm cpuid` loads: labels, feature lists without a fixed model, and devices. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { loadTable, loadTables } from "../../../lib/cli/cpuid-source.ts";
import { brandOf, type CpuidTable, signatureOf, vendorOf } from "../../../lib/cpuid/index.ts";
import { SAMPLES } from "../cpuid/formats/samples.ts";

let folder = "";
let notes: string[] = [];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "cpuid-"));
});
afterAll(() => rmSync(folder, { recursive: true }));
beforeEach(() => {
  notes = [];
  vi.spyOn(process.stderr, "write").mockImplementation((text) => notes.push(String(text)) > 0);
});
afterEach(() => vi.restoreAllMocks());

/** Writes a file in the folder, and returns its path. */
function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const eax = (table: CpuidTable | undefined): number | undefined => table?.find(0)?.eax;

describe("a file with labelled tables", () => {
  const log = (): string => file("vbox.log", SAMPLES["virtualbox-log"]);

  test.each([
    ["guest", 7],
    ["host", 13],
    ["0", 7],
    ["1", 13],
  ])("gives the table that follows #: %s", (label, highest) => {
    const tables = loadTables(`${log()}#${label}`);
    expect(tables.map(({ table }) => eax(table))).toEqual([highest]);
  });

  test("without a label gives the first table, and a note with the name of another", () => {
    expect(eax(loadTable(log()).table)).toBe(7);
    expect(notes.at(-1)).toBe(
      `node-kvm: ${log()} has 2 tables; this is guest, and ${log()}#host names another\n`,
    );
  });

  test("is refused with its labels if no table has the label", () => {
    expect(() => loadTables(`${log()}#hots`)).toThrow(
      `${log()} has no table hots; its tables are guest, host`,
    );
  });

  test("is read whole if # belongs to the name of the file", () => {
    const path = file("vbox#host", SAMPLES["virtualbox-log"]);
    expect(loadTables(path)).toHaveLength(2);
  });

  test("that does not exist is reported with its whole name", () => {
    const path = join(folder, "absent#host");
    expect(() => loadTables(path)).toThrow(`${path} is not one of host, `);
  });
});

describe("a reply of QEMU to query-cpu-model-expansion with the model base", () => {
  const props = {
    ...{ vendor: "GenuineIntel", family: 6, model: 158, stepping: 10, "model-id": "A CPU" },
    ...{ level: 13, xlevel: 0x8000_0008, "phys-bits": 0, fpu: true, "sse4.1": true, avx2: true },
    ...{ xsave: true, avx: true, vmx: false, "rdctl-no": true, "kvm-asyncpf": true },
  };
  const reply = (model: object, name = "base"): string =>
    `{"return":\n  {"model": {"name": "${name}", "props": ${JSON.stringify(model)}}}}\n`;

  test("gives the table of its properties", () => {
    const { table } = loadTable(file("base.json", reply(props)));
    expect(signatureOf(table)).toEqual({ family: 6, model: 158, stepping: 10 });
    expect([vendorOf(table), brandOf(table), eax(table)]).toEqual(["GenuineIntel", "A CPU", 13]);
    expect((["fpu", "sse4_1", "avx2", "vmx"] as const).map((name) => table.has(name))).toEqual([
      ...[true, true, true, false],
    ]);
    expect(table.get("phys_addr_bits")).toBe(40);
    expect(notes.join("")).toContain("rdctl-no is not a CPUID field, so it is left out");
    expect(notes.join("")).toContain(
      "base is QEMU's model without features; the table has the file's properties, 40 physical " +
        "address bits, which the file lacks, and no caches, topology or hypervisor leaves",
    );
  });

  test("is refused with its place if a property of the identity is missing", () => {
    const { level: _, ...rest } = props;
    const path = file("static.json", reply(rest));
    expect(() => loadTable(path)).toThrow(
      `${path}:2:22: base is QEMU's model without features, so a table needs every property: level of the model "base" is missing`,
    );
  });

  test("gives the same table in quoted mail", () => {
    const quoted = reply(props).replaceAll(/^(?=.)/gm, "> ");
    expect(eax(loadTable(file("quoted.txt", quoted)).table)).toBe(13);
  });
});

describe("a feature list without a fixed model", () => {
  test.each([
    ["host", "stands for the CPU of the host in QEMU, so it has no fixed features"],
    ["max", "stands for every feature that the host can give in QEMU, so it has no fixed features"],
  ])("with the model %s of QEMU is refused with the meaning of the name", (name, meaning) => {
    const path = file("command.sh", `qemu-system-x86_64 -enable-kvm -cpu ${name},+avx2\n`);
    expect(() => loadTable(path)).toThrow(`${path}: the CPU model "${name}" ${meaning}`);
  });

  test.each([
    ["host-passthrough", "the domain uses the host's CPU (mode host-passthrough)"],
    ["host-model", "the domain uses the host's CPU (mode host-model)"],
    ["maximum", "the domain uses every feature that the host can give (mode maximum)"],
  ])("of a libvirt domain in the mode %s is refused with the meaning of the mode", (mode, text) => {
    const path = file("domain.xml", `<domain type='kvm'><cpu mode='${mode}'/></domain>\n`);
    expect(() => loadTable(path)).toThrow(
      `${path}: ${text}, so the file names no CPU model; the table host is this CPU`,
    );
  });
});

test("a character device is refused before it is read", () => {
  expect(() => loadTable("/dev/zero")).toThrow(
    "/dev/zero is a character device, and a table is read from files only; " +
      "`node-kvm cpuid dump host` writes the table of this CPU",
  );
});

test("the message about an uncertain format gives no advice that the command line cannot follow", () => {
  const path = file("list.json", "[]");
  expect(() => loadTable(path)).toThrow(
    /the format is uncertain; it may be json \(JSON of node-kvm: tables, or a saved state\)$/,
  );
});
