/**
 * One run of an emulator as a process: its deadlines, its end by a signal, and that nothing of it
 * is left. How each emulator is called, and where its serial ports are, is qemu.ts and bochs.ts.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { LabError } from "../error.ts";
import { confine, handOver } from "../process/confinement.ts";
import { Deadline } from "../process/deadline.ts";
import { Tail } from "./port-buffer.ts";

/** What is booted, and for how long. Times are milliseconds in which neither side is stopped. */
export interface BootOptions {
  /**
   * A folder of the machine's own, in which the emulator runs. It then belongs to the emulator's
   * user; without one, the emulator keeps this process's user.
   */
  readonly folder?: string | undefined;
  readonly vmlinuz: string;
  readonly initrd: string;
  /** A CPU model of the emulator's; QEMU's may have features taken away or added: `max,-la57`. */
  readonly cpu: string;
  /** MiB. */
  readonly memory: number;
  /** How many CPUs; only QEMU's machine has more than the one it has when left out. */
  readonly smp?: number | undefined;
  /** For the whole boot. */
  readonly timeout: number;
  /** Without a byte on any port. */
  readonly silence: number;
  readonly signal?: AbortSignal | undefined;
  /**
   * Takes what the guest wrote to a serial port: ttyS0 is 0. An error that it throws ends the machine. When it
   * returns a promise, that port is not read while it is pending.
   */
  readonly onPort: Hear;
  /** Whether nothing more is wanted of the guest, asked after each {@link onPort}: then it is ended. */
  readonly isOver?: (() => boolean) | undefined;
}

/** How a boot ended. */
export type BootEnd = {
  /** How long it took. */
  readonly after: number;
} & (
  | {
      /** By itself; or it was killed, because it was silent or took too long. */
      readonly why: "ended" | "silent" | "timeout";
    }
  | {
      /** It was killed because `onPort` threw `ERR_LAB_GUEST`. */
      readonly why: "refused";
      /** The error's message. */
      readonly reason: string;
    }
);

/** How much of what the emulator itself prints is kept, for the reason why it did not start. */
const KEPT_OUTPUT = 2 ** 16;

/** How many serial ports a machine has: as many as every kernel looks for. */
export const PORTS = [0, 1, 2, 3] as const;

/**
 * What every kernel is told, whatever the emulator.
 *
 * The whole log goes to the port as it is written, so that a crash or a hang keeps it. The
 * self-tests of the ciphers, which `cryptomgr.notests` leaves out, cost half a second.
 */
export const KERNEL_ARGUMENTS = "ignore_loglevel panic=-1 cryptomgr.notests 8250.nr_uarts=4";

/** Takes what a port said. When it returns a promise, the port is not read while that is pending. */
export type Hear = (port: number, bytes: Buffer) => unknown;

/** One emulator, ready to start. */
export interface Emulator {
  /** Its name in an error: `QEMU`. */
  readonly name: string;
  readonly program: string;
  /** Whether the program lies where only this process's user can reach it: it gets a descriptor. */
  readonly isPrivate?: boolean;
  /** The files that it opens for reading, which its user may not be able to reach. */
  readonly files?: readonly string[];
  /** Makes the arguments; `paths` are those by which it can open {@link files}. */
  readonly args: (paths: readonly string[]) => readonly string[];
  /** How many descriptors from {@link FIRST_FD} on it has as sockets. Those of files come after. */
  readonly sockets: number;
  /** Connects the ports; returns what is to be done once the process has ended. */
  readonly listen: (child: ChildProcess, hear: Hear) => () => void;
  /** Says why it ended without a word of the guest, in its own words; `undefined` if it did well. */
  readonly refusal: (status: number | null, output: string) => string | undefined;
}

/** The first file descriptor after the standard ones. */
export const FIRST_FD = 3;

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) killGroup(child);
});

/** Ends the emulator and what it started: a program of the user's may be a script around one. */
function killGroup(child: ChildProcess): void {
  const isAlive = child.exitCode === null && child.signalCode === null;
  if (child.pid === undefined || !isAlive) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    child.kill("SIGKILL"); // it has no group of its own yet
  }
}

/**
 * Runs an emulator until the machine is off, by itself or because it had to be killed.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` when the emulator refuses its command line,
 *   `ERR_LAB_INTERRUPTED` when the signal came; no process is left then.
 * @throws what `onPort` throws, unless it is `ERR_LAB_GUEST`.
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
    // A Ctrl-C at the terminal is for us; we end the emulator when we are ready.
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
      // Thrown into a stream's listener it would end the process, and with it all other machines.
      // What the other ports have said until now is still read.
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

/** Says what the guest did; throws any other error. */
function guestFault(error: unknown): string {
  if (error instanceof LabError && error.code === "ERR_LAB_GUEST") return error.message;
  throw error;
}

function throwIfInterrupted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw new LabError("ERR_LAB_INTERRUPTED", "interrupted; the machine was ended", signal.reason);
}

/** Whether a process is stopped by a signal: state T of proc(5), after the name in brackets. */
function isStopped(pid: number | undefined): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return stat[stat.lastIndexOf(")") + 2] === "T";
  } catch {
    return false; // it has ended
  }
}
