/** `node-kvm lab exec`: runs any command in a disposable machine, and passes on its output and exit status. */
import type { LaneStart } from "../lab/campaign.ts";
import type { ModuleParam } from "../lab/kernels/module-params.ts";
import { DEFAULTS, type EmulatorName, type LabResult, runInLab } from "../lab/machine/machine.ts";
import { throwIfAborted } from "../lab/process/command.ts";
import { printable, printableLines } from "../report/printable.ts";
import { STATUS, type StatusRow } from "./exit-status.ts";
import { CommandError } from "./failure.ts";
import { cutShort, interruptible } from "./interrupt.ts";
import { fileToBring, fileToFetch, type PathPair } from "./lab-files.ts";
import { findKernel, refuseUnusedModules } from "./lab-kernel.ts";
import { type Out, writeOut } from "./lab-out.ts";
import { readGuestStdin } from "./lab-stdin.ts";
import { OutputFile } from "./output-file.ts";
import { OutputStream } from "./output-stream.ts";

/** The command, its machine and its files. */
export interface ExecOptions {
  /** The name of a kernel in the catalogue, or the path of a bzImage or a built kernel tree. */
  readonly kernel: string;
  /** The folder of the kernel's modules, if the kernel is named by its path. */
  readonly modules?: string | undefined;
  readonly emulator?: EmulatorName | undefined;
  /** The path of the user's own Bochs. */
  readonly bochs?: string | undefined;
  /** A CPU model of the emulator: `max`, `EPYC-Milan`, `max,-la57`. */
  readonly cpu?: string | undefined;
  /** The parameters of the kernel's modules. */
  readonly params?: readonly ModuleParam[] | undefined;
  /** MiB. */
  readonly memory?: number | undefined;
  /** The number of CPUs of QEMU's machine. */
  readonly smp?: number | undefined;
  /** The time limit in seconds, for boot and command together. */
  readonly timeout?: number | undefined;
  /** Files or folders to copy into the guest: `HOST:GUEST`, or `HOST` for the same path in the guest. */
  readonly files?: readonly string[] | undefined;
  /** Files or folders to copy back: `GUEST:HOST`, or `GUEST` for the same path below the current folder. */
  readonly out?: readonly string[] | undefined;
  /** Whether to restore a machine that was saved after its boot, if possible; by default, the machine is booted. */
  readonly start?: LaneStart | undefined;
  /** The path of a host file for the kernel's log; the log is written regardless of the command's status. */
  readonly log?: string | undefined;
  readonly command: readonly string[];
}

/**
 * The exit statuses of the lab itself; any other status is the command's. As with `timeout` and `env`, the command
 * itself may also end with one of these statuses; standard error shows whether the status is the lab's.
 */
export const EXEC_STATUS = {
  /** The command ended with 0, but the kernel reported a WARN, BUG or Oops. */
  warned: 121,
  /** The guest's kernel crashed. */
  crashed: 122,
  /** The kernel has no /dev/kvm on this CPU. */
  noKvm: 123,
  /** The machine hung, or the time limit was reached. */
  hung: 124,
  /**
   * A usage error occurred, or no machine could be started, or the guest violated the protocol of its ports, or a file
   * could not be written.
   */
  lab: 125,
} as const;

/** The list of the exit statuses of `lab exec` in --help. */
export const EXEC_STATUSES: readonly StatusRow[] = [
  ["N", "the command's own exit status; 128 + the signal that killed it"],
  [EXEC_STATUS.warned, "the command ended with 0, but the kernel reports a WARN or BUG"],
  [EXEC_STATUS.crashed, "the guest's kernel crashed"],
  [EXEC_STATUS.noKvm, "the kernel has no /dev/kvm on this CPU"],
  [EXEC_STATUS.hung, "the machine hung, or the time limit was reached"],
  [EXEC_STATUS.lab, "usage error, or no machine could be started; --out or --log failed"],
  [STATUS.interrupted, "interrupted (Ctrl-C, SIGTERM, SIGHUP)"],
];

/** Runs the command and passes on its output; returns the exit status. */
export async function labExec(options: ExecOptions): Promise<number> {
  refuseUnusedModules([options.kernel], options.modules);
  const files = (options.files ?? []).map(fileToBring);
  const out = (options.out ?? []).map(fileToFetch);
  const log = options.log === undefined ? undefined : OutputFile.open("--log", options.log);
  try {
    return await interruptible((signal) => execute(options, { files, out, log }, signal));
  } finally {
    log?.discard();
  }
}

/** The files on this host that the options name, after they were checked. */
interface Places {
  readonly files: readonly PathPair[];
  readonly out: readonly Out[];
  readonly log: OutputFile | undefined;
}

async function execute(options: ExecOptions, places: Places, signal: AbortSignal): Promise<number> {
  const { emulator = "qemu", bochs, memory, smp, timeout } = options;
  const { files, out } = places;
  const cpu = options.cpu ?? DEFAULTS[emulator].cpu;
  const kernel = await findKernel(options.kernel, options.modules, signal);
  const stdin = await readGuestStdin(signal);
  throwIfAborted(signal);
  if (stdin.notice !== undefined) say(stdin.notice);
  say(
    `${options.start === "saved" ? "starting" : "booting"} ${kernel.name} in ${emulator}, CPU ${cpu}`,
  );
  const log = new LogFile(places.log);
  const [stdout, stderr] = [new OutputStream(process.stdout), new OutputStream(process.stderr)];
  let result: LabResult;
  try {
    result = await runInLab({
      kernel,
      command: options.command,
      files: Object.fromEntries(files.map(({ host, guest }) => [guest, host])),
      wanted: out.map(({ guest }) => guest),
      signal,
      smp,
      ...(options.params === undefined ? {} : { params: options.params }),
      ...(options.start === "saved" ? { restore: {} } : {}),
      emulator,
      cpu,
      ...(stdin.bytes === undefined ? {} : { stdin: stdin.bytes }),
      ...(bochs === undefined ? {} : { bochs }),
      ...(memory === undefined ? {} : { memory }),
      ...(timeout === undefined ? {} : { timeout: timeout * 1000 }),
      onStdout: (bytes) => stdout.write(bytes),
      onStderr: (bytes) => stderr.write(bytes),
      onKernelLog: (line) => log.write(line),
      onRetry: (why) => {
        say(`${why}; the machine is booted once more`);
        log.write(`node-kvm: ${why}; the log of the second boot follows`);
      },
    });
  } finally {
    // The log of an interrupted machine is also written.
    log.end();
    stdout.close();
    stderr.close();
  }
  if (log.hasFailed) say(`the kernel's log:\n${result.kernelLog.trimEnd()}`);
  const failed = save(result, out);
  const status = tell(result);
  return status === 0 && (failed || log.hasFailed) ? EXEC_STATUS.lab : status;
}

/** Writes the kernel's log as it arrives; reports a failed write and continues the run. */
class LogFile {
  hasFailed: boolean = false;
  readonly #file: OutputFile | undefined;

  constructor(file: OutputFile | undefined) {
    this.#file = file;
  }

  write(line: string): void {
    // The file may be a terminal or be printed on one later, and the guest must not be able to control the terminal.
    this.#try((file) => file.write(`${printableLog(line)}\n`));
  }

  end(): void {
    this.#try((file) => file.commit());
  }

  #try(work: (file: OutputFile) => void): void {
    if (this.#file === undefined || this.hasFailed) return;
    try {
      work(this.#file);
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      this.hasFailed = true;
      say(error.message);
    }
  }
}

/** Writes the files that the guest returned; returns whether a write failed. */
function save(result: LabResult, out: readonly Out[]): boolean {
  if (result.kind !== "exited") return false;
  const problems = writeOut(result.files, out);
  for (const problem of problems) say(problem);
  return problems.length > 0;
}

/** Reports facts that the command's output does not show; returns the exit status. */
function tell(result: LabResult): number {
  if (result.kind !== "crashed") {
    for (const line of result.warnings) say(`the kernel reports: ${line}`);
  }
  switch (result.kind) {
    case "exited":
      return result.status === 0 && result.warnings.length > 0 ? EXEC_STATUS.warned : result.status;
    case "crashed":
      say(`the guest's kernel crashed:\n${result.oops}`);
      if (result.restored) say("the machine was restored; with --start boot, it is booted instead");
      return EXEC_STATUS.crashed;
    case "no-kvm":
      say(`this kernel has no /dev/kvm on this CPU: ${result.why}`);
      return EXEC_STATUS.noKvm;
    case "hung":
      cutShort();
      say(
        result.why === "timeout"
          ? `the time limit was reached after ${(result.after / 1000).toFixed(0)} s; the machine was ended`
          : `the machine hung, ${result.attempts} times; its log ends with:\n${lastLines(result.kernelLog)}`,
      );
      return EXEC_STATUS.hung;
    case "refused":
      say(`the machine was ended: ${result.why}`);
      return EXEC_STATUS.lab;
    default:
      return result satisfies never;
  }
}

/** Escapes the control characters of a line, except tabs, which kernels write. */
function printableLog(line: string): string {
  return line.replace(/\r$/, "").split("\t").map(printable).join("\t");
}

function lastLines(log: string): string {
  return log.trimEnd().split("\n").slice(-10).join("\n");
}

function say(sentence: string): void {
  process.stderr.write(`node-kvm: ${printableLines(sentence)}\n`);
}
