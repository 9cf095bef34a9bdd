/**
 * Runs programs of examples/ and of code blocks in separate processes. It reads the requirements and the expected
 * output from a program's comments, and finds requirements that this host does not meet.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type CapabilityName, KVM_CAPABILITIES } from "../../../lib/abi/generated/names.ts";
import { KvmError } from "../../../lib/errors.ts";
import { Kvm } from "../../../lib/kvm/kvm.ts";

/** The root folder of the project. */
export const ROOT: string = fileURLToPath(new URL("../../..", import.meta.url));

/** The result of a program that has ended. */
export interface Ending {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Returns the lines after `// Prints:` at the end of a program, without their comment marks, or `undefined` if there
 * are none.
 */
export function printedBy(program: string): string | undefined {
  const lines = /\n\/\/ Prints:\n((?:\/\/.*\n)+)$/.exec(program)?.[1];
  return lines?.replaceAll(/^\/\/ ?/gm, "");
}

/** Returns the list after `// Needs:` in the second line of a program. */
export function needsOf(program: string): readonly string[] {
  const list = /^\/\/.*\n\/\/ Needs: (.*)\n/.exec(program)?.[1];
  return list === undefined ? [] : list.split(", ");
}

function lacksCapability(name: string): boolean {
  using kvm = Kvm.open();
  return kvm.checkExtension(name as CapabilityName) === 0;
}

function lacksFlag(name: string): boolean {
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "latin1"))?.[1] ?? "";
  return !flags.split(" ").includes(name);
}

const COMMANDS: readonly string[] = ["cc"];

/** Returns whether this host does not meet a requirement such as `KVM_CAP_IRQFD`, `CPU avx2` or `cc`. */
export function lacks(need: string): boolean {
  if (Object.hasOwn(KVM_CAPABILITIES, need)) return lacksCapability(need);
  const flag = /^CPU ([a-z0-9_]+)$/.exec(need)?.[1];
  if (flag !== undefined) return lacksFlag(flag);
  if (!COMMANDS.includes(need)) throw new Error(`a program needs ${need}, which is no known need`);
  return spawnSync(need, ["--version"]).status !== 0;
}

/** Returns the reason why a program with these requirements cannot run here, or `undefined` if it can. */
export function problemOf(needs: readonly string[]): string | undefined {
  try {
    Kvm.open().close();
  } catch (error) {
    if (error instanceof KvmError) return `no KVM: ${error.message}`;
    throw error;
  }
  const missing = needs.filter(lacks);
  return missing.length === 0 ? undefined : `missing here: ${missing.join(", ")}`;
}

/** Runs a file in a separate process; a process that hangs is killed with SIGKILL. */
export function runFile(file: string): Ending {
  return runNode([file]);
}

/**
 * Judges a file of claims with the command; the output is one line per claim, with single spaces, without the summary.
 */
export function runClaims(file: string): Ending {
  const { stdout, ...ending } = runNode([join(ROOT, "dist", "cli", "main.js"), "test", file]);
  const [claims = ""] = stdout.split("\n\n");
  return { ...ending, stdout: `${claims.replaceAll(/^ +| +(?= )/gm, "")}\n` };
}

function runNode(args: readonly string[]): Ending {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: "utf8",
    timeout: 50_000,
    killSignal: "SIGKILL",
  });
  return { status, stdout, stderr };
}

/**
 * Runs JavaScript from a temporary file in the project's folder, so that the import of `node-kvm` finds this package.
 */
export function runText(program: string, run: (file: string) => Ending = runFile): Ending {
  const folder = mkdtempSync(join(ROOT, "build", "program-"));
  try {
    const file = join(folder, "program.mjs");
    writeFileSync(file, program);
    return run(file);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
