/** Tests of dumps as people paste them: wrapped by a mail program, with text around them, or with several messages. */
import { describe, expect, test } from "vitest";
import {
  type CpuidDump,
  CpuidTable,
  detectFormat,
  formatCpuid,
  readCpuid,
} from "../../../../lib/cpuid/index.ts";

/** Returns the entries of each table as `leaf.index: eax ebx ecx edx`, in hexadecimal. */
const entriesOf = (dump: CpuidDump): readonly (readonly string[])[] =>
  dump.kind === "tables"
    ? dump.tables.map(({ table }) =>
        [...table].map(({ function: fn, index, eax, ebx, ecx, edx }) => {
          const registers = [eax, ebx, ecx, edx].map((value) => value.toString(16));
          return `${fn.toString(16)}.${index}: ${registers.join(" ")}`;
        }),
      )
    : [];

const lines = (...list: readonly string[]): string => list.map((line) => `${line}\n`).join("");

const LEAF_0 = "   0x00000000 0x00: eax=0x00000001 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69";
const LEAF_1 = "   0x00000001 0x00: eax=0x000806ea ebx=0x00100800 ecx=0x00000001 edx=0x00000002";
const READ_0 = "0.0: 1 756e6547 6c65746e 49656e69";
const READ_1 = "1.0: 806ea 100800 1 2";

describe("the output of cpuid -r in a mail", () => {
  test.each([
    ["EDX", / edx=/g, "\nedx="],
    ["EDX, with a space at the end of the line", / edx=/g, " \nedx="],
    ["ECX", / ecx=/g, "\necx="],
    ["EBX", / ebx=/g, "\nebx="],
  ])("is read if each row is wrapped in front of %s", (_, pattern, wrap) => {
    const text = lines("CPU:", LEAF_0, LEAF_1).replace(pattern, wrap);
    const dump = readCpuid(text);
    expect(dump).toMatchObject({ format: "cpuid-r", problems: [] });
    expect(entriesOf(dump)).toEqual([[READ_0, READ_1]]);
  });

  test("gives an entry the line number of the row's first part if the row is wrapped", () => {
    const dump = readCpuid(lines("CPU:", LEAF_0, LEAF_1).replace(/ edx=/g, "\nedx="));
    expect(dump).toMatchObject({ tables: [{ lines: [2, 4] }] });
  });

  test("has a fault for a wrapped row whose other part is missing", () => {
    const [cut] = LEAF_1.split(" edx=");
    const dump = readCpuid(
      lines("CPU:", LEAF_0, cut ?? "", LEAF_0.replace("0x00000000", "0x00000003")),
    );
    expect(dump.problems.map(({ line }) => line)).toEqual([3]);
    expect(entriesOf(dump)).toEqual([[READ_0, READ_0.replace("0.0", "3.0")]]);
  });

  test("has a note and no fault for sentences, prompts and code fences around the rows", () => {
    const text = lines(
      "In the guest:",
      "```",
      "root@a:~# cpuid -r",
      "CPU 0:",
      LEAF_0,
      "```",
      "EAX is right.",
    );
    const dump = readCpuid(text, { format: "cpuid-r" });
    expect(dump).toMatchObject({ problems: [], notes: ["5 lines without CPUID are skipped"] });
    expect(entriesOf(dump)).toEqual([[READ_0]]);
  });

  test.each([
    [
      "a row without a register",
      "   0x00000001 0x00: eax=0x000806ea ebx=0x00100800 ecx=0x00000001",
    ],
    [
      "a row without its beginning",
      "00: eax=0x000806ea ebx=0x00100800 ecx=0x00000001 edx=0x000000g2",
    ],
    ["a row of a leaf alone", "   0x0000"],
    ["a header with more text", "CPU 1: cpuid"],
  ])("has a fault for %s", (_, damaged) => {
    const { problems } = readCpuid(lines("CPU 0:", LEAF_0, damaged));
    expect(problems.map(({ line }) => line)).toEqual([3]);
  });

  test("has a fault for the beginning of a row at the end of the file", () => {
    const { problems } = readCpuid(`${lines("CPU 0:", LEAF_0)}   0`, { format: "cpuid-r" });
    expect(problems.map(({ line }) => line)).toEqual([3]);
  });

  test("is read if the quoted lines are indented, as in a block of code", () => {
    const dump = readCpuid(lines("    > CPU:", `    > ${LEAF_0}`, `    > > ${LEAF_1}`));
    expect(dump).toMatchObject({ format: "cpuid-r", problems: [] });
    expect(entriesOf(dump)).toEqual([[READ_0, READ_1]]);
  });

  test("is read if the mail quotes /proc/cpuinfo too", () => {
    const cpuinfo = ["vendor_id : GenuineIntel", "cpu family : 6", "flags : fpu vme"];
    const quoted = [...cpuinfo, "CPU 0:", LEAF_0, LEAF_1, LEAF_0.replace("00000000", "00000003")];
    const dump = readCpuid(lines(...quoted.map((line) => `> ${line}`), "See above."));
    expect(dump).toMatchObject({ kind: "tables", format: "cpuid-r", problems: [] });
  });
});

describe("the leaf 0x20000000 with 0 in EAX", () => {
  test("is left out, because EAX may be 0 beside a signature only in a hypervisor's leaf", () => {
    const probe = "   0x20000000 0x00: eax=0x00000000 ebx=0x00000001 ecx=0x00000001 edx=0x00000000";
    const signature =
      "   0x40000000 0x00: eax=0x00000000 ebx=0x4b4d564b ecx=0x564b4d56 edx=0x0000004d";
    expect(entriesOf(readCpuid(lines("CPU:", probe, LEAF_0, signature)))).toEqual([
      [READ_0, "40000000.0: 0 4b4d564b 564b4d56 4d"],
    ]);
  });
});

describe("the output of kcpuid -r", () => {
  test("is not detected as output of cpuid -r if it contains only leaves", () => {
    const table = CpuidTable.from([
      { function: 0x0, eax: 1, ebx: 0x756e6547, ecx: 0x6c65746e, edx: 0x49656e69 },
      { function: 0x1, eax: 0x806ea },
    ]);
    const bytes = formatCpuid(table, "kcpuid");
    expect(detectFormat(bytes)?.name).toBe("kcpuid");
    expect(readCpuid(bytes).problems).toEqual([]);
  });

  test("has a note and no fault for a sentence before the rows", () => {
    const row = "0x00000000: EAX=0x00000001, EBX=0x756e6547, ECX=0x6c65746e, EDX=0x49656e69";
    const dump = readCpuid(lines("Right here is the output:", "Basic Leafs :", "====", row));
    expect(dump).toMatchObject({
      format: "kcpuid",
      problems: [],
      notes: ["1 line without CPUID is skipped"],
    });
    expect(entriesOf(dump)).toEqual([[READ_0]]);
  });
});

describe("a report of AIDA64", () => {
  const row = "CPUID 00000000: 00000001-756E6547-6C65746E-49656E69 [GenuineIntel]";

  test("has the number of a CPU that the header calls virtual", () => {
    const header = (cpu: string): string => `------[ CPUID Registers / Logical CPU #${cpu} ]------`;
    const dump = readCpuid(lines(header("0"), row, header("1 Virtual"), row));
    expect(dump).toMatchObject({ tables: [{ cpu: 0 }, { cpu: 1 }], notes: [] });
  });

  test.each([
    [2, "a CPU begins at line 2 without a line that names the CPU"],
    [4, "3 CPUs begin from line 2 on without a line that names the CPU"],
  ])("of %i CPUs without headers has a single note", (count, note) => {
    const dump = readCpuid(lines(...Array.from({ length: count }, () => row)));
    expect(dump.notes).toEqual([note]);
    expect(entriesOf(dump)).toHaveLength(count);
  });
});

describe("a log of QMP", () => {
  test("is read if each message has several lines", () => {
    const model = {
      return: { model: { name: "base", props: { avx2: true, hle: false } } },
      id: "a",
    };
    const names = { return: [{ name: "max", "unavailable-features": [] }], id: "b" };
    const text = [model, names].map((message) => JSON.stringify(message, null, 2)).join("\n\n");
    const dump = readCpuid(`${text}\n`);
    expect(dump).toMatchObject({
      format: "qemu-qmp",
      problems: [],
      features: { model: "base", on: ["avx2"], off: ["hle"] },
    });
  });

  test("has the position of a fault in a message that follows another message", () => {
    const model = { return: { model: { name: "base", props: { avx2: [] } } } };
    const dump = readCpuid(`{"return": {}}\n${JSON.stringify(model, null, 2)}\n`);
    expect(dump.problems.map(({ line, column }) => `${line}:${column}`)).toEqual(["7:17"]);
  });
});

describe("a fingerprint of Firecracker for ARM", () => {
  test("has no table, and has a fault that names ARM's members", () => {
    const config = { kvm_capabilities: [], vcpu_features: [], reg_modifiers: [] };
    const dump = readCpuid(JSON.stringify({ firecracker_version: "1", guest_cpu_config: config }));
    expect(dump).toMatchObject({ format: "firecracker-fingerprint", kind: "tables", tables: [] });
    expect(dump.problems.map(({ message }) => message).join("\n")).toMatch(
      /reg_modifiers.*for ARM/,
    );
  });
});

describe("the <cpu> of libvirt", () => {
  test.each([
    ["<domainCapabilities><arch>s390x</arch><cpu>", "</cpu></domainCapabilities>", "s390x"],
    ["<domain><os><type arch='aarch64'>hvm</type></os><cpu>", "</cpu></domain>", "aarch64"],
  ])("in %s has a fault and no features", (before, after, arch) => {
    const cpu = "<model>z14.2-base</model><feature policy='require' name='msa8'/>";
    const dump = readCpuid(`${before}${cpu}${after}`);
    expect(dump).toMatchObject({ kind: "features", features: { model: undefined, on: [] } });
    const messages = dump.problems.map(({ message }) => message);
    expect(messages).toEqual([`the architecture is "${arch}", not x86`]);
  });

  test("of an x86 host is read even if the host can run guests of another architecture", () => {
    const host =
      "<host><cpu><arch>x86_64</arch><model>Haswell</model><feature name='vmx'/></cpu></host>";
    const dump = readCpuid(
      `<capabilities>${host}<guest><arch>aarch64</arch></guest></capabilities>`,
    );
    expect(dump).toMatchObject({ problems: [], features: { model: "Haswell", on: ["vmx"] } });
  });
});

describe("a line of flags", () => {
  const flags = `flags : ${"fpu vme de pse tsc msr pae mce cx8 apic sep mtrr ".repeat(12)}`;

  test("is detected as /proc/cpuinfo without any other line, even if the flags are long or wrapped", () => {
    expect(detectFormat(`${flags}\n`)?.name).toBe("cpuinfo");
    expect(detectFormat("flags : fpu\nvme de\npse tsc\nmsr pae\n")?.name).toBe("cpuinfo");
  });

  test("in a program's source is not detected as /proc/cpuinfo", () => {
    const source = ["// A test.", "int main() {", '  const char *text = R"(', flags, ')";', "}"];
    expect(detectFormat(lines(...source))).toBeUndefined();
    expect(readCpuid(lines(...source)).problems).toMatchObject([
      { line: 0, message: expect.stringContaining("it may be cpuinfo") },
    ]);
  });
});
