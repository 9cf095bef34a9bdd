/** Tests of formats that people paste: cpuinfo, logs, Git LFS pointers, and another format inside quoted text. */
import { describe, expect, test } from "vitest";
import { cpuidQueries } from "../../../../lib/cpuid/formats/cpuid-queries.ts";
import { cpuinfo } from "../../../../lib/cpuid/formats/cpuinfo.ts";
import type { CpuidDump } from "../../../../lib/cpuid/formats/dump.ts";
import { gitLfs } from "../../../../lib/cpuid/formats/git-lfs.ts";
import { readCpuid } from "../../../../lib/cpuid/formats/index.ts";
import { libvirtCpudata } from "../../../../lib/cpuid/formats/libvirt.ts";
import { quotedMail } from "../../../../lib/cpuid/formats/quoted-mail.ts";
import { virtualboxLog } from "../../../../lib/cpuid/formats/virtualbox.ts";
import { SAMPLES } from "./samples.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const faults = (dump: CpuidDump): readonly string[] =>
  dump.problems.map((p) => `${p.line}:${p.column} ${p.message}`);

/** Returns the entries of each table as `leaf.index flags eax ebx`. */
const entriesOf = (dump: CpuidDump): readonly (readonly string[])[] => {
  if (dump.kind !== "tables") throw new Error(`a ${dump.kind}`);
  return dump.tables.map(({ table }) =>
    [...table].map((e) => `${e.function.toString(16)}.${e.index} ${e.flags} ${e.eax} ${e.ebx}`),
  );
};

describe("/proc/cpuinfo", () => {
  const read = (text: string): CpuidDump => cpuinfo.parse(bytes(text));

  test("has flags, the vendor and facts", () => {
    const dump = read(SAMPLES.cpuinfo);
    expect(dump.problems).toEqual([]);
    expect(dump).toMatchObject({
      features: {
        model: undefined,
        vendor: "GenuineIntel",
        on: ["fpu", "vme", "avx2"],
        off: [],
        properties: {
          "cpu family": "6",
          "model name": "A CPU @ 2.00GHz",
          "address sizes": "46 bits physical, 48 bits virtual",
        },
      },
      notes: ["a feature that is not listed may be hidden by the kernel"],
    });
  });

  test("of several CPUs has the features of the first CPU, and notes about the differences of the other CPUs", () => {
    const second = SAMPLES.cpuinfo.replace(": 0", ": 1").replace(" avx2", "");
    const dump = read(SAMPLES.cpuinfo + second);
    expect(dump).toMatchObject({ problems: [], features: { on: ["fpu", "vme", "avx2"] } });
    expect(dump.notes).toContain("the features are those of the first of 2 CPUs");
    expect(dump.notes).toContain("the CPUs differ in flags");
  });

  test.each([
    ["processor : 0\nFeatures : fp asimd\n", "2:1 the CPU is not an x86"],
    ["vendor_id : A\n", "0:1 there is no line of flags"],
    ["vendor_id : A\nflags : a !\n", '2:9 "!" is not a flag'],
    ["vendor_id : A\nflags : a\nflags : b\n", '3:1 "flags" is there twice'],
    ["flags : a\n===\n", '2:1 "===" has no name'],
    ["flags : fpu avx51", '1:18 "flags : fpu avx51" has no end, so its last name is not read'],
    ["flags : fpu\nmodel : 1", '2:10 "model : 1" has no end, so it is not read'],
  ])("refuses %j", (text, fault) => {
    expect(faults(read(text))).toContain(fault);
  });
});

describe("/proc/cpuinfo in a mail that wraps lines", () => {
  const wrapped =
    "processor : 0\nvendor_id : A\nflags : fpu vme \nde pse\n  tsc avx2\n\nbugs : none\n";

  test("has all flags, and a note that some names may be truncated", () => {
    const dump = cpuinfo.parse(bytes(wrapped));
    expect(faults(dump)).toEqual([]);
    expect(dump).toMatchObject({
      features: { on: ["fpu", "vme", "de", "pse", "tsc", "avx2"], properties: { bugs: "none" } },
    });
    expect(dump.notes).toContain(
      "the flags have 3 lines; a name that was cut at the end of one is read as two",
    );
  });

  test("has no note about a difference if two CPUs are equal", () => {
    const dump = cpuinfo.parse(bytes(wrapped + wrapped.replace("processor : 0", "processor : 1")));
    expect(faults(dump)).toEqual([]);
    expect(dump.notes.filter((note) => note.includes("differ"))).toEqual([]);
  });

  test("has a fault for words below the flags that are not names of bits", () => {
    const dump = cpuinfo.parse(bytes("flags : fpu\nand so on\n"));
    expect(faults(dump)).toEqual(['2:1 "and so on" has no name']);
  });

  test("has a fault for names below the line `bugs`", () => {
    const dump = cpuinfo.parse(bytes("flags : fpu\nbugs : a b\nc d\n"));
    expect(faults(dump)).toEqual(['3:1 "c d" has no name']);
  });
});

describe("/proc/cpuinfo that ends in the middle of the flags", () => {
  const flagsOf = (text: string): readonly string[] => {
    const dump = cpuinfo.parse(bytes(text));
    return dump.kind === "features" ? dump.features.on : [];
  };

  test("loses the last name, because the name may be truncated", () => {
    expect(flagsOf("vendor_id : A\nflags : fpu avx avx2")).toEqual(["fpu", "avx"]);
    expect(flagsOf("vendor_id : A\nflags : fpu avx\nclflush avx51")).toEqual(["fpu", "avx"]);
  });
});

describe("a log of CPUID queries", () => {
  const read = (text: string): CpuidDump => cpuidQueries.parse(bytes(text));
  const query = (leaf: string, index: string, rbx: string): string =>
    `CPUID query: leaf/subleaf 0x${leaf}/0x${index}, returns rax = 0x00000001, rbx = 0x${rbx}, rcx = 0x00000000, rdx = 0x00000000\n`;

  test("has one entry for each leaf", () => {
    const dump = read(SAMPLES["cpuid-queries"]);
    expect(dump.problems).toEqual([]);
    expect(entriesOf(dump)).toEqual([["0.0 0 7 1970169159", "7.0 1 0 33"]]);
    expect(dump).toMatchObject({ tables: [{ isComplete: false, lines: [2, 3] }] });
    expect(dump.notes).toContain("1 repeated queries with the same answer are read once");
  });

  test("with two different results of one query has a fault that names both lines", () => {
    const dump = read(
      query("00000007", "00000000", "00000021") + query("00000007", "00000000", "00000020"),
    );
    expect(faults(dump)).toEqual(["2:1 0x7.0: ebx is not the same as in line 1"]);
    expect(entriesOf(dump)).toEqual([["7.0 1 1 33"]]);
  });

  test("has one entry for a leaf without sub-leaves, even if the queries name several sub-leaves", () => {
    const dump = read(
      query("00000001", "00000005", "00000021") + query("00000001", "00000000", "00000021"),
    );
    expect(entriesOf(dump)).toEqual([["1.0 0 1 33"]]);
  });

  test("has all sub-leaves of a leaf whose results differ", () => {
    const dump = read(
      query("80000026", "00000000", "00000001") + query("80000026", "00000001", "00000002"),
    );
    expect(entriesOf(dump)).toEqual([["80000026.0 1 1 1", "80000026.1 1 1 2"]]);
  });

  test("of KVM's tracepoint omits queries for which KVM found no entry", () => {
    const line = (fn: string, found: string): string =>
      ` qemu-1 [000] 1.0: kvm_cpuid: func ${fn} idx 0 rax d rbx 2 rcx 3 rdx 4, cpuid entry ${found}\n`;
    const dump = read(line("7", "found") + line("40000100", "not found"));
    expect(dump.problems).toEqual([]);
    expect(entriesOf(dump)).toEqual([["7.0 1 13 2"]]);
  });

  test.each([
    ["CPUID query: leaf/subleaf 0x1", '1:1 "CPUID query: leaf/subleaf 0x1" is not a whole query'],
    [
      "kvm_cpuid: func 100000000 idx 0 rax 0 rbx 0 rcx 0 rdx 0, cpuid entry found",
      "1:1 a number does not fit 32 bits",
    ],
  ])("refuses %j", (text, fault) => {
    expect(faults(read(text))[0]).toBe(fault);
  });
});

describe("a VBox.log", () => {
  const read = (text: string): CpuidDump => virtualboxLog.parse(bytes(text));

  test("has the guest's table and the host's table, and a note that names the table in use", () => {
    const dump = read(SAMPLES["virtualbox-log"]);
    expect(dump.problems).toEqual([]);
    expect(dump).toMatchObject({
      tables: [
        { label: "guest", lines: [4, 6] },
        { label: "host", lines: [5, 7] },
      ],
    });
    expect(entriesOf(dump)).toEqual([
      ["0.0 0 7 1970169159", "7.0 1 0 33"],
      ["0.0 0 13 1970169159", "7.0 1 0 41"],
    ]);
    expect(dump.notes[0]).toBe(
      'the file has two tables, "guest" and "host"; choose one of them by its label',
    );
  });

  test.each([
    ["Hst:  00000000 00000000 00000000 00000000\n", "1:1 Hst: no line with a leaf is before it"],
    [
      "Gst: 00000000/0000  0000000\n",
      '1:1 "Gst: 00000000/0000  0000000" is not a whole line of CPUID',
    ],
    ["nothing\n", "0:1 the log has no CPUID entry that can be read"],
  ])("refuses %j", (text, fault) => {
    expect(faults(read(text))).toContain(fault);
  });

  test("does not assign a host line without a leaf number to the leaf of an earlier line", () => {
    const dump = read(
      "Gst: 00000000/0000  00000001 00000002 00000003 00000004\nother\nHst:   00000001 00000002 00000003 00000004\n",
    );
    expect(faults(dump)).toEqual(["3:1 Hst: no line with a leaf is before it"]);
  });
});

describe("a Git LFS pointer", () => {
  const read = (text: string): readonly string[] => faults(gitLfs.parse(bytes(text)));

  test("is reported as a pointer, with its oid and size", () => {
    expect(read(SAMPLES["git-lfs"])).toEqual([
      '1:1 the file is a Git LFS pointer to 12345 bytes with the oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393; get them with "git lfs pull"',
    ]);
  });

  test("without a size is reported as damaged", () => {
    expect(read("version https://git-lfs.github.com/spec/v1\n")).toEqual([
      "1:1 the file is a damaged Git LFS pointer: it has no oid or no size",
    ]);
  });
});

describe("quoted text", () => {
  const mail = quotedMail([libvirtCpudata, cpuinfo]);
  const read = (text: string): CpuidDump => mail.parse(bytes(text));
  const quoted = (text: string, prefix: string): string => text.replaceAll(/^/gm, prefix);
  const xml = SAMPLES["libvirt-cpudata"];

  test.each([
    ["> ", 'the lines are quoted with ">", and lines without it are skipped'],
    [">", 'the lines are quoted with ">", and lines without it are skipped'],
    ["> > ", 'the lines are quoted with ">", and lines without it are skipped'],
    ["[   12.345678] ", "the time stamps of the kernel's log are removed"],
    ["Jan 02 03:04:05 host kernel: ", "the time stamps of the journal are removed"],
  ])("that is marked by %j is read as the format inside, with a note", (prefix, note) => {
    const dump = read(quoted(xml, prefix));
    expect(dump).toMatchObject({ format: "libvirt-cpudata", problems: [] });
    expect(entriesOf(dump)).toEqual(entriesOf(libvirtCpudata.parse(bytes(xml))));
    expect(dump.notes[0]).toBe(note);
    expect(mail.likelihood(bytes(quoted(xml, prefix)))).toBeGreaterThan(0.9);
  });

  test("is read from a mail with text above and below the quote", () => {
    const dump = read(`On Monday, A wrote:\n${quoted(xml, "> ")}\n\nThis is <wrong>.\n`);
    expect(dump).toMatchObject({ problems: [], tables: [{ lines: [3, 4] }] });
  });

  test("is read from a terminal, without the prompts", () => {
    const dump = read(`root@host:~# cat cpudata.xml\n${xml}root@host:~# cat other\n`);
    expect(dump).toMatchObject({ problems: [], tables: [{ lines: [3, 4] }] });
  });

  test("has faults with the line and column numbers of the whole file", () => {
    const dump = read(quoted("<cpudata>\n <cpuid/>\n</cpudata>\n", "> > "));
    expect(faults(dump)[0]).toBe("2:6 <cpuid>: there is no attribute eax_in");
  });

  test.each([
    ["one NUL", "\0"],
    ["a block of NULs", "\0".repeat(60)],
  ])("with %s is read, with a fault at the first NUL", (_, nuls) => {
    const dump = readCpuid(quoted(xml, "> ").replace("0x00000021", `0x0000${nuls}0021`));
    expect(dump).toMatchObject({ format: "libvirt-cpudata", tables: [{ lines: [2] }] });
    const column = `> ${xml.split("\n")[2]?.split("0021")[0]}`;
    expect(faults(dump)[0]).toBe(
      `3:${column.length + 1} the text has a NUL character, which a mail or a log does not have`,
    );
  });

  test("without a known format inside has a fault", () => {
    expect(faults(read("> hello\n"))).toEqual([
      "0:1 the quoted text has none of the known formats",
    ]);
    expect(mail.likelihood(bytes("> hello\n"))).toBe(0);
  });

  test("is not detected in a file without prefixes", () => {
    expect(mail.likelihood(bytes(xml))).toBe(0);
  });
});
