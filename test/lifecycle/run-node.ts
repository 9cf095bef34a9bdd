/** Runs a script of this directory in a separate process and returns its exit status and output. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Kvm, KvmError } from "node-kvm";

/** The result of a process that has ended. */
export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The result of a process that has ended without an error. */
export const CLEAN: Ending = { code: 0, signal: null, stdout: "", stderr: "" };

/** Runs Node with all its threads on one CPU, so that a thread runs until it waits or its time slice ends. */
export const ON_ONE_CPU: readonly string[] = [
  "taskset",
  "--cpu-list",
  firstCpu(),
  process.execPath,
];

function firstCpu(): string {
  const allowed = /^Cpus_allowed_list:\t(\d+)/m.exec(readFileSync("/proc/self/status", "latin1"));
  return allowed?.[1] ?? "0";
}

/** Runs `script` with one argument; a process that hangs is killed with SIGKILL. */
export function runNode(
  script: string,
  argument: string,
  node: readonly string[] = [process.execPath],
): Promise<Ending> {
  const file = fileURLToPath(new URL(script, import.meta.url));
  const [command, ...before] = node as [string, ...string[]];
  const child = spawn(command, [...before, "--expose-gc", file, argument], {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 240_000,
    killSignal: "SIGKILL",
  });
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output.stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    output.stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve({ code, signal, ...output }));
  });
}

/** Returns the reason why these tests have no KVM device, or `undefined` if they have one. */
export function deviceProblem(): string | undefined {
  try {
    Kvm.open().close();
    return undefined;
  } catch (error) {
    if (error instanceof KvmError) return `no KVM: ${error.message}`;
    throw error;
  }
}
