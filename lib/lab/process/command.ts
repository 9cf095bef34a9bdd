/**
 * Runs an installed program to its end; the caller interprets its output. confinement.ts sets the privileges of a
 * process, deadline.ts limits the time, and search-path.ts searches `PATH`.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable } from "node:stream";
import { LabError } from "../error.ts";
import { diesWithParent } from "./confinement.ts";
import { Deadline } from "./deadline.ts";
import { onPath } from "./search-path.ts";

/** The options of {@link run}. */
export interface CommandOptions {
  readonly cwd?: string | undefined;
  /** Variables that are added to the environment of this process. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** A signal that ends the program and all processes that it started. */
  readonly signal?: AbortSignal | undefined;
  /** A function that is called with each line that the program writes to descriptor 3. */
  readonly onStatus?: ((line: string) => void) | undefined;
  /** The time in milliseconds without new output on descriptor 1 or 3 after which the program is killed. */
  readonly stallMs?: number | undefined;
}

/** The result of a program. */
export interface Output {
  readonly program: string;
  /** The program's exit status; 128 plus the signal's number if a signal ended the program. */
  readonly status: number;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** The time in milliseconds between SIGTERM and SIGKILL. */
const GRACE_MS = 2000;

/** The Debian package of each program, for error messages. */
const PACKAGES: Readonly<Record<string, string>> = {
  "apt-cache": "apt",
  "apt-config": "apt",
  "apt-get": "apt",
  "dpkg-deb": "dpkg",
  gzip: "gzip",
  xz: "xz-utils",
  zstd: "zstd",
};

const running = new Set<number>();
process.on("exit", () => {
  for (const pid of running) killGroup(pid, "SIGKILL");
});

/**
 * Runs a program and waits for its end; a failed program is not an error.
 *
 * The program leads its own process group, so killing the group also kills its children. The kernel kills the program
 * if this process dies first.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` if the program is missing or stalls; `ERR_LAB_INTERRUPTED` after the
 *   signal. When the program ends after SIGKILL, each process of its group has received SIGKILL, too.
 */
export async function run(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<Output> {
  const { signal } = options;
  throwIfAborted(signal);
  const [first, ...rest] = commandLine(program, args);
  const child = spawn(first, rest, {
    cwd: options.cwd,
    // The programs run with English messages, because some of them report a failure only in a message.
    env: { ...process.env, ...options.env, LC_ALL: "C" },
    stdio: ["ignore", "pipe", "pipe", "pipe"],
    detached: true,
  });
  const { pid } = child;
  let patience: NodeJS.Timeout | undefined;
  const end = (): void => {
    if (pid === undefined) return;
    killGroup(pid, "SIGTERM");
    patience = setTimeout(() => killGroup(pid, "SIGKILL"), GRACE_MS);
  };
  const stall = new Stall(options.stallMs, end);
  if (pid !== undefined) running.add(pid);
  signal?.addEventListener("abort", end, { once: true });
  try {
    const closed = new Promise<number>((resolve) => {
      child.once("close", (exit, by) => resolve(exit ?? (by === "SIGKILL" ? 137 : 143)));
    });
    await once(child, "spawn");
    const [stdout, stderr, code] = await Promise.all([
      collect(child.stdout, () => stall.saw("")),
      collect(child.stderr),
      closed,
      eachLine(child.stdio[3] as Readable, (line) => {
        stall.saw(line);
        options.onStatus?.(line);
      }),
    ]);
    throwIfAborted(signal);
    if (stall.isOver()) throw stallError(program);
    return { program, status: code, stdout, stderr: stderr.toString() };
  } catch (error) {
    throw startError(program, error);
  } finally {
    stall.stop();
    clearTimeout(patience);
    signal?.removeEventListener("abort", end);
    if (pid !== undefined) running.delete(pid);
  }
}

/**
 * Returns the command line. A program that is missing in `PATH` stays in the command line, because the error must name
 * it.
 */
function commandLine(program: string, args: readonly string[]): readonly [string, ...string[]] {
  const path = program.includes("/") ? program : onPath(program);
  const [first, ...rest] = path === undefined ? [] : diesWithParent();
  return first === undefined ? [program, ...args] : [first, ...rest, path ?? program, ...args];
}

/** Runs a program that must succeed; returns its output. */
export async function runOk(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<Buffer> {
  const output = await run(program, args, options);
  if (output.status !== 0) throw commandError(output);
  return output.stdout;
}

/** Makes the error about a failed program, with the code for a full disk or with the program's last messages. */
export function commandError({ program, status, stderr }: Output): LabError {
  if (isDiskFull(stderr)) return diskFull(program);
  const words = stderr.trim().split("\n").slice(-3).join("; ");
  return new LabError("ERR_LAB_TOOL", `${program} failed with status ${status}: ${words}`);
}

/** Whether a program's messages report a full disk. */
export function isDiskFull(stderr: string): boolean {
  return /No space left on device|Disk quota exceeded|enough free space/.test(stderr);
}

/** Makes the error about a full disk; `who` is the program that writes. */
export function diskFull(who: string, cause?: unknown): LabError {
  const remedy =
    "make room, or name a folder on another disk with NODE_KVM_CACHE; no partial file is left";
  return new LabError(
    "ERR_LAB_DISK_FULL",
    `the disk is full: ${who} could not write; ${remedy}`,
    cause,
  );
}

/** Throws `ERR_LAB_INTERRUPTED` if the signal was aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  const sentence = "interrupted; the downloaded part is kept, and the next call resumes it";
  throw new LabError("ERR_LAB_INTERRUPTED", sentence, signal.reason);
}

function killGroup(pid: number, by: NodeJS.Signals): void {
  try {
    process.kill(-pid, by);
  } catch (error) {
    // ESRCH: the process group has already ended.
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

function startError(program: string, error: unknown): unknown {
  if (!(error instanceof Error && "syscall" in error && "code" in error)) return error;
  if (!String(error.syscall).startsWith("spawn")) return error;
  const from = PACKAGES[program];
  const remedy = from === undefined ? "install it" : `install it (Debian's package ${from})`;
  const what = error.code === "ENOENT" ? "is not on this machine" : `cannot be run (${error.code})`;
  return new LabError("ERR_LAB_TOOL", `${program} ${what}; ${remedy}`, error);
}

function stallError(program: string): LabError {
  const sentence = `${program} made no progress and was killed`;
  const remedy = "check the disk space and the network, then try again";
  return new LabError("ERR_LAB_TOOL", `${sentence}; ${remedy}`);
}

/** Detects a program that makes no progress: apt, for example, never ends when the disk is full. */
class Stall {
  #isOver: boolean = false;
  #last = "";
  readonly #deadline: Deadline | undefined;

  constructor(milliseconds: number | undefined, end: () => void) {
    if (milliseconds === undefined) return;
    this.#deadline = new Deadline(milliseconds, () => {
      this.#isOver = true;
      end();
    });
  }

  /** Records the program's output; a repeated status line is not progress. */
  saw(text: string): void {
    if (text !== "" && text === this.#last) return;
    this.#last = text;
    this.#deadline?.restart();
  }

  /** Whether the time limit without progress has expired. */
  isOver(): boolean {
    return this.#isOver;
  }

  stop(): void {
    this.#deadline?.stop();
  }
}

async function collect(stream: Readable | null, onChunk?: () => void): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream ?? []) {
    chunks.push(chunk as Buffer);
    onChunk?.();
  }
  return Buffer.concat(chunks);
}

async function eachLine(stream: Readable, take: (line: string) => void): Promise<void> {
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + String(chunk)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) take(line);
  }
}
