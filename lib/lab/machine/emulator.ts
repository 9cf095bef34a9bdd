/**
 * Runs an emulator as a process: applies its deadlines, ends it after a signal, and removes all its processes. qemu.ts
 * and bochs/bochs.ts contain the command lines and the serial ports.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { LabError } from "../error.ts";
import { confine, handOver } from "../process/confinement.ts";
import { Deadline } from "../process/deadline.ts";
import { Tail } from "./port-buffer.ts";

/**
 * The boot. The options of a boot. Times are in milliseconds; time in which this process or the emulator is stopped
 * does not count.
 */
export interface BootOptions {
  /**
   * A folder of the machine, which is the emulator's working directory. The folder's owner becomes the emulator's user;
   * without a folder, the emulator keeps this process's user.
   */
  readonly folder?: string | undefined;
  readonly vmlinuz: string;
  readonly initrd: string;
  /** A CPU model of the emulator; a model of QEMU can add or remove features: `max,-la57`. */
  readonly cpu: string;
  /** MiB. */
  readonly memory: number;
  /** The number of CPUs, by default 1; Bochs's machine always has one CPU. */
  readonly smp?: number | undefined;
  /** Further arguments of the kernel; none by default. */
  readonly kernelArguments?: readonly string[] | undefined;
  /** The time limit for the whole boot. */
  readonly timeout: number;
  /** The maximum time in which no port transmits a byte. */
  readonly silence: number;
  readonly signal?: AbortSignal | undefined;
  /**
   * A function that is called with the guest's output on a serial port; port 0 is ttyS0. An error that this function
   * throws ends the machine. While a promise that this function returned is pending, the port is not read.
   */
  readonly onPort: Hear;
  /** Returns whether the machine may be ended now; called after each {@link onPort}. */
  readonly isOver?: (() => boolean) | undefined;
}

/** The result of a boot. */
export type BootEnd = {
  /** The duration of the boot in milliseconds. */
  readonly after: number;
} & (
  | {
      /** The machine ended by itself, or was killed because it was silent or took too long. */
      readonly why: "ended" | "silent" | "timeout";
    }
  | {
      /** The machine was killed because `onPort` threw `ERR_LAB_GUEST`. */
      readonly why: "refused";
      /** The error's message. */
      readonly reason: string;
    }
);

/**
 * The maximum number of bytes of the emulator's own output in an error, as the reason why the emulator did not start.
 */
const KEPT_OUTPUT = 2 ** 16;

/** The number of a machine's serial ports, which every kernel supports. */
export const PORTS = [0, 1, 2, 3] as const;

/**
 * The kernel arguments for every emulator.
 *
 * The kernel writes the whole log to the port immediately; the log then survives a crash or a hang. `cryptomgr.notests`
 * omits the self-tests of the ciphers, which take half a second.
 */
export const KERNEL_ARGUMENTS = "ignore_loglevel panic=-1 cryptomgr.notests 8250.nr_uarts=4";

/**
 * A function that is called with the output of a port. While a promise that this function returned is pending, the port
 * is not read.
 */
export type Hear = (port: number, bytes: Buffer) => unknown;

/** An emulator's program and arguments before it is started. */
export interface Emulator {
  /** The emulator's name in errors, such as `QEMU`. */
  readonly name: string;
  readonly program: string;
  /** Whether only this process's user can access the program: the emulator then gets the program as a descriptor. */
  readonly isPrivate?: boolean;
  /** The files that the emulator reads; the emulator's user may not have access to them. */
  readonly files?: readonly string[];
  /** Makes the arguments; `paths` are the paths by which the emulator can open {@link files}. */
  readonly args: (paths: readonly string[]) => readonly string[];
  /**
   * The number of sockets, which the emulator inherits as descriptors from {@link FIRST_FD} on. The descriptors of
   * files follow the descriptors of the sockets.
   */
  readonly sockets: number;
  /** Connects the serial ports; returns a function that is called after the process has ended. */
  readonly listen: (child: ChildProcess, hear: Hear) => () => void;
  /**
   * Returns the reason why the emulator ended without output of the guest, from the emulator's own output; `undefined`
   * if the emulator succeeded.
   */
  readonly refusal: (status: number | null, output: string) => string | undefined;
}

/** The first file descriptor after the standard descriptors 0 to 2. */
export const FIRST_FD = 3;

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) killGroup(child);
});

/** Kills the emulator and its children: the user's program may be a script that starts the emulator. */
function killGroup(child: ChildProcess): void {
  const isAlive = child.exitCode === null && child.signalCode === null;
  if (child.pid === undefined || !isAlive) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    child.kill("SIGKILL"); // the process does not have its own group yet
  }
}

/**
 * Runs an emulator until the machine has powered off or was killed.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` if the emulator rejects its command line, `ERR_LAB_INTERRUPTED` after the
 *   signal; no process is left then.
 * @throws errors of `onPort`, except `ERR_LAB_GUEST`.
 */
export async function runEmulator(
  emulator: Emulator,
  options: Pick<BootOptions, "folder" | "timeout" | "silence" | "signal" | "onPort" | "isOver">,
): Promise<BootEnd> {
  throwIfInterrupted(options.signal);
  const { folder } = options;
  const own = resolve(emulator.program);
  const { prefix, user, env } = confine(emulator.isPrivate === true ? undefined : own, folder);
  const files = [...(emulator.files ?? []), own].map((path) => resolve(path));
  using handover = handOver(files, folder, user);
  const paths = files.map((path, i) =>
    handover.descriptors[i] === -1 ? path : `/proc/self/fd/${FIRST_FD + emulator.sockets + i}`,
  );
  const program = emulator.isPrivate === true ? (paths.at(-1) ?? own) : own;
  const line = [...prefix, program, ...emulator.args(paths)] as [string, ...string[]];
  const started = performance.now();
  const child = spawn(line[0], line.slice(1), {
    stdio: [
      ...["ignore", "pipe", "pipe", ...new Array(emulator.sockets).fill("pipe")],
      ...handover.descriptors.map((file) => (file === -1 ? "ignore" : file)),
    ],
    cwd: folder,
    env,
    // A Ctrl-C in the terminal must not reach the emulator, because this process ends the emulator itself.
    detached: true,
  });
  running.add(child);
  let why: "ended" | "silent" | "timeout" = "ended";
  const kill = (reason: "silent" | "timeout"): void => {
    why = reason;
    killGroup(child);
  };
  const abort = (): void => killGroup(child);
  const isHalted = (): boolean => isStopped(child.pid);
  const limit = new Deadline(options.timeout, () => kill("timeout"), isHalted);
  const quiet = new Deadline(options.silence, () => kill("silent"), isHalted);
  options.signal?.addEventListener("abort", abort, { once: true });
  let spoke = false;
  let failure: { readonly error: unknown } | undefined;
  const closed = new Set<number>();
  const hear: Hear = (port, bytes) => {
    if (closed.has(port)) return undefined;
    spoke = true;
    quiet.restart();
    try {
      const pending = options.onPort(port, bytes);
      if (options.isOver?.() === true) killGroup(child);
      return pending;
    } catch (error) {
      // An exception in a stream's listener would end this process, with all other machines.
      // The remaining ports are still read to their end.
      failure ??= { error };
      closed.add(port);
      killGroup(child);
      return undefined;
    }
  };
  const finish = emulator.listen(child, hear);
  try {
    const { status, output } = await end(child).finally(finish);
    throwIfInterrupted(options.signal);
    const after = Math.round(performance.now() - started);
    if (failure !== undefined) return { why: "refused", reason: guestFault(failure.error), after };
    const refusal = why === "ended" && !spoke ? emulator.refusal(status, output) : undefined;
    if (refusal !== undefined) {
      const sentence = `${emulator.name} did not start (status ${status}): ${refusal}`;
      throw new LabError("ERR_LAB_TOOL", sentence);
    }
    return { why, after };
  } finally {
    limit.stop();
    quiet.stop();
    options.signal?.removeEventListener("abort", abort);
    running.delete(child);
  }
}

async function end(
  child: ChildProcess,
): Promise<{ readonly status: number | null; readonly output: string }> {
  const output = new Tail(KEPT_OUTPUT);
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (bytes: Buffer) => output.append(bytes));
  }
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  return { status, output: output.bytes.toString() };
}

/** Returns an error that the guest's output caused; throws any other error. */
function guestFault(error: unknown): string {
  if (error instanceof LabError && error.code === "ERR_LAB_GUEST") return error.message;
  throw error;
}

function throwIfInterrupted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw new LabError("ERR_LAB_INTERRUPTED", "interrupted; the machine was ended", signal.reason);
}

/** Whether a signal has stopped a process: state T of proc(5), after the name in parentheses. */
function isStopped(pid: number | undefined): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return stat[stat.lastIndexOf(")") + 2] === "T";
  } catch {
    return false; // the process has ended
  }
}
