/**
 * One run of an emulator as a process: its deadlines, its end by a signal, and that nothing of it
 * is left. How each emulator is called, and where its serial ports are, is qemu.ts and bochs.ts.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { LabError } from "./error.ts";

/** What is booted, and for how long. Times are milliseconds. */
export interface BootOptions {
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
  /** Takes what the guest wrote to a serial port: ttyS0 is 0. */
  readonly onPort: (port: number, bytes: Buffer) => void;
  /** Whether nothing more is wanted of the guest, asked after each {@link onPort}: then it is ended. */
  readonly isOver?: (() => boolean) | undefined;
}

/** How a boot ended. */
export interface BootEnd {
  /** By itself; or it was killed, because it was silent or took too long. */
  readonly why: "ended" | "silent" | "timeout";
  /** How long it took. */
  readonly after: number;
}

/** How many serial ports a machine has: as many as every kernel looks for. */
export const PORTS = [0, 1, 2, 3] as const;

/**
 * What every kernel is told, whatever the emulator.
 *
 * The whole log goes to the port as it is written, so that a crash or a hang keeps it. The
 * self-tests of the ciphers, which `cryptomgr.notests` leaves out, cost half a second.
 */
export const KERNEL_ARGUMENTS = "ignore_loglevel panic=-1 cryptomgr.notests 8250.nr_uarts=4";

/** Takes what a port said. */
export type Hear = (port: number, bytes: Buffer) => void;

/** One emulator, ready to start. */
export interface Emulator {
  /** Its name in an error: `QEMU`. */
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  /** How many descriptors from {@link FIRST_FD} on it has as sockets. */
  readonly sockets: number;
  /** Open files that it gets as the descriptors after those. */
  readonly files?: readonly number[];
  /** Connects the ports; returns what is to be done once the process has ended. */
  readonly listen: (child: ChildProcess, hear: Hear) => () => void;
  /** Says why it ended without a word of the guest, in its own words; `undefined` if it did well. */
  readonly refusal: (status: number | null, output: string) => string | undefined;
}

/** The first file descriptor after the standard ones. */
export const FIRST_FD = 3;

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/**
 * Runs an emulator until the machine is off, by itself or because it had to be killed.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` when the emulator refuses its command line,
 *   `ERR_LAB_INTERRUPTED` when the signal came; no process is left then.
 */
export async function runEmulator(
  emulator: Emulator,
  options: Pick<BootOptions, "timeout" | "silence" | "signal" | "onPort" | "isOver">,
): Promise<BootEnd> {
  throwIfInterrupted(options.signal);
  const [program, ...args] = [...leash(), emulator.program, ...emulator.args] as [string];
  const started = performance.now();
  const child = spawn(program, args, {
    stdio: [
      "ignore",
      "pipe",
      "pipe",
      ...new Array<"pipe">(emulator.sockets).fill("pipe"),
      ...(emulator.files ?? []),
    ],
    // A Ctrl-C at the terminal is for us; we end the emulator when we are ready.
    detached: true,
  });
  running.add(child);
  let why: BootEnd["why"] = "ended";
  const kill = (reason: BootEnd["why"]): void => {
    why = reason;
    child.kill("SIGKILL");
  };
  const abort = (): void => void child.kill("SIGKILL");
  const limit = setTimeout(kill, options.timeout, "timeout");
  const quiet = setTimeout(kill, options.silence, "silent");
  options.signal?.addEventListener("abort", abort, { once: true });
  let spoke = false;
  const hear: Hear = (port, bytes) => {
    spoke = true;
    quiet.refresh();
    options.onPort(port, bytes);
    if (options.isOver?.() === true) child.kill("SIGKILL");
  };
  const finish = emulator.listen(child, hear);
  try {
    const { status, output } = await end(child).finally(finish);
    throwIfInterrupted(options.signal);
    const refusal = why === "ended" && !spoke ? emulator.refusal(status, output) : undefined;
    if (refusal !== undefined) {
      const sentence = `${emulator.name} did not start (status ${status}): ${refusal}`;
      throw new LabError("ERR_LAB_TOOL", sentence);
    }
    return { why, after: Math.round(performance.now() - started) };
  } finally {
    clearTimeout(limit);
    clearTimeout(quiet);
    options.signal?.removeEventListener("abort", abort);
    running.delete(child);
  }
}

async function end(
  child: ChildProcess,
): Promise<{ readonly status: number | null; readonly output: string }> {
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (bytes: Buffer) => {
      output += bytes.toString();
    });
  }
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  return { status, output };
}

function throwIfInterrupted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw new LabError("ERR_LAB_INTERRUPTED", "interrupted; the machine was ended", signal.reason);
}

/** The kernel ends the emulator together with us, however we end; of util-linux, which few lack. */
function leash(): readonly string[] {
  const setpriv = onPath("setpriv");
  return setpriv === undefined ? [] : [setpriv, "--pdeathsig", "KILL"];
}

/** Finds a program as a shell would; `undefined` when this machine has none of the name. */
export function onPath(program: string): string | undefined {
  const folders = (process.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== "");
  return folders.map((folder) => join(folder, program)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false; // whatever the reason, it is not the one to run
  }
}
