/** Tests of an exported C file whose names, labels and paths contain C syntax: they remain text. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import * as ioctls from "../../../lib/abi/generated/ioctls.ts";
import { exportC, type Recording, record, type Trace } from "../../../lib/trace/index.ts";
import { traceExit } from "../../../lib/trace/sink.ts";
import { ask, make, open } from "./as-recorded.ts";
import { compile, problem, run, SELFTEST } from "./compiler.ts";

let recording: Recording | undefined;
beforeEach(({ skip }) => skip(problem !== undefined, problem));
afterEach(() => recording?.stop());

const HOSTILE: readonly string[] = [
  "ends */ here",
  "ends *\\\n/ here",
  "ends *\r/ here",
  "begins /* here",
  "goes on \\",
  "goes on \\ \t",
  "goes on ??/",
  "a trigraph ??- ???= ????",
  "a format %s %n %d %",
  'a string " and \\" \\x41 \\0',
  '\n#error "a directive"',
  "\u2028*/\u00e9 \u{1f600}",
  "*/*/*//**/",
];

/** Creates a recording with the same text in all places for text. */
function saying(text: string): Trace {
  recording = record();
  const kvm = open(text);
  ask(kvm, ioctls.KVM_CHECK_EXTENSION, 1, 0);
  const vm = make(kvm, ioctls.KVM_CREATE_VM, 0, text);
  const vcpu = make(vm, ioctls.KVM_CREATE_VCPU, 0, text);
  const link = { field: text, bytes: Uint8Array.of(1) };
  ask(vm, ioctls.KVM_SET_USER_MEMORY_REGION2, new Uint8Array(160), -22, undefined, [link]);
  ask(vcpu, ioctls.KVM_GET_REGS, new Uint8Array(144), -25);
  const words = new Int32Array(1024);
  traceExit(vcpu, words, -4, []);
  words[2] = 5;
  traceExit(vcpu, words, 0, []);
  const [name, sentence, reason, kernel, vendor, cpu] = new Array<string>(6).fill(text);
  return recording.stop({ name, sentence, reason, kernel, vendor, cpu, verdict: "fails" });
}

describe.each(HOSTILE)("the C file of a recording with the text %j in a path", (text) => {
  test("compiles without a warning in the idiom of the kernel's selftests", () => {
    const selftest = exportC(saying(text), { style: "selftest" });
    expect(compile({ "a.c": selftest }, ["-c", ...SELFTEST])).toMatch(/program$/);
  });

  test("compiles without a warning, and opens the recorded device", () => {
    const program = compile({ "a.c": exportC(saying(text)) });
    expect(run(program)).toEqual({
      status: 2,
      lines: `no KVM: ${text}: No such file or directory`.trimEnd().split("\n"),
    });
  });
});
