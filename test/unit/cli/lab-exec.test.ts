/** Tests of `lab exec` and `lab run` with a function in place of the machine. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { CommandError } from "../../../lib/cli/failure.ts";
import { type ExecOptions, labExec } from "../../../lib/cli/lab-exec.ts";
import { type LabRunOptions, labRun } from "../../../lib/cli/lab-run.ts";
import type { GuestStdin } from "../../../lib/cli/lab-stdin.ts";
import { LabError } from "../../../lib/lab/error.ts";
import type * as machine from "../../../lib/lab/machine/machine.ts";
import type { LabOptions, LabResult } from "../../../lib/lab/machine/machine.ts";

const { runInLab } = vi.hoisted(() => ({
  runInLab: vi.fn<(options: LabOptions) => Promise<LabResult>>(),
}));
vi.mock("../../../lib/lab/machine/machine.ts", async (original) => ({
  ...(await original<typeof machine>()),
  runInLab,
}));

// The standard input of the test process is a pipe that never ends.
const { readGuestStdin } = vi.hoisted(() => ({
  readGuestStdin: vi.fn<() => Promise<GuestStdin>>(async () => ({ bytes: undefined })),
}));
vi.mock("../../../lib/cli/lab-stdin.ts", () => ({ readGuestStdin }));

const RAN = {
  kernelLog: "[ 0.1] Linux version\n",
  warnings: [],
  stdout: Buffer.alloc(0),
  stderr: Buffer.alloc(0),
  attempts: 1,
  after: 1,
  restored: false,
};
const EXITED: LabResult = { ...RAN, kind: "exited", status: 0, files: new Map() };
const REPORT = { kernel: "6.12", vendor: "kvm_amd", results: [] };

let folder = "";
let stdout = "";
let stderr = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "exec-"));
  // The lab recognises a bzImage by four bytes (Documentation/arch/x86/boot.rst).
  const image = Buffer.alloc(0x1000);
  image.write("HdrS", 0x202, "latin1");
  writeFileSync(join(folder, "bzImage"), image);
  writeFileSync(join(folder, "modules.builtin"), "kernel/arch/x86/kvm/kvm.ko\n");
  stdout = "";
  stderr = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    stdout += String(text);
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  runInLab.mockReset();
  rmSync(folder, { recursive: true });
});

function exec(more: Partial<ExecOptions> = {}): Promise<number> {
  const kernel = join(folder, "bzImage");
  return labExec({ kernel, modules: folder, command: ["true"], ...more });
}

function run(more: Partial<LabRunOptions> = {}): Promise<number> {
  return labRun({
    paths: [],
    kernels: [join(folder, "bzImage")],
    modules: folder,
    cpus: ["max", "EPYC"],
    params: [],
    start: "boot",
    emulator: "qemu",
    bochs: undefined,
    pattern: undefined,
    parallel: 1,
    host: false,
    reporter: "text",
    evidence: false,
    origin: undefined,
    output: undefined,
    ...more,
  });
}

/** A machine that runs until it is interrupted, and then ends like runInLab(). */
function untilInterrupted({ signal }: LabOptions): Promise<LabResult> {
  return new Promise((_, reject) => {
    signal?.addEventListener("abort", () =>
      reject(new LabError("ERR_LAB_INTERRUPTED", "interrupted; the machine was ended")),
    );
  });
}

/** Emits the error that Node raises when the reader of standard output has closed the pipe. */
function closeStdout(): void {
  process.stdout.emit("error", Object.assign(new Error("write EPIPE"), { code: "EPIPE" }));
}

describe("node-kvm lab exec", () => {
  test("prints the kernel and the CPU before the boot", async () => {
    runInLab.mockImplementation(async () => {
      expect(stderr).toMatch(/^node-kvm: booting own:\S+ in qemu, CPU max\b.*\n$/);
      return EXITED;
    });
    expect(await exec()).toBe(0);
    expect(runInLab).toHaveBeenCalledTimes(1);
  });

  test("passes its standard input to the guest, or reports that it does not pass the input", async () => {
    runInLab.mockResolvedValue(EXITED);
    const bytes = Buffer.from("input");
    readGuestStdin.mockResolvedValueOnce({ bytes });
    await exec();
    expect(runInLab.mock.calls[0]?.[0].stdin).toBe(bytes);
    readGuestStdin.mockResolvedValueOnce({ bytes: undefined, notice: "it is empty" });
    await exec();
    expect(runInLab.mock.calls[1]?.[0].stdin).toBe(undefined);
    expect(stderr).toMatch(/^node-kvm: it is empty$/m);
  });

  test("copies a host folder to the guest path that --file names", async () => {
    runInLab.mockResolvedValue(EXITED);
    await exec({ files: [`${folder}:/x/`, join(folder, "bzImage")] });
    const image = join(folder, "bzImage");
    expect(runInLab.mock.calls[0]?.[0].files).toEqual({ "/x": folder, [image]: image });
  });

  test("writes the kernel's log line by line, for both boots of a machine that hung and was rebooted", async () => {
    const log = join(folder, "log");
    runInLab.mockImplementation(async ({ onKernelLog, onRetry }) => {
      onKernelLog?.("one");
      onRetry?.("the emulator hung");
      onKernelLog?.("two");
      return EXITED;
    });
    expect(await exec({ log })).toBe(0);
    expect(readFileSync(log, "utf8")).toBe(
      "one\nnode-kvm: the emulator hung; the log of the second boot follows\ntwo\n",
    );
  });

  test("escapes control characters in the kernel's log, which may be printed to a terminal", async () => {
    const log = join(folder, "log");
    runInLab.mockImplementation(async ({ onKernelLog }) => {
      onKernelLog?.("a\tb\u001b]0;title\u0007\u009b2J\r");
      return EXITED;
    });
    expect(await exec({ log })).toBe(0);
    expect(readFileSync(log, "utf8")).toBe("a\tb\\x1b]0;title\\x07\\x9b2J\n");
  });

  test("writes no line of more than 80 columns before the boot", async () => {
    runInLab.mockResolvedValue(EXITED);
    readGuestStdin.mockResolvedValueOnce({
      bytes: undefined,
      notice: "the command's standard input is empty, not the terminal",
    });
    await exec();
    expect(stderr.split("\n").filter((line) => line.length > 80 && !line.includes(folder))).toEqual(
      [],
    );
    expect(stderr.split("\n")).toHaveLength(3);
  });

  test("keeps the kernel's log of a machine that was interrupted", async () => {
    const log = join(folder, "log");
    runInLab.mockImplementation((options) => {
      options.onKernelLog?.("one");
      setImmediate(() => process.emit("SIGINT"));
      return untilInterrupted(options);
    });
    await expect(exec({ log })).rejects.toMatchObject({ code: "ERR_LAB_INTERRUPTED" });
    expect(readFileSync(log, "utf8")).toBe("one\n");
    expect(readdirSync(folder).toSorted()).toEqual(["bzImage", "log", "modules.builtin"]);
  });

  test("keeps the kernel's log of a machine that was ended because standard output is full", async () => {
    const log = join(folder, "log");
    runInLab.mockImplementation((options) => {
      options.onKernelLog?.("one");
      setImmediate(() => {
        const error = new Error("ENOSPC: no space left on device, write");
        process.stdout.emit("error", Object.assign(error, { code: "ENOSPC", syscall: "write" }));
      });
      return untilInterrupted(options);
    });
    await expect(exec({ log })).rejects.toThrow(
      "standard output cannot be written (ENOSPC: no space left on device), so the work was ended",
    );
    expect(readFileSync(log, "utf8")).toBe("one\n");
  });

  test("prints the kernel's log on standard error if the log file cannot be written", async () => {
    runInLab.mockImplementation(async ({ onKernelLog }) => {
      onKernelLog?.("one");
      return EXITED;
    });
    expect(await exec({ log: "/dev/full" })).toBe(125);
    expect(stderr).toContain("--log: /dev/full cannot be written: ENOSPC");
    expect(stderr).toContain("node-kvm: the kernel's log:\n[ 0.1] Linux version\n");
  });

  test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)(
    "is ended by the signal %s",
    async (signal) => {
      runInLab.mockImplementation((options) => {
        setImmediate(() => process.emit(signal));
        return untilInterrupted(options);
      });
      await expect(exec()).rejects.toMatchObject({ code: "ERR_LAB_INTERRUPTED" });
      expect(process.listenerCount(signal)).toBe(0);
    },
  );

  test("ends the machine at once if the reader of standard output closes the pipe", async () => {
    const ignore = (): void => {};
    process.stdout.on("error", ignore);
    runInLab.mockImplementation((options) => {
      setImmediate(closeStdout);
      return untilInterrupted(options);
    });
    await expect(exec()).rejects.toThrow(CommandError);
    process.stdout.off("error", ignore);
  });
});

describe("node-kvm lab run", () => {
  test("writes the results so far to the output file if it is interrupted, and ends with status 130", async () => {
    const output = join(folder, "report.json");
    runInLab.mockImplementation(async (options) => {
      if (options.cpu === "max") {
        return { ...EXITED, stdout: Buffer.from(JSON.stringify(REPORT)) };
      }
      options.onStderr?.(Buffer.from("pass a\nfail silent-cr4\n"));
      setImmediate(() => process.emit("SIGINT"));
      return untilInterrupted(options);
    });
    expect(await run({ output, reporter: "json" })).toBe(130);
    expect(JSON.parse(readFileSync(output, "utf8"))).toMatchObject({
      columns: [{ report: REPORT }, { problem: "interrupted after 2 claims; failed: silent-cr4" }],
    });
  });

  test("boots a machine only once if it is named twice", async () => {
    runInLab.mockResolvedValue({ ...EXITED, stdout: Buffer.from(JSON.stringify(REPORT)) });
    const kernel = join(folder, "bzImage");
    await run({ kernels: [kernel, kernel], cpus: ["max", "max", "EPYC"] });
    expect(runInLab.mock.calls.map(([{ cpu }]) => cpu)).toEqual(["max", "EPYC"]);
    expect(stderr).toContain(" max is named twice, and is run once\n");
  });

  test("prints a command that repeats a failure on the same kernel and CPU", async () => {
    const failed = { id: "set-257", title: "x", verdict: "fail", duration: 1 };
    const report = { ...REPORT, results: [failed] };
    runInLab.mockResolvedValue({
      ...EXITED,
      status: 1,
      stdout: Buffer.from(JSON.stringify(report)),
    });
    await run({ cpus: ["bochs:ryzen"] });
    const text = stdout.replaceAll(/ \\\n +/g, " ");
    const kernel = join(folder, "bzImage");
    expect(text).toContain(
      `\n    node-kvm lab run --kernel ${kernel} --modules ${folder} --cpu bochs:ryzen --start boot`,
    );
  });

  test("opens its output file before a machine is booted", async () => {
    await expect(run({ output: "/nowhere/r.html" })).rejects.toThrow(
      "--output: /nowhere/r.html cannot be written: ENOENT: no such file or directory",
    );
    expect(runInLab).not.toHaveBeenCalled();
  });

  test("prints the report and ends with status 2 if the output file cannot be written", async () => {
    runInLab.mockResolvedValue({ ...EXITED, stdout: Buffer.from(JSON.stringify(REPORT)) });
    expect(await run({ output: "/dev/full", reporter: "json" })).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({ columns: [{ report: REPORT }, { report: REPORT }] });
  });

  test("keeps the old content of its output file if it fails", async () => {
    const output = join(folder, "report");
    writeFileSync(output, "before");
    runInLab.mockImplementation(() => {
      process.emit("SIGINT");
      throw new Error("a bug");
    });
    vi.spyOn(process.stderr, "write").mockImplementation(() => {
      throw new Error("another bug");
    });
    await expect(run({ output })).rejects.toThrow("another bug");
    expect(readFileSync(output, "utf8")).toBe("before");
    expect(readdirSync(folder).toSorted()).toEqual(["bzImage", "modules.builtin", "report"]);
  });
});
