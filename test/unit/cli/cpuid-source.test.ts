/** Tests of the tables that `node-kvm cpuid` loads: labels, feature lists without a fixed model, and devices. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { loadTable, loadTables } from "../../../lib/cli/cpuid-source.ts";
import {
  brandOf,
  type CpuidTable,
  signatureOf,
  topologyOf,
  vendorOf,
} from "../../../lib/cpuid/index.ts";
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
    expect(loadTables(path)).toMatchObject([{ label: "guest" }]);
  });

  test("is one table for the commands that take the tables of all CPUs: the first", () => {
    const only = loadTables(log());
    expect(only.map(({ label }) => label)).toEqual(["guest"]);
    expect(notes).toEqual(
      [
        "node-kvm: LOG: 3 lines without CPUID are skipped\n",
        "node-kvm: LOG has 2 tables; this is guest, and LOG#host names another\n",
      ].map((line) => line.replaceAll("LOG", log())),
    );
  });

  test("has no note about a choice after a label was given", () => {
    loadTables(`${log()}#host`);
    expect(notes.join("")).not.toMatch(/choose|names another/);
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

describe("a -cpu option", () => {
  const option = (text: string): CpuidTable =>
    loadTable(file("qemu.sh", `qemu -cpu ${text}\n`)).table;
  const remarks = (): readonly string[] =>
    notes.map((line) => line.trim().replace(/^node-kvm: .*qemu\.sh: /, ""));

  test("sets family, model, stepping, the widths of addresses and the brand", () => {
    const table = option(
      "EPYC-Milan,family=26,model=0x11,stepping=2,phys-bits=43,model-id='My CPU'",
    );
    expect(signatureOf(table)).toEqual({ family: 26, model: 17, stepping: 2 });
    expect([table.get("phys_addr_bits"), brandOf(table)]).toEqual([43, "My CPU"]);
    expect(remarks()).toEqual([]);
  });

  test("has a note for each property that is not applied", () => {
    option(
      "EPYC-Milan,vendor=GenuineIntel,host-phys-bits=on,l3-cache=off,check,level=7,kvm=off,hv-vendor-id=A",
    );
    expect(remarks()).toEqual([
      "vendor=GenuineIntel is not applied; the vendor of the model is AuthenticAMD",
      "host-phys-bits=on is not applied",
      "l3-cache=off is not applied",
      "level=7 is not applied",
      "hv-vendor-id=A is not applied",
    ]);
  });

  test.each([
    ["EPYC,phys-bits=99", "expected an integer from 32 to 52, got 99"],
    ["EPYC,family=x", 'family: expected a number, got "x"'],
    ["EPYC,hv-spinlocks=x", 'hv-spinlocks: expected a 32-bit number, got "x"'],
    [
      "EPYC,hv-time,hv-vendor-id=Thirteen_long",
      'hv-vendor-id: expected 1 to 12 printable ASCII characters, got "Thirteen_long"',
    ],
  ])("with a wrong value is refused: %s", (text, reason) => {
    expect(() => option(text)).toThrow(`qemu.sh: ${reason}`);
  });

  test("of a Windows guest gives the Hyper-V leaves that QEMU makes", () => {
    const table = option(
      "EPYC-Milan,hv-relaxed,hv_time,hv-vpindex,hv-spinlocks=0x1fff,hv-synic=on,hv-vapic,hv-runtime=off",
    );
    expect(table.find(0x4000_0000)).toMatchObject({ eax: 0x4000_0005, ebx: 0x7263_694d });
    expect(table.find(0x4000_0003)).toMatchObject({ eax: 0x276, ebx: 0x30, ecx: 0, edx: 8 });
    expect(table.find(0x4000_0004)).toMatchObject({ eax: 0x28, ebx: 0x1fff });
    expect(table.find(0x4000_0005)).toMatchObject({ eax: 0xffff_ffff, ebx: 64 });
    expect([table.has("guest_status"), remarks()]).toEqual([true, []]);
  });

  test("with nested features of Hyper-V has the leaves up to 0x4000000a", () => {
    const table = option(
      "Skylake-Server,hv-evmcs,hv-emsr-bitmap,hv-vapic,hv-avic,hv-vendor-id=ABC",
    );
    expect(table.find(0x4000_0000)).toMatchObject({ eax: 0x4000_000a, ebx: 0x43_4241, ecx: 0 });
    expect(table.find(0x4000_0004)).toMatchObject({ eax: (1 << 14) | (1 << 9) });
    expect(table.find(0x4000_0007)).toMatchObject({ eax: 0 });
    expect(table.find(0x4000_000a)).toMatchObject({ eax: (1 << 19) | 0x101 });
  });

  test("with Hyper-V and KVM features has KVM's leaves at 0x40000100", () => {
    const table = option("EPYC,hv-relaxed,+kvm_pv_eoi");
    expect([table.base("hyperv"), table.base("kvm")]).toEqual([0x4000_0000, 0x4000_0100]);
    expect(option("EPYC,+kvm_pv_eoi").base("kvm")).toBe(0x4000_0000);
  });

  test("without hv properties that are on has no hypervisor leaves", () => {
    expect(option("EPYC,hv-relaxed=off,hv-spinlocks=0xffffffff").find(0x4000_0000)).toBeUndefined();
  });

  test("has a note for an hv property without a CPUID bit", () => {
    option("EPYC,hv-relaxed,hv-boot-zeroed-mem,hv-passthrough,hv-no-nonarch-coresharing=auto");
    expect(remarks()).toEqual([
      "hv-boot-zeroed-mem is not a CPUID field, so it is left out",
      "hv-passthrough=on is not applied",
      "hv-no-nonarch-coresharing=auto is not applied",
    ]);
  });
});

describe("the <cpu> of a libvirt domain", () => {
  const domain = (cpu: string, features = ""): CpuidTable =>
    loadTable(
      file(
        "domain.xml",
        `<domain>${features}<cpu mode='custom' match='exact'><model fallback='forbid'>EPYC-Milan</model>${cpu}</cpu></domain>\n`,
      ),
    ).table;

  test("sets the topology and the width of physical addresses", () => {
    const table = domain(
      "<vendor>AMD</vendor><topology sockets='1' dies='1' clusters='1' cores='4' threads='2'/>" +
        "<maxphysaddr mode='emulate' bits='42'/><feature policy='force' name='invtsc'/>",
    );
    expect(topologyOf(table)).toMatchObject({ threadsPerCore: 2, coresPerPackage: 4 });
    expect([table.get("phys_addr_bits"), notes]).toEqual([42, []]);
  });

  test("has a note for each property that is not applied, and for <hyperv>", () => {
    domain(
      "<cache mode='disable'/><maxphysaddr mode='passthrough' limit='39'/>",
      "<features><hyperv><relaxed state='on'/></hyperv></features>",
    );
    expect(notes.map((line) => line.trim().replace(/^.*domain\.xml: /, ""))).toEqual([
      "<hyperv> of line 1 is outside of <cpu>, so it is not read",
      "cache.mode=disable is not applied",
      "maxphysaddr.mode=passthrough is not applied",
      "maxphysaddr.limit=39 is not applied",
    ]);
  });
});
