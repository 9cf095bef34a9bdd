/** Runs a script of this directory in a process of its own and says how that ended. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Kvm, KvmError } from "node-kvm";

/** How a process ended. */
export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The end of a process that did what it was told. */
export const CLEAN: Ending = { code: 0, signal: null, stdout: "", stderr: "" };

/** Runs `script` with one argument; a process that hangs ends by SIGKILL. */
export function runNode(
  script: string,
  argument: string,
  node: string = process.execPath,
): Promise<Ending> {
  const file = fileURLToPath(new URL(script, import.meta.url));
  const child = spawn(node, ["--expose-gc", file, argument], {
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

/** Why there is no device for these tests; `undefined` when there is one. */
export function deviceProblem(): string | undefined {
  try {
    Kvm.open().close();
    return undefined;
  } catch (error) {
    if (error instanceof KvmError) return `no KVM: ${error.message}`;
    throw error;
  }
}
