/**
 * Tests of an exported C file: it compiles without a warning, and prints each difference from the recording. A few
 * lines of C replace the kernel; an environment variable selects their results.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { EXIT_REASON_OFFSET, EXITS, type X86ExitName } from "../../../lib/abi/exits.ts";
import * as ioctls from "../../../lib/abi/generated/ioctls.ts";
import { KVM_EXIT_REASONS } from "../../../lib/abi/generated/names.ts";
import {
  Cpuid2,
  Msrs,
  Regs,
  Run,
  Sregs,
  UserspaceMemoryRegion,
} from "../../../lib/abi/generated/structs.ts";
import { encode, offsetOf } from "../../../lib/abi/struct.ts";
import { Kvm } from "../../../lib/index.ts";
import {
  type About,
  type ExportOptions,
  exportC,
  type Recording,
  record,
} from "../../../lib/trace/index.ts";
import { traceExit, traceMap, traceRun } from "../../../lib/trace/sink.ts";
import { ask, make, open, writing } from "./as-recorded.ts";
import { compile, problem, run, SELFTEST } from "./compiler.ts";

/** C code that returns the results that are recorded below, except for the results that FAKE names. */
const FAKE_KERNEL = readFileSync(join(import.meta.dirname, "fake-kernel.c"), "utf8");
const WRAP = ["ioctl", "open", "close", "mmap"].map((name) => `-Wl,--wrap=${name}`);

const ABOUT: About = {
  number: 51,
  name: "change-feature",
  sentence: "a sentence",
  kernel: "1.2.3",
};

class Memory {
  readonly bytes: Uint8Array = new Uint8Array(0x4000);
  readonly byteLength = 0x4000;
  read(offset: number, length: number): Uint8Array {
    return this.bytes.slice(offset, offset + length);
  }
}

let recording: Recording | undefined;
beforeEach(({ skip }) => skip(problem !== undefined, problem));
afterEach(() => recording?.stop());

/** Records the results of the fake kernel. */
function recorded(about: About, options: ExportOptions = {}, exitReason = 6): string {
  recording = record();
  const kvm = open();
  ask(kvm, ioctls.KVM_CHECK_EXTENSION, 208, 4096);
  const vm = make(kvm, ioctls.KVM_CREATE_VM, 0, "vm");
  const memory = new Memory();
  traceMap(memory);
  const region = encode(UserspaceMemoryRegion, { memorySize: 0x4000n });
  const link = { field: "userspaceAddr", memory, offset: 0 };
  ask(vm, ioctls.KVM_SET_USER_MEMORY_REGION, region, 0, undefined, [link]);
  const vcpu = make(vm, ioctls.KVM_CREATE_VCPU, 0, "vcpu 0");
  const table = Array.from({ length: 20 }, (_, i) => ({ function: i, eax: i }));
  ask(vcpu, ioctls.KVM_SET_CPUID2, encode(Cpuid2, { entries: table }), 0);
  const changed = table.map((entry) => (entry.function === 0 ? { ...entry, eax: 13 } : entry));
  ask(vcpu, ioctls.KVM_SET_CPUID2, encode(Cpuid2, { entries: changed }), -22);
  const sregs = { cr0: 0x6000_0010n, cs: { selector: 0xf000 } };
  ask(vcpu, ioctls.KVM_GET_SREGS, new Uint8Array(312), 0, writing(Sregs, sregs));
  const entries = [{ index: 0x10 }, { index: 0xc000_0080 }];
  const answer = { entries: entries.map((entry) => ({ ...entry, data: 1n })) };
  ask(vcpu, ioctls.KVM_GET_MSRS, encode(Msrs, { entries }), 2, writing(Msrs, answer));
  memory.bytes[0x1000] = 0xf4;
  ask(vcpu, ioctls.KVM_GET_REGS, encode(Regs, {}), -25);
  const words = new Int32Array(3072);
  const bytes = new Uint8Array(words.buffer);
  const replies = traceRun(vcpu, bytes);
  const mmio = { physAddr: 0xc000_0000n, data: Uint8Array.of(0x5a), len: 4, isWrite: 1 };
  bytes.set(encode(Run, { exitReason }).subarray(8, 12), 8);
  bytes.set(encode(Run, { mmio }).subarray(32, 64), offsetOf(Run, "mmio"));
  memory.bytes[0x2008] = 7;
  traceExit(vcpu, words, 0, replies);
  bytes[1] = 1;
  traceExit(vcpu, words, -4, traceRun(vcpu, bytes));
  return exportC(recording.stop(about), options);
}

test.each(["program", "selftest"] as const)(
  "an exit that this package does not know is a number in the style %s",
  (style) => {
    const c = recorded(ABOUT, { style }, 999);
    expect(c).toContain("999");
    expect(c).not.toContain("#ifndef 999");
  },
);

test("a claim may have the name of a word that the program's text replaces", () => {
  const c = recorded({ ...ABOUT, name: "FILL_OTHER" });
  const lines = c.split("\n").filter((line) => line.includes("FILL_OTHER # "));
  expect(lines.length).toBeGreaterThan(0);
  expect(() => compile({ "a.c": c, "fake.c": FAKE_KERNEL }, WRAP)).not.toThrow();
});

describe("a recording that is exported in the idiom of the kernel's selftests", () => {
  const program = (): string =>
    compile({ "a.c": recorded(ABOUT, { style: "selftest" }), "fake.c": FAKE_KERNEL }, [
      ...WRAP,
      ...SELFTEST,
    ]);

  test("exits with 0 and prints nothing if every value is as recorded", () => {
    expect(run(program())).toEqual({ status: 0, lines: [""] });
  });

  test.each([
    ["accepts", "step 8: KVM_SET_CPUID2 should fail with EINVAL, got 0, errno: 0 (Success)"],
    [
      "errno",
      "step 8: KVM_SET_CPUID2 should fail with EINVAL, got -1, errno: 1 (Operation not permitted)",
    ],
    ["selector", "step 9: KVM_GET_SREGS (vcpu0): cs.selector is 0x8, recorded 0xf000"],
    ["efer", "step 10: KVM_GET_MSRS (vcpu0): entries[1].data is 0x2, recorded 0x1"],
    ["shutdown", "exit 8, wanted KVM_EXIT_MMIO"],
    ["data", "step 13: mmio.data: byte 0x0 is 0x5b, recorded 0x5a"],
    ["guest", "step 13: guest memory at 0x2008: byte 0x0 is 0x08, recorded 0x07"],
    ["no-vcpu", "KVM_CREATE_VCPU failed, result -1, errno 17"],
  ])("fails at the first difference, with its name: %s", (fake, line) => {
    expect(run(program(), { FAKE: fake })).toEqual({ status: 254, lines: [line] });
  });

  test("does not assert a value that may vary", () => {
    expect(run(program(), { FAKE: "tsc" })).toEqual({ status: 0, lines: [""] });
  });

  test.each([
    ["capability", "Requirement not met: kvm_has_cap(KVM_CAP_XSAVE2)"],
    ["no-kvm", "Requirement not met: fd >= 0"],
  ])("is skipped if a requirement is not met: %s", (fake, line) => {
    expect(run(program(), { FAKE: fake })).toEqual({ status: 4, lines: [line] });
  });

  test("uses the functions of the framework", () => {
    const text = recorded(
      { ...ABOUT, verdict: "fails", reason: "one */ line" },
      { style: "selftest" },
    );
    expect(text).toMatch(
      /^\/\/ SPDX-License-Identifier: GPL-2\.0-only\n\/\*\n \* 51 change-feature/,
    );
    expect(text.match(/^#include ".*"$/gm)).toEqual([
      ...['#include "test_util.h"', '#include "kvm_util.h"', '#include "processor.h"'],
    ]);
    for (const used of [
      "int main(int argc, char *argv[])\n{",
      "kvm = open_kvm_dev_path_or_exit();",
      "vm = vm_create_barebones();",
      "vcpu0 = __vm_vcpu_add(vm, 0);",
      "vcpu_ioctl(vcpu0, KVM_SET_CPUID2, cpuid2);",
      "r = __vcpu_ioctl(vcpu0, KVM_SET_CPUID2, cpuid2);",
      "r = __vcpu_run(vcpu0);",
      "kvm_vm_free(vm);",
    ]) {
      expect(text).toContain(used);
    }
  });

  test("of an unknown style, or with an unknown option, is a TypeError", () => {
    expect(() => recorded(ABOUT, { style: "kunit" as never })).toThrow(
      'exportC(): style must be program or selftest, got "kunit"',
    );
    expect(() => recorded(ABOUT, { styl: "selftest" } as never)).toThrow('did you mean "style"?');
  });
});

describe("a recording that is exported as a C file", () => {
  test("exits with 0 and prints the verdict if every value is as recorded", () => {
    const program = compile({ "a.c": recorded(ABOUT), "fake.c": FAKE_KERNEL }, WRAP);
    expect(run(program)).toEqual({
      status: 0,
      lines: ["ok 51 change-feature # every value is as recorded"],
    });
  });

  test.each([
    ["accepts", "8: KVM_SET_CPUID2 (vcpu0) is 0, recorded -EINVAL", 1],
    ["errno", "8: KVM_SET_CPUID2 (vcpu0) is -EPERM, recorded -EINVAL", 1],
    ["selector", "9: KVM_GET_SREGS (vcpu0): cs.selector is 0x8, recorded 0xf000", 1],
    ["efer", "10: KVM_GET_MSRS (vcpu0): entries[1].data is 0x2, recorded 0x1", 1],
    ["shutdown", "13: KVM_RUN (vcpu0): exit_reason is 8, recorded KVM_EXIT_MMIO", 1],
    ["data", "13: mmio.data: byte 0x0 is 0x5b, recorded 0x5a", 1],
    ["guest", "13: guest memory at 0x2008: byte 0x0 is 0x08, recorded 0x07", 1],
    ["no-vcpu", "6: KVM_CREATE_VCPU (vm): File exists", 1],
  ])("prints the name of a difference: %s", (fake, line, count) => {
    const program = compile({ "a.c": recorded(ABOUT), "fake.c": FAKE_KERNEL }, WRAP);
    expect(run(program, { FAKE: fake })).toEqual({
      status: 1,
      lines: [
        `not as recorded: ${line}`,
        `not ok 51 change-feature # ${count} values are not as recorded`,
      ],
    });
  });

  test.each([
    [
      "tsc",
      "10: KVM_GET_MSRS (vcpu0): entries[0].data is 0x2, recorded 0x1 (the time-stamp counter)",
    ],
    [
      "capability",
      "2: KVM_CHECK_EXTENSION (kvm) is 0, recorded 4096 (this is not the host that was recorded)",
    ],
  ])("prints a difference that may vary, but does not count it: %s", (fake, line) => {
    const program = compile({ "a.c": recorded(ABOUT), "fake.c": FAKE_KERNEL }, WRAP);
    expect(run(program, { FAKE: fake })).toMatchObject({
      status: 0,
      lines: [`note: ${line}`, "ok 51 change-feature # every value is as recorded"],
    });
  });

  test("of a failed claim prints whether the claim also fails here", () => {
    const about: About = { ...ABOUT, verdict: "fails", reason: "expected this */ but that" };
    const program = compile({ "a.c": recorded(about), "fake.c": FAKE_KERNEL }, WRAP);
    expect([run(program), run(program, { FAKE: "accepts" }).lines.at(-1)]).toEqual([
      {
        status: 0,
        lines: ["not ok 51 change-feature # every value is as recorded: the claim fails here too"],
      },
      "ok 51 change-feature # SKIP undecided: the claim failed, but here 1 values are not as recorded",
    ]);
  });

  test("exits with 2 if there is no KVM", () => {
    const program = compile({ "a.c": recorded(ABOUT), "fake.c": FAKE_KERNEL }, WRAP);
    expect(run(program, { FAKE: "no-kvm" })).toEqual({
      status: 2,
      lines: ["no KVM: /dev/kvm: No such file or directory"],
    });
  });

  test("compiles if the opened and mapped objects are not used", () => {
    recording = record();
    make(open(), ioctls.KVM_CREATE_VM, 0, "vm");
    traceMap(new Memory());
    const text = exportC(recording.stop());
    const program = compile({ "a.c": text, "fake.c": FAKE_KERNEL }, WRAP);
    expect(run(program)).toEqual({
      status: 0,
      lines: ["ok a recording # every value is as recorded"],
    });
  });

  test("writes a CPUID table that differs only slightly from an earlier table as a list of differences", () => {
    const text = recorded(ABOUT);
    expect(text.match(/struct kvm_cpuid_entry2 \w+\[20\] = \{/g)).toHaveLength(1);
    expect(text).toContain("cpuid2->entries[0].eax = 0xd; /* cpuid_entry2_1 has 0 */");
  });

  test("contains the reply to an exit even if a signal interrupted the next run", () => {
    recording = record();
    const vm = make(open(), ioctls.KVM_CREATE_VM, 0, "vm");
    const vcpu = make(vm, ioctls.KVM_CREATE_VCPU, 0, "vcpu 0");
    const words = new Int32Array(3072);
    const bytes = new Uint8Array(words.buffer);
    const run = (result: number): unknown => traceExit(vcpu, words, result, traceRun(vcpu, bytes));
    words[2] = 6;
    run(0);
    bytes.set([0x5a], offsetOf(Run, "mmio.data"));
    run(-4);
    words[2] = 5;
    run(0);
    const text = exportC(recording.stop());
    const [replied, halted] = ["/* mmio.data */", "KVM_EXIT_HLT"].map((what) => text.indexOf(what));
    expect(replied).toBeGreaterThan(text.indexOf("a signal interrupted KVM_RUN"));
    expect(halted).toBeGreaterThan(replied ?? 0);
    compile({ "a.c": text });
  });

  test("compiles with every kind of exit, and compares each field of the exit", () => {
    recording = record();
    const vm = make(open(), ioctls.KVM_CREATE_VM, 0, "vm");
    const vcpu = make(vm, ioctls.KVM_CREATE_VCPU, 0, "vcpu 0");
    const words = new Int32Array(3072);
    const names = Object.keys(EXITS) as X86ExitName[];
    for (const name of names) {
      words[EXIT_REASON_OFFSET / 4] = KVM_EXIT_REASONS[name];
      traceExit(vcpu, words, 0, []);
    }
    const text = exportC(recording.stop());
    const compared = names.flatMap((name): readonly string[] => EXITS[name].fields);
    const isCompared = (field: string): boolean =>
      new RegExp(`EXIT(_AT)?\\(\\d+, \\w+, "?${field.replaceAll(".", "\\.")}\\b`).test(text);
    expect(compared.filter((field) => !isCompared(field))).toEqual([]);
    expect(names.filter((name) => !text.includes(`, ${name})`))).toEqual([]);
    compile({ "a.c": text });
  });

  test("cannot be created if it uses a handle that was opened before the recording", () => {
    const kvm = open();
    recording = record();
    ask(kvm, ioctls.KVM_CHECK_EXTENSION, 1, 0);
    const trace = recording.stop();
    expect(() => exportC(trace)).toThrow(
      "/dev/kvm was created before the recording started, so a C file cannot create it",
    );
  });
});

test("this system can compile the C files of the test if it has the header linux/kvm.h", ({
  skip,
}) => {
  skip(!existsSync("/usr/include/linux/kvm.h"), "there is no linux/kvm.h");
  expect(problem).toBeUndefined();
});

describe("a recording of an open call that fails", () => {
  /** Records the failed open call, and then the creation of a vCPU without further calls. */
  function failedOpen(path: string, options: ExportOptions = {}): string {
    recording = record();
    expect(() => Kvm.open(path)).toThrow("ENOENT");
    const kvm = open();
    make(make(kvm, ioctls.KVM_CREATE_VM, 0, "vm"), ioctls.KVM_CREATE_VCPU, 0, "vcpu");
    return exportC(recording.stop(ABOUT), options);
  }

  test.each([
    ["/nowhere/kvm", { status: 0, lines: ["ok 51 change-feature # every value is as recorded"] }],
    [
      "/dev/null",
      {
        status: 1,
        lines: [
          "not as recorded: 1: open is 0, recorded -ENOENT",
          "not ok 51 change-feature # 1 values are not as recorded",
        ],
      },
    ],
  ])("compares the result when the program opens %s", (path, ended) => {
    const text = failedOpen("/nowhere/kvm").replace('"/nowhere/kvm"', `"${path}"`);
    expect(run(compile({ "a.c": text, "fake.c": FAKE_KERNEL }, WRAP))).toEqual(ended);
  });

  test("is asserted by a selftest, which does not store the vCPU without further calls", () => {
    const text = failedOpen("/nowhere/kvm", { style: "selftest" });
    expect(text).toContain(
      'check_result(1, "open", open("/nowhere/kvm", O_RDWR | O_CLOEXEC) < 0 ? -errno : 0, -ENOENT);',
    );
    expect(text).toContain("\n\t__vm_vcpu_add(vm, 0);\n");
    expect(text).not.toContain("*vcpu0;");
    compile({ "a.c": text }, SELFTEST);
  });
});
