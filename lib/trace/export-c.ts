/**
 * Exports a recording as one C file that makes the same calls. The files of the folder c/ generate the text of the C
 * file.
 */
import { describe, refuseMissing, refuseUnknown } from "../options.ts";
import { CFile } from "./c/c-file.ts";
import { addIoctl } from "./c/calls.ts";
import type { CStyle } from "./c/dialect.ts";
import { addFileStep } from "./c/files.ts";
import { comment, exactText, result } from "./c/literal.ts";
import { prelude } from "./c/prelude.ts";
import { addRun, addSignalled, addWrites, immediateExit, isSignalled } from "./c/runs.ts";
import type { About, MapStep, OpenStep, PermissionStep, RunStep, Step, Trace } from "./record.ts";

const HEADERS = [
  "errno.h",
  "fcntl.h",
  "linux/kvm.h",
  "poll.h",
  "signal.h",
  "stddef.h",
  "stdarg.h",
  "stdint.h",
  "stdio.h",
  "stdlib.h",
  "string.h",
  "sys/eventfd.h",
  "sys/ioctl.h",
  "sys/mman.h",
  "sys/syscall.h",
  "sys/utsname.h",
  "unistd.h",
];

/** The headers of a selftest, before those of the framework. */
const SELFTEST_HEADERS = [
  ...["errno.h", "fcntl.h", "poll.h", "stddef.h", "stdint.h", "string.h", "sys/eventfd.h"],
  ...["sys/ioctl.h", "sys/mman.h", "sys/syscall.h", "unistd.h"],
];

const FRAMEWORK = ["test_util.h", "kvm_util.h", "processor.h"];

const STYLES: readonly CStyle[] = ["program", "selftest"];

/** The options of {@link exportC}. */
export interface ExportOptions {
  /** `program` (the default): a self-contained program; `selftest`: a test in the idiom of the kernel's selftests. */
  readonly style?: CStyle;
}

/**
 * Exports a recording as one C file. In the style `program`, which is the default, it needs only a C compiler and Linux's headers (6.1 or later).
 *
 * The program makes the same calls in the same order, with the same guest memory, and compares every result. The exit
 * status is 0 if all results equal the recording, 1 if a result differs, and 2 if there is no KVM. Each difference is
 * printed. The last line of the output reports whether the claim's result was reproduced. Differences in results that
 * vary (clocks, the APIC id of the current CPU) are printed and not counted. Differences in results that describe the
 * host are also not counted, if the host is not the recorded host.
 *
 * In the style `selftest`, the file compiles as tools/testing/selftests/kvm/x86/NAME.c of Linux 6.14 or later, or as
 * kvm/x86_64/NAME.c of 6.12, with the functions and macros of the selftests' framework. It makes the same calls, and
 * asserts every result and errno: the exit status is 0 if all are as recorded, 254 (of TEST_ASSERT) at the first
 * difference, and 4 (a skip) if a capability is missing. Results that describe the host or vary are not asserted. The
 * framework frees a VM with its vCPUs, so a file closes a VM after its last vCPU.
 *
 * @throws TypeError for an unknown style or option.
 * @throws Error if the recording uses a handle that was created before the recording began.
 */
export function exportC(trace: Trace, options: ExportOptions = {}): string {
  refuseMissing("exportC()", trace, ["steps", "about"]);
  refuseUnknown("exportC()", options, ["style"]);
  const { style = "program" } = options;
  if (!STYLES.includes(style)) {
    throw new TypeError(`exportC(): style must be ${STYLES.join(" or ")}, got ${describe(style)}`);
  }
  const file = new CFile(style);
  const steps = new Steps(file);
  for (const [i, step] of trace.steps.entries()) steps.add(step, i + 1);
  const closing = file.closeAll();
  if (closing.length > 0) file.add("", ...closing);
  return style === "program" ? programText(file, trace) : selftestText(file, trace);
}

function programText(file: CFile, { about, steps }: Trace): string {
  const isRun = steps.some(({ kind }) => kind === "run");
  const isOpened = steps.some(({ kind }) => kind === "open");
  const main = [
    isOpened ? "int main(int argc, char **argv)" : "int main(void)",
    "{",
    ...file.declared().map((line) => `\t${line}`),
    "",
    "\tsetvbuf(stdout, NULL, _IOLBF, 0);",
    ...(isRun ? ["\tsignal(SIGALRM, too_late);"] : []),
    ...file.lines,
    "\treturn finish();",
    "}",
  ];
  const values = { argumentBytes: file.argumentBytes, ...verdictLines(about) };
  const definitions = [...recordedOn(about), ...file.definitions.lines()];
  const body = [...file.shapes(), ...file.tables.lines(), ...main].join("\n");
  const parts = [
    head(about),
    HEADERS.map((name) => `#include <${name}>`).join("\n"),
    ...(definitions.length === 0 ? [] : [definitions.join("\n")]),
    prelude(body, values, "program"),
    body,
  ];
  return `${parts.join("\n\n")}\n`;
}

function selftestText(file: CFile, { about }: Trace): string {
  const hasResult = file.lines.some((line) => /\br = /.test(line));
  const { declared, lines } = withoutUnused(file.declared(), file.lines);
  const main = [
    "int main(int argc, char *argv[])",
    "{",
    ...[...declared, ...(hasResult ? ["int r;"] : [])].map((line) => `\t${line}`),
    "",
    ...withoutBlanks(lines),
    "",
    "\treturn 0;",
    "}",
  ];
  const definitions = file.definitions.lines();
  const body = [...file.shapes(), ...file.tables.lines(), ...main].join("\n");
  const values = { argumentBytes: file.argumentBytes, same: "", other: "" };
  const used = prelude(body, values, "selftest");
  const parts = [
    `// SPDX-License-Identifier: GPL-2.0-only\n${selftestHead(about)}`,
    SELFTEST_HEADERS.map((name) => `#include <${name}>`).join("\n"),
    FRAMEWORK.map((name) => `#include "${name}"`).join("\n"),
    ...[definitions.join("\n"), used].filter((part) => part !== ""),
    body,
  ];
  return `${parts.join("\n\n")}\n`;
}

/** Removes the variables that are only assigned, such as a vCPU without further calls: the selftests have -Wall. */
function withoutUnused(declared: readonly string[], lines: readonly string[]) {
  const uses = (name: string): readonly string[] =>
    lines.filter((line) => new RegExp(`\\b${name}\\b`).test(line));
  const unused = declared.filter((line) => {
    const name = nameIn(line);
    const [first, ...more] = uses(name);
    return first?.startsWith(`\t${name} = `) && more.length === 0;
  });
  const names = unused.map(nameIn);
  const assigned = (line: string): string | undefined =>
    names.find((name) => line.startsWith(`\t${name} = `));
  return {
    declared: declared.filter((line) => !unused.includes(line)),
    lines: lines.map((line) => {
      const name = assigned(line);
      return name === undefined ? line : `\t${line.slice(`\t${name} = `.length)}`;
    }),
  };
}

/** Returns the variable that a line declares. */
const nameIn = (declaration: string): string => /(\w+);$/.exec(declaration)?.[1] ?? "";

/** Removes blank lines at the beginning and repeated blank lines. */
function withoutBlanks(lines: readonly string[]): readonly string[] {
  return lines.filter((line, i) => line !== "" || (i > 0 && lines[i - 1] !== ""));
}

/** Processes the steps in order, and stores the state of earlier steps that a later step needs. */
class Steps {
  readonly #file: CFile;
  /** The vCPUs whose immediate_exit is set. */
  readonly #immediate = new Set<number>();

  constructor(file: CFile) {
    this.#file = file;
  }

  add(step: Step, at: number): void {
    const file = this.#file;
    switch (step.kind) {
      case "open":
        this.#open(step, at);
        break;
      case "ioctl":
        addIoctl(file, step, at);
        break;
      case "run":
        this.#run(step, at);
        break;
      case "map":
        this.#map(step, at);
        break;
      case "eventfd":
      case "counter":
      case "file":
      case "fallocate":
        addFileStep(file, step, at);
        break;
      case "write":
        addWrites(file, step, at);
        break;
      case "permission":
        file.add(...permissionLines(step, at));
        break;
      case "close":
        file.add(...file.close(step.fd));
        break;
      default:
        step satisfies never;
    }
  }

  #map({ memory, byteLength, fd }: MapStep, at: number): void {
    const name = this.#file.makeMemory(memory, byteLength);
    const mapped =
      fd === undefined
        ? `map_memory(${at}, ${byteLength})`
        : `map_file(${at}, ${this.#file.name(fd)}, ${byteLength})`;
    this.#file.add(`${name} = ${mapped};`);
  }

  #open({ path, result: recorded, made }: OpenStep, at: number): void {
    const file = this.#file;
    if (recorded < 0) {
      const opened = `open(${exactText(path)}, O_RDWR | O_CLOEXEC) < 0 ? -errno : 0`;
      file.add(`check_result(${at}, "open", ${opened}, ${result(recorded)});`);
      return;
    }
    const device = `argc > 1 ? argv[1] : ${exactText(path)}`;
    file.add(file.dialect.open(made && file.make(made), device));
  }

  #run(step: RunStep, at: number): void {
    const isImmediate = immediateExit(step, this.#immediate.has(step.fd.id));
    if (isImmediate) this.#immediate.add(step.fd.id);
    else this.#immediate.delete(step.fd.id);
    if (isSignalled(step, isImmediate)) {
      addSignalled(this.#file, step, at);
      return;
    }
    addRun(this.#file, step, at);
  }
}

function permissionLines(step: PermissionStep, at: number): readonly string[] {
  const call = `syscall(SYS_arch_prctl, 0x1025, ${step.component}) < 0 ? -errno : 0`;
  return [
    "",
    `/* ${at}: ARCH_REQ_XCOMP_GUEST_PERM */`,
    `check_result(${at}, "arch_prctl", ${call}, ${result(step.result)});`,
  ];
}

function titleOf(about: About): string {
  const name = [about.number, about.name].filter((part) => part !== undefined).join(" ");
  return name === "" ? "a recording" : name;
}

/** Returns the last line of the program's output: the consequence of the program's results for the claim. */
function verdictLines(about: About): { readonly same: string; readonly other: string } {
  // The line is a format string of printf, so it must not contain "%" or a trigraph.
  const title = titleOf(about).replaceAll(/[^\w .-]/g, "_");
  const count = "%d values are not as recorded";
  if (about.verdict === "fails") {
    return {
      same: `not ok ${title} # every value is as recorded: the claim fails here too`,
      other: `ok ${title} # SKIP undecided: the claim failed, but here ${count}`,
    };
  }
  return {
    same: `ok ${title} # every value is as recorded`,
    other: `not ok ${title} # ${count}`,
  };
}

function recordedOn({ kernel, cpu }: About): readonly string[] {
  const string = (value: string | undefined): string => exactText(value ?? "");
  return [`#define RECORDED_KERNEL ${string(kernel)}`, `#define RECORDED_CPU ${string(cpu)}`];
}

/** Describes the recording: the name, the sentence, the host, the verdict and its reason. */
function description(about: About): readonly string[] {
  const sentence = about.sentence === undefined ? "" : `: ${about.sentence}`;
  const verdicts = { holds: "The claim held.", fails: "The claim failed." } as const;
  const where = [`Linux ${about.kernel ?? "(unknown)"}`, about.vendor, about.cpu]
    .filter((part) => part !== undefined && part !== "")
    .join(", ");
  const reason = (about.reason ?? "").split("\n").filter((line) => line !== "");
  return [
    `${titleOf(about)}${sentence}`,
    "",
    `Recorded by node-kvm on ${where}.`,
    ...(about.verdict === undefined ? [] : [verdicts[about.verdict]]),
    ...reason.map((line) => `  ${line}`),
    "",
  ];
}

function selftestHead(about: About): string {
  return blockComment([
    ...description(about),
    ...(about.verdict === "fails"
      ? ["The test asserts the results of the failed claim, so a kernel without the bug fails it."]
      : ["The test asserts the recorded results."]),
    "Numbers are the steps of the recording.",
  ]);
}

function head(about: About): string {
  return blockComment([
    ...description(about),
    "  cc -o reproducer THIS_FILE && ./reproducer [DEVICE]",
    "",
    "Exit status: 0 if every value is as recorded, 1 if a value is not (each is named),",
    "2 if there is no KVM. Numbers are the steps of the recording.",
  ]);
}

function blockComment(lines: readonly string[]): string {
  return ["/*", ...lines.map((line) => ` * ${comment(line)}`.trimEnd()), " */"].join("\n");
}
