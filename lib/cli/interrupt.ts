/** Ends a command in order after a signal. */
import { setTimeout as sleep } from "node:timers/promises";
import { STATUS } from "./exit-status.ts";
import { CommandError, reasonOf } from "./failure.ts";

/** The time in milliseconds that a command has to end in order after a signal; a later signal ends it at once. */
const END_MS = 3000;

/** The number of {@link interruptible} calls that are running. */
let works = 0;

/**
 * Returns whether a call of {@link interruptible} is running, which ends in order if standard output cannot be written.
 */
export function isInterruptible(): boolean {
  return works > 0;
}

let wasCutShort = false;

/** Records that work was ended early; the process then does not wait for pending operations of the work. */
export function cutShort(): void {
  wasCutShort = true;
}

/** Returns whether work was ended early, by a signal or by its time limit. */
export function isCutShort(): boolean {
  return wasCutShort;
}

/**
 * Runs work that SIGINT, SIGTERM and SIGHUP end in order: machines are killed, and temporary files are removed. The
 * same happens if standard output cannot be written, because the reader has closed standard output, or the disk is
 * full.
 *
 * @throws {@link CommandError} if standard output could not be written.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const { signal } = controller;
  let first = 0;
  // A second signal that arrives at once is a copy of the first one, which npm forwards.
  // A later signal ends the process.
  const abort = (): void => {
    if (first !== 0 && performance.now() - first > END_MS) process.exit(STATUS.interrupted);
    first ||= performance.now();
    cutShort();
    controller.abort();
  };
  const close = (error: NodeJS.ErrnoException): void => {
    const what =
      error.code === "EPIPE"
        ? "standard output was closed by its reader"
        : `standard output cannot be written (${reasonOf(error)})`;
    controller.abort(new CommandError(`${what}, so the work was ended`));
  };
  works += 1;
  for (const name of INTERRUPTS) process.on(name, abort);
  process.stdout.on("error", close);
  try {
    const result = await work(signal);
    throwIfClosed(signal);
    return result;
  } catch (error) {
    throwIfClosed(signal);
    throw error;
  } finally {
    works -= 1;
    for (const name of INTERRUPTS) process.off(name, abort);
    process.stdout.off("error", close);
  }
}

const INTERRUPTS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** The time in milliseconds in which the event loop handles a signal that the process has already received. */
const SIGNAL_MS = 100;

/**
 * Waits until the signals that this process has received are handled. A terminal sends Ctrl-C to a command and to its
 * child processes, and the event loop may handle the end of a child before the command's own signal.
 */
export async function signalsHandled(): Promise<void> {
  await sleep(SIGNAL_MS);
}

function throwIfClosed({ reason }: AbortSignal): void {
  if (reason instanceof CommandError) throw reason;
}
