/** `node-kvm lab exec`: any command in a disposable machine, with its output and its exit status. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { Start } from "../lab/campaign.ts";
import { LabError } from "../lab/error.ts";
import { type EmulatorName, type LabResult, runInLab } from "../lab/machine.ts";
import { findKernel, interruptible } from "./lab-kernel.ts";

/** What to run, where, with what. */
export interface ExecOptions {
  /** A name of the catalogue, or the path of a bzImage or a built kernel tree. */
  readonly kernel: string;
  /** The folder of the modules of a kernel given by path. */
  readonly modules?: string | undefined;
  readonly emulator?: EmulatorName | undefined;
  /** The user's own Bochs. */
  readonly bochs?: string | undefined;
  /** A CPU model of the emulator's: `max`, `EPYC-Milan`, `max,-la57`. */
  readonly cpu?: string | undefined;
  /** MiB. */
  readonly memory?: number | undefined;
  /** How many CPUs QEMU's machine has. */
  readonly smp?: number | undefined;
  /** Seconds, for boot and command together. */
  readonly timeout?: number | undefined;
  /** Files to bring along: `HOST:GUEST`, or `HOST` alone, which is put at the same path. */
  readonly files?: readonly string[] | undefined;
  /** Files or folders to bring back: `GUEST:HOST`, or `GUEST` alone, which is put at its path below here. */
  readonly out?: readonly string[] | undefined;
  /** Whether a machine that was saved after its boot is restored, where that can be; it is when left out. */
  readonly start?: Start | undefined;
  /** A host file to which the kernel's log is written, whatever happens. */
  readonly log?: string | undefined;
  readonly command: readonly string[];
}

/**
 * The exit statuses that are the lab's own; any other is the command's. As with `timeout` and
 * `env`, a command that uses one of these cannot be told apart by it, but stderr says which it was.
 */
export const EXEC_STATUS = {
  /** The command ended with 0, but the kernel reported a WARN, BUG or Oops. */
  warned: 121,
  /** The guest's kernel crashed. */
  crashed: 122,
  /** The kernel has no /dev/kvm on this CPU. */
  noKvm: 123,
  /** The machine hung, or the time was up. */
  hung: 124,
  /** There was no machine: something of the lab's is missing. */
  lab: 125,
  /** Ctrl-C. */
  interrupted: 130,
} as const;

/** Runs the command, its output as it comes; returns the exit status. */
export async function labExec(options: ExecOptions): Promise<number> {
  try {
    return await interruptible((signal) => execute(options, signal));
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    say(error.message);
    return error.code === "ERR_LAB_INTERRUPTED" ? EXEC_STATUS.interrupted : EXEC_STATUS.lab;
  }
}

async function execute(options: ExecOptions, signal: AbortSignal): Promise<number> {
  const { emulator, bochs, cpu, memory, smp, timeout } = options;
  const out = (options.out ?? []).map((text) => split(text));
  const result = await runInLab({
    kernel: await findKernel(options.kernel, options.modules, signal),
    command: options.command,
    files: Object.fromEntries(
      (options.files ?? []).map(split).map(([host, guest]) => [guest ?? resolve(host), host]),
    ),
    wanted: out.map(([guest]) => guest),
    signal,
    smp,
    ...(options.start === "boot" ? {} : { restore: {} }),
    ...(emulator === undefined ? {} : { emulator }),
    ...(bochs === undefined ? {} : { bochs }),
    ...(cpu === undefined ? {} : { cpu }),
    ...(memory === undefined ? {} : { memory }),
    ...(timeout === undefined ? {} : { timeout: timeout * 1000 }),
    onStdout: (bytes) => process.stdout.write(bytes),
    onStderr: (bytes) => process.stderr.write(bytes),
    onRetry: () => say("the emulator hung; the machine is booted once more"),
  });
  if (options.log !== undefined) writeFileSync(options.log, result.kernelLog);
  const failed = save(result, out);
  const status = tell(result);
  return status === 0 && failed ? EXEC_STATUS.lab : status;
}

/** Splits `FROM:TO`; a path that has a colon of its own cannot be said so. */
function split(text: string): readonly [string, string?] {
  const [from = "", to] = text.split(":", 2);
  return to === undefined ? [from] : [from, to];
}

/** Writes what came back; returns whether something wanted did not. */
function save(result: LabResult, out: readonly (readonly [string, string?])[]): boolean {
  if (result.kind !== "exited") return false;
  let failed = false;
  for (const [guest, host] of out) {
    const found = Array.from(result.files).filter(
      ([path]) => path === guest || path.startsWith(`${guest.replace(/\/$/, "")}/`),
    );
    if (found.length === 0) say(`the guest has no ${guest}`);
    failed ||= found.length === 0;
    for (const [path, bytes] of found) {
      const place = resolve((host ?? `.${guest}`) + path.slice(guest.length));
      mkdirSync(dirname(place), { recursive: true });
      writeFileSync(place, bytes);
    }
  }
  return failed;
}

/** Says what is not plain from the output; returns the exit status. */
function tell(result: LabResult): number {
  if (result.kind !== "crashed") {
    for (const line of result.warnings) say(`the kernel reports: ${line}`);
  }
  switch (result.kind) {
    case "exited":
      return result.status === 0 && result.warnings.length > 0 ? EXEC_STATUS.warned : result.status;
    case "crashed":
      say(`the guest's kernel crashed:\n${result.oops}`);
      if (result.restored) say("the machine was restored; --start boot boots it instead");
      return EXEC_STATUS.crashed;
    case "no-kvm":
      say(`this kernel has no /dev/kvm on this CPU: ${result.why}`);
      return EXEC_STATUS.noKvm;
    case "hung":
      say(
        result.why === "timeout"
          ? `the time was up after ${(result.after / 1000).toFixed(0)} s; the machine was ended`
          : `the machine hung, ${result.attempts} times; its log ends with:\n${lastLines(result.kernelLog)}`,
      );
      return EXEC_STATUS.hung;
    default:
      return result satisfies never;
  }
}

function lastLines(log: string): string {
  return log.trimEnd().split("\n").slice(-10).join("\n");
}

function say(sentence: string): void {
  process.stderr.write(`node-kvm: ${sentence}\n`);
}
