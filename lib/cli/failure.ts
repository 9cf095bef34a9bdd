/** The failures of commands: which errors are expected, and the message and exit status of each. */
import type { Command } from "commander";
import { AddonError, KvmError } from "../errors.ts";
import { NotAnEnd } from "../lab/bisect.ts";
import { LabError } from "../lab/error.ts";
import { printableLines } from "../report/printable.ts";
import { STATUS } from "./exit-status.ts";

/** An expected failure, such as invalid input, a missing program or a closed output; the message explains it. */
export class CommandError extends Error {
  override readonly name: string = "CommandError";
}

/** The error with which commander ends when no command is run: a usage error or --help, with its exit status. */
class UsageEnd extends Error {
  override readonly name: string = "UsageEnd";
  readonly status: number;

  constructor(status: number) {
    super(`commander has ended the command line with status ${status}`);
    this.status = status;
  }
}

/**
 * The exit status for usage errors and other failures of a command, if the status is not 2.
 *
 * `lab exec` returns the status of a command that may itself return 2, and `git bisect run` considers 2 to be a bad
 * commit.
 */
const TROUBLE = new WeakMap<Command, () => number>();

/** Sets a command's exit status for usage errors and other failures; `status` is called when a failure occurs. */
export function setTroubleStatus(command: Command, status: () => number): void {
  TROUBLE.set(command, status);
}

function troubleStatus(command: Command | undefined): number {
  return (command && TROUBLE.get(command)?.()) ?? STATUS.trouble;
}

const HINTS = new WeakMap<Command, (line: string) => string | undefined>();

/** Sets the text that is appended to a command's usage errors; `hint` is called with commander's message. */
export function setUsageHint(command: Command, hint: (line: string) => string | undefined): void {
  HINTS.set(command, hint);
}

/**
 * Makes a command and its subcommands report a usage error in one line with the command's name.
 *
 * Call this function after all commands have been added.
 */
export function wordUsageErrors(command: Command): void {
  const path = pathOf(command);
  command.configureOutput({
    outputError: (text, write) => {
      const line = text
        .replace(/^error: /, "")
        .trim()
        .replace(/\.$/, "");
      const hint = HINTS.get(command)?.(line);
      const sentence = `${path}: ${line.replaceAll(/\s*\n\s*/g, " ")}`;
      write(`${sentence}${hint === undefined ? "" : `; ${hint}`}; see ${path} --help\n`);
    },
  });
  command.exitOverride(({ exitCode, code }) => {
    // If a command only has subcommands, commander prints the help and reports no error.
    if (code === "commander.help" && exitCode !== 0) command.error(`name a command: ${names()}`);
    throw new UsageEnd(exitCode === 0 ? STATUS.ok : troubleStatus(command));
  });
  const names = (): string => command.commands.map((below) => below.name()).join(", ");
  for (const below of command.commands) wordUsageErrors(below);
}

function pathOf(command: Command): string {
  const above = command.parent === null ? "" : `${pathOf(command.parent)} `;
  return `${above}${command.name()}`;
}

/**
 * Prints the reason of a failure on standard error; returns the exit status.
 *
 * An unexpected error is a bug of this package, so its stack is also printed.
 *
 * @param command - the command whose action was running; `undefined` if no action had started.
 */
export function reportFailure(error: unknown, command: Command | undefined): number {
  if (error instanceof UsageEnd) return error.status;
  process.stderr.write(
    isExpected(error)
      ? `node-kvm: ${printableLines(error.message)}\n`
      : `node-kvm: unexpected error, please report it:\n${stackOf(error)}\n`,
  );
  const isInterrupted = error instanceof LabError && error.code === "ERR_LAB_INTERRUPTED";
  return isInterrupted ? STATUS.interrupted : troubleStatus(command);
}

function isExpected(error: unknown): error is Error {
  return (
    error instanceof CommandError ||
    error instanceof KvmError ||
    error instanceof LabError ||
    error instanceof AddonError ||
    error instanceof NotAnEnd
  );
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/**
 * Returns the reason of a failed call of `node:fs`, such as "EACCES: permission denied"; for other errors, the
 * message.
 */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Node appends the call and the path: `EACCES: permission denied, open '/x'`.
  const { message } = error;
  return "syscall" in error ? (message.split(", ", 1)[0] ?? message) : message;
}
